//! The parent's side of starting a container.

use std::os::fd::OwnedFd;

use rustix::process::Pid;

use crate::cgroup::Cgroup;
use crate::config::{ContainerConfig, NamespaceFd, Stdio};
use crate::error::{Stage, StartError};

/// A running container.
#[derive(Debug)]
pub struct Running {
    /// Its first process in the caller's PID namespace; a child of the caller, who reaps it.
    pub pid: Pid,
    /// The same as a descriptor: becomes readable when it ends.
    pub pidfd: OwnedFd,
    /// The terminal's master, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
    /// Its cgroup, if the document has a `cgroupsPath`.
    pub cgroup: Option<Cgroup>,
}

/// A container that is complete but whose program has not been started.
#[derive(Debug)]
pub struct Created {
    /// What it is like.
    pub container: Running,
    gate: OwnedFd,
}

impl Created {
    /// Starts the user's program.
    pub fn start(self) -> Result<Running, StartError> {
        drop(self.gate);
        Err(StartError::refused(Stage::Config, "not linked yet"))
    }
}

/// Creates a container and starts its program, in one go.
pub fn run(
    config: &ContainerConfig,
    namespaces: Vec<NamespaceFd>,
    stdio: Stdio,
) -> Result<Running, StartError> {
    create(config, namespaces, stdio)?.start()
}

/// Creates a container whose program waits for [`Created::start`].
pub fn create(
    config: &ContainerConfig,
    namespaces: Vec<NamespaceFd>,
    stdio: Stdio,
) -> Result<Created, StartError> {
    drop((config, namespaces, stdio));
    Err(StartError::refused(Stage::Config, "not linked yet"))
}
