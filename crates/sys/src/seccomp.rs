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

/// Calls with which a process gets at what it has no descriptor of, and that nobody needs who only
/// moves bytes between descriptors: new processes and programs, sockets, mounts, namespaces, other
/// processes' memory, keys, the kernel itself.
const WAYS_OUT: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone,
    libc::SYS_clone3,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const REFUSE: u32 = 0x0005_0000 | libc::EPERM as u32;
/// Numbers of the x32 interface begin here; it has all calls once more.
const X32: u32 = 0x4000_0000;

const fn instruction(code: u16, k: u32, jt: u8) -> Instruction {
    Instruction { code, jt, jf: 0, k }
}

/// A filter without the ways out: architecture, number, one comparison each, two answers.
const INSIDE: [Instruction; WAYS_OUT.len() + 7] = {
    let count = WAYS_OUT.len();
    let mut filter = [instruction(RETURN, ALLOW, 0); WAYS_OUT.len() + 7];
    filter[0] = instruction(LOAD, 4, 0);
    filter[1] = instruction(IF_EQUAL, ARCHITECTURE, 1);
    filter[2] = instruction(RETURN, KILL_PROCESS, 0);
    filter[3] = instruction(LOAD, 0, 0);
    // Each jumps over the comparisons that follow and what allows the rest.
    assert!(count < 250);
    filter[4] = instruction(IF_AT_LEAST, X32, count as u8 + 1);
    let mut index = 0;
    while index < count {
        let number = WAYS_OUT[index];
        assert!(number >= 0 && number < X32 as libc::c_long);
        filter[5 + index] = instruction(IF_EQUAL, number as u32, (count - index) as u8);
        index += 1;
    }
    filter[count + 6] = instruction(RETURN, REFUSE, 0);
    filter
};

/// Lets the calling thread do nothing any more but work with what it has, and open files: a filter
/// without the ways out. It needs no-new-privileges or `CAP_SYS_ADMIN`.
pub fn stay_inside() -> Result<(), Errno> {
    install(0, &INSIDE).map(drop)
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

#[cfg(test)]
mod tests {
    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    #[test]
    fn nobody_who_stays_inside_gets_out() {
        let child = crate::clone::fork(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            stay_inside().unwrap();
            std::fs::read("/proc/self/status").unwrap();
            let (one, two) = std::os::unix::net::UnixStream::pair().unwrap();
            drop((one, two));
            for way in WAYS_OUT {
                // SAFETY: none of the calls is made.
                let result = unsafe { libc::syscall(*way, 0, 0, 0, 0, 0, 0) };
                assert_eq!((result, last_error()), (-1, Errno::PERM), "call {way}");
            }
            0
        })
        .unwrap();
        let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }
}
