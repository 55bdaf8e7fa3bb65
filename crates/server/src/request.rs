//! A request as a route sees it: path parameters, query, headers, body, and the way out of HTTP.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use http_body_util::{BodyExt as _, BodyStream};
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, UPGRADE};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::Handle;
use tokio_util::io::StreamReader;
use wharf_api_types::{ApiVersion, Filters, go_json};
use wharf_engine::Engine;
use wharf_fault::{Error, Result};

use crate::connection::Caller;
use crate::hijack::{ClientSocket, HijackSlot};

/// The largest JSON body; more than any sensible container has in its settings.
const JSON_BYTES_MAX: usize = 8 * 1024 * 1024;

/// docker-py reads the head through a buffer and everything after it past that buffer: bytes that
/// arrive together with the head are lost to it.
const READS_HEAD_APART: &str = "docker-sdk-python";

/// A request whose route was found.
#[derive(Debug)]
pub(crate) struct Request {
    /// The engine to call.
    pub(crate) engine: Engine,
    /// The version of the API the client speaks.
    pub(crate) version: ApiVersion,
    /// The parameters after `?`.
    pub(crate) query: Query,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// Who asks, where that is known.
    pub(crate) caller: Caller,
    params: Vec<(&'static str, String)>,
    body: BodySlot,
    hijack: HijackSlot,
}

/// Where a request's body is until it is read; what is left of it returns here.
#[derive(Debug, Clone, Default)]
pub(crate) struct BodySlot(Arc<Mutex<Option<Incoming>>>);

impl BodySlot {
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    /// Takes the body; nothing after the first time.
    pub(crate) fn take(&self) -> Option<Incoming> {
        self.0
            .lock()
            .expect("no code panics while it holds this lock")
            .take()
    }

    /// Puts back what is not read to its end.
    fn put_back(&self, body: Incoming) {
        *self
            .0
            .lock()
            .expect("no code panics while it holds this lock") = Some(body);
    }
}

impl Request {
    pub(crate) fn new(
        engine: Engine,
        version: ApiVersion,
        query: Query,
        params: Vec<(&'static str, String)>,
        headers: HeaderMap,
        body: BodySlot,
        hijack: HijackSlot,
    ) -> Self {
        Self {
            engine,
            version,
            query,
            headers,
            caller: None,
            params,
            body,
            hijack,
        }
    }

    /// The part of the path that stands for `{name}` in the route's pattern.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value.as_str())
    }

    /// A header's value, when it is readable text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON, read as Go reads it. No body is the zero value.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        let body = self.bytes(JSON_BYTES_MAX).await?;
        if body.is_empty() {
            return Ok(T::default());
        }
        if let Some(content_type) = self.header(CONTENT_TYPE.as_str()) {
            let mime = content_type
                .split(';')
                .next()
                .unwrap_or(content_type)
                .trim();
            if !mime.is_empty() && !mime.eq_ignore_ascii_case("application/json") {
                return Err(Error::invalid(format!(
                    "unsupported Content-Type header ({content_type}): must be 'application/json'"
                )));
            }
        } else {
            return Err(Error::invalid(
                "malformed Content-Type header (): mime: no media type",
            ));
        }
        go_json::from_slice(&body).map_err(|error| Error::invalid(error.to_string()))
    }

    /// The whole body, at most `max` bytes of it.
    pub(crate) async fn bytes(&mut self, max: usize) -> Result<Bytes> {
        let Some(mut body) = self.body.take() else {
            return Ok(Bytes::new());
        };
        let too_large = || {
            Error::invalid(format!(
                "http: request body too large: at most {max} bytes are accepted"
            ))
        };
        if body.size_hint().lower() > max as u64 {
            self.body.put_back(body);
            return Err(too_large());
        }
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Error::invalid(format!("cannot read the request body: {error}"))
            })?;
            // Trailers are of no interest.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > max {
                self.body.put_back(body);
                return Err(too_large());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    }

    /// The body as it comes. A client that leaves makes it fail. What is not read when the reader
    /// is dropped is read and thrown away: a client that is still writing would find its connection
    /// closed before it reads the answer.
    pub(crate) fn body_reader(&mut self) -> BodyReader {
        let reader: Option<Source> = self.body.take().map(|body| {
            let data = TryStreamExt::map_err(BodyStream::new(body), io::Error::other)
                .try_filter_map(|frame| async move { Ok(frame.into_data().ok()) });
            Box::new(StreamReader::new(Box::pin(data))) as Source
        });
        BodyReader {
            source: reader.unwrap_or_else(|| Box::new(tokio::io::empty())),
            runtime: Handle::current(),
        }
    }

    /// Whether the client asked to leave HTTP with an `Upgrade` header. Old clients do not and
    /// expect `200` instead of `101`.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(UPGRADE)
    }

    /// Leaves HTTP: answers with the head Docker sends and gives the client's socket. Everything
    /// that can fail with an HTTP status has to be done before.
    ///
    /// `content_type` is the one of the bytes that follow. `own_headers` adds the headers every
    /// answer carries, as Docker does for exec and not for attach.
    pub(crate) async fn hijack(
        &mut self,
        content_type: &str,
        own_headers: bool,
    ) -> Result<ClientSocket> {
        let head = self.hijack_head(content_type, own_headers);
        let socket = self.hijack_with(&head).await?;
        if self
            .header("user-agent")
            .is_some_and(|agent| agent.starts_with(READS_HEAD_APART))
        {
            crate::hijack::wait_until_read(&socket).await;
        }
        Ok(socket)
    }

    /// The head that [`hijack`](Self::hijack) writes.
    pub(crate) fn hijack_head(&self, content_type: &str, own_headers: bool) -> Vec<u8> {
        crate::hijack::head(
            self.wants_upgrade(),
            content_type,
            own_headers,
            self.engine.settings().experimental,
        )
    }

    /// Leaves HTTP with another head.
    pub(crate) async fn hijack_with(&mut self, head: &[u8]) -> Result<ClientSocket> {
        // What is left of the body would be taken for the first bytes of the stream.
        self.bytes(JSON_BYTES_MAX).await?;
        self.hijack.take(head).await
    }
}

type Source = Box<dyn AsyncRead + Send + Unpin>;

/// A body that is read piece by piece, see [`Request::body_reader`].
pub(crate) struct BodyReader {
    source: Source,
    runtime: Handle,
}

impl AsyncRead for BodyReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.source).poll_read(context, buffer)
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        /// A client that sends for longer loses its answer.
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
        let mut rest = std::mem::replace(&mut self.source, Box::new(tokio::io::empty()));
        self.runtime.spawn(async move {
            let mut nowhere = tokio::io::sink();
            let thrown_away = tokio::io::copy(&mut rest, &mut nowhere);
            let _ = tokio::time::timeout(PATIENCE, thrown_away).await;
        });
    }
}

/// The parameters after `?`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Parses `a=1&b=x%20y`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decode = |text: &str| {
                percent_decode(text, true)
                    .ok_or_else(|| Error::invalid(format!("invalid URL escape in {part:?}")))
            };
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self { pairs })
    }

    /// The first value of a parameter; empty when it is not given.
    pub(crate) fn str(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.pairs
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// A truth value: everything but nothing, `0`, `no`, `false` and `none` is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// A truth value with a default for when the parameter is not given.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> bool {
        match self.get(name) {
            None => default,
            Some(value) => !matches!(
                value.trim().to_ascii_lowercase().as_str(),
                "" | "0" | "no" | "false" | "none"
            ),
        }
    }

    /// A whole number; `None` when it is not given or empty.
    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>> {
        match self.str(name) {
            "" => Ok(None),
            text => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Error::invalid(format!(
                    "invalid value for {name}: {text:?} is not a number"
                ))),
            },
        }
    }

    /// The `filters` parameter.
    pub(crate) fn filters(&self) -> Result<Filters> {
        Filters::parse(self.str("filters")).map_err(|error| Error::invalid(error.to_string()))
    }
}

/// Decodes `%41`, and `+` as a space where `plus` says so; `None` when it is not well formed or
/// not UTF-8.
pub(crate) fn percent_decode(text: &str, plus: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn queries_are_read_as_go_reads_them() {
        let query = Query::parse("all=1&name=a%20b+c&names=x&names=y&follow=false&tail").unwrap();
        assert!(query.flag("all"));
        assert!(!query.flag("follow"));
        assert!(!query.flag("tail"));
        assert!(query.flag_or("missing", true));
        assert_eq!(query.str("name"), "a b c");
        assert_eq!(query.all("names"), ["x", "y"]);
        assert!(Query::parse("a=%zz").is_err());
        assert!(Query::parse("limit=x").unwrap().int("limit").is_err());
    }

    proptest! {
        #[test]
        fn no_query_panics(text in ".*") {
            drop(Query::parse(&text));
        }

        #[test]
        fn encoding_is_undone(text in ".*") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(percent_decode(&encoded, true), Some(text));
        }
    }
}
