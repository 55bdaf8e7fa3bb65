//! Accepting connections on all listeners until the server is told to stop.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wharf_engine::Engine;

use crate::connection::{self, ClientStream};
use crate::dispatch::Dispatch;
use crate::listen::{Listener, ListenerKind};
use crate::router::Router;
use crate::routes;
use crate::tidy_memory;

/// What one client, and all of them together, may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections per listener; more wait to be accepted.
    pub connections_max: usize,
    /// Time a client has to send a request's head, and the longest a connection stays idle.
    pub head_timeout: Duration,
    /// Time a client has for the TLS handshake.
    pub handshake_timeout: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Time that requests under way get when the server stops.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            head_timeout: Duration::from_secs(120),
            handshake_timeout: Duration::from_secs(10),
            head_bytes_max: 64 * 1024,
            drain_timeout: Duration::from_secs(2),
        }
    }
}

/// Serves the API on `listeners` until `shutdown` completes and requests under way are answered
/// (streams are cut). Containers do not notice.
pub async fn serve(engine: Engine, listeners: Vec<Listener>, shutdown: impl Future<Output = ()>) {
    serve_with_limits(engine, listeners, shutdown, Limits::default()).await;
}

/// [`serve`] with other limits than the default ones.
pub async fn serve_with_limits(
    engine: Engine,
    listeners: Vec<Listener>,
    shutdown: impl Future<Output = ()>,
    limits: Limits,
) {
    let dispatch = Arc::new(Dispatch::new(engine, Router::new(routes::all())));
    let (stop, stopping) = watch::channel(false);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(
            listener,
            Arc::clone(&dispatch),
            limits,
            stopping.clone(),
        ));
    }
    drop(stopping);
    let tidying = tokio::spawn(tidy_memory::run(dispatch.activity()));
    shutdown.await;
    tidying.abort();
    stop.send_replace(true);
    let drained = async { while accepting.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain_timeout, drained)
        .await
        .is_err()
    {
        tracing::debug!("open streams are cut");
    }
}

async fn accept(
    listener: Listener,
    dispatch: Arc<Dispatch>,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    while !*stopping.borrow() {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            _ = stopping.changed() => break,
        };
        let accepted = tokio::select! {
            accepted = accept_one(&listener) => accepted,
            _ = stopping.changed() => break,
        };
        let incoming = match accepted {
            Ok(incoming) => incoming,
            Err(error) => {
                // Out of descriptors or memory: give others a moment to return some.
                tracing::warn!(%error, address = listener.address(), "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Finished ones are forgotten as new ones come.
        while connections.try_join_next().is_some() {}
        let dispatch = Arc::clone(&dispatch);
        let stopping = stopping.clone();
        connections.spawn(async move {
            if let Some(stream) = incoming.shake_hands(limits).await {
                connection::serve(stream, dispatch, limits, stopping).await;
            }
            drop(place);
        });
    }
    // New clients are refused from here on.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

enum Incoming {
    Ready(ClientStream),
    Tls(TcpStream, TlsAcceptor),
}

async fn accept_one(listener: &Listener) -> io::Result<Incoming> {
    match &listener.kind {
        ListenerKind::Unix(socket, _) => {
            let (stream, _) = socket.accept().await?;
            Ok(Incoming::Ready(ClientStream::Unix(stream)))
        }
        ListenerKind::Tcp(socket, tls) => {
            let (stream, _) = socket.accept().await?;
            stream.set_nodelay(true)?;
            // A client that vanished without a word does not keep its stream for ever.
            rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
            Ok(match tls {
                None => Incoming::Ready(ClientStream::Tcp(stream)),
                Some(acceptor) => Incoming::Tls(stream, acceptor.clone()),
            })
        }
    }
}

impl Incoming {
    async fn shake_hands(self, limits: Limits) -> Option<ClientStream> {
        match self {
            Self::Ready(stream) => Some(stream),
            Self::Tls(stream, acceptor) => {
                let shaken =
                    tokio::time::timeout(limits.handshake_timeout, encrypt(stream, acceptor));
                match shaken.await {
                    Ok(Ok(stream)) => Some(ClientStream::Tls(Box::new(stream))),
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "TLS handshake failed");
                        None
                    }
                    Err(_) => None,
                }
            }
        }
    }
}

/// The TLS handshake; a client that speaks plain HTTP is told in its own language.
async fn encrypt(mut stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<TlsStream<TcpStream>> {
    /// What Go's server answers; the reference client prints it.
    const PLAIN: &[u8] =
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    // A TLS handshake begins with the byte 22 (RFC 8446, section 5.1), a request with its method.
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        stream.write_all(PLAIN).await?;
        stream.shutdown().await?;
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the client does not speak TLS",
        ));
    }
    acceptor.accept(stream).await
}
