//! Writing to a client's socket that has left HTTP.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::readiness;

/// A client's socket in the daemon's hands, before it goes to a shim.
#[derive(Debug)]
pub(super) struct ClientSocket {
    fd: AsyncFd<OwnedFd>,
}

impl ClientSocket {
    /// Takes `fd`, which must be non-blocking.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            fd: readiness::read_write(fd)?,
        })
    }

    /// Writes all of it.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self
                .fd
                .async_io(Interest::WRITABLE, |fd| {
                    rustix::net::send(fd.as_fd(), bytes, rustix::net::SendFlags::NOSIGNAL)
                        .map_err(io::Error::from)
                })
                .await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Gives the socket away.
    pub(super) fn into_inner(self) -> OwnedFd {
        self.fd.into_inner()
    }
}

/// A frame of Docker's multiplexed streams.
pub(super) fn frame(stream: u8, text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut bytes = vec![stream, 0, 0, 0];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text);
    bytes
}
