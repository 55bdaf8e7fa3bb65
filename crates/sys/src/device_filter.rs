//! Device rules of a cgroup v2: an eBPF program attached to its directory.

use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

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
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
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

/// The part of `union bpf_attr` for `BPF_PROG_QUERY` that is used here.
#[repr(C)]
struct QueryAttributes {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// The part of `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct IdAttributes {
    id: u32,
    next_id: u32,
    open_flags: u32,
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

/// Makes the descriptor the kernel has just returned ours.
fn owned(fd: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(fd).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel has just made it, nobody else owns it. (It is close-on-exec.)
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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
    owned(bpf(BPF_PROG_LOAD, &attributes)?)
}

/// Attaches a loaded filter to the cgroup; every access must pass all attached ones.
pub fn attach(cgroup: BorrowedFd<'_>, filter: BorrowedFd<'_>) -> Result<(), Errno> {
    bpf(
        BPF_PROG_ATTACH,
        &attributes(cgroup, filter, BPF_F_ALLOW_MULTI)?,
    )
    .map(drop)
}

/// The most filters one cgroup can have (`BPF_CGROUP_MAX_PROGS`).
const ATTACHED_MAX: usize = 64;

/// The filters attached to the cgroup itself.
pub fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0_u32; ATTACHED_MAX];
    let attributes = QueryAttributes {
        target: u32::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::BADF)?,
        kind: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: u32::try_from(ids.len()).map_err(|_| Errno::INVAL)?,
        padding: 0,
    };
    // The kernel writes the number of filters back into the attributes.
    let attributes = std::cell::UnsafeCell::new(attributes);
    bpf(BPF_PROG_QUERY, &attributes)?;
    let mut filters = Vec::new();
    // There is no filter with the id 0.
    for id in ids.into_iter().take_while(|id| *id != 0) {
        let attributes = IdAttributes {
            id,
            next_id: 0,
            open_flags: 0,
        };
        match bpf(BPF_PROG_GET_FD_BY_ID, &attributes) {
            // Taken off by somebody else meanwhile.
            Err(Errno::NOENT) => {}
            other => filters.push(owned(other?)?),
        }
    }
    Ok(filters)
}

/// Takes a filter off the cgroup again.
pub fn detach(cgroup: BorrowedFd<'_>, filter: BorrowedFd<'_>) -> Result<(), Errno> {
    bpf(BPF_PROG_DETACH, &attributes(cgroup, filter, 0)?).map(drop)
}

fn attributes(
    cgroup: BorrowedFd<'_>,
    filter: BorrowedFd<'_>,
    flags: u32,
) -> Result<AttachAttributes, Errno> {
    let number = |fd: BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF);
    Ok(AttachAttributes {
        target: number(cgroup)?,
        program: number(filter)?,
        kind: BPF_CGROUP_DEVICE,
        flags,
    })
}
