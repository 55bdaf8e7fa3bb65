//! New processes in new namespaces: `clone3(2)` used like `fork`.

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::ThreadNameSpaceType;

use crate::checked;
use crate::exec::exit_now;

/// Makes a child process in new `namespaces` and, on cgroup v2, born inside the cgroup whose
/// directory is `cgroup`. The child runs `child` and exits with the status it returns; the parent
/// gets its ID and a pidfd.
///
/// The child is a copy with one thread. In a process with several threads another one may hold a
/// lock (of the allocator, say) at this moment, for ever in the child: call it from processes
/// with one thread only, or keep `child` free of allocation.
pub fn clone_process(
    namespaces: ThreadNameSpaceType,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> u8,
) -> Result<(Pid, OwnedFd), Errno> {
    clone(namespaces, cgroup, 0, child)
}

/// As [`clone_process`], but the new process is a child of the caller's parent, who reaps it. The
/// ID is its ID as the caller sees it. Not for the first process of a PID namespace.
pub fn clone_sibling(
    namespaces: ThreadNameSpaceType,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> u8,
) -> Result<(Pid, OwnedFd), Errno> {
    clone(namespaces, cgroup, libc::CLONE_PARENT as u64, child)
}

fn clone(
    namespaces: ThreadNameSpaceType,
    cgroup: Option<BorrowedFd<'_>>,
    flags: u64,
    child: impl FnOnce() -> u8,
) -> Result<(Pid, OwnedFd), Errno> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all fields of clone_args are integers, for which zero is valid and means "unused".
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = u64::from(namespaces.bits()) | libc::CLONE_PIDFD as u64 | flags;
    args.pidfd = (&raw mut pidfd) as u64;
    if flags & libc::CLONE_PARENT as u64 == 0 {
        // A sibling's is its parent's.
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    // SAFETY: `args` is a valid clone_args of the size given and `pidfd` outlives the call.
    // Without CLONE_VM the child has its own copy of memory and stack, so it may go on here like
    // after fork(2).
    let result = checked(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, mem::size_of_val(&args))
    })?;
    if result == 0 {
        run_child(child);
    }
    let pid = i32::try_from(result)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::INVAL)?;
    // SAFETY: the kernel has stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((pid, pidfd))
}

/// Makes a child that is like us in everything, with the call every filter allows (Docker's default
/// one knows no `clone3`). The child runs `child` and exits with the status it returns. For
/// processes with one thread, as [`clone_process`].
pub fn fork(child: impl FnOnce() -> u8) -> Result<Pid, Errno> {
    // SAFETY: the child has its own copy of memory and stack and goes on here.
    let result = unsafe { libc::fork() };
    if result < 0 {
        return Err(crate::last_error());
    }
    if result == 0 {
        run_child(child);
    }
    Pid::from_raw(result).ok_or(Errno::INVAL)
}

/// Runs `child` and ends the process, also when it panics: nothing of the parent's (its callers,
/// exit handlers, buffers of the standard library) must run a second time.
fn run_child(child: impl FnOnce() -> u8) -> ! {
    const PANICKED: u8 = 101;
    let status = catch_unwind(AssertUnwindSafe(child)).unwrap_or(PANICKED);
    exit_now(status)
}

/// Not usable from libc, where it is declared as an overflowing `c_int`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

#[cfg(test)]
mod tests {
    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    #[test]
    fn child_returns_its_status() {
        let (pid, pidfd) = clone_process(ThreadNameSpaceType::empty(), None, || 42).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(42));
        drop(pidfd);
    }
}
