//! Network namespaces of single threads.

#![allow(
    unsafe_code,
    reason = "wraps a system call that has no safe wrapper elsewhere"
)]

use std::io;

/// Moves the calling thread alone into a new, empty network namespace.
///
/// Sockets that exist keep their namespace; those the thread opens from here on belong to the new
/// one. Call it on a thread of your own, never on one of a runtime's pool.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: only sharing the descriptor table away (`CLONE_FILES`) could let another thread see
    // descriptors it must not; the flag here is `CLONE_NEWNET` alone.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
        .map_err(io::Error::from)
}
