//! The socket over which a runtime hands over a terminal (`--console-socket`).

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use wharf_shim_protocol::{Failure, FailureKind};

/// A listening socket for one terminal.
#[derive(Debug)]
pub(super) struct ConsoleSocket {
    listener: UnixListener,
    file: PathBuf,
    /// The name the runtime connects to.
    path: String,
    /// Keeps `path` valid where it leads through our descriptors.
    _directory: std::fs::File,
}

/// The longest name of a socket, in bytes.
const NAME_MAX: usize = 107;

impl ConsoleSocket {
    /// Listens in `run_dir`.
    pub(super) fn bind(run_dir: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(
                FailureKind::System,
                format!("cannot listen for the terminal: {error}"),
            )
        };
        let file = run_dir.join("console.sock");
        let _ = std::fs::remove_file(&file);
        let directory = std::fs::File::open(run_dir).map_err(failed)?;
        let through_us = format!(
            "/proc/{}/fd/{}/console.sock",
            crate::container::own_pid(),
            directory.as_raw_fd()
        );
        let listener = UnixListener::bind(&through_us).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let plain = file.display().to_string();
        let path = if plain.len() <= NAME_MAX {
            plain
        } else {
            through_us
        };
        Ok(Self {
            listener,
            file,
            path,
            _directory: directory,
        })
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The terminal's master. The runtime's command has ended: it is here, or it never comes.
    pub(super) fn receive(self) -> Result<OwnedFd, Failure> {
        let missing = |error: std::io::Error| {
            Failure::new(
                FailureKind::System,
                format!("the runtime handed over no terminal: {error}"),
            )
        };
        let (socket, _) = self.listener.accept().map_err(missing)?;
        // The name of the terminal comes with it.
        let mut name = [0; 4096];
        let (_, fds) =
            wharf_sys::scm::receive(&socket, &mut name).map_err(|errno| missing(errno.into()))?;
        fds.into_iter()
            .next()
            .ok_or_else(|| missing(std::io::ErrorKind::UnexpectedEof.into()))
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}
