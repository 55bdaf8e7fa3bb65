//! Running code in other namespaces without leaving one's own.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Leaves namespaces behind: the calling thread gets new ones. Descriptors stay shared.
pub fn unshare(namespaces: UnshareFlags) -> Result<(), Errno> {
    if namespaces.contains(UnshareFlags::FILES) {
        return Err(Errno::INVAL);
    }
    // SAFETY: the one hazard is a descriptor table of its own (FILES), excluded above.
    unsafe { unshare_unsafe(namespaces) }
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
