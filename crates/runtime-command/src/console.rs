//! Standard streams of a process: the caller's own, or a terminal whose master the caller gets
//! over its console socket or keeps the command in the foreground for.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::termios::tcgetwinsize;
use wharf_container_runtime::Stdio;
use wharf_oci::runtime::ConsoleSize;
use wharf_sys::scm;

use crate::error::{Error, Result};

/// What the terminal's master is called in the message that carries it.
const NAME: &[u8] = b"/dev/ptmx";

/// How a command connects a process.
#[derive(Debug)]
pub(crate) enum Console {
    /// No terminal.
    Inherited,
    /// A terminal whose master goes to this socket.
    Sent(UnixStream),
    /// A terminal that is passed through to ours.
    Passed,
}

impl Console {
    /// What `terminal`, being `detached` and `--console-socket` come to.
    pub(crate) fn plan(terminal: bool, detached: bool, socket: Option<&str>) -> Result<Self> {
        let socket = socket.filter(|path| !path.is_empty());
        match (terminal, detached, socket) {
            (false, _, Some(_)) | (true, false, Some(_)) => Err(Error::Refused(
                "cannot use console socket if the runtime will not detach or allocate tty".into(),
            )),
            (false, _, None) => Ok(Self::Inherited),
            (true, true, None) => Err(Error::Refused(
                "cannot allocate tty if the runtime will detach without setting console socket"
                    .into(),
            )),
            (true, true, Some(path)) => UnixStream::connect(path)
                .map(Self::Sent)
                .map_err(Error::file("connect to console socket", path)),
            (true, false, None) => Ok(Self::Passed),
        }
    }

    /// The size a terminal has from its beginning, where nobody else says one: ours.
    pub(crate) fn size(&self) -> Option<ConsoleSize> {
        let Self::Passed = self else {
            return None;
        };
        let size = tcgetwinsize(std::io::stdin()).ok()?;
        (size.ws_row > 0 && size.ws_col > 0).then(|| ConsoleSize {
            height: size.ws_row.into(),
            width: size.ws_col.into(),
        })
    }

    /// The process's ends.
    pub(crate) fn stdio(&self) -> Result<Stdio> {
        if !matches!(self, Self::Inherited) {
            return Ok(Stdio::Terminal);
        }
        let copy = |fd: &dyn AsFd| rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 3);
        let streams = || {
            Ok([
                copy(&std::io::stdin())?,
                copy(&std::io::stdout())?,
                copy(&std::io::stderr())?,
            ])
        };
        streams()
            .map(Stdio::Streams)
            .map_err(Error::system::<rustix::io::Errno>("standard streams"))
    }

    /// Hands the terminal's master over if there is somebody to have it; else it comes back.
    pub(crate) fn hand_over(&self, master: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
        match (self, master) {
            (Self::Sent(socket), Some(master)) => {
                scm::send(socket, NAME, &[master.as_fd()])
                    .map_err(Error::system("console socket"))?;
                Ok(None)
            }
            (_, master) => Ok(master),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_combinations_are_refused() {
        assert!(matches!(
            Console::plan(false, true, None),
            Ok(Console::Inherited)
        ));
        assert!(matches!(
            Console::plan(true, false, None),
            Ok(Console::Passed)
        ));
        let refused = |terminal, detached, socket| {
            Console::plan(terminal, detached, socket)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(true, true, None).starts_with("cannot allocate tty"));
        assert!(refused(false, true, Some("/x")).starts_with("cannot use console socket"));
        assert!(refused(true, false, Some("/x")).starts_with("cannot use console socket"));
    }
}
