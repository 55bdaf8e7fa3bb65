//! Starting a program out of a process with many threads.
//!
//! `fork` there copies a process whose locks may be held by threads that do not exist in the
//! copy, and copies page tables of megabytes. This is `vfork` instead: the child borrows our
//! memory, on a stack of its own, until it has become the new program, and makes nothing but
//! system calls meanwhile.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::last_error;
use crate::signal::{SignalSet, set_mask};

/// Which program is started.
#[derive(Debug, Clone, Copy)]
pub enum Program<'a> {
    /// An open program file; it need not be readable and may be close-on-exec, but cannot be a script.
    File(BorrowedFd<'a>),
    /// A path, looked up in the child.
    Path(&'a CStr),
}

/// A program to be started.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// Which.
    pub program: Program<'a>,
    /// Its arguments, the first being its name.
    pub arguments: &'a [CString],
    /// Its environment, `NAME=value`.
    pub environment: &'a [CString],
    /// Descriptors it gets: ours, and the number it sees. All others are closed.
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
    /// Files it writes `0` into first: the `cgroup.procs` or `tasks` of cgroups it enters.
    pub doors: &'a [BorrowedFd<'a>],
    /// Whether it leads a session of its own, so that no terminal's signals reach it.
    pub new_session: bool,
    /// Where it starts; our own working directory if not given.
    pub working_directory: Option<BorrowedFd<'a>>,
}

/// Bytes of stack for the child: it calls nothing deep.
const STACK_SIZE: usize = 64 * 1024;

/// What the child needs, prepared before it exists: it must not allocate.
struct Plan {
    /// The program's descriptor, -1 if it is named by its path.
    program: RawFd,
    path: *const libc::c_char,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    fds: Vec<(RawFd, RawFd)>,
    doors: Vec<RawFd>,
    scratch: Vec<RawFd>,
    above: RawFd,
    new_session: bool,
    working_directory: RawFd,
    errno: libc::c_int,
}

impl Spawn<'_> {
    /// Starts it. Returns when it has become the new program, or with the reason why it did not.
    pub fn start(&self) -> Result<(Pid, OwnedFd), Errno> {
        let pointers = |strings: &[CString]| {
            strings
                .iter()
                .map(|string| string.as_ptr())
                .chain([ptr::null()])
                .collect::<Vec<_>>()
        };
        let (program, path) = match self.program {
            Program::File(file) => (file.as_raw_fd(), c"".as_ptr()),
            Program::Path(path) => (-1, path.as_ptr()),
        };
        let mut plan = Plan {
            program,
            path,
            arguments: pointers(self.arguments),
            environment: pointers(self.environment),
            fds: self
                .fds
                .iter()
                .map(|(fd, number)| (fd.as_raw_fd(), *number))
                .collect(),
            doors: self.doors.iter().map(AsRawFd::as_raw_fd).collect(),
            scratch: vec![-1; self.fds.len()],
            above: self
                .fds
                .iter()
                .map(|(_, number)| *number)
                .max()
                .unwrap_or(-1)
                + 1,
            new_session: self.new_session,
            working_directory: self.working_directory.map_or(-1, |fd| fd.as_raw_fd()),
            errno: 0,
        };
        // 16-byte alignment at the top is what the ABI asks of a stack.
        let mut stack = vec![0_u128; STACK_SIZE / 16];
        let top = stack.as_mut_ptr_range().end;
        let mut pidfd: libc::c_int = -1;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        // No handler of ours may run in the child, which shares our memory.
        let old_mask = set_mask(SignalSet::all())?;
        // SAFETY: the child runs `child` on its own stack, which outlives it because CLONE_VFORK
        // stops this thread until the child has exec'd or ended. Until then `plan`, the strings
        // and the descriptors it names stay as they are: this thread is stopped and owns or
        // borrows them all. `child` only makes system calls. CLONE_PIDFD stores into `pidfd`.
        let pid = unsafe {
            libc::clone(
                child,
                top.cast(),
                flags,
                ptr::from_mut(&mut plan).cast(),
                &raw mut pidfd,
            )
        };
        let clone_error = (pid < 0).then(last_error);
        set_mask(old_mask)?;
        if let Some(errno) = clone_error {
            return Err(errno);
        }
        // SAFETY: the kernel has stored a new descriptor there, which nobody else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let pid = Pid::from_raw(pid).ok_or(Errno::INVAL)?;
        if plan.errno != 0 {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            return Err(Errno::from_raw_os_error(plan.errno));
        }
        Ok((pid, pidfd))
    }
}

/// The child. Only system calls from here on; no allocation, no locks, no panics.
extern "C" fn child(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `argument` is the Plan of `start`, whose thread is stopped: nobody else uses it.
    let plan = unsafe { &mut *argument.cast::<Plan>() };
    // SAFETY: system calls on plain numbers and on memory `start` has prepared; the lists end
    // with null pointers.
    unsafe {
        if prepare(plan) {
            // With a path, relative to the working directory: as execve.
            let (directory, flags) = if plan.program < 0 {
                (libc::AT_FDCWD, 0)
            } else {
                (plan.program, libc::AT_EMPTY_PATH)
            };
            libc::syscall(
                libc::SYS_execveat,
                directory,
                plan.path,
                plan.arguments.as_ptr(),
                plan.environment.as_ptr(),
                flags,
            );
        }
        plan.errno = *libc::__errno_location();
        libc::_exit(127)
    }
}

/// Puts descriptors, session and signals in order. Returns whether all went well.
///
/// # Safety
///
/// Only for the child of a vfork: it closes and replaces descriptors by number.
unsafe fn prepare(plan: &mut Plan) -> bool {
    // SAFETY: plain numbers throughout; see above.
    unsafe {
        for door in &plan.doors {
            if libc::write(*door, c"0".as_ptr().cast(), 1) != 1 {
                return false;
            }
        }
        // Out of the way of all target numbers first, so that none is overwritten before use.
        // The program too.
        for ((fd, _), scratch) in plan.fds.iter().zip(&mut plan.scratch) {
            *scratch = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, plan.above);
            if *scratch < 0 {
                return false;
            }
        }
        if plan.program >= 0 {
            plan.program = libc::fcntl(plan.program, libc::F_DUPFD_CLOEXEC, plan.above);
            if plan.program < 0 {
                return false;
            }
        }
        if plan.working_directory >= 0 && libc::fchdir(plan.working_directory) < 0 {
            return false;
        }
        for ((_, number), scratch) in plan.fds.iter().zip(&plan.scratch) {
            if libc::dup2(*scratch, *number) < 0 {
                return false;
            }
        }
        let mut number = 0;
        while number < plan.above {
            if !plan.fds.iter().any(|(_, target)| *target == number) {
                libc::close(number);
            }
            number += 1;
        }
        let above = plan.above as libc::c_uint;
        if libc::syscall(
            libc::SYS_close_range,
            above,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        ) < 0
        {
            return false;
        }
        if plan.new_session && libc::setsid() < 0 {
            return false;
        }
        // The Rust runtime ignores SIGPIPE, and exec would keep that.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none = std::mem::MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
    true
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    #[test]
    fn descriptors_arrive_under_their_numbers() {
        let program = File::open("/bin/sh").unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let script = c"echo three >&3; echo four >&4; ls /proc/$$/fd | wc -l >&3".to_owned();
        let spawn = Spawn {
            program: Program::File(program.as_fd()),
            arguments: &[c"sh".to_owned(), c"-c".to_owned(), script],
            environment: &[c"PATH=/bin:/usr/bin".to_owned()],
            fds: &[(writer.as_fd(), 4), (writer.as_fd(), 3)],
            doors: &[],
            new_session: true,
            working_directory: None,
        };
        let (pid, _pidfd) = spawn.start().unwrap();
        drop(writer);
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        assert!(output.starts_with("three\nfour\n"), "{output}");
        waitpid(Some(pid), WaitOptions::empty()).unwrap();
    }

    #[test]
    fn failure_to_exec_is_returned() {
        let program = File::open("/etc/passwd").unwrap();
        let spawn = Spawn {
            program: Program::File(program.as_fd()),
            arguments: &[c"x".to_owned()],
            environment: &[],
            fds: &[],
            doors: &[],
            new_session: false,
            working_directory: None,
        };
        assert_eq!(spawn.start().unwrap_err(), Errno::ACCESS);
    }
}
