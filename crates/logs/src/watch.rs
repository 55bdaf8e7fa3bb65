//! Tells a follower that a log may have grown.
//!
//! The kernel does by inotify. It has few instances of that to give (128 for root by default, of
//! which others may hold any number), so when it has none left a timer takes its place.

use std::fs::DirBuilder;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// How often a follower looks that could not get notifications.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// A descriptor for one log's directory, non-blocking: readable when a file in it was written,
/// created or renamed (or may have been). Under tokio it goes into an `AsyncFd`.
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
        match notifications(dir) {
            Ok(fd) => Ok(Self { fd }),
            Err(Errno::MFILE | Errno::NOSPC) => Ok(Self { fd: timer()? }),
            Err(errno) => Err(errno.into()),
        }
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
                Err(Errno::AGAIN) => return Ok(any),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn notifications(dir: &Path) -> Result<OwnedFd, Errno> {
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(
        &fd,
        dir,
        WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB,
    )?;
    Ok(fd)
}

fn timer() -> Result<OwnedFd, Errno> {
    let fd = timerfd_create(
        TimerfdClockId::Monotonic,
        TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
    )?;
    let every = Itimerspec {
        it_interval: LOOK_EVERY,
        it_value: LOOK_EVERY,
    };
    timerfd_settime(&fd, TimerfdTimerFlags::empty(), &every)?;
    Ok(fd)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_wakes_and_is_drained() {
        let watch = Watch {
            fd: timer().unwrap(),
        };
        assert!(!watch.drain().unwrap());
        let mut fds = [rustix::event::PollFd::new(
            &watch,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut fds, None).unwrap();
        assert!(watch.drain().unwrap());
        assert!(!watch.drain().unwrap());
    }
}
