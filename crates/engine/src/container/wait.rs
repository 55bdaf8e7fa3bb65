//! Waiting for a container's end.

use std::sync::Arc;

use wharf_api_types::container::WaitResponse;
use wharf_fault::{Error, Result};

use super::live::Container;
use crate::Engine;

/// What to wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run; true at once for one that does not.
    #[default]
    NotRunning,
    /// The end of the present run, or of the next one.
    NextExit,
    /// It is removed.
    Removed,
}

impl WaitCondition {
    /// The API's word.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(Error::invalid(format!("invalid condition: \"{other}\""))),
        }
    }
}

/// A wait that was registered: nothing that happens from now on is missed.
#[derive(Debug)]
pub struct Waiter {
    _container: Arc<Container>,
    watch: tokio::sync::watch::Receiver<super::live::Watched>,
    condition: WaitCondition,
    exits_before: u64,
}

impl Engine {
    /// Begins to wait; [`Waiter::wait`] then waits.
    pub fn container_wait(&self, reference: &str, condition: WaitCondition) -> Result<Waiter> {
        let container = self.containers.find(reference)?;
        let watch = container.watch();
        let exits_before = watch.borrow().exits;
        Ok(Waiter {
            _container: container,
            watch,
            condition,
            exits_before,
        })
    }
}

impl Waiter {
    /// Waits; the answer has the exit status.
    pub async fn wait(mut self) -> WaitResponse {
        let (condition, before) = (self.condition, self.exits_before);
        let reached = self
            .watch
            .wait_for(|watched| {
                watched.removed
                    || match condition {
                        WaitCondition::NotRunning => !watched.running,
                        WaitCondition::NextExit => watched.exits > before,
                        WaitCondition::Removed => false,
                    }
            })
            .await;
        // The sender lives in the container, which is held here.
        let status_code = reached.map_or(0, |watched| watched.exit_code);
        WaitResponse {
            error: None,
            status_code,
        }
    }
}
