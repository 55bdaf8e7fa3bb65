//! Device rules of a cgroup v2: an eBPF program attached to its directory.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::checked;

/// One eBPF instruction as the kernel takes it (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Source register in the high, destination register in the low four bits.
    pub registers: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that is used here.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> Result<libc::c_long, Errno> {
    // SAFETY: the attributes are a prefix of `union bpf_attr` of the size given; the pointers in
    // them are to slices the callers hold until this returns.
    checked(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            mem::size_of::<T>(),
        )
    })
}

/// Loads a device filter. The kernel verifies it.
pub fn load(instructions: &[Instruction]) -> Result<OwnedFd, Errno> {
    let attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &attributes)?;
    let fd = i32::try_from(fd).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel has just made it, nobody else owns it. (It is close-on-exec.)
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a loaded filter to the cgroup; every access must pass all attached ones.
pub fn attach(cgroup: impl AsFd, filter: impl AsFd) -> Result<(), Errno> {
    bpf(
        BPF_PROG_ATTACH,
        &attributes(cgroup, filter, BPF_F_ALLOW_MULTI)?,
    )
    .map(drop)
}

/// Takes a filter off the cgroup again.
pub fn detach(cgroup: impl AsFd, filter: impl AsFd) -> Result<(), Errno> {
    bpf(BPF_PROG_DETACH, &attributes(cgroup, filter, 0)?).map(drop)
}

fn attributes(cgroup: impl AsFd, filter: impl AsFd, flags: u32) -> Result<AttachAttributes, Errno> {
    let number =
        |fd: std::os::fd::BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF);
    Ok(AttachAttributes {
        target: number(cgroup.as_fd())?,
        program: number(filter.as_fd())?,
        kind: BPF_CGROUP_DEVICE,
        flags,
    })
}
