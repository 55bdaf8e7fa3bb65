//! How a created container waits for `start`, which is another process, possibly much later.
//!
//! Two FIFOs in a directory of the runtime's. The container's first process holds both open for
//! reading and writing until it becomes the user's program:
//!
//! ```text
//! start                                 first process
//!   opens "exec.fifo" for writing        (a reader there is what tells that it still waits)
//!   "go" ──────── exec.fifo ──────────▶  startContainer hooks, then the program
//!        ◀─────── exec.result ─────────  stage + errno, or end of file: exec closed it
//! ```
//!
//! The first process needs nothing but `read` and `write` for it, which no filter denies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, mknodat, openat};
use rustix::io::Errno;

use crate::error::{Stage, StartError};

/// The FIFO that takes the word to go.
const GO: &str = "exec.fifo";

/// The FIFO that brings what became of it.
const RESULT: &str = "exec.result";

/// The first process's end.
#[derive(Debug)]
pub struct Gate {
    go: OwnedFd,
    result: OwnedFd,
}

impl Gate {
    /// Makes the gate in `directory`.
    pub fn make(directory: impl AsFd) -> Result<Self, Errno> {
        let make = |name: &str| {
            mknodat(&directory, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            openat(
                &directory,
                name,
                OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW,
                Mode::empty(),
            )
        };
        Ok(Self {
            go: make(GO)?,
            result: make(RESULT)?,
        })
    }

    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.go.as_fd(), self.result.as_fd()]
    }

    /// Waits for the word.
    pub(crate) fn wait(&self) -> Result<(), StartError> {
        let mut word = [0];
        loop {
            match rustix::io::read(&self.go, &mut word) {
                Ok(1) => return Ok(()),
                Err(Errno::INTR) => {}
                _ => return Err(StartError::refused(Stage::Died, "")),
            }
        }
    }

    /// Says what failed. Nothing can be done if that fails too.
    pub(crate) fn send_error(&self, error: &StartError) {
        let _ = rustix::io::write(&self.result, &error.encode());
    }
}

/// Whether somebody waits at the gate in `directory`.
pub fn is_waiting(directory: impl AsFd) -> bool {
    knock(directory).is_ok()
}

fn knock(directory: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(&directory, GO, flags, Mode::empty())
}

/// Lets whoever waits at the gate in `directory` go, and returns when its program runs or has
/// failed to. [`Stage::NotRunning`] when nobody waits there.
pub fn open(directory: impl AsFd) -> Result<(), StartError> {
    let nobody = || StartError::refused(Stage::NotRunning, "");
    let result = openat(
        &directory,
        RESULT,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .map_err(|_| nobody())?;
    let go = knock(&directory).map_err(|_| nobody())?;
    rustix::io::ioctl_fionbio(&result, false)
        .map_err(|errno| StartError::new(Stage::Clone, errno, ""))?;
    match rustix::io::write(&go, b"G") {
        Ok(1) => {}
        _ => return Err(nobody()),
    }
    drop(go);
    let mut report = Vec::new();
    io::Read::read_to_end(&mut std::fs::File::from(result), &mut report)
        .map_err(|error| crate::launch::io(Stage::Clone, &error, ""))?;
    if report.is_empty() {
        return Ok(());
    }
    Err(StartError::decode(&report).unwrap_or_else(|| StartError::refused(Stage::Died, "")))
}

/// Removes the gate in `directory`. That it is not there any more is fine.
pub fn remove(directory: impl AsFd) -> Result<(), Errno> {
    for name in [GO, RESULT] {
        match rustix::fs::unlinkat(&directory, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, OwnedFd) {
        let top = tempfile::tempdir().unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(top.path(), flags, Mode::empty()).unwrap();
        (top, fd)
    }

    #[test]
    fn the_word_arrives_and_exec_is_the_answer() {
        let (_top, directory) = directory();
        let gate = Gate::make(&directory).unwrap();
        assert!(is_waiting(&directory));
        let waiting = std::thread::spawn(move || gate.wait());
        open(&directory).unwrap();
        waiting.join().unwrap().unwrap();
        assert!(!is_waiting(&directory));
        assert_eq!(open(&directory).unwrap_err().stage, Stage::NotRunning);
    }

    #[test]
    fn a_failure_is_the_answer() {
        let (_top, directory) = directory();
        let gate = Gate::make(&directory).unwrap();
        let error = StartError::new(Stage::Hook, Errno::ACCESS, "x");
        let sent = error.clone();
        let waiting = std::thread::spawn(move || {
            gate.wait().unwrap();
            gate.send_error(&sent);
        });
        assert_eq!(open(&directory).unwrap_err(), error);
        waiting.join().unwrap();
    }

    #[test]
    fn nobody_waits_where_there_is_no_gate() {
        let (_top, directory) = directory();
        assert!(!is_waiting(&directory));
        assert_eq!(open(&directory).unwrap_err().stage, Stage::NotRunning);
        drop(Gate::make(&directory).unwrap());
        remove(&directory).unwrap();
        remove(&directory).unwrap();
    }
}
