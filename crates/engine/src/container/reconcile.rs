//! Taking over what an earlier daemon left: the only way a daemon starts.
//!
//! ```text
//! record, live shim              → reattach
//! record, dead shim, exit.json   → book the end
//! record says running, nothing   → book an unknown end (the machine was restarted)
//! run directory without record   → end whatever runs there, remove it
//! container directory, no record → remove it
//! ```
//!
//! Then the restart policies are asked.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use wharf_container_runtime::cgroup::Cgroup;
use wharf_fault::Result;
use wharf_ids::ContainerId;
use wharf_logs::Watch;
use wharf_network::LiveContainer;
use wharf_shim_protocol::{ExitRecord, Reply, Request, ShimState, files};

use super::ending::{self, End};
use super::exit::{kill_cgroup, remove_run_dir, supervise, unknown_end};
use super::live::{Container, Run, RunRecord};
use super::readiness;
use super::record::Phase;
use super::restart_policy::{self, Ending};
use super::runtimes::delete_remains;
use super::shim_link::ShimLink;
use super::start::unmount_shm;
use crate::Engine;

/// How long a shim may take to answer: its machine may be busy with starting up.
const PATIENCE: Duration = Duration::from_secs(30);
/// A start that the last daemon had begun is over by then, one way or the other.
const START_PATIENCE: Duration = Duration::from_secs(2);
/// A run directory older than this belongs to no start that is still going on.
const START_AGE_MAX: Duration = Duration::from_secs(10);

/// How many shims are asked at once.
const AT_ONCE: usize = 32;

/// A container that runs.
struct Found {
    container: Arc<Container>,
    shim: Shim,
    kept: RunRecord,
    run_dir: PathBuf,
}

/// A shim that answers.
struct Shim {
    link: ShimLink,
    events: tokio::sync::mpsc::UnboundedReceiver<wharf_shim_protocol::Event>,
    state: ShimState,
    /// The sockets of the container's name server that it has kept.
    dns: Vec<OwnedFd>,
}

/// What a run directory turned out to be.
enum Seen {
    Live(Box<Found>),
    Ended(Arc<Container>, Box<RunRecord>),
    /// Nobody's; it is removed.
    Nothing,
}

/// Brings records and reality together.
pub async fn run(engine: &Engine) -> Result<()> {
    let mut live: Vec<Found> = Vec::new();
    let mut ended: Vec<(Arc<Container>, RunRecord)> = Vec::new();
    let mut looks = stream::iter(subdirectories(&engine.containers.run_root))
        .map(|run_dir| look_at(engine, run_dir))
        .buffer_unordered(AT_ONCE);
    while let Some(seen) = looks.next().await {
        match seen {
            Seen::Live(found) => live.push(*found),
            Seen::Ended(container, kept) => ended.push((container, *kept)),
            Seen::Nothing => {}
        }
    }
    take_over_networks(engine, &live);
    for found in live {
        reattach(engine, found);
    }
    let just_ended = settle_records(engine, &ended);
    remove_orphans(engine);
    engine.settle_next_ids();
    super::volume_intent::settle(engine).await?;
    ask_restart_policies(engine, &just_ended);
    Ok(())
}

/// Waits until everything that was said is on disk. Containers go on.
pub async fn shutdown(engine: &Engine) {
    for container in engine.containers.registry.all() {
        // Pauses before restarts are over: the next daemon decides anew.
        container.write().restart_cancel = None;
    }
    let ending = engine.clone();
    drop(
        tokio::task::spawn_blocking(move || {
            ending.end_ahead();
            ending.end_next_ids();
            // An ordinary user could not remove the work directories of overlays in it.
            drop(ending.images.store().empty_trash());
        })
        .await,
    );
    // One commit behind all others.
    drop(super::commit(&engine.store, wharf_state::Batch::new()).await);
    // A slice is systemd's.
    if !engine.config.daemon.systemd_cgroup
        && let Ok(parent) = Cgroup::at(&engine.containers.cgroup_parent)
    {
        parent.remove_if_unused();
    }
}

async fn look_at(engine: &Engine, run_dir: PathBuf) -> Seen {
    let kept = match RunRecord::read(&run_dir) {
        Ok(Some(kept)) => kept,
        // The daemon died before anything ran in it, or while it removed it.
        Ok(None) => {
            remove_run_dir(&run_dir);
            return Seen::Nothing;
        }
        Err(error) => {
            tracing::warn!(%error, path = %run_dir.display(), "unreadable run directory");
            RunRecord::default()
        }
    };
    let container = engine
        .containers
        .find(&kept.container_id)
        .ok()
        .filter(|c| c.id.as_str() == kept.container_id);
    let connected = connect_or_wait(
        &run_dir,
        container
            .as_ref()
            .map(|it| engine.containers.exit_path(&it.read().record)),
    )
    .await;
    match (container, connected) {
        (Some(container), Some(shim)) if shim.state.pid.is_some() && shim.state.exit.is_none() => {
            Seen::Live(Box::new(Found {
                container,
                shim,
                kept,
                run_dir,
            }))
        }
        // Never started, or ended a moment ago: nothing was promised about it, or its end is on disk.
        (Some(container), _) => {
            clear(engine, &kept, &run_dir).await;
            Seen::Ended(container, Box::new(kept))
        }
        (None, _) => {
            clear(engine, &kept, &run_dir).await;
            Seen::Nothing
        }
    }
}

/// Ends what is left of a run and removes its traces.
async fn clear(engine: &Engine, kept: &RunRecord, run_dir: &Path) {
    if kept.cgroup_path.is_empty() {
        if let Ok(id) = kept.container_id.parse::<ContainerId>()
            && let Ok(layer) = engine.images.store().container_layer(&id)
        {
            super::processes::end_all_on(&layer.upper);
        }
    } else {
        kill_cgroup(&kept.cgroup_path).await;
    }
    delete_remains(kept).await;
    if let Some(shm) = &kept.shm {
        unmount_shm(shm);
    }
    remove_run_dir(run_dir);
}

/// Connects. A shim that is just being told to start its container listens only when that runs:
/// a daemon killed and started again at that moment has to wait for it.
async fn connect_or_wait(run_dir: &Path, exit_path: Option<PathBuf>) -> Option<Shim> {
    if let Some(exit_path) = exit_path {
        let waited = tokio::time::timeout(START_PATIENCE, start_is_over(run_dir, &exit_path)).await;
        if let Ok(Err(error)) = waited {
            tracing::warn!(%error, path = %run_dir.display(), "cannot wait for a start to end");
        }
    }
    connect(run_dir).await
}

/// Waits until the shim listens or the container has ended, if it may be starting at all.
async fn start_is_over(run_dir: &Path, exit_path: &Path) -> std::io::Result<()> {
    let socket_path = files::socket(run_dir);
    let may_be_starting = || {
        let made = std::fs::metadata(run_dir).and_then(|metadata| metadata.modified());
        made.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < START_AGE_MAX))
            && !files::is_ready(&socket_path)
            // Written at the very end, removed before a start.
            && !exit_path.exists()
    };
    if !may_be_starting() {
        return Ok(());
    }
    let on = |path: &Path| {
        let watch = Watch::on(path)?;
        let readable = readiness::read_only(watch.as_fd().try_clone_to_owned()?)?;
        std::io::Result::Ok((watch, readable))
    };
    let (socket, exit) = (on(&socket_path)?, on(exit_path)?);
    // Looked at again with both watches in place: nothing falls between.
    while may_be_starting() {
        let ((watch, _), mut ready) = tokio::select! {
            ready = socket.1.readable() => (&socket, ready?),
            ready = exit.1.readable() => (&exit, ready?),
        };
        ready.clear_ready();
        watch.drain()?;
    }
    Ok(())
}

async fn connect(run_dir: &Path) -> Option<Shim> {
    // By descriptor: the path may be longer than a socket address holds.
    let directory = File::open(run_dir).ok()?;
    let path = files::socket(&PathBuf::from(format!(
        "/proc/self/fd/{}",
        directory.as_raw_fd()
    )));
    let socket = UnixStream::connect(path).ok()?;
    let (link, events) = ShimLink::new(socket).ok()?;
    let asked = async {
        tokio::join!(
            link.request(Request::State, &[]),
            link.request(Request::HeldFds, &[])
        )
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok((Ok((Reply::State(state), _)), Ok((Reply::Held { names }, held)))) => Some(Shim {
            link,
            events,
            state: *state,
            dns: names
                .into_iter()
                .zip(held)
                .filter(|(name, _)| name != super::start::LIFELINE)
                .map(|(_, socket)| socket)
                .collect(),
        }),
        Ok(other) => {
            tracing::warn!(?other, path = %run_dir.display(), "a shim gave a wrong answer");
            None
        }
        Err(_) => {
            tracing::warn!(path = %run_dir.display(), "a shim does not answer");
            None
        }
    }
}

fn take_over_networks(engine: &Engine, live: &[Found]) {
    let containers = live
        .iter()
        .filter_map(|found| {
            Some(LiveContainer {
                request: found.kept.network.clone()?,
                pid: u32::try_from(found.shim.state.pid?).ok()?,
                sandbox_id: found.kept.sandbox_id.clone(),
                endpoints: found.kept.endpoints.clone(),
                ports: found.kept.ports.clone(),
            })
        })
        .collect();
    for (id, error) in engine.networks.driver().reconcile(containers) {
        tracing::error!(error = %wharf_fault::chain(&error), container.id = %id, "cannot take over a container's network");
    }
}

fn reattach(engine: &Engine, found: Found) {
    let Found {
        container,
        shim,
        kept,
        run_dir,
    } = found;
    let Shim {
        link,
        events,
        state,
        dns,
    } = shim;
    let started_at = Timestamp::from_nanosecond(i128::from(state.started_at_ns)).ok();
    resume_dns(engine, &container, dns);
    {
        let mut cell = container.write();
        let record = &mut cell.record.state;
        record.phase = Phase::Running;
        record.restarting = false;
        record.paused = kept.paused;
        record.pid = state.pid.unwrap_or(0);
        record.started_before = true;
        record.error = String::new();
        if record.started_at != started_at {
            // Started after the last commit.
            record.started_at = started_at;
            record.exit_code = 0;
            record.oom_killed = false;
            record.manually_stopped = kept.stop_requested;
        }
        record.restart_count = kept.restart_count;
        cell.run = Some(Run {
            link,
            run_dir,
            kept,
            clients: Vec::new(),
            keep_on_exit: false,
        });
    }
    container.announce(|_| {});
    engine.start_health(&container);
    tokio::spawn(supervise(engine.clone(), container, events, None));
}

fn resume_dns(engine: &Engine, container: &Container, sockets: Vec<OwnedFd>) {
    if sockets.is_empty() {
        return;
    }
    let driver = engine.networks.driver();
    if let Err(error) = driver.resume_dns(container.id.as_str(), sockets) {
        tracing::warn!(error = %wharf_fault::chain(&error), container.id = %container.id, "cannot go on with a container's name server");
    }
}

/// Books the ends that nobody saw; returns whose they were.
fn settle_records(engine: &Engine, ended: &[(Arc<Container>, RunRecord)]) -> HashSet<ContainerId> {
    let mut just_ended = HashSet::new();
    for container in engine.containers.registry.all() {
        let run = ended
            .iter()
            .find(|(other, _)| other.id == container.id)
            .map(|(_, kept)| kept);
        let exit_path = engine.containers.exit_path(&container.read().record);
        let (was_running, had_run) = {
            let cell = container.read();
            if cell.run.is_some() {
                continue;
            }
            let state = &cell.record.state;
            // Short runs of `--rm` containers are not put on record, but their end is on disk.
            let unrecorded = state.phase == Phase::Created
                && cell.record.host_config.auto_remove
                && exit_path.exists();
            let was_running = state.phase == Phase::Running || state.restarting;
            (was_running, run.is_some() || unrecorded)
        };
        if !was_running && !had_run {
            continue;
        }
        let exit = match files::read::<ExitRecord>(&exit_path) {
            Ok(Some(exit)) if exit.start_failure.is_none() => Some(exit),
            _ => None,
        };
        // A run directory without an exit: the container was being started, and no start was
        // acknowledged, unless the record says so.
        let seen = exit.is_some();
        let Some(exit) = exit.or_else(|| was_running.then(unknown_end)) else {
            continue;
        };
        {
            let mut cell = container.write();
            let state = &mut cell.record.state;
            let was_restarting = state.restarting;
            state.phase = Phase::Exited;
            state.paused = false;
            state.pid = 0;
            state.started_before = true;
            if let Ok(at) = Timestamp::from_nanosecond(i128::from(exit.started_at_ns))
                && exit.started_at_ns > 0
            {
                state.started_at = Some(at);
            }
            if !was_restarting || exit.started_at_ns > 0 {
                state.exit_code = i64::from(exit.exit_code);
                state.oom_killed = exit.oom_killed;
                state.finished_at =
                    Timestamp::from_nanosecond(i128::from(exit.finished_at_ns)).ok();
                let end = End::of_run(&exit, state.started_at, !seen);
                // It may have been booked, and the daemon have died before the next step.
                if state.ends.last().map(|last| last.started_at) != Some(end.started_at) {
                    ending::remember(&mut state.ends, end);
                }
            }
            state.restarting = false;
            if let Some(kept) = run {
                state.manually_stopped |= kept.stop_requested;
                state.restart_count = state.restart_count.max(kept.restart_count);
            }
        }
        let exit_code = i64::from(exit.exit_code);
        container.announce(|watched| watched.exit_code = exit_code);
        let attributes = container.event_attributes([("exitCode", exit_code.to_string())]);
        engine
            .events
            .publish("container", "die", container.id.as_str(), attributes);
        engine.containers.persist(&container);
        just_ended.insert(container.id.clone());
    }
    just_ended
}

/// Directories of containers that were never acknowledged, or are removed already.
fn remove_orphans(engine: &Engine) {
    let known: HashSet<String> = engine
        .containers
        .registry
        .all()
        .iter()
        .map(|c| c.id.to_string())
        .collect();
    for directory in subdirectories(&engine.containers.root) {
        let name = directory
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if known.contains(&name) {
            continue;
        }
        unmount_shm(&directory.join("shm"));
        if let Err(error) = std::fs::remove_dir_all(&directory) {
            tracing::warn!(%error, path = %directory.display(), "cannot remove a directory without a container");
        }
    }
    for directory in subdirectories(&engine.containers.exits) {
        let owner = directory.file_name().map(|name| name.to_string_lossy());
        if owner.is_some_and(|owner| known.contains(owner.as_ref())) {
            continue;
        }
        if let Err(error) = std::fs::remove_dir_all(&directory) {
            tracing::warn!(%error, path = %directory.display(), "cannot remove an exit record without a container");
        }
    }
    for container in engine.containers.registry.all() {
        if container.read().run.is_none() {
            unmount_shm(&engine.containers.directory(&container.id).join("shm"));
        }
    }
}

fn ask_restart_policies(engine: &Engine, just_ended: &HashSet<ContainerId>) {
    for container in engine.containers.registry.all() {
        let (restart, remove) = {
            let cell = container.read();
            let state = &cell.record.state;
            if cell.run.is_some() || !state.started_before || state.phase == Phase::Dead {
                continue;
            }
            let ending = Ending {
                exit_code: state.exit_code,
                manually_stopped: state.manually_stopped,
                restart_count: state.restart_count,
            };
            let policy = &cell.record.host_config.restart_policy;
            // A new daemon is no reason to repeat an old failure, nor one a user asked for.
            let stale = policy.name == "on-failure"
                && (state.manually_stopped || !just_ended.contains(&container.id));
            let restart = !stale && restart_policy::should_restart(policy, ending);
            (restart, cell.record.host_config.auto_remove)
        };
        if restart {
            container.write().record.state.restarting = true;
            container.announce(|_| {});
            // Not all at the same moment as the daemon becomes ready.
            engine.restart_later(&container, restart_policy::next_delay(None, Duration::ZERO));
        } else if remove {
            let engine = engine.clone();
            tokio::spawn(async move {
                let _op = container.op.lock().await;
                if container.read().run.is_none()
                    && let Err(error) = engine.remove_locked(&container, true).await
                {
                    tracing::warn!(%error, container.id = %container.id, "cannot remove a container that ended");
                }
            });
        }
    }
}

fn subdirectories(folder: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|e| e.path())
            .collect(),
        Err(error) => {
            tracing::warn!(%error, path = %folder.display(), "cannot list");
            Vec::new()
        }
    }
}
