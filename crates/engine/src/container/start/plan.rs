//! What a start will do: gathered from the host and decided, nothing changed yet.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_fault::{Error, Result};
use wharf_network::AttachRequest;
use wharf_oci::runtime::{NamespaceKind, ThrottleDevice, WeightDevice};
use wharf_shim_protocol::{Rootfs, Start};

use super::Cause;
use crate::Engine;
use crate::container::ahead::Pattern;
use crate::container::live::{Container, RunRecord};
use crate::container::mounts::MountSource;
use crate::container::record::ContainerRecord;
use crate::container::spec::{self, Facts, Throttle};
use crate::container::user_namespace::{self, UserNamespace};
use crate::container::{devices, endpoints, logs, security, selinux};

/// Everything a start needs, decided.
pub(super) struct Plan {
    pub(super) start: Start,
    pub(super) kept: RunRecord,
    pub(super) network: Option<AttachRequest>,
    pub(super) joined: Vec<(NamespaceKind, OwnedFd)>,
    pub(super) user_namespace: Option<UserNamespace>,
    pub(super) shm: Option<(PathBuf, i64)>,
    pub(super) binds_to_make: Vec<PathBuf>,
    /// The SELinux label of its files; empty for none.
    pub(super) mount_label: String,
    /// Host paths that get that label, and whether others share them.
    pub(super) to_label: Vec<(PathBuf, bool)>,
}

impl Plan {
    /// Whether its root is mounted as its layers are: without mapping, label, or another runtime.
    pub(super) fn mounts_plainly(&self) -> bool {
        self.user_namespace.is_none()
            && self.mount_label.is_empty()
            && self.start.runtime.is_none()
            && self.start.restore.is_none()
    }

    /// What can be made ahead of the next container like this one.
    pub(super) fn pattern(&self, record: &ContainerRecord) -> Option<(String, Pattern)> {
        let wanted = record.host_config.auto_remove && self.mounts_plainly();
        let pattern = Pattern::of(&self.start.rootfs).filter(|_| wanted)?;
        Some((record.config.image.clone(), pattern))
    }
}

impl Engine {
    /// Gathers and decides; changes nothing.
    pub(super) async fn plan_start(
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

    pub(in crate::container) fn default_ulimits(&self) -> Vec<wharf_oci::runtime::Rlimit> {
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
}

/// A namespace of a running container.
pub(in crate::container) fn namespace_of(
    container: &Container,
    file: &str,
    what: &str,
) -> Result<OwnedFd> {
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
