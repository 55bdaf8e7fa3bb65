//! Installing a system call filter.

use rustix::io::Errno;

use crate::checked;

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

/// Installs a filter for the calling thread, for ever. Needs `CAP_SYS_ADMIN` or
/// no-new-privileges. With the flag `SECCOMP_FILTER_FLAG_NEW_LISTENER` the result is the
/// listener's descriptor number.
pub fn install(flags: u32, instructions: &[Instruction]) -> Result<i64, Errno> {
    let filter = Filter {
        length: u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        instructions: instructions.as_ptr(),
    };
    // SAFETY: `filter` is a `struct sock_fprog` over a slice that outlives the call; the kernel
    // copies and verifies the instructions.
    checked(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            &raw const filter,
        )
    })
}
