//! Starting shims: the program, its descriptors, and the end of the process.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use wharf_fault::{Error, Result};
use wharf_shim_protocol::CONTROL_FD;
use wharf_sys::spawn::{Program, Spawn};

use super::readiness;
use crate::ShimProgram;

/// Starts shims.
#[derive(Debug)]
pub(super) struct ShimSpawner {
    program: OwnedFd,
    null: OwnedFd,
    /// A shim that waits for its container: starting the process is off the start path.
    ready: Mutex<Option<(UnixStream, ShimProcess)>>,
}

/// A shim that this daemon started and must wait for.
#[derive(Debug)]
pub(super) struct ShimProcess {
    pid: Pid,
    pidfd: OwnedFd,
}

impl ShimSpawner {
    /// Opens the program once; every start reuses the descriptor.
    pub(super) fn new(program: &ShimProgram) -> Result<Self> {
        let program = match program {
            ShimProgram::Embedded(bytes) => wharf_sys::memfd::sealed("wharf-shim", bytes, true)
                .map_err(|source| Error::system("cannot unpack the shim").caused_by(source))?,
            ShimProgram::File(path) => File::open(path)
                .map_err(|source| {
                    Error::system(format!("cannot open the shim {}", path.display()))
                        .caused_by(source)
                })?
                .into(),
        };
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(|source| Error::system("cannot open /dev/null").caused_by(source))?;
        Ok(Self {
            program,
            null: null.into(),
            ready: Mutex::new(None),
        })
    }

    /// A shim and the daemon's end of its control connection: the one kept ready, or a new one.
    pub(super) fn take(&self) -> Result<(UnixStream, ShimProcess)> {
        let ready = self.ready().take();
        match ready {
            Some((socket, process)) if process.is_alive() => Ok((socket, process)),
            Some((_, process)) => {
                tokio::spawn(process.reap());
                self.spawn()
            }
            None => self.spawn(),
        }
    }

    /// Keeps a shim ready for the next start. Blocks for about a millisecond.
    pub(super) fn refill(&self) {
        if self.ready().is_some() {
            return;
        }
        match self.spawn() {
            Ok(shim) => {
                let surplus = self.ready().replace(shim);
                // Two refills at once: the surplus one ends as its connection closes.
                if let Some((_, process)) = surplus {
                    tokio::spawn(process.reap());
                }
            }
            Err(error) => tracing::warn!(%error, "cannot keep a shim ready"),
        }
    }

    fn ready(&self) -> MutexGuard<'_, Option<(UnixStream, ShimProcess)>> {
        self.ready
            .lock()
            .expect("no code panics while it holds this lock")
    }

    fn spawn(&self) -> Result<(UnixStream, ShimProcess)> {
        let failed =
            |source: std::io::Error| Error::system("cannot start a shim").caused_by(source);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let null = self.null.as_fd();
        let fds = [
            (null, 0),
            (null, 1),
            (null, 2),
            (theirs.as_fd(), CONTROL_FD),
        ];
        let arguments: [CString; 1] = [c"wharf-shim".to_owned()];
        let spawn = Spawn {
            program: Program::File(self.program.as_fd()),
            arguments: &arguments,
            environment: &[],
            fds: &fds,
            doors: &[],
            new_session: true,
            working_directory: None,
        };
        let (pid, pidfd) = spawn.start().map_err(|errno| failed(errno.into()))?;
        Ok((ours, ShimProcess { pid, pidfd }))
    }
}

impl ShimProcess {
    /// Whether it has not ended.
    fn is_alive(&self) -> bool {
        let mut wait = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut wait, Some(&Timespec::default())), Ok(0))
    }

    /// Waits for the shim's end, so that no zombie stays.
    pub(super) async fn reap(self) {
        let Self { pid, pidfd } = self;
        match readiness::read_only(pidfd) {
            Ok(pidfd) => {
                drop(pidfd.readable().await);
                let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            }
            Err(error) => {
                tracing::warn!(%error, pid = pid.as_raw_nonzero().get(), "cannot wait for a shim")
            }
        }
    }

    /// Ends a shim that is of no use.
    pub(super) fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }
}
