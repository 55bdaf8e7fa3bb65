//! A connection to one container's shim: requests out, replies and events in.
//!
//! A task reads the socket. Replies wake the requests that wait for them; events go into a channel
//! that closes when the shim has gone.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use wharf_fault::{Error, Kind};
use wharf_shim_protocol::wire::{self, Decoder};
use wharf_shim_protocol::{Event, Failure, FailureKind, Message, Reply, Request, RequestFrame};

use super::readiness;

/// Why a request to a shim failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The shim refused; the message is for the user.
    #[error("{0}")]
    Refused(Failure),
    /// The shim has ended.
    #[error("the container's shim has ended")]
    Gone,
    /// The request could not be sent.
    #[error("cannot reach the container's shim")]
    Send(#[source] io::Error),
}

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Refused(failure) => {
                let kind = match failure.kind {
                    FailureKind::InvalidParameter
                    | FailureKind::CommandNotFound
                    | FailureKind::CommandNotExecutable => Kind::InvalidParameter,
                    FailureKind::NotRunning | FailureKind::Conflict => Kind::Conflict,
                    FailureKind::System => Kind::System,
                };
                Self::new(kind, failure.message)
            }
            // It ended with its container a moment ago.
            LinkError::Gone => Self::conflict("the container is not running any more"),
            other => Self::system(wharf_fault::chain(&other)),
        }
    }
}

type Answer = Result<(Reply, Vec<OwnedFd>), Failure>;

/// A connection to a shim; clones share it.
#[derive(Debug, Clone)]
pub struct ShimLink {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    socket: AsyncFd<OwnedFd>,
    next_id: AtomicU64,
    /// Requests waiting for their reply; `None` once the shim has gone.
    pending: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
    /// Frames must not mix on the socket.
    writing: tokio::sync::Mutex<()>,
}

impl ShimLink {
    /// Talks over `socket`. Returns the link and the shim's events.
    pub fn new(socket: UnixStream) -> io::Result<(Self, mpsc::UnboundedReceiver<Event>)> {
        socket.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            socket: readiness::read_write(socket.into())?,
            next_id: AtomicU64::new(1),
            pending: Mutex::new(Some(HashMap::new())),
            writing: tokio::sync::Mutex::new(()),
        });
        // Events of one shim are few: at most one per exec session and client.
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(read_loop(Arc::clone(&shared), sender));
        Ok((Self { shared }, receiver))
    }

    /// Sends `op` with `fds` and waits for its reply.
    pub async fn request(
        &self,
        op: Request,
        fds: &[OwnedFd],
    ) -> Result<(Reply, Vec<OwnedFd>), LinkError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = RequestFrame {
            id,
            fds: fds.len(),
            op,
        };
        let bytes = wire::encode(&frame).map_err(LinkError::Send)?;
        let (sender, receiver) = oneshot::channel();
        match self.shared.pending().as_mut() {
            Some(pending) => drop(pending.insert(id, sender)),
            None => return Err(LinkError::Gone),
        }
        if let Err(error) = self.shared.write(&bytes, fds).await {
            if let Some(pending) = self.shared.pending().as_mut() {
                pending.remove(&id);
            }
            return Err(match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => LinkError::Gone,
                _ => LinkError::Send(error),
            });
        }
        match receiver.await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(failure)) => Err(LinkError::Refused(failure)),
            Err(_) => Err(LinkError::Gone),
        }
    }

    /// A request whose reply says nothing.
    pub async fn command(&self, op: Request, fds: &[OwnedFd]) -> Result<(), LinkError> {
        self.request(op, fds).await.map(drop)
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
        self.pending
            .lock()
            .expect("no code panics while it holds this lock")
    }

    async fn write(&self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let _turn = self.writing.lock().await;
        let mut sent = 0;
        while sent < bytes.len() {
            let count = self
                .socket
                .async_io(Interest::WRITABLE, |socket| {
                    // The descriptors go with the first byte.
                    let borrowed: Vec<_> = if sent == 0 {
                        fds.iter().map(|fd| fd.as_fd()).collect()
                    } else {
                        Vec::new()
                    };
                    wire::send(socket.as_fd(), &bytes[sent..], &borrowed)
                })
                .await?;
            sent += count;
        }
        Ok(())
    }
}

async fn read_loop(shared: Arc<Shared>, events: mpsc::UnboundedSender<Event>) {
    let mut decoder = Decoder::default();
    loop {
        let received = shared
            .socket
            .async_io(Interest::READABLE, |socket| {
                wire::receive(socket.as_fd(), &mut decoder)
            })
            .await;
        match received {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::debug!(%error, "a shim's connection broke");
                break;
            }
        }
        if !dispatch(&shared, &mut decoder, &events) {
            break;
        }
    }
    // Requests that still wait learn that nobody will answer.
    shared.pending().take();
}

fn dispatch(shared: &Shared, decoder: &mut Decoder, events: &mpsc::UnboundedSender<Event>) -> bool {
    loop {
        match decoder.next::<Message>() {
            Ok(Some((Message::Reply { id, result, .. }, fds))) => {
                let waiting = shared
                    .pending()
                    .as_mut()
                    .and_then(|pending| pending.remove(&id));
                if let Some(waiting) = waiting {
                    drop(waiting.send(result.map(|reply| (reply, fds))));
                }
            }
            Ok(Some((Message::Event(event), _))) => drop(events.send(event)),
            Ok(None) => return true,
            Err(error) => {
                tracing::warn!(%error, "a shim does not speak our protocol");
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_shim_protocol::Connection;

    #[tokio::test]
    async fn replies_find_their_requests_and_events_pass() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (link, mut events) = ShimLink::new(ours).unwrap();
        let shim = std::thread::spawn(move || {
            let mut connection = Connection::new(theirs);
            let (one, _) = connection.receive::<RequestFrame>().unwrap().unwrap();
            let (two, _) = connection.receive::<RequestFrame>().unwrap().unwrap();
            let event = Event::ExecExited {
                exec_id: "e".into(),
                exit_code: 3,
            };
            connection.send(&Message::Event(event), &[]).unwrap();
            let failure = Failure::new(FailureKind::NotRunning, "not running");
            connection
                .send(
                    &Message::Reply {
                        id: two.id,
                        fds: 0,
                        result: Err(failure),
                    },
                    &[],
                )
                .unwrap();
            connection
                .send(
                    &Message::Reply {
                        id: one.id,
                        fds: 0,
                        result: Ok(Reply::Done),
                    },
                    &[],
                )
                .unwrap();
        });
        let (first, second) = tokio::join!(
            link.command(Request::State, &[]),
            link.command(Request::HeldFds, &[])
        );
        assert!(first.is_ok());
        assert!(matches!(second, Err(LinkError::Refused(_))));
        shim.join().unwrap();
        assert!(matches!(
            events.recv().await,
            Some(Event::ExecExited { exit_code: 3, .. })
        ));
        assert!(events.recv().await.is_none());
        assert!(matches!(
            link.command(Request::State, &[]).await,
            Err(LinkError::Gone)
        ));
    }
}
