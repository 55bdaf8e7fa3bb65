//! Attributes of the calling process that `rustix` has no words for.

use std::mem;

use rustix::io::Errno;

use crate::checked;

/// A scheduling policy with its parameters (`sched_setattr(2)`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For the time-sharing policies.
    pub nice: i32,
    /// For the real-time policies.
    pub priority: u32,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub runtime: u64,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub deadline: u64,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub period: u64,
}

/// The kernel's `struct sched_attr`, first version.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets how the calling thread is scheduled.
pub fn set_scheduling(scheduling: Scheduling) -> Result<(), Errno> {
    let attributes = SchedAttr {
        size: u32::try_from(mem::size_of::<SchedAttr>()).unwrap_or(48),
        policy: scheduling.policy,
        flags: scheduling.flags,
        nice: scheduling.nice,
        priority: scheduling.priority,
        runtime: scheduling.runtime,
        deadline: scheduling.deadline,
        period: scheduling.period,
    };
    // SAFETY: the argument is a `struct sched_attr` that says its own size.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })?;
    Ok(())
}

/// Sets the I/O priority of the calling thread: class 1 (real-time), 2 (best effort) or 3 (idle),
/// and a level of 0 (highest) to 7.
pub fn set_io_priority(class: u8, level: u8) -> Result<(), Errno> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = (libc::c_int::from(class) << 13) | libc::c_int::from(level);
    // SAFETY: plain numbers.
    checked(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) })?;
    Ok(())
}

/// Gives the calling process a session keyring of its own, so that it sees none of its parent's
/// keys. Where the kernel has no keyrings nothing needs hiding.
pub fn join_new_session_keyring() -> Result<(), Errno> {
    // SAFETY: a null name asks for an anonymous keyring.
    match checked(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::c_long::from(libc::KEYCTL_JOIN_SESSION_KEYRING),
            0_usize,
        )
    }) {
        Ok(_) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Runs `work` with the calling thread being `uid` and `gid` to file systems, all its
/// capabilities kept.
pub fn with_file_system_ids<T>(
    (uid, gid): (u32, u32),
    work: impl FnOnce() -> T,
) -> Result<T, Errno> {
    let sets = rustix::thread::capabilities(None)?;
    let own = (set_fs_uid(uid), set_fs_gid(gid));
    // Leaving root there takes the capabilities over files out of the effective set.
    let raised = rustix::thread::set_capabilities(None, sets);
    let result = raised.map(|()| work());
    set_fs_uid(own.0);
    set_fs_gid(own.1);
    rustix::thread::set_capabilities(None, sets)?;
    result
}

/// Returns the ID so far.
fn set_fs_uid(uid: u32) -> u32 {
    // SAFETY: a plain number; the call has no way to fail but to change nothing.
    let before = unsafe { libc::setfsuid(uid) };
    u32::from_ne_bytes(before.to_ne_bytes())
}

/// Returns the ID so far.
fn set_fs_gid(gid: u32) -> u32 {
    // SAFETY: as above.
    let before = unsafe { libc::setfsgid(gid) };
    u32::from_ne_bytes(before.to_ne_bytes())
}

/// Sets where the calling process's memory comes from (`MPOL_*`, flags included) and the nodes
/// that is about (`set_mempolicy(2)`).
pub fn set_memory_policy(mode: u32, nodes: &[u32]) -> Result<(), Errno> {
    let bits = usize::BITS;
    let highest = nodes.iter().max().copied().unwrap_or(0);
    let mut mask = vec![0_usize; usize::try_from(highest / bits).map_err(|_| Errno::INVAL)? + 1];
    for node in nodes {
        let word = usize::try_from(node / bits).map_err(|_| Errno::INVAL)?;
        mask[word] |= 1 << (node % bits);
    }
    // The kernel reads one bit less than it is told of.
    let count = mask.len() * bits as usize + 1;
    let (pointer, count) = if nodes.is_empty() {
        (std::ptr::null(), 0)
    } else {
        (mask.as_ptr(), count)
    };
    let mode = libc::c_long::from(mode);
    // SAFETY: the mask has the bits the kernel is told of, but for the one it does not read.
    checked(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, count) })?;
    Ok(())
}

/// Sets the execution domain (`personality(2)`).
pub fn set_personality(persona: u32) -> Result<(), Errno> {
    // SAFETY: a plain number.
    if unsafe { libc::personality(libc::c_ulong::from(persona)) } < 0 {
        return Err(crate::last_error());
    }
    Ok(())
}
