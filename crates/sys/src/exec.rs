//! Replacing the process's program.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;

use crate::last_error;

/// The strings of an argument or environment list, ended as the kernel wants them.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Becomes the program at `path`. Only returns when that fails.
pub fn execve(
    path: &CStr,
    arguments: &[CString],
    environment: &[CString],
) -> Result<Infallible, Errno> {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: the path is a C string, both lists end with a null pointer and their strings live
    // in the caller until the call returns (if it does).
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Err(last_error())
}

/// Becomes the program in the open file `program`, which may be close-on-exec unless it is a
/// script. Only returns when that fails.
pub fn fexecve(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> Result<Infallible, Errno> {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: as for execve; the descriptor is open, and the empty path with AT_EMPTY_PATH makes
    // the kernel use it alone.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(last_error())
}

/// Ends the process now: no exit handlers, no flushing.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: `_exit` never returns and touches nothing of ours.
    unsafe { libc::_exit(i32::from(status)) }
}
