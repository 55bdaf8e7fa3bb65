//! Stopping and restarting by a user.

use std::sync::Arc;
use std::time::Duration;

use wharf_fault::{Error, Kind, Result};
use wharf_shim_protocol::SignalOrigin;

use super::live::Container;
use super::signal;
use super::start::Cause;
use crate::Engine;

/// Seconds between the stop signal and SIGKILL unless told otherwise.
const TIMEOUT_DEFAULT_SECS: i64 = 10;
/// How long a killed container may take to be gone.
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(60);

/// How to stop.
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// Instead of the container's own stop signal.
    pub signal: Option<String>,
    /// Seconds before SIGKILL; negative waits for ever.
    pub timeout_secs: Option<i64>,
}

impl Engine {
    /// Stops a container.
    pub async fn container_stop(&self, reference: &str, options: &StopOptions) -> Result<()> {
        let container = self.containers.find(reference)?;
        let signal = options.signal.as_deref().map(signal::parse).transpose()?;
        let _op = container.op.lock().await;
        if !container.read().record.state.is_running() {
            return Err(Error::not_modified(format!(
                "container {} is already stopped",
                container.id
            )));
        }
        let outcome = self
            .stop_locked(&container, signal, options.timeout_secs, false)
            .await;
        outcome.map_err(|error| {
            Error::new(
                error.kind(),
                format!(
                    "cannot stop container: {reference}: {}",
                    wharf_fault::chain(&error)
                ),
            )
        })?;
        self.events.publish(
            "container",
            "stop",
            container.id.as_str(),
            container.event_attributes([]),
        );
        Ok(())
    }

    /// Stops a container and starts it again; one that is stopped is only started.
    pub async fn container_restart(&self, reference: &str, options: &StopOptions) -> Result<()> {
        let container = self.containers.find(reference)?;
        let signal = options.signal.as_deref().map(signal::parse).transpose()?;
        let failed = |error: Error| {
            let text = wharf_fault::chain(&error);
            Error::new(
                error.kind(),
                format!("Cannot restart container {reference}: {text}"),
            )
        };
        let _op = container.op.lock().await;
        if container.read().record.state.is_running() {
            self.stop_locked(&container, signal, options.timeout_secs, true)
                .await
                .map_err(failed)?;
        }
        self.start_locked(&container, Cause::User)
            .await
            .map_err(failed)?;
        self.events.publish(
            "container",
            "restart",
            container.id.as_str(),
            container.event_attributes([]),
        );
        Ok(())
    }

    /// Stops; the caller holds `op` and knows it runs. With `for_restart` the end is not booked as
    /// the user's wish, and `--rm` waits.
    pub(super) async fn stop_locked(
        &self,
        container: &Arc<Container>,
        signal: Option<i32>,
        timeout_secs: Option<i64>,
        for_restart: bool,
    ) -> Result<()> {
        let mut watch = container.watch();
        let (stop_signal, timeout_secs) = {
            let mut cell = container.write();
            let config = &cell.record.config;
            let configured = if config.stop_signal.is_empty() {
                Ok(signal::TERM)
            } else {
                signal::parse(&config.stop_signal)
            };
            let timeout = timeout_secs
                .or(config.stop_timeout)
                .unwrap_or(TIMEOUT_DEFAULT_SECS);
            let stop_signal = signal.unwrap_or(configured?);
            if !for_restart {
                cell.record.state.manually_stopped = true;
            }
            if let Some(run) = &mut cell.run {
                run.kept.stop_requested = true;
                run.keep_on_exit = for_restart;
            }
            (stop_signal, timeout)
        };
        if container.read().run.is_none() {
            // Between two restarts.
            self.cancel_restart(container);
            return self.containers.persist_now(container).await;
        }
        // `unless-stopped` must hold after a crash too; the commit runs beside the signal.
        let noted = async {
            if for_restart {
                Ok(())
            } else {
                self.containers.persist_now(container).await
            }
        };
        let origin = if for_restart {
            SignalOrigin::Restart
        } else {
            SignalOrigin::Stop
        };
        let (noted, sent) = tokio::join!(
            noted,
            self.signal_main(container, stop_signal, origin, true)
        );
        noted?;
        let ended = async {
            // The sender lives in the container.
            drop(
                watch
                    .wait_for(|watched| !watched.running || watched.removed)
                    .await,
            );
        };
        tokio::pin!(ended);
        // A signal that could not be sent leaves SIGKILL at once.
        if sent.is_ok() {
            match u64::try_from(timeout_secs) {
                Ok(seconds) => {
                    if tokio::time::timeout(Duration::from_secs(seconds), &mut ended)
                        .await
                        .is_ok()
                    {
                        return Ok(());
                    }
                }
                Err(_) => {
                    ended.await;
                    return Ok(());
                }
            }
        }
        let origin = if for_restart {
            SignalOrigin::Restart
        } else {
            SignalOrigin::StopTimeout
        };
        match self
            .signal_main(container, signal::KILL, origin, true)
            .await
        {
            Ok(()) => {}
            // It has ended at the first signal, which is about to be told here.
            Err(error) if error.kind() == Kind::Conflict => {}
            Err(error) if container.read().run.is_some() => return Err(error),
            Err(_) => {}
        }
        match tokio::time::timeout(KILL_PATIENCE, ended).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::system(format!(
                "tried to kill container, but did not receive an exit event (container {})",
                container.id
            ))),
        }
    }
}
