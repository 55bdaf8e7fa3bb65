//! User namespaces as descriptors, made without entering them.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getppid, pidfd_send_signal, set_parent_process_death_signal, waitpid,
};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, move_into_link_name_space,
};

use crate::clone::clone_process;
use crate::namespace::unshare;

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

    /// The same for `namespaces` that belong to the user namespace `user`, which the process
    /// joins first.
    pub fn inside(user: BorrowedFd<'_>, namespaces: ThreadNameSpaceType) -> Result<Self, Errno> {
        let parent = rustix::process::getpid();
        let (there, here) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (pid, pidfd) = clone_process(ThreadNameSpaceType::empty(), None, || {
            let guarded = set_parent_process_death_signal(Some(Signal::KILL));
            let joined = move_into_link_name_space(user, Some(LinkNameSpaceType::User))
                .and_then(|()| unshare(UnshareFlags::from_bits_retain(namespaces.bits())));
            let errno = joined.map_or_else(Errno::raw_os_error, |()| 0);
            // Who cannot be told has gone.
            let told = rustix::io::write(&here, &errno.to_ne_bytes());
            if guarded.is_ok() && errno == 0 && told.is_ok() && getppid() == Some(parent) {
                pause();
            }
            0
        })?;
        drop(here);
        let holder = Self { pid, pidfd };
        let mut answer = [0; 4];
        if rustix::io::read(&there, &mut answer)? < answer.len() {
            return Err(Errno::SRCH);
        }
        match i32::from_ne_bytes(answer) {
            0 => Ok(holder),
            errno => Err(Errno::from_raw_os_error(errno)),
        }
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
