//! Another process in a running container.

use std::os::fd::OwnedFd;

use rustix::process::Pid;

use crate::config::{ExecConfig, Stdio};
use crate::create::Running;
use crate::error::{Stage, StartError};

/// A process started in a running container.
#[derive(Debug)]
pub struct Executed {
    /// The process in the caller's PID namespace; a child of the caller, who reaps it.
    pub pid: Pid,
    /// The same as a descriptor.
    pub pidfd: OwnedFd,
    /// The terminal's master, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
}

/// Starts a process in `container`: in all its namespaces, its root and its cgroup.
pub fn exec(
    container: &Running,
    config: &ExecConfig,
    stdio: Stdio,
) -> Result<Executed, StartError> {
    drop((container, config, stdio));
    Err(StartError::refused(Stage::Config, "not linked yet"))
}
