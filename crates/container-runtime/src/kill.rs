//! Signals to a container.

use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use crate::create::Running;

/// Sends `signal` to the container's first process. `ESRCH` when it has ended.
pub fn kill(container: &Running, signal: Signal) -> Result<(), Errno> {
    pidfd_send_signal(&container.pidfd, signal)
}
