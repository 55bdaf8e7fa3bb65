//! One client connection: HTTP/1.1 until it ends or a route takes the socket away.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use crate::dispatch::Dispatch;
use crate::hijack::HijackSlot;
use crate::serve::Limits;

/// A client's byte stream.
#[derive(Debug)]
pub(crate) enum ClientStream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Who is at the other end, user and group; only a unix socket knows.
pub(crate) type Caller = Option<(u32, u32)>;

impl ClientStream {
    fn caller(&self) -> Caller {
        match self {
            Self::Unix(stream) => stream.peer_cred().ok().map(|peer| (peer.uid(), peer.gid())),
            Self::Tcp(_) | Self::Tls(_) => None,
        }
    }
}

/// Serves a connection until the client closes it, a route takes it away, or the server stops and
/// the request under way is answered.
pub(crate) async fn serve(
    stream: ClientStream,
    dispatch: Arc<Dispatch>,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
) {
    let caller = stream.caller();
    let (slot, mut hijacks) = HijackSlot::new();
    let service = hyper::service::service_fn(move |request| {
        let dispatch = Arc::clone(&dispatch);
        let slot = slot.clone();
        // Boxed, so that the connection can be moved out of its loop.
        Box::pin(async move {
            Ok::<_, std::convert::Infallible>(dispatch.answer(request, slot, caller).await)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    loop {
        let taker = tokio::select! {
            ended = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended early");
                }
                // The stream closes with the connection; nothing is left to be written.
                return;
            }
            Some(taker) = hijacks.recv() => taker,
            Ok(()) = stopping.changed() => {
                Pin::new(&mut connection).graceful_shutdown();
                continue;
            }
        };
        let parts = connection.into_parts();
        // A taker that is gone leaves the connection to be closed.
        drop(taker.send((parts.io.into_inner(), parts.read_buf)));
        return;
    }
}

macro_rules! each_stream {
    ($self:expr, $stream:ident => $action:expr) => {
        match $self.get_mut() {
            ClientStream::Unix($stream) => $action,
            ClientStream::Tcp($stream) => $action,
            ClientStream::Tls($stream) => $action,
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each_stream!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each_stream!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_stream!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_stream!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each_stream!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }
}
