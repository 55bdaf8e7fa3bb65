//! Tells a follower that a log may have grown.

use std::fs::DirBuilder;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// An inotify descriptor on a log's directory, non-blocking: readable when a file in it was
/// written, created or renamed. Under tokio it goes into an `AsyncFd`.
#[derive(Debug)]
pub struct Watch {
    fd: OwnedFd,
}

impl Watch {
    /// Watches the directory of the log file `path`, which need not exist yet.
    pub fn on(path: &Path) -> io::Result<Self> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        // Docker's `local` driver has a directory of its own, made by the first writer.
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(
            &fd,
            dir,
            WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO,
        )?;
        Ok(Self { fd })
    }

    /// Takes all waiting notifications; returns whether there were any. To be called before
    /// reading the log, so that what is written while reading wakes again.
    pub fn drain(&self) -> io::Result<bool> {
        let mut any = false;
        let mut space = [MaybeUninit::<u8>::uninit(); 4096];
        loop {
            match rustix::io::read(&self.fd, &mut space) {
                Ok(([], _)) => return Ok(any),
                Ok(_) => any = true,
                Err(rustix::io::Errno::AGAIN) => return Ok(any),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
