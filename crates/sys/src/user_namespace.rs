//! User namespaces as descriptors, made without entering them.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getppid, pidfd_send_signal, set_parent_process_death_signal, waitpid,
};
use rustix::thread::ThreadNameSpaceType;

use crate::clone::clone_process;

/// A process that does nothing but hold new namespaces until they are held by descriptors. It
/// ends when this is dropped, and with the thread that made it.
#[derive(Debug)]
pub struct Holder {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Holder {
    /// Makes a process in new `namespaces`. Works in processes with several threads, too: it
    /// makes system calls only.
    pub fn new(namespaces: ThreadNameSpaceType) -> Result<Self, Errno> {
        let parent = rustix::process::getpid();
        let (pid, pidfd) = clone_process(namespaces, None, || {
            let guarded = set_parent_process_death_signal(Some(Signal::KILL));
            // In a new PID namespace the parent has no number.
            if guarded.is_ok() && getppid().is_none_or(|pid| pid == parent) {
                pause();
            }
            0
        })?;
        Ok(Self { pid, pidfd })
    }

    /// Its process ID.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The namespace called `name` in `/proc/PID/ns`.
    pub fn namespace(&self, name: &str) -> Result<OwnedFd, Errno> {
        let path = format!("/proc/{}/ns/{name}", self.pid.as_raw_nonzero());
        rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        while let Err(Errno::INTR) = waitpid(Some(self.pid), WaitOptions::empty()) {}
    }
}

/// Waits for a signal that ends the process.
fn pause() {
    // SAFETY: no arguments.
    unsafe { libc::pause() };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_outlives_its_holder() {
        let Ok(holder) = Holder::new(ThreadNameSpaceType::USER) else {
            // This machine does not let us.
            return;
        };
        let namespace = holder.namespace("user").unwrap();
        let own = rustix::fs::stat("/proc/self/ns/user").unwrap();
        drop(holder);
        assert_ne!(rustix::fs::fstat(namespace).unwrap().st_ino, own.st_ino);
    }
}
