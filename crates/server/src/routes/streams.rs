//! What attach and exec share: content types, and a client's socket for a shim.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use wharf_api_types::ApiVersion;
use wharf_fault::{Error, Result};

use crate::hijack::ClientSocket;

/// The type of a container's streams.
pub(super) fn content_type(tty: bool, version: ApiVersion) -> &'static str {
    if !tty && version.at_least(42) {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    }
}

/// The socket to hand to a shim. What the client sent early must come first, so such a client is
/// connected through a task.
pub(super) fn client_fd(socket: ClientSocket) -> Result<OwnedFd> {
    let ClientSocket { fd, early } = socket;
    if early.is_empty() {
        return Ok(fd);
    }
    let failed = |source: std::io::Error| {
        Error::system("cannot hand over the client's socket").caused_by(source)
    };
    let (near, far) = StdUnixStream::pair().map_err(failed)?;
    near.set_nonblocking(true).map_err(failed)?;
    far.set_nonblocking(true).map_err(failed)?;
    let mut near = UnixStream::from_std(near).map_err(failed)?;
    let mut client = into_stream(fd).map_err(failed)?;
    tokio::spawn(async move {
        if near.write_all(&early).await.is_ok() {
            // An end of one direction is passed on to the other side.
            drop(tokio::io::copy_bidirectional(&mut client, &mut near).await);
        }
    });
    Ok(far.into())
}

/// A stream that tokio drives.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A non-blocking socket of any family as a stream.
pub(super) fn into_stream(fd: OwnedFd) -> std::io::Result<Box<dyn Stream>> {
    if rustix::net::sockopt::socket_domain(fd.as_fd())? == rustix::net::AddressFamily::UNIX {
        Ok(Box::new(UnixStream::from_std(fd.into())?))
    } else {
        Ok(Box::new(TcpStream::from_std(fd.into())?))
    }
}
