//! The end of a run: what the shim tells, what is given back, and what the restart policy says.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use wharf_container_runtime::cgroup::Cgroup;
use wharf_shim_protocol::{Event, ExitRecord, Request, Target, files};

use super::ending::{self, End};
use super::live::{Container, Run};
use super::record::Phase;
use super::restart_policy::{self, Ending};
use super::runtimes::delete_remains;
use super::shim_link::{LinkError, ShimLink};
use super::shim_spawn::ShimProcess;
use super::start::{Cause, unmount_shm};
use crate::Engine;

/// How long what is left of a run stays: long enough not to be in the way of those who are told
/// of its end.
pub(super) const TIDY_AFTER: Duration = Duration::from_millis(20);

/// Exit code of a run whose end nobody saw, as Docker has it after a power cut.
const EXIT_UNKNOWN: i32 = 255;

/// Listens to a running container's shim until it ends. One task per running container.
pub(super) async fn supervise(
    engine: Engine,
    container: Arc<Container>,
    mut events: mpsc::UnboundedReceiver<Event>,
    process: Option<ShimProcess>,
) {
    let mut ended = false;
    while let Some(event) = events.recv().await {
        match event {
            Event::Exited(record) if !ended => {
                ended = true;
                engine.run_ended(&container, &record).await;
            }
            Event::Exited(_) => {}
            Event::ExecExited { exec_id, exit_code } => {
                engine.exec_ended(&container, &exec_id, exit_code)
            }
            Event::Detached { target, token } => {
                let action = match &target {
                    Target::Main => "detach",
                    Target::Exec(_) => "exec_detach",
                };
                engine.client_gone(&container, &target, token);
                engine.events.publish(
                    "container",
                    action,
                    container.id.as_str(),
                    container.event_attributes([]),
                );
            }
            Event::ClientGone { target, token } => engine.client_gone(&container, &target, token),
            Event::OomKilled => {
                container.write().record.state.oom_killed = true;
                engine.events.publish(
                    "container",
                    "oom",
                    container.id.as_str(),
                    container.event_attributes([]),
                );
            }
        }
    }
    if !ended {
        let (record, seen) = engine.find_out(&container).await;
        engine.book_end(&container, &record, seen).await;
    }
    if let Some(process) = process {
        process.reap().await;
    }
}

impl Engine {
    /// The shim went without a word: what it wrote down, or the end of whatever is left.
    /// And whether that was seen by anybody.
    async fn find_out(&self, container: &Arc<Container>) -> (ExitRecord, bool) {
        let exit_path = self.containers.exit_path(&container.read().record);
        if let Ok(Some(record)) = files::read::<ExitRecord>(&exit_path) {
            return (record, true);
        }
        let (pid, kept) = {
            let cell = container.read();
            let kept = cell.run.as_ref().map(|run| run.kept.clone());
            (cell.record.state.pid, kept.unwrap_or_default())
        };
        tracing::error!(container.id = %container.id, "a container's shim ended without saying how the container did");
        kill_cgroup(&kept.cgroup_path).await;
        delete_remains(&kept).await;
        let record = ExitRecord {
            exit_code: 137,
            signal: Some(9),
            oom_killed: false,
            pid,
            started_at_ns: 0,
            finished_at_ns: i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
            start_failure: None,
            cause: Box::default(),
        };
        (record, false)
    }

    /// Books the end of a run, gives back what it had, and restarts or removes.
    pub(super) async fn run_ended(&self, container: &Arc<Container>, exit: &ExitRecord) {
        self.book_end(container, exit, true).await;
    }

    async fn book_end(&self, container: &Arc<Container>, exit: &ExitRecord, seen: bool) {
        let Some(run) = container.write().run.take() else {
            return;
        };
        self.give_back(container, &run);
        let exit_code = i64::from(exit.exit_code);
        let finished_at = Timestamp::from_nanosecond(i128::from(exit.finished_at_ns))
            .unwrap_or_else(|_| Timestamp::now());
        let (restart_in, auto_remove, ran) = {
            let mut cell = container.write();
            let ran = cell.record.state.started_at.map_or(Duration::ZERO, |at| {
                Duration::try_from(finished_at.duration_since(at)).unwrap_or_default()
            });
            let state = &mut cell.record.state;
            state.phase = Phase::Exited;
            state.paused = false;
            state.pid = 0;
            state.exit_code = exit_code;
            state.oom_killed |= exit.oom_killed;
            state.finished_at = Some(finished_at);
            let end = End::of_run(exit, state.started_at, !seen);
            ending::remember(&mut state.ends, end);
            let ending = Ending {
                exit_code,
                manually_stopped: state.manually_stopped,
                restart_count: state.restart_count,
            };
            let wanted = !run.kept.stop_requested
                && !run.keep_on_exit
                && !cell.gone
                && !cell.record.state.removing
                && restart_policy::should_restart(&cell.record.host_config.restart_policy, ending);
            let delay = wanted.then(|| restart_policy::next_delay(cell.restart_delay, ran));
            if let Some(delay) = delay {
                cell.restart_delay = Some(delay);
                cell.record.state.restarting = true;
                cell.record.state.restart_count += 1;
            }
            (
                delay,
                cell.record.host_config.auto_remove && !run.keep_on_exit,
                ran,
            )
        };
        self.stop_health(container);
        self.end_execs(container);
        let attributes = container.event_attributes([
            ("exitCode", exit_code.to_string()),
            ("execDuration", ran.as_secs().to_string()),
        ]);
        self.events
            .publish("container", "die", container.id.as_str(), attributes);
        for endpoint in &run.kept.endpoints {
            let driver = self
                .networks
                .driver()
                .find(&endpoint.network_id)
                .map_or("bridge", |n| n.driver.as_str());
            let (id, name) = (&endpoint.network_id, &endpoint.network_name);
            crate::networks::publish(
                self,
                "disconnect",
                id,
                name,
                driver,
                Some(container.id.as_str()),
            );
        }
        let Run {
            link,
            run_dir,
            clients,
            ..
        } = run;
        let removal = if auto_remove {
            Some((link, run_dir))
        } else {
            // Before anybody is told who would start it again at once.
            container.write().tidying = Some(Tidying::of(link, run_dir));
            None
        };
        container.announce(|watched| {
            watched.exits += 1;
            watched.exit_code = exit_code;
        });
        // Now that the end is booked, clients see the end of their streams.
        drop(clients);
        if let Some((link, run_dir)) = removal {
            let (engine, container) = (self.clone(), Arc::clone(container));
            tokio::spawn(async move {
                let _op = container.op.lock().await;
                if container.read().run.is_none()
                    && let Err(error) = engine.remove_locked(&container, true).await
                {
                    tracing::warn!(%error, container.id = %container.id, "cannot remove a container that ended");
                }
                // Nobody is in a hurry with it.
                let (_never, hurry) = oneshot::channel();
                tidy(link, run_dir, hurry).await;
            });
            return;
        }
        // A removal would be on record in a moment: then the end need not be.
        self.containers.persist(container);
        if let Some(delay) = restart_in {
            self.restart_later(container, delay);
        }
    }

    /// Lets go of the copy of a client's socket.
    fn client_gone(&self, container: &Container, target: &Target, token: u64) {
        match target {
            Target::Main => {
                if let Some(run) = &mut container.write().run {
                    run.clients.retain(|(known, _)| *known != token);
                }
            }
            Target::Exec(id) => self.exec_client_gone(id),
        }
    }

    /// Network, shared memory and cgroup of a run.
    fn give_back(&self, container: &Container, run: &Run) {
        if run.kept.network.is_some() {
            self.networks.driver().release(container.id.as_str());
        }
        if let Some(shm) = &run.kept.shm {
            unmount_shm(shm);
        }
    }

    /// Starts the container again after `delay`, unless that is cancelled.
    pub(super) fn restart_later(&self, container: &Arc<Container>, delay: Duration) {
        let (cancel, cancelled) = oneshot::channel();
        container.write().restart_cancel = Some(cancel);
        let (engine, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                // The other end is dropped by whoever cancels.
                _ = cancelled => return,
            }
            let _op = container.op.lock().await;
            if !container.read().record.state.restarting || container.read().run.is_some() {
                return;
            }
            if let Err(error) = engine.start_locked(&container, Cause::Policy).await {
                tracing::error!(error = %wharf_fault::chain(&error), container.id = %container.id, "restarting a container failed");
            }
        });
    }

    /// Ends the wait for a restart; the container is stopped then. The caller holds `op`.
    pub(super) fn cancel_restart(&self, container: &Container) {
        {
            let mut cell = container.write();
            cell.restart_cancel = None;
            cell.record.state.restarting = false;
        }
        container.announce(|_| {});
    }
}

/// The removal of what is left of a run.
#[derive(Debug)]
pub struct Tidying {
    hurry: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Tidying {
    fn of(link: ShimLink, run_dir: PathBuf) -> Self {
        let (hurry, hurried) = oneshot::channel();
        Self {
            hurry,
            task: tokio::spawn(tidy(link, run_dir, hurried)),
        }
    }

    /// Has it done now, for the next run, which uses the same cgroup; returns when it is.
    pub(super) async fn now(self) {
        drop(self.hurry);
        drop(self.task.await);
    }
}

/// Has the shim of a run that is booked remove what is left of it, once those who waited for the
/// end are out of the way.
async fn tidy(link: ShimLink, run_dir: PathBuf, hurry: oneshot::Receiver<()>) {
    drop(tokio::time::timeout(TIDY_AFTER, hurry).await);
    match link.command(Request::Release, &[]).await {
        Ok(()) | Err(LinkError::Gone) => {}
        Err(error) => tracing::warn!(%error, "a shim does not tidy up"),
    }
    remove_run_dir(&run_dir);
}

/// Deletes a run directory; what is left of it by a crash is found by the next daemon.
pub(super) fn remove_run_dir(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove a run directory");
    }
}

/// Kills everything in a cgroup and removes it.
pub(super) async fn kill_cgroup(path: &str) {
    if path.is_empty() {
        return;
    }
    let Ok(cgroup) = Cgroup::at(path) else { return };
    for _ in 0..100 {
        drop(cgroup.signal_all(Signal::KILL));
        // Frozen processes do not see the signal.
        drop(cgroup.resume());
        match cgroup.processes() {
            Ok(processes) if !processes.is_empty() => {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
            _ => break,
        }
    }
    drop(cgroup.remove());
}

/// The record of a run of which nothing is left, not even its exit record.
pub(super) fn unknown_end() -> ExitRecord {
    ExitRecord {
        exit_code: EXIT_UNKNOWN,
        signal: None,
        oom_killed: false,
        pid: 0,
        started_at_ns: 0,
        finished_at_ns: i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
        start_failure: None,
        cause: Box::default(),
    }
}
