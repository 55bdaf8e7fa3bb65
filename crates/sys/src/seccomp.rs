//! Installing a system call filter, and deciding about the calls it leaves to its listener.

use std::mem;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::{checked, last_error};

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions skipped when the comparison holds.
    pub jt: u8,
    /// Instructions skipped when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// The kernel's `struct sock_fprog`.
#[repr(C)]
struct Filter {
    length: u16,
    instructions: *const Instruction,
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: the call's result is a new descriptor.
const NEW_LISTENER: u32 = 8;

/// Installs a filter for the calling thread, for ever. Needs `CAP_SYS_ADMIN` or
/// no-new-privileges. With the flag `SECCOMP_FILTER_FLAG_NEW_LISTENER` there is a listener, whose
/// holder decides about the calls the filter leaves to it; it is close-on-exec.
pub fn install(flags: u32, instructions: &[Instruction]) -> Result<Option<OwnedFd>, Errno> {
    let filter = Filter {
        length: u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        instructions: instructions.as_ptr(),
    };
    // SAFETY: `filter` is a `struct sock_fprog` over a slice that outlives the call; the kernel
    // copies and verifies the instructions.
    let result = checked(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            &raw const filter,
        )
    })?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    let number = RawFd::try_from(result).map_err(|_| Errno::BADF)?;
    // SAFETY: with that flag the kernel returns a descriptor it has just opened for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(number) }))
}

/// A call that waits for a listener's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Names the question in the answer.
    pub id: u64,
    /// Who makes the call, in the listener's PID namespace.
    pub pid: u32,
    /// The call's number.
    pub number: i32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What a listener decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The call is made as if there were no filter.
    Continue,
    /// It is not made and returns this.
    Return(i64),
    /// It is not made and fails.
    Fail(Errno),
}

/// Waits for the next call `listener` is to decide about.
pub fn next_question(listener: impl AsFd) -> Result<Question, Errno> {
    // SAFETY: all fields are integers, and the kernel wants them to be zero.
    let mut question: libc::seccomp_notif = unsafe { mem::zeroed() };
    let request = libc::_IOWR::<libc::seccomp_notif>(u32::from(b'!'), 0);
    // SAFETY: the request stores one `struct seccomp_notif`, for which there is room.
    let result = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), request, &raw mut question) };
    if result < 0 {
        return Err(last_error());
    }
    Ok(Question {
        id: question.id,
        pid: question.pid,
        number: question.data.nr,
        arguments: question.data.args,
    })
}

/// Decides about the call of the question `id`. Fails with `ENOENT` if its maker has gone.
pub fn answer(listener: impl AsFd, id: u64, answer: Answer) -> Result<(), Errno> {
    const CONTINUE: u32 = 1;
    let (val, error, flags) = match answer {
        Answer::Continue => (0, 0, CONTINUE),
        Answer::Return(value) => (value, 0, 0),
        Answer::Fail(errno) => (0, -errno.raw_os_error(), 0),
    };
    let response = libc::seccomp_notif_resp {
        id,
        val,
        error,
        flags,
    };
    let request = libc::_IOWR::<libc::seccomp_notif_resp>(u32::from(b'!'), 1);
    // SAFETY: the request reads one `struct seccomp_notif_resp`.
    let result = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), request, &raw const response) };
    if result < 0 {
        return Err(last_error());
    }
    Ok(())
}
