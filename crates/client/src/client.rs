//! Requests to the engine: connections, API version, a daemon that is not there yet.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, UPGRADE, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use crate::error::{Error, Result};
use crate::hijack::Hijacked;
use crate::host::Host;
use crate::response::{Response, daemon_error};
use crate::tls::TlsSettings;
use crate::transport::Transport;
use crate::{ssh, tls};

/// The API version requests carry unless the engine asks for an older one.
///
/// It is the version of the reference command line whose requests and output Wharf's match;
/// newer versions of the API rename fields that command line reads.
pub const API_VERSION: &str = "1.50";

/// The oldest version requests can be sent in.
const API_VERSION_MIN: (u32, u32) = (1, 24);

/// Starts the daemon of the default socket; returns when the socket accepts connections.
pub type Autostart = fn() -> io::Result<()>;

/// A request body in the form hyper sends.
type WireBody = UnsyncBoxBody<Bytes, io::Error>;

/// Everything a [`Client`] has to know before its first request.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the engine is.
    pub host: Host,
    /// TLS for TCP hosts.
    pub tls: Option<TlsSettings>,
    /// A version from `DOCKER_API_VERSION`: used as it is, never negotiated.
    pub pinned_version: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// `HttpHeaders` of the configuration file, sent with every request.
    pub headers: Vec<(String, String)>,
    /// Called once when nobody listens on a unix socket; `None` for a host the user named.
    pub autostart: Option<Autostart>,
}

/// A request body.
pub enum Body {
    /// No body.
    Empty,
    /// A JSON document.
    Json(Value),
    /// Bytes of this media type, sent as they come.
    Stream {
        /// `Content-Type`.
        content_type: &'static str,
        /// The bytes.
        chunks: std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    },
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Json(value) => f.debug_tuple("Json").field(value).finish(),
            Self::Stream { content_type, .. } => {
                f.debug_tuple("Stream").field(content_type).finish()
            }
        }
    }
}

/// A client of one engine.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    /// Connections whose last response has been read to its end.
    idle: Arc<Mutex<Vec<SendRequest<WireBody>>>>,
    /// The version in use once an engine refused [`API_VERSION`].
    negotiated: Mutex<Option<String>>,
}

/// Returns the connection of a finished response to its client.
#[derive(Debug)]
pub(crate) struct Lease {
    sender: SendRequest<WireBody>,
    idle: Arc<Mutex<Vec<SendRequest<WireBody>>>>,
}

impl Lease {
    /// The response was read to its end: the next request may use the connection.
    pub(crate) fn give_back(self) {
        lock(&self.idle).push(self.sender);
    }
}

impl Client {
    /// A client with these settings; connects with the first request.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            idle: Arc::default(),
            negotiated: Mutex::new(None),
        }
    }

    /// The engine's address.
    pub fn host(&self) -> &Host {
        &self.settings.host
    }

    /// The API version the next request carries.
    pub fn api_version(&self) -> String {
        if let Some(pinned) = &self.settings.pinned_version {
            return pinned.clone();
        }
        lock(&self.negotiated)
            .clone()
            .unwrap_or_else(|| API_VERSION.to_owned())
    }

    /// Asks the engine for its version now instead of at the first refusal.
    ///
    /// Needed before a request whose body can be sent only once.
    pub async fn negotiate(&self) -> Result<()> {
        if self.settings.pinned_version.is_some() || lock(&self.negotiated).is_some() {
            return Ok(());
        }
        let response = self
            .round_trip(Method::GET, "/_ping".to_owned(), Body::Empty, &[])
            .await?;
        let theirs = response.header("api-version").map(str::to_owned);
        response.drain().await?;
        *lock(&self.negotiated) = Some(older(theirs.as_deref()));
        Ok(())
    }

    /// `GET` of a JSON document; `path` starts with `/` and may carry a query.
    pub async fn get(&self, path: impl Into<String>) -> Result<Value> {
        self.request(Method::GET, path, Body::Empty, &[])
            .await?
            .json()
            .await
    }

    /// `POST` with an optional JSON body and a JSON answer (`Value::Null` when it has none).
    pub async fn post(&self, path: impl Into<String>, body: Option<Value>) -> Result<Value> {
        let body = body.map_or(Body::Empty, Body::Json);
        self.request(Method::POST, path, body, &[])
            .await?
            .json()
            .await
    }

    /// `DELETE` with a JSON answer (`Value::Null` when it has none).
    pub async fn delete(&self, path: impl Into<String>) -> Result<Value> {
        self.request(Method::DELETE, path, Body::Empty, &[])
            .await?
            .json()
            .await
    }

    /// Any request; an answer of 400 and above is an [`Error::Daemon`].
    pub async fn request(
        &self,
        method: Method,
        path: impl Into<String>,
        body: Body,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        let path = path.into();
        // Only a body that is still there can be sent again after a refused version.
        let again = match &body {
            Body::Empty => Body::Empty,
            Body::Json(value) => Body::Json(value.clone()),
            Body::Stream { .. } => {
                self.negotiate().await?;
                Body::Empty
            }
        };
        let response = self
            .round_trip(method.clone(), self.versioned(&path), body, headers)
            .await?;
        match check(response).await {
            Err(error) if self.should_downgrade(&error) => {
                self.negotiate().await?;
                check(
                    self.round_trip(method, self.versioned(&path), again, headers)
                        .await?,
                )
                .await
            }
            other => other,
        }
    }

    /// A `POST` that turns its connection into a raw stream (attach, exec).
    pub async fn hijack(&self, path: impl Into<String>, body: Option<Value>) -> Result<Hijacked> {
        let path = path.into();
        match self.upgrade(&path, body.clone()).await {
            Err(error) if self.should_downgrade(&error) => {
                self.negotiate().await?;
                self.upgrade(&path, body).await
            }
            other => other,
        }
    }

    /// Opens connections ahead of the requests that will need them; worth it only where opening
    /// is cheap, so nothing happens for other hosts than unix sockets.
    pub async fn warm(&self, connections: usize) {
        if !matches!(self.settings.host, Host::Unix(_)) {
            return;
        }
        // The request that is waiting to be sent goes first.
        tokio::task::yield_now().await;
        for _ in 0..connections {
            // Whoever needs the connection reports why there is none.
            let Ok(sender) = self.open().await else {
                return;
            };
            lock(&self.idle).push(sender);
        }
    }

    /// A connection that is open and unused, if there is one.
    async fn kept(&self) -> Option<SendRequest<WireBody>> {
        loop {
            let mut sender = lock(&self.idle).pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    /// A connection without HTTP on it, for `system dial-stdio`.
    pub async fn dial(&self) -> Result<Transport> {
        self.connect().await
    }

    async fn upgrade(&self, path: &str, body: Option<Value>) -> Result<Hijacked> {
        let body = body.map_or(Body::Empty, Body::Json);
        let mut request = self.build(Method::POST, &self.versioned(path), body, &[])?;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
        headers
            .entry(CONTENT_TYPE)
            .or_insert(HeaderValue::from_static("text/plain"));
        let mut sender = match self.kept().await {
            Some(sender) => sender,
            None => self.open().await?,
        };
        let answer = sender.send_request(request).await.map_err(Error::Http)?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Hijacked::from_upgrade(answer).await;
        }
        Err(match check(Response::new(answer, None)).await {
            Err(error) => error,
            Ok(_) => Error::Decode("the connection was not upgraded".to_owned()),
        })
    }

    /// Whether `error` is the engine refusing a version that may still be lowered.
    fn should_downgrade(&self, error: &Error) -> bool {
        self.settings.pinned_version.is_none()
            && lock(&self.negotiated).is_none()
            && matches!(error, Error::Daemon { status: 400, message } if message.contains("is too new"))
    }

    fn versioned(&self, path: &str) -> String {
        format!("/v{}{path}", self.api_version())
    }

    /// Sends one request over a kept or a new connection.
    async fn round_trip(
        &self,
        method: Method,
        path: String,
        body: Body,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        let mut request = self.build(method, &path, body, headers)?;
        while let Some(mut sender) = self.kept().await {
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok(self.response(answer, sender)),
                // The engine closed the kept connection before reading the request.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Error::Http(failed.into_error())),
                },
            }
        }
        let mut sender = self.open().await?;
        let answer = sender.send_request(request).await.map_err(Error::Http)?;
        Ok(self.response(answer, sender))
    }

    fn response(
        &self,
        answer: hyper::Response<hyper::body::Incoming>,
        sender: SendRequest<WireBody>,
    ) -> Response {
        Response::new(
            answer,
            Some(Lease {
                sender,
                idle: Arc::clone(&self.idle),
            }),
        )
    }

    fn build(
        &self,
        method: Method,
        path: &str,
        body: Body,
        headers: &[(&str, &str)],
    ) -> Result<Request<WireBody>> {
        let (host, prefix) = match &self.settings.host {
            Host::Tcp {
                host, port, prefix, ..
            } => (format!("{host}:{port}"), prefix.as_str()),
            // What Go's client sends when the address is a path.
            Host::Unix(_) | Host::Ssh { .. } => ("api.moby.localhost".to_owned(), ""),
        };
        let mut builder = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header(HOST, host)
            .header(USER_AGENT, self.settings.user_agent.as_str());
        for (name, value) in &self.settings.headers {
            let pair = (
                HeaderName::try_from(name.as_str()),
                HeaderValue::try_from(value.as_str()),
            );
            let (Ok(name), Ok(value)) = pair else {
                return Err(Error::Decode(format!(
                    "HttpHeaders: `{name}` is not a valid header"
                )));
            };
            builder = builder.header(name, value);
        }
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let body = match body {
            Body::Empty => empty(),
            Body::Json(value) => {
                builder = builder.header(CONTENT_TYPE, "application/json");
                Full::new(Bytes::from(value.to_string()))
                    .map_err(|never| match never {})
                    .boxed_unsync()
            }
            Body::Stream {
                content_type,
                chunks,
            } => {
                builder = builder.header(CONTENT_TYPE, content_type);
                StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
            }
        };
        builder
            .body(body)
            .map_err(|error| Error::Decode(format!("request for `{path}`: {error}")))
    }

    /// Opens a connection and starts HTTP on it.
    async fn open(&self) -> Result<SendRequest<WireBody>> {
        let transport = self.connect().await?;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(transport))
            .await
            .map_err(Error::Http)?;
        // Its errors reach the caller through the request in flight.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    async fn connect(&self) -> Result<Transport> {
        let host = &self.settings.host;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Permission {
                host: host.to_string(),
                source,
            },
            _ => Error::Connect {
                host: host.to_string(),
                source,
            },
        };
        match host {
            Host::Unix(path) => match connect_unix(path) {
                Ok(stream) => Ok(Transport::Unix(stream)),
                Err(refused) if absent(&refused) => {
                    let Some(start) = self.settings.autostart else {
                        return Err(failed(refused));
                    };
                    start().map_err(|source| Error::Autostart {
                        host: host.to_string(),
                        source,
                    })?;
                    connect_unix(path).map(Transport::Unix).map_err(failed)
                }
                Err(other) => Err(failed(other)),
            },
            Host::Tcp {
                host: name,
                port,
                https,
                ..
            } => {
                let stream = TcpStream::connect((name.as_str(), *port))
                    .await
                    .map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                match (&self.settings.tls, https) {
                    (None, false) => Ok(Transport::Tcp(stream)),
                    (settings, _) => {
                        let settings = settings.clone().unwrap_or(TlsSettings {
                            verify: true,
                            ..TlsSettings::default()
                        });
                        Ok(Transport::Tls(Box::new(
                            tls::connect(&settings, name, stream).await?,
                        )))
                    }
                }
            }
            Host::Ssh {
                user,
                host: name,
                port,
                socket,
            } => ssh::connect(user.as_deref(), name, *port, socket.as_deref())
                .map(|stream| Transport::Ssh(Box::new(stream)))
                .map_err(|source| Error::Ssh {
                    host: host.to_string(),
                    source,
                }),
        }
    }
}

/// Connects at once: the kernel answers for a unix socket without waiting for the other side, so
/// the event loop would only cost a round.
fn connect_unix(path: &std::path::Path) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Whether nobody listens on the socket.
fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn empty() -> WireBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Turns an answer of 400 and above into the error it carries.
async fn check(response: Response) -> Result<Response> {
    if response.status() >= 400 {
        Err(daemon_error(response).await)
    } else {
        Ok(response)
    }
}

/// The older of [`API_VERSION`] and what the engine speaks; an engine that does not say speaks
/// the oldest.
fn older(theirs: Option<&str>) -> String {
    let parse = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    let ours = parse(API_VERSION).unwrap_or(API_VERSION_MIN);
    let theirs = theirs.and_then(parse).unwrap_or(API_VERSION_MIN);
    let (major, minor) = ours.min(theirs);
    format!("{major}.{minor}")
}

/// A poisoned lock still holds a usable value here: no update is made in two steps.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::older;

    #[test]
    fn the_older_version_wins() {
        assert_eq!(older(Some("1.41")), "1.41");
        assert_eq!(older(Some("9.99")), super::API_VERSION);
        assert_eq!(older(None), "1.24");
    }
}
