//! Pseudo-terminals of a given devpts.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A pseudo-terminal: the engine's end and the program's end.
#[derive(Debug)]
pub struct Terminal {
    /// What the engine reads and writes.
    pub master: OwnedFd,
    /// What the program has as its standard streams.
    pub slave: OwnedFd,
}

/// Opens a new terminal through the multiplexer `path` (relative to `directory`) of the devpts
/// that is to own it.
pub fn open(directory: impl AsFd, path: &CStr) -> Result<Terminal, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(directory, path, flags, Mode::empty())?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    Ok(Terminal { master, slave })
}

/// Sets the size of a terminal in characters.
pub fn resize(terminal: impl AsFd, columns: u16, rows: u16) -> Result<(), Errno> {
    tcsetwinsize(
        terminal,
        Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
}
