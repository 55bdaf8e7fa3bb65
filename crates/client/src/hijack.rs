//! The raw stream an HTTP connection becomes for attach and exec.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::{Error, Result};
use crate::transport::Transport;

/// A duplex byte stream; reading starts with the bytes that arrived together with the head of
/// the answer. Shutting it down is a half close: the container's standard input ends, its output
/// goes on.
#[derive(Debug)]
pub struct Hijacked {
    early: Bytes,
    stream: Transport,
    multiplexed: Option<bool>,
}

impl Hijacked {
    pub(crate) async fn from_upgrade(answer: hyper::Response<Incoming>) -> Result<Self> {
        let media_type = answer
            .headers()
            .get(hyper::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let multiplexed = match media_type {
            Some("application/vnd.docker.multiplexed-stream") => Some(true),
            _ => None,
        };
        let upgraded = hyper::upgrade::on(answer).await.map_err(Error::Http)?;
        let parts = upgraded
            .downcast::<TokioIo<Transport>>()
            .map_err(|_| Error::Decode("the upgraded connection is of another kind".to_owned()))?;
        Ok(Self {
            early: parts.read_buf,
            stream: parts.io.into_inner(),
            multiplexed,
        })
    }

    /// Whether the engine said that the output comes in frames; `None` when it did not say.
    pub fn multiplexed(&self) -> Option<bool> {
        self.multiplexed
    }

    /// The bytes that arrived early and the connection itself.
    pub fn into_parts(self) -> (Bytes, Transport) {
        (self.early, self.stream)
    }
}

impl AsyncRead for Hijacked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.has_remaining() {
            let take = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(take));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Hijacked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
