//! Who runs this: root, whose engine is the system's, or somebody with an engine of their own.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use wharf_fault::{Error, Result};
use wharf_rootless::Directories;

use crate::DEFAULT_SOCKET;

/// The directories of an ordinary user's engine; `None` for root.
pub(crate) fn directories() -> Result<Option<Directories>> {
    if rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    Directories::find().map(Some).map_err(Error::from_fault)
}

/// Where a client that is told nothing looks for its engine: a user's own one, then the system's if
/// it lets the user in; where there is neither, the first command starts the user's own.
pub(crate) fn default_socket() -> PathBuf {
    let system = PathBuf::from(DEFAULT_SOCKET);
    if rustix::process::geteuid().is_root() {
        return system;
    }
    let Ok(runtime) = wharf_rootless::directories::runtime() else {
        // Said by whatever starts the daemon.
        return system;
    };
    let own = wharf_rootless::directories::socket_in(&runtime);
    if !own.exists() && UnixStream::connect(&system).is_ok() {
        system
    } else {
        own
    }
}
