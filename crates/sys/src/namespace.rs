//! Running code in other namespaces without leaving one's own.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Whether this process is in the user namespace the system started with: root in there is root
/// indeed, and not only over what a user may do. Looked up once: a process that joins another user
/// namespace does so before it asks.
pub fn is_initial_user() -> bool {
    static INITIAL: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *INITIAL.get_or_init(|| {
        // Without user namespaces in the kernel there is no such file.
        std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| maps_everything(&map))
    })
}

/// Whether an id map gives every id itself.
fn maps_everything(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Leaves namespaces behind: the calling thread gets new ones. Descriptors stay shared.
pub fn unshare(namespaces: UnshareFlags) -> Result<(), Errno> {
    if namespaces.contains(UnshareFlags::FILES) {
        return Err(Errno::INVAL);
    }
    // SAFETY: the one hazard is a descriptor table of its own (FILES), excluded above.
    unsafe { unshare_unsafe(namespaces) }
}

/// The mount namespace of the process `pidfd` stands for, whose number is `pid`.
pub fn mounts_of(pidfd: BorrowedFd<'_>, pid: Pid) -> Result<OwnedFd, Errno> {
    // PIDFD_GET_MNT_NAMESPACE of linux/pidfd.h, since Linux 6.11.
    const GET_MOUNT_NAMESPACE: libc::c_ulong = 0xff03;
    // SAFETY: the request takes no argument, and returns a descriptor nobody else knows.
    let fd = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_MOUNT_NAMESPACE, 0) };
    if fd >= 0 {
        // SAFETY: as above.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    let path = format!("/proc/{}/ns/mnt", pid.as_raw_nonzero());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Runs `work` in the network namespace `namespace`, on a thread made for it, and returns its
/// result. A socket opened there stays in that namespace for ever, so usually `work` opens one
/// and returns it.
pub fn in_network_namespace<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    on_own_thread(move || {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

/// Makes a new network namespace and runs `work` in it, on a thread made for it. The namespace
/// lives as long as something refers to it: a descriptor of `/proc/thread-self/ns/net` opened by
/// `work`, a socket, a process.
pub fn in_new_network_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(move || {
        unshare(UnshareFlags::NEWNET)?;
        Ok(work())
    })
}

/// Runs `work` in a copy of the mount namespace whose changes nobody else sees, on a thread made
/// for it.
pub fn in_private_mount_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(move || {
        // A mount namespace needs a root and working directory of its own (FS).
        unshare(UnshareFlags::NEWNS | UnshareFlags::FS)?;
        let private = crate::mount::AttributeChange {
            propagation: Some(crate::mount::Propagation::Private),
            ..Default::default()
        };
        crate::mount::change_attributes(rustix::fs::CWD, c"/", true, private)?;
        Ok(work())
    })
}

/// Runs `work` on a thread made for it: for namespaces that it enters and nobody could leave again,
/// such as a user's way out of a namespace back into one of the system's.
pub fn on_disposable_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(move || Ok(work()))
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn_scoped(scope, work)?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_range_is_the_initial_namespace() {
        assert!(maps_everything("         0          0 4294967295\n"));
        assert!(!maps_everything("0 1000 1\n1 100000 65536\n"));
        assert!(!maps_everything(""));
    }
}
