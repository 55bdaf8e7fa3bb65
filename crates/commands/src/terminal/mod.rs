//! The user's terminal: raw mode, its size, the keys that detach, signals.

pub(crate) mod keys;
pub(crate) mod signals;

use std::io;
use std::os::fd::BorrowedFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Puts a terminal into raw mode until it is dropped.
pub(crate) struct Raw {
    fd: BorrowedFd<'static>,
    saved: Termios,
}

impl Raw {
    /// Raw mode on standard input; `None` when it is no terminal or `NORAW` is set.
    pub(crate) fn stdin() -> io::Result<Option<Self>> {
        let fd = rustix::stdio::stdin();
        if !rustix::termios::isatty(fd) || std::env::var_os("NORAW").is_some() {
            return Ok(None);
        }
        let saved = tcgetattr(fd)?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(fd, OptionalActions::Now, &raw)?;
        Ok(Some(Self { fd, saved }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The program ends soon after: there is nobody left to act on a failure.
        let _ = tcsetattr(self.fd, OptionalActions::Now, &self.saved);
    }
}

/// Rows and columns of the terminal on standard output; `None` when it is none.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(rustix::stdio::stdout()).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
