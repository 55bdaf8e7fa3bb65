//! Starting a container: gather what only the host knows, plan (pure), apply with an undo stack.
//!
//! No commit, no directory scan and no parsing lies before the answer: actual state is with the
//! shim and in its run directory, the record follows in the background.

mod plan;
mod prepare;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use wharf_fault::{Error, Result};
use wharf_ids::random_bytes;
use wharf_shim_protocol::{Reply, Request, Restore, Target};

pub(super) use self::plan::namespace_of;
use self::prepare::Undo;
pub(super) use self::prepare::{unmount_shm, write_container_file};
use super::ahead::Pattern;
use super::ending::{self, End};
use super::live::{Container, Run, WaitingClient};
use super::next_id::Kept;
use super::record::Phase;
use super::shim_link::{LinkError, ShimLink};
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

/// What keeps an ordinary user's namespaces while a container lives; see [`crate::Rootless`].
pub(super) const LIFELINE: &str = "lifeline";

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
