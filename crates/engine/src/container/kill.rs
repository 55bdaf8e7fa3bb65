//! Sending signals.

use std::sync::Arc;

use wharf_container_runtime::cgroup::Cgroup;
use wharf_fault::{Error, Result};
use wharf_shim_protocol::{Request, SignalOrigin, Target};

use super::live::Container;
use super::signal;
use super::stop::KILL_PATIENCE;
use crate::Engine;

impl Engine {
    /// Sends `signal` (`KILL` when empty) to a container's program. SIGKILL returns when it ended.
    pub async fn container_kill(&self, reference: &str, signal_text: &str) -> Result<()> {
        let container = self.containers.find(reference)?;
        let signal = if signal_text.is_empty() {
            signal::KILL
        } else {
            signal::parse(signal_text)?
        };
        let mut watch = container.watch();
        let is_stop = {
            let mut cell = container.write();
            if !cell.record.state.is_running() {
                return Err(Error::conflict(format!(
                    "cannot kill container: {reference}: container {} is not running",
                    container.id
                )));
            }
            let configured = signal::parse(&cell.record.config.stop_signal).ok();
            // Docker: with a stop signal of its own, other signals do not end the restart policy.
            let is_stop = configured.is_none_or(|own| own == signal) || signal == signal::KILL;
            cell.record.state.manually_stopped = true;
            if is_stop && let Some(run) = &mut cell.run {
                run.kept.stop_requested = true;
            }
            is_stop
        };
        if container.read().run.is_none() {
            self.cancel_restart(&container);
            return self.containers.persist_now(&container).await;
        }
        let (noted, sent) = tokio::join!(
            self.containers.persist_now(&container),
            self.signal_main(&container, signal, SignalOrigin::Kill, is_stop)
        );
        noted?;
        sent.map_err(|error| {
            Error::new(
                error.kind(),
                format!("cannot kill container: {reference}: {error}"),
            )
        })?;
        if signal == signal::KILL {
            let ended = watch.wait_for(|watched| !watched.running || watched.removed);
            if tokio::time::timeout(KILL_PATIENCE, ended).await.is_err() {
                tracing::warn!(container.id = %container.id, "a killed container does not end");
            }
        }
        Ok(())
    }

    /// Signals the program. With `thaw` a frozen container goes on, to see the signal.
    pub(super) async fn signal_main(
        &self,
        container: &Arc<Container>,
        signal: i32,
        origin: SignalOrigin,
        thaw: bool,
    ) -> Result<()> {
        let link = container.link()?;
        // Before the signal: whoever watches sees the cause before the effect.
        let attributes = container.event_attributes([("signal", signal.to_string())]);
        self.events
            .publish("container", "kill", container.id.as_str(), attributes);
        self.send_signal(&link, signal, origin).await?;
        if thaw && container.read().record.state.paused {
            return self.resume(container).await;
        }
        Ok(())
    }

    async fn send_signal(
        &self,
        link: &super::shim_link::ShimLink,
        signal: i32,
        origin: SignalOrigin,
    ) -> Result<()> {
        link.command(
            Request::Signal {
                target: Target::Main,
                signal,
                all: false,
                origin,
            },
            &[],
        )
        .await
        .map_err(Error::from)
    }

    /// Thaws a container.
    pub(super) async fn resume(&self, container: &Container) -> Result<()> {
        if self.freeze_by_program(container, false).await? {
            self.note_paused(container, false);
            return Ok(());
        }
        let path = container
            .read()
            .run
            .as_ref()
            .map(|run| run.kept.cgroup_path.clone())
            .unwrap_or_default();
        let resumed = Cgroup::at(&path).and_then(|cgroup| cgroup.resume());
        resumed.map_err(|source| {
            Error::system(format!("cannot unpause container {}", container.id)).caused_by(source)
        })?;
        self.note_paused(container, false);
        Ok(())
    }
}
