//! What comes back: one JSON document, a stream of JSON messages, or bytes.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use crate::client::Lease;
use crate::error::{Error, Result};

/// The largest JSON document read into memory, in bytes; larger ones are refused.
const DOCUMENT_MAX: usize = 256 << 20;

/// The longest message of a stream, in bytes.
const MESSAGE_MAX: usize = 16 << 20;

/// An answer whose head has arrived.
#[derive(Debug)]
pub struct Response {
    inner: hyper::Response<Incoming>,
    lease: Option<Lease>,
}

impl Response {
    pub(crate) fn new(inner: hyper::Response<Incoming>, lease: Option<Lease>) -> Self {
        Self { inner, lease }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    /// A header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.inner.body_mut().frame().await {
            if let Ok(data) = frame.map_err(Error::Http)?.into_data() {
                return Ok(Some(data));
            }
        }
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        Ok(None)
    }

    /// Reads the rest of the body and drops it, so that the connection can be used again.
    pub async fn drain(mut self) -> Result<()> {
        while self.chunk().await?.is_some() {}
        Ok(())
    }

    /// The whole body.
    pub async fn bytes(mut self) -> Result<Bytes> {
        let Some(first) = self.chunk().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.chunk().await? else {
            return Ok(first);
        };
        let mut all = BytesMut::from(first.as_ref());
        all.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            if all.len() + chunk.len() > DOCUMENT_MAX {
                return Err(Error::Decode(format!(
                    "document of more than {DOCUMENT_MAX} bytes"
                )));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// The whole body as JSON; `Value::Null` when it is empty.
    pub async fn json(self) -> Result<Value> {
        let body = self.bytes().await?;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| Error::Decode(error.to_string()))
    }

    /// The body as a stream of JSON messages.
    pub fn json_lines(self) -> JsonLines {
        JsonLines {
            response: self,
            buffer: BytesMut::new(),
            scanned: 0,
            ended: false,
        }
    }
}

/// JSON messages separated by line ends or by nothing at all.
#[derive(Debug)]
pub struct JsonLines {
    response: Response,
    buffer: BytesMut,
    /// Bytes at the start of `buffer` known to contain no line end.
    scanned: usize,
    ended: bool,
}

impl JsonLines {
    /// The next message; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(message) = self.take_buffered()? {
                return Ok(Some(message));
            }
            if self.ended {
                return Ok(None);
            }
            match self.response.chunk().await? {
                Some(chunk) if self.buffer.len() + chunk.len() > MESSAGE_MAX => {
                    return Err(Error::Decode(format!(
                        "message of more than {MESSAGE_MAX} bytes"
                    )));
                }
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }

    fn take_buffered(&mut self) -> Result<Option<Value>> {
        let blank = self
            .buffer
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        self.buffer.advance(blank);
        self.scanned = self.scanned.saturating_sub(blank);
        let line_ended = memchr::memchr(b'\n', &self.buffer[self.scanned..]).is_some();
        self.scanned = self.buffer.len();
        if self.buffer.is_empty() || !(line_ended || self.ended || self.buffer.ends_with(b"}")) {
            return Ok(None);
        }
        let mut values = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                let used = values.byte_offset();
                self.buffer.advance(used);
                self.scanned = 0;
                Ok(Some(value))
            }
            Some(Err(error)) if error.is_eof() && !self.ended => Ok(None),
            Some(Err(error)) => Err(Error::Decode(error.to_string())),
            None => Ok(None),
        }
    }
}

/// Reads the error an answer carries: `{"message": "…"}`, or its text.
pub(crate) async fn daemon_error(response: Response) -> Error {
    let status = response.status();
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) => return error,
    };
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|value| Some(value.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
    let message = message.trim();
    let message = if message.is_empty() {
        let reason = hyper::StatusCode::from_u16(status)
            .ok()
            .and_then(|code| code.canonical_reason());
        reason.unwrap_or("request failed").to_owned()
    } else {
        message.to_owned()
    };
    Error::Daemon { status, message }
}
