//! Starting a container: gather what only the host knows, plan (pure), apply with an undo stack.
//!
//! No commit, no directory scan and no parsing lies before the answer: actual state is with the
//! shim and in its run directory, the record follows in the background.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use wharf_fault::{Error, Result};
use wharf_ids::{ContainerId, random_bytes};
use wharf_network::AttachRequest;
use wharf_oci::runtime::{NamespaceKind, ThrottleDevice, WeightDevice};
use wharf_shim_protocol::{Reply, Request, Restore, Rootfs, Start, StartFd, Target};

use super::ahead::Pattern;
use super::ending::{self, End};
use super::live::{Container, Run, RunRecord, WaitingClient};
use super::mounts::MountSource;
use super::next_id::Kept;
use super::record::{ContainerRecord, Phase};
use super::shim_link::{LinkError, ShimLink};
use super::spec::{self, Facts, Throttle};
use super::user_namespace::{self, UserNamespace};
use super::{devices, endpoints, logs, runtimes, security, selinux};
use crate::Engine;

/// Containers with `--rm` that live shorter are never put on record as started.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// Pause between a start and getting the next shim ready.
const REFILL_AFTER: Duration = Duration::from_millis(15);

/// Why a container starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A user asked.
    User,
    /// The restart policy.
    Policy,
}

/// What has to be undone when a later step fails, last first.
#[derive(Default)]
struct Undo(Vec<Box<dyn FnOnce() + Send>>);

impl Undo {
    fn push(&mut self, step: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(step));
    }

    fn forget(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(step) = self.0.pop() {
            step();
        }
    }
}

/// What keeps an ordinary user's namespaces while a container lives; see [`crate::Rootless`].
pub(super) const LIFELINE: &str = "lifeline";

/// Everything a start needs, decided.
struct Plan {
    start: Start,
    kept: RunRecord,
    network: Option<AttachRequest>,
    joined: Vec<(NamespaceKind, OwnedFd)>,
    user_namespace: Option<UserNamespace>,
    shm: Option<(PathBuf, i64)>,
    binds_to_make: Vec<PathBuf>,
    /// The SELinux label of its files; empty for none.
    mount_label: String,
    /// Host paths that get that label, and whether others share them.
    to_label: Vec<(PathBuf, bool)>,
}

impl Plan {
    /// Whether its root is mounted as its layers are: without mapping, label, or another runtime.
    fn mounts_plainly(&self) -> bool {
        self.user_namespace.is_none()
            && self.mount_label.is_empty()
            && self.start.runtime.is_none()
            && self.start.restore.is_none()
    }

    /// What can be made ahead of the next container like this one.
    fn pattern(&self, record: &ContainerRecord) -> Option<(String, Pattern)> {
        let wanted = record.host_config.auto_remove && self.mounts_plainly();
        let pattern = Pattern::of(&self.start.rootfs).filter(|_| wanted)?;
        Some((record.config.image.clone(), pattern))
    }
}

impl Engine {
    /// Starts a container.
    pub async fn container_start(&self, reference: &str) -> Result<()> {
        let container = self.containers.find(reference)?;
        let _op = container.op.lock().await;
        self.start_locked(&container, Cause::User).await
    }

    /// Starts it; the caller holds the container's `op`.
    pub(super) async fn start_locked(
        &self,
        container: &Arc<Container>,
        cause: Cause,
    ) -> Result<()> {
        self.start_locked_from(container, cause, None).await
    }

    /// The same, from a checkpoint if there is one.
    pub(super) async fn start_locked_from(
        &self,
        container: &Arc<Container>,
        cause: Cause,
        restore: Option<Restore>,
    ) -> Result<()> {
        check_startable(container, cause)?;
        if cause == Cause::User {
            // Ends a pause between two restarts: this start takes its place.
            container.write().restart_cancel = None;
        }
        let started = self.try_start(container, cause, restore).await;
        if let Err((error, exit_code)) = started {
            self.start_failed(container, &error, exit_code).await;
            return Err(error);
        }
        Ok(())
    }

    async fn try_start(
        &self,
        container: &Arc<Container>,
        cause: Cause,
        restore: Option<Restore>,
    ) -> std::result::Result<(), (Error, i64)> {
        let failed = |error: Error| (error, 128);
        let tidying = container.write().tidying.take();
        if let Some(tidying) = tidying {
            tidying.now().await;
        }
        let record = container.record();
        let run_dir = self.containers.run_root.join(format!(
            "{}-{:08x}",
            container.id.short(),
            u32::from_be_bytes(random_bytes())
        ));
        let mut plan = self
            .plan_start(&record, &run_dir, cause)
            .await
            .map_err(failed)?;
        plan.start.restore = restore;
        if plan.start.runtime.is_some() || plan.start.restore.is_some() {
            // Others make cgroups themselves.
            self.discard_next_id(&container.id);
        }
        let pattern = plan.pattern(&record);
        let mut undo = Undo::default();
        let waiting = std::mem::take(&mut container.write().waiting);
        let clients = waiting
            .iter()
            .filter_map(|c| Some((c.mode.token, c.socket.try_clone().ok()?)))
            .collect();
        let fds = self
            .prepare(container, &mut plan, &run_dir, waiting, &mut undo)
            .map_err(failed)?;
        let (socket, process) = self.containers.spawner.take().map_err(failed)?;
        let (link, events) = ShimLink::new(socket)
            .map_err(|source| failed(Error::system("cannot talk to a shim").caused_by(source)))?;
        let reply = link
            .request(Request::Start(Box::new(plan.start)), &fds)
            .await;
        drop(fds);
        let (pid, started_at_ns) = match reply {
            Ok((Reply::Started { pid, started_at_ns }, _)) => (pid, started_at_ns),
            other => {
                process.kill();
                tokio::spawn(process.reap());
                return Err(match other {
                    Ok(_) => failed(Error::system("the shim gave a wrong answer")),
                    Err(LinkError::Refused(failure)) => {
                        let exit_code = i64::from(failure.exit_code);
                        (Error::from(LinkError::Refused(failure)), exit_code)
                    }
                    Err(error) => failed(error.into()),
                });
            }
        };
        undo.forget();
        let used = self.containers.next_ids.let_go(&container.id);
        self.refill_later(pattern, used);
        {
            let mut cell = container.write();
            let state = &mut cell.record.state;
            state.phase = Phase::Running;
            state.paused = false;
            state.restarting = false;
            state.pid = pid;
            state.exit_code = 0;
            state.error = String::new();
            state.oom_killed = false;
            state.started_at = Timestamp::from_nanosecond(i128::from(started_at_ns)).ok();
            state.finished_at = state.finished_at.filter(|_| state.started_before);
            state.manually_stopped = false;
            state.started_before = true;
            state.restart_count = plan.kept.restart_count;
            if cause == Cause::User {
                cell.restart_delay = None;
            }
            cell.run = Some(Run {
                link,
                run_dir: run_dir.clone(),
                kept: plan.kept,
                clients,
                keep_on_exit: false,
            });
        }
        self.attach_latecomers(container);
        container.announce(|_| {});
        self.persist_start(container);
        self.publish_networks(container, "connect");
        self.events.publish(
            "container",
            "start",
            container.id.as_str(),
            container.event_attributes([]),
        );
        self.start_health(container);
        tokio::spawn(super::exit::supervise(
            self.clone(),
            Arc::clone(container),
            events,
            Some(process),
        ));
        Ok(())
    }

    /// Clients that came while the container was being started.
    fn attach_latecomers(&self, container: &Arc<Container>) {
        let (late, link) = {
            let mut cell = container.write();
            let late = std::mem::take(&mut cell.waiting);
            let Some(run) = &mut cell.run else { return };
            let copies = late
                .iter()
                .filter_map(|client| Some((client.mode.token, client.socket.try_clone().ok()?)));
            run.clients.extend(copies);
            (late, run.link.clone())
        };
        for WaitingClient { socket, mode } in late {
            let link = link.clone();
            tokio::spawn(async move {
                let target = Target::Main;
                if let Err(error) = link
                    .command(Request::Attach { target, mode }, &[socket])
                    .await
                {
                    tracing::debug!(%error, "a client could not be attached");
                }
            });
        }
    }

    /// Puts a start on record. A machine that goes down right after it is all that could tell the
    /// difference, so containers that are gone with their end are not written down at once.
    fn persist_start(&self, container: &Arc<Container>) {
        if !container.read().record.host_config.auto_remove {
            return self.containers.persist(container);
        }
        let (engine, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            tokio::time::sleep(SHORT_LIFE).await;
            if container.read().run.is_some() {
                engine.containers.persist(&container);
            }
        });
    }

    /// The root that was made for this container before it was asked for, if it still is what the
    /// container needs.
    fn root_made_ahead(&self, id: &ContainerId, plan: &Plan) -> Option<OwnedFd> {
        let root = self.containers.ahead.take(id)?;
        let removed_layers = self.images.store().removed_layers();
        root.fitting(&plan.start.rootfs, removed_layers)
            .filter(|_| plan.mounts_plainly())
    }

    /// Gets the next shim and cgroup ready, once this start is out of the way, and the root of the
    /// next like that one if it gave a pattern. `used` is what it took.
    fn refill_later(&self, pattern: Option<(String, Pattern)>, used: Option<Kept>) {
        let engine = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(REFILL_AFTER).await;
            let refill = move || {
                engine.containers.spawner.refill();
                if let Some(used) = used {
                    engine.containers.next_ids.forget(&used);
                }
                if let Err(error) = engine.make_next_id() {
                    tracing::debug!(error = %wharf_fault::chain(&error), "the next container's cgroup is not made ahead");
                }
                if let Err(error) = engine.images.store().get_ready() {
                    tracing::warn!(error = %wharf_fault::chain(&error), "cannot keep a container's directories ready");
                }
                if let Some((image, pattern)) = pattern
                    && let Err(error) = engine.make_ahead(image, pattern)
                {
                    // An image that was removed meanwhile, most likely.
                    tracing::debug!(error = %wharf_fault::chain(&error), "nothing is made ahead");
                }
            };
            drop(tokio::task::spawn_blocking(refill).await);
        });
    }

    /// Where `hosts`, `hostname` and `resolv.conf` of a running container lie: with whoever has
    /// the network namespace.
    fn files_of(&self, container: &Arc<Container>) -> Result<PathBuf> {
        let mut owner = Arc::clone(container);
        // A container joins the namespace of one that joined another's …; ids can not form a ring.
        loop {
            let next = {
                let cell = owner.read();
                match cell
                    .record
                    .host_config
                    .network_mode
                    .strip_prefix("container:")
                {
                    Some(other) => other.to_owned(),
                    None => {
                        return cell
                            .run
                            .as_ref()
                            .map(|run| run.run_dir.clone())
                            .ok_or_else(|| owner.not_running());
                    }
                }
            };
            owner = self.containers.find(&next)?;
        }
    }

    /// Gathers and decides; changes nothing.
    async fn plan_start(
        &self,
        record: &ContainerRecord,
        run_dir: &Path,
        cause: Cause,
    ) -> Result<Plan> {
        let host = &record.host_config;
        let directory = self.containers.directory(&record.id);
        let links = self.links_of(record)?;
        let network = endpoints::attach_request(record, links.hosts)?;
        let mut joined = Vec::new();
        let mut files_dir = run_dir.to_owned();
        for (mode, kind, name, what) in [
            (&host.network_mode, NamespaceKind::Network, "net", "network"),
            (&host.pid_mode, NamespaceKind::Pid, "pid", "PID"),
            (&host.ipc_mode, NamespaceKind::Ipc, "ipc", "IPC"),
        ] {
            if let Some(other) = mode.strip_prefix("container:") {
                let other = self.containers.find(other)?;
                joined.push((kind, namespace_of(&other, name, what)?));
                if kind == NamespaceKind::Network {
                    files_dir = self.files_of(&other)?;
                }
            }
        }
        let user_namespace = self.plan_user_namespace(record)?;
        let id_maps = user_namespace
            .as_ref()
            .map(|namespace| namespace.maps.clone());
        let mount_maps = user_namespace::mount_maps(&record.mounts, id_maps.as_ref())?
            .into_iter()
            .map(|(destination, maps)| (destination.to_owned(), maps))
            .collect();
        let mut volumes = BTreeMap::new();
        let mut binds_to_make = Vec::new();
        for mount in &record.mounts {
            if let Some(name) = mount.volume() {
                volumes.insert(name.to_owned(), self.volumes.source(name).await?);
            }
            if let MountSource::Bind {
                path, create: true, ..
            } = &mount.source
                && !Path::new(path).exists()
            {
                binds_to_make.push(PathBuf::from(path));
            }
        }
        let (shm, made_shm) = self.shared_memory(record, &directory)?;
        let device_mappings = host.devices.as_deref().unwrap_or_default();
        let place = self.cgroup_place(record).await?;
        let facts = Facts {
            cgroup_path: place.document,
            files_dir,
            devices: if host.privileged {
                devices::all_of_host()
            } else {
                devices::gather(device_mappings)?
            },
            shm,
            capabilities: security::capabilities(host, &self.containers.host.capabilities),
            security: security::parse(host)?,
            apparmor: self.containers.host.apparmor,
            no_new_privileges_default: self.config.daemon.no_new_privileges,
            default_ulimits: self.default_ulimits(),
            link_env: links.env,
            joined: joined.iter().map(|(kind, _)| *kind).collect(),
            throttle: throttle(record)?,
            recursive_readonly: self.containers.host.recursive_readonly,
            rootless: self.containers.host.rootless,
            volumes,
            host_mqueue: Path::new("/dev/mqueue").is_dir(),
            mount_maps,
            id_maps,
        };
        let layer = self
            .images
            .store()
            .container_layer(&record.id)
            .map_err(Error::from_fault)?;
        let runtime = self.runtime_program(&host.runtime, run_dir)?;
        let mut document = spec::build(record, &facts);
        let choice = &facts.security.seccomp;
        let mut seccomp_bpf = None;
        match (&runtime, &mut document.linux) {
            (Some(_), Some(linux)) => {
                linux.seccomp =
                    self.containers
                        .seccomp
                        .document(host, choice, &facts.capabilities)?;
            }
            _ => {
                seccomp_bpf = self
                    .containers
                    .seccomp
                    .filter(host, choice, &facts.capabilities)?;
            }
        }
        let mut overlay_options = wharf_sys::overlay::own_options();
        if host.auto_remove {
            // Nobody reads what it wrote after its end: that need not be on a disk by then.
            overlay_options.push(wharf_sys::overlay::VOLATILE.to_owned());
        }
        let start = Start {
            id: record.id.to_string(),
            spec: Box::new(document),
            rootfs: Rootfs::Overlay {
                lower: layer.lower,
                upper: layer.upper,
                work: layer.work,
                options: overlay_options,
            },
            user: Some(record.config.user.clone()),
            group_add: host.group_add.clone().unwrap_or_default(),
            seccomp_bpf,
            runtime: runtime.clone(),
            systemd_cgroup: self.config.daemon.systemd_cgroup,
            restore: None,
            init: host.init.unwrap_or(self.config.daemon.init),
            open_stdin: record.config.open_stdin,
            stdin_once: record.config.stdin_once,
            log: logs::target(record, &directory)?,
            exit_path: self.containers.exit_path(record),
            durable_exit: !host.auto_remove,
            run_dir: run_dir.to_owned(),
            fds: Vec::new(),
        };
        let kept = RunRecord {
            container_id: record.id.to_string(),
            cgroup_path: place.path,
            systemd_cgroup: self.config.daemon.systemd_cgroup,
            runtime,
            id_maps: facts.id_maps,
            shm: made_shm.as_ref().map(|(path, _)| path.clone()),
            network: network.clone(),
            restart_count: if cause == Cause::Policy {
                record.state.restart_count
            } else {
                0
            },
            ..RunRecord::default()
        };
        Ok(Plan {
            to_label: self.to_label(record),
            mount_label: record.labels.mount.clone(),
            start,
            kept,
            network,
            joined,
            user_namespace,
            shm: made_shm,
            binds_to_make,
        })
    }

    /// What is bound with `z` or `Z`, volumes included, where there are labels.
    fn to_label(&self, record: &ContainerRecord) -> Vec<(PathBuf, bool)> {
        if record.labels.mount.is_empty() {
            return Vec::new();
        }
        let mounts = record.mounts.iter().filter_map(|mount| {
            let path = match &mount.source {
                MountSource::Bind { path, .. } => PathBuf::from(path),
                MountSource::Volume { name, .. } => self.volumes.path(name),
                MountSource::Tmpfs { .. } => return None,
            };
            Some((path, selinux::sharing(&mount.mode)?))
        });
        mounts.collect()
    }

    /// Makes everything the shim gets; each step knows how to be undone.
    fn prepare(
        &self,
        container: &Container,
        plan: &mut Plan,
        run_dir: &Path,
        waiting: Vec<WaitingClient>,
        undo: &mut Undo,
    ) -> Result<Vec<OwnedFd>> {
        let mut fds = Vec::new();
        for path in &plan.binds_to_make {
            std::fs::create_dir_all(path).map_err(|source| {
                let why = devices::plain(&source);
                Error::system(format!(
                    "error while creating mount source path '{}': mkdir {0}: {why}",
                    path.display()
                ))
            })?;
        }
        for (path, shared) in &plan.to_label {
            selinux::relabel(path, &plan.mount_label, *shared)?;
        }
        make_run_dir(run_dir)?;
        undo.push({
            let run_dir = run_dir.to_owned();
            move || drop(std::fs::remove_dir_all(run_dir))
        });
        let owner = plan
            .user_namespace
            .as_ref()
            .map(|namespace| namespace.maps.root());
        if let (Some(program), Some(owner)) = (&plan.start.runtime, owner) {
            runtimes::let_through(run_dir, owner, program)?;
        }
        if let Some((path, size)) = &plan.shm {
            mount_shm(path, *size, owner, &plan.mount_label)?;
            let path = path.clone();
            undo.push(move || unmount_shm(&path));
        }
        let mut netns = None;
        if let Some(namespace) = &mut plan.user_namespace {
            let own_network = |request: &AttachRequest| request.mode != wharf_network::Mode::Host;
            let made = namespace.make(plan.network.as_ref().is_some_and(own_network))?;
            plan.start.fds.push(StartFd::Namespace(NamespaceKind::User));
            fds.push(made.user);
            netns = made.network;
        }
        if let Some(request) = &plan.network {
            let driver = self.networks.driver().clone();
            let sandbox = match netns {
                Some(netns) => driver.prepare_in(request, netns),
                None => driver.prepare(request),
            };
            let sandbox = sandbox.map_err(|error| {
                let error = Error::from_fault(error);
                Error::new(
                    error.kind(),
                    format!("failed to set up container networking: {error}"),
                )
            })?;
            let id = container.id.to_string();
            undo.push(move || driver.release(&id));
            for (name, text) in [
                ("hosts", &sandbox.files.hosts),
                ("hostname", &sandbox.files.hostname),
                ("resolv.conf", &sandbox.files.resolv_conf),
            ] {
                let path = run_dir.join(name);
                write_container_file(&path, text)?;
                if !plan.mount_label.is_empty() {
                    // Containers that share the network share them.
                    selinux::relabel(&path, &plan.mount_label, true)?;
                }
                if let Some((uid, gid)) = owner {
                    std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(|source| {
                        Error::system(format!("cannot hand over {}", path.display()))
                            .caused_by(source)
                    })?;
                }
            }
            plan.kept.sandbox_id = sandbox.sandbox_id;
            plan.kept.endpoints = sandbox.endpoints;
            plan.kept.ports = sandbox.ports;
            if let Some(netns) = sandbox.netns {
                plan.start
                    .fds
                    .push(StartFd::Namespace(NamespaceKind::Network));
                fds.push(netns);
            }
            for (number, socket) in sandbox.dns_sockets.into_iter().enumerate() {
                plan.start.fds.push(StartFd::Held(format!("dns{number}")));
                fds.push(socket);
            }
        }
        if let Some(rootless) = &self.config.rootless {
            plan.start.fds.push(StartFd::Held(LIFELINE.to_owned()));
            let copy = rootless.lifeline.try_clone().map_err(|source| {
                Error::system("cannot hand the namespaces' lifeline to a shim").caused_by(source)
            })?;
            fds.push(copy);
        }
        for (kind, fd) in plan.joined.drain(..) {
            plan.start.fds.push(StartFd::Namespace(kind));
            fds.push(fd);
        }
        for client in waiting {
            plan.start.fds.push(StartFd::Attach(client.mode));
            fds.push(client.socket);
        }
        if let Some(root) = self.root_made_ahead(&container.id, plan) {
            plan.start.fds.push(StartFd::Root);
            fds.push(root);
        } else if let Rootfs::Overlay { work, .. } = &plan.start.rootfs {
            wharf_sys::overlay::forget_volatile(work).map_err(|source| {
                Error::system("cannot use the container's layer again").caused_by(source)
            })?;
        }
        if plan.start.exit_path.starts_with(&self.containers.exits)
            && let Some(directory) = plan.start.exit_path.parent()
        {
            super::create::make_private_dir(directory).map_err(|source| {
                Error::system("cannot make a place for the exit record").caused_by(source)
            })?;
        }
        // What an earlier run left must not be taken for the end of this one.
        if let Err(source) = std::fs::remove_file(&plan.start.exit_path)
            && source.kind() != std::io::ErrorKind::NotFound
        {
            return Err(
                Error::system("cannot remove the exit record of the last run").caused_by(source),
            );
        }
        plan.kept.write_first(run_dir)?;
        Ok(fds)
    }

    /// Records a failed start and clears up after it.
    async fn start_failed(&self, container: &Arc<Container>, error: &Error, exit_code: i64) {
        {
            let mut cell = container.write();
            let state = &mut cell.record.state;
            state.error = wharf_fault::chain(error);
            let end = End::of_failed_start(state.error.clone(), exit_code);
            ending::remember(&mut state.ends, end);
            state.exit_code = exit_code;
            state.restarting = false;
            if state.phase != Phase::Created {
                state.phase = Phase::Exited;
            }
            cell.waiting.clear();
        }
        container.announce(|watched| {
            watched.exit_code = exit_code;
            watched.exits += 1;
        });
        self.containers.persist(container);
        if container.read().record.host_config.auto_remove
            && let Err(error) = self.remove_locked(container, true).await
        {
            tracing::warn!(%error, container.id = %container.id, "cannot remove a container that did not start");
        }
    }

    pub(super) fn default_ulimits(&self) -> Vec<wharf_oci::runtime::Rlimit> {
        let limit = |(name, ulimit): (&String, &crate::config::Ulimit)| {
            spec::rlimit_name(name).map(|kind| wharf_oci::runtime::Rlimit {
                kind,
                hard: ulimit.hard as u64,
                soft: ulimit.soft as u64,
            })
        };
        self.config
            .daemon
            .default_ulimits
            .iter()
            .filter_map(limit)
            .collect()
    }

    /// What is bound over `/dev/shm`, and what has to be mounted on the host for that.
    #[expect(
        clippy::type_complexity,
        reason = "two optional answers of one question"
    )]
    fn shared_memory(
        &self,
        record: &ContainerRecord,
        directory: &Path,
    ) -> Result<(Option<PathBuf>, Option<(PathBuf, i64)>)> {
        match record.host_config.ipc_mode.as_str() {
            "host" => Ok((Some(PathBuf::from("/dev/shm")), None)),
            // Others can only join what lies outside the container's own mounts.
            "shareable" => {
                let path = directory.join("shm");
                Ok((
                    Some(path.clone()),
                    Some((path, record.host_config.shm_size)),
                ))
            }
            mode => match mode.strip_prefix("container:") {
                Some(other) => {
                    let other = self.containers.find(other)?;
                    let other_mode = other.read().record.host_config.ipc_mode.clone();
                    match other_mode.as_str() {
                        "shareable" => {
                            Ok((Some(self.containers.directory(&other.id).join("shm")), None))
                        }
                        "host" => Ok((Some(PathBuf::from("/dev/shm")), None)),
                        _ => Err(Error::invalid(format!(
                            "cannot join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                            other.id
                        ))),
                    }
                }
                None => Ok((None, None)),
            },
        }
    }

    /// Tells the networks' listeners about the endpoints of the present run.
    pub(super) fn publish_networks(&self, container: &Container, action: &str) {
        let endpoints: Vec<(String, String)> = match &container.read().run {
            Some(run) => run
                .kept
                .endpoints
                .iter()
                .map(|e| (e.network_id.clone(), e.network_name.clone()))
                .collect(),
            None => Vec::new(),
        };
        for (id, name) in endpoints {
            let driver = self
                .networks
                .driver()
                .find(&id)
                .map_or("bridge", |network| network.driver.as_str());
            crate::networks::publish(
                self,
                action,
                &id,
                &name,
                driver,
                Some(container.id.as_str()),
            );
        }
    }
}

fn check_startable(container: &Container, cause: Cause) -> Result<()> {
    let cell = container.read();
    let state = &cell.record.state;
    let id = &container.id;
    if cell.gone || state.removing {
        return Err(Error::conflict(
            "container is marked for removal and cannot be started",
        ));
    }
    match state.phase {
        Phase::Running if state.paused => Err(Error::conflict(
            "cannot start a paused container, try unpause instead",
        )),
        Phase::Running => Err(Error::not_modified(format!(
            "container {id} is already running"
        ))),
        Phase::Dead => Err(Error::conflict("container is dead and cannot be started")),
        Phase::Created | Phase::Exited if cause == Cause::Policy && !state.restarting => {
            Err(Error::not_modified("the restart was cancelled"))
        }
        Phase::Created | Phase::Exited => Ok(()),
    }
}

/// A namespace of a running container.
pub(super) fn namespace_of(container: &Container, file: &str, what: &str) -> Result<OwnedFd> {
    let (pid, restarting) = (container.pid(), container.read().record.state.restarting);
    let id = &container.id;
    if restarting {
        return Err(Error::conflict(format!(
            "Container {id} is restarting, wait until the container is running"
        )));
    }
    if pid == 0 {
        return Err(Error::conflict(format!(
            "cannot join {what} namespace of a non running container: {id}"
        )));
    }
    let file = File::open(format!("/proc/{pid}/ns/{file}")).map_err(|source| {
        Error::system(format!("cannot join {what} namespace of container {id}")).caused_by(source)
    })?;
    Ok(file.into())
}

fn throttle(record: &ContainerRecord) -> Result<Throttle> {
    let host = &record.host_config;
    let look_up = |list: &Option<Vec<wharf_api_types::container::ThrottleDevice>>| -> Result<Vec<ThrottleDevice>> {
        let one = |device: &wharf_api_types::container::ThrottleDevice| {
            devices::block_device(&device.path).map(|(major, minor)| ThrottleDevice { major, minor, rate: device.rate })
        };
        list.iter().flatten().map(one).collect()
    };
    let weight = |device: &wharf_api_types::container::WeightDevice| {
        devices::block_device(&device.path).map(|(major, minor)| WeightDevice {
            major,
            minor,
            weight: Some(device.weight),
            leaf_weight: None,
        })
    };
    let weights = host.blkio_weight_device.iter().flatten().map(weight);
    Ok(Throttle {
        weights: weights.collect::<Result<_>>()?,
        read_bps: look_up(&host.blkio_device_read_bps)?,
        write_bps: look_up(&host.blkio_device_write_bps)?,
        read_iops: look_up(&host.blkio_device_read_iops)?,
        write_iops: look_up(&host.blkio_device_write_iops)?,
    })
}

fn make_run_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|source| {
            Error::system(format!("cannot create {}", path.display())).caused_by(source)
        })
}

/// Files bound into containers are read by their users, whatever the daemon's umask is.
pub(super) fn write_container_file(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |source: std::io::Error| {
        Error::system(format!("cannot write {}", path.display())).caused_by(source)
    };
    // In place: a running container sees the same file.
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
        .map_err(failed)
}

fn mount_shm(path: &Path, size: i64, owner: Option<(u32, u32)>, label: &str) -> Result<()> {
    use rustix::mount::{MountFlags, mount};
    let failed = |source: std::io::Error| {
        Error::system(format!("cannot mount {}", path.display())).caused_by(source)
    };
    super::create::make_private_dir(path).map_err(failed)?;
    // A crash may have left one.
    unmount_shm(path);
    let owner = owner.map_or_else(String::new, |(uid, gid)| format!(",uid={uid},gid={gid}"));
    let label = if label.is_empty() {
        String::new()
    } else {
        format!(",context=\"{label}\"")
    };
    let data = std::ffi::CString::new(format!("mode=1777,size={size}{owner}{label}"))
        .map_err(|source| Error::system("cannot mount shared memory").caused_by(source))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("shm", path, "tmpfs", flags, data.as_c_str()).map_err(|errno| failed(errno.into()))
}

/// Removes a shared memory mount; nothing happens where there is none.
pub(super) fn unmount_shm(path: &Path) {
    let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
}
