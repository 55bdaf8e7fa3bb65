//! Descriptors tokio has no type of its own for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `fd`, which must be non-blocking, for reading and writing.
pub(super) fn read_write(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::READABLE.add(Interest::WRITABLE))
}

/// Registers `fd` for reading only: a pidfd, an inotify descriptor.
pub(super) fn read_only(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::READABLE)
}

#[expect(
    deprecated,
    reason = "what tokio warns of, a type that closes its descriptor behind tokio's back, an OwnedFd is not; the replacement is an unsafe function"
)]
fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}
