//! Answers: JSON, empty, streamed; and the one table from error kind to HTTP status.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response as HttpResponse, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;
use wharf_api_types::ErrorBody;
use wharf_fault::{Error, Kind, chain};

/// An answer.
pub(crate) type Response = HttpResponse<Body>;

/// What a route gives back.
pub(crate) type Reply = Result<Response, Error>;

/// Chunks on their way to a client that is slower than their source.
const STREAM_CHUNKS: usize = 16;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// All of it at once; `None` when it was sent.
    Full(Option<Bytes>),
    /// As it comes.
    Stream(mpsc::Receiver<io::Result<Bytes>>),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(receiver) => receiver
                .poll_recv(cx)
                .map(|next| next.map(|chunk| chunk.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// The client has gone; nobody reads the stream any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientGone;

/// The sending end of a streamed answer. Dropping it ends the answer.
#[derive(Debug, Clone)]
pub(crate) struct BodySender(mpsc::Sender<io::Result<Bytes>>);

impl BodySender {
    /// Sends a chunk; waits while the client is slow.
    pub(crate) async fn send(&self, chunk: impl Into<Bytes>) -> Result<(), ClientGone> {
        self.0.send(Ok(chunk.into())).await.map_err(|_| ClientGone)
    }

    /// Sends one JSON value and a newline.
    pub(crate) async fn send_json<T: Serialize>(&self, value: &T) -> Result<(), ClientGone> {
        self.send(json_line(value)).await
    }

    /// Breaks the connection off, so that the client does not take what it got for the whole.
    pub(crate) async fn abort(&self, why: &str) {
        // A client that has gone needs to know no more.
        let _ = self.0.send(Err(io::Error::other(why.to_owned()))).await;
    }

    /// Waits until the client has gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }

    /// A writer for code that blocks; never to be used on an async worker.
    pub(crate) fn blocking_writer(&self) -> BlockingWriter {
        BlockingWriter {
            sender: self.0.clone(),
            buffer: Vec::with_capacity(BlockingWriter::CHUNK),
        }
    }
}

/// Feeds a streamed answer from a blocking thread in chunks of 64 KiB.
#[derive(Debug)]
pub(crate) struct BlockingWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl BlockingWriter {
    const CHUNK: usize = 64 * 1024;

    /// Breaks the connection off, so that the client does not take what it got for the whole.
    pub(crate) fn abort(&mut self) {
        self.buffer.clear();
        drop(
            self.sender
                .blocking_send(Err(io::Error::other("the source of the stream failed"))),
        );
    }
}

impl io::Write for BlockingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(Self::CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == Self::CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(Self::CHUNK));
        self.sender
            .blocking_send(Ok(chunk.into()))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone"))
    }
}

/// A value and a newline, as Go's encoder writes it.
pub(crate) fn json_line<T: Serialize>(value: &T) -> Bytes {
    let mut text = serde_json::to_vec(value).expect("API types always have a JSON form");
    text.push(b'\n');
    text.into()
}

/// `200` with a JSON body.
pub(crate) fn json<T: Serialize>(value: &T) -> Response {
    json_with(StatusCode::OK, value)
}

/// A JSON body with another status.
pub(crate) fn json_with<T: Serialize>(status: StatusCode, value: &T) -> Response {
    with_type(
        status,
        "application/json",
        Body::Full(Some(json_line(value))),
    )
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = HttpResponse::new(Body::Full(None));
    *response.status_mut() = status;
    response
}

/// `204`.
pub(crate) fn no_content() -> Response {
    empty(StatusCode::NO_CONTENT)
}

/// `200` with a short text.
pub(crate) fn text(body: &'static str) -> Response {
    with_type(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        Body::Full(Some(Bytes::from_static(body.as_bytes()))),
    )
}

/// `200` with a body that comes bit by bit. The head is sent as soon as the route returns, so a
/// route hands the sender to a task and returns at once.
pub(crate) fn stream(content_type: &'static str) -> (BodySender, Response) {
    let (sender, receiver) = mpsc::channel(STREAM_CHUNKS);
    (
        BodySender(sender),
        with_type(StatusCode::OK, content_type, Body::Stream(receiver)),
    )
}

fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = HttpResponse::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The one table from error kind to status.
pub(crate) fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::InvalidParameter => StatusCode::BAD_REQUEST,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::System => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a failed request.
pub(crate) fn error(error: &Error) -> Response {
    let status = status_of(error.kind());
    if status == StatusCode::NOT_MODIFIED {
        return empty(status);
    }
    json_with(
        status,
        &ErrorBody {
            message: chain(error),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn not_modified_has_no_body() {
        let response = error(&Error::not_modified("already started"));
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert!(response.body().is_end_stream());
    }

    #[tokio::test]
    async fn a_blocking_writer_learns_that_the_client_has_gone() {
        let (sender, response) = stream("application/x-tar");
        let mut writer = sender.blocking_writer();
        drop(response);
        let result = tokio::task::spawn_blocking(move || {
            writer.write_all(b"x")?;
            writer.flush()
        });
        assert_eq!(
            result.await.unwrap().unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
