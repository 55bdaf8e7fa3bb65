//! Leaving HTTP: attach, exec and websockets take the client's socket itself.
//!
//! ```text
//! route ──take──▶ connection task: stops polling hyper, takes the stream and the bytes already
//!                 read from it apart ──▶ writes the head ──▶ ClientSocket { fd, early }
//! ```
//!
//! hyper writes nothing for such a request, so the head has Docker's exact bytes and the same path
//! serves clients that send no `Upgrade` header. The descriptor is the client's own socket, ready
//! to be passed to another process; for TLS it is one end of a socket pair whose other end a task
//! connects with the encrypted stream.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use wharf_fault::{Error, Result};

use crate::connection::ClientStream;

/// A client's connection that speaks HTTP no more.
#[derive(Debug)]
pub(crate) struct ClientSocket {
    /// The socket, non-blocking.
    pub(crate) fd: OwnedFd,
    /// What the client sent right behind its request; comes before anything read from the socket.
    pub(crate) early: Bytes,
}

/// The stream of a connection and what was read from it but not used.
pub(crate) type Taken = (ClientStream, Bytes);

/// A request's way to its connection.
#[derive(Debug, Clone)]
pub(crate) struct HijackSlot(mpsc::Sender<oneshot::Sender<Taken>>);

/// The connection's end of its [`HijackSlot`].
pub(crate) type HijackRequests = mpsc::Receiver<oneshot::Sender<Taken>>;

impl HijackSlot {
    /// A slot and the end that serves it.
    pub(crate) fn new() -> (Self, HijackRequests) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Takes the connection away from HTTP and writes `head` to it.
    pub(crate) async fn take(&self, head: &[u8]) -> Result<ClientSocket> {
        let gone = || Error::system("the client has closed its connection");
        let (sender, receiver) = oneshot::channel();
        self.0.send(sender).await.map_err(|_| gone())?;
        let (mut stream, early) = receiver.await.map_err(|_| gone())?;
        stream
            .write_all(head)
            .await
            .map_err(|source| gone().caused_by(source))?;
        stream
            .flush()
            .await
            .map_err(|source| gone().caused_by(source))?;
        let fd = into_fd(stream).map_err(|source| {
            Error::system("cannot hand over the client's socket").caused_by(source)
        })?;
        Ok(ClientSocket { fd, early })
    }
}

/// Waits until the client has read everything sent so far, a second at most. Only unix sockets
/// tell; for others this returns at once.
pub(crate) async fn wait_until_read(socket: &ClientSocket) {
    let Ok(watched) = socket.fd.try_clone().and_then(watch_writable) else {
        return;
    };
    let read = async {
        // Readiness is edge-triggered: every read of the client's is an event.
        while wharf_sys::fd::unread_by_peer(watched.get_ref()).is_ok_and(|bytes| bytes > 0) {
            match watched.writable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            }
        }
    };
    // A client that does not read has only itself to blame for what follows.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), read).await;
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for types whose descriptor may change; OwnedFd's never does"
)]
fn watch_writable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::WRITABLE)
}

/// The head of the answer, byte for byte as Docker writes it.
pub(crate) fn head(
    upgrade: bool,
    content_type: &str,
    own_headers: bool,
    experimental: bool,
) -> Vec<u8> {
    let mut head = if upgrade {
        format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        )
    } else {
        // Docker names this type here whatever the bytes are: such clients know no other.
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n".to_owned()
    };
    if own_headers {
        for (name, value) in crate::negotiate::common_headers(experimental) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn into_fd(stream: ClientStream) -> io::Result<OwnedFd> {
    match stream {
        ClientStream::Unix(stream) => Ok(stream.into_std()?.into()),
        ClientStream::Tcp(stream) => Ok(stream.into_std()?.into()),
        ClientStream::Tls(mut encrypted) => {
            let (near, far) = UnixStream::pair()?;
            tokio::spawn(async move {
                let mut near = near;
                // Ends when both directions have; an end of one direction is passed on.
                drop(tokio::io::copy_bidirectional(&mut encrypted, &mut near).await);
            });
            Ok(far.into_std()?.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_dockers() {
        assert_eq!(
            head(true, "application/vnd.docker.multiplexed-stream", false, false),
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
        assert_eq!(
            head(
                false,
                "application/vnd.docker.multiplexed-stream",
                false,
                false
            ),
            b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
        );
        let exec = String::from_utf8(head(true, "x", true, false)).unwrap();
        assert!(exec.contains("\r\nApi-Version: 1.55\r\n"), "{exec}");
    }
}
