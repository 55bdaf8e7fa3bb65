//! Connections: dialling, TLS, and a small pool of idle ones.
//!
//! Failures are worded as Go words them, because Docker passes those texts to its users.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::endpoint::Trust;
use crate::error::Error;
use crate::options::Options;
use crate::target::Target;

/// Most bytes of the head of an answer.
const HEADER_LENGTH_MAX: usize = 64 << 10;
/// Read buffer of a connection; what a slow consumer makes us hold.
const BUFFER_LENGTH_MAX: usize = 256 << 10;
/// Idle connections kept for one host.
const IDLE_COUNT_MAX: usize = 4;
/// How long a connection may lie idle: shorter than servers usually wait.
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// A request's body.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    Full(Option<Bytes>),
    /// Pieces from elsewhere; `remaining` bytes of them. `taken` counts what was handed on, so
    /// that a slow but living upload is told from a silent server.
    Stream {
        pieces: mpsc::Receiver<Bytes>,
        remaining: u64,
        taken: Arc<AtomicU64>,
    },
}

impl RequestBody {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::Full(Some(bytes))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { remaining: 0, .. } => Poll::Ready(None),
            Self::Stream {
                pieces,
                remaining,
                taken,
            } => match pieces.poll_recv(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(bytes)) if bytes.len() as u64 <= *remaining => {
                    *remaining -= bytes.len() as u64;
                    taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                // The source broke off or gave too much: this request must not look complete.
                Poll::Ready(_) => {
                    Poll::Ready(Some(Err(io::Error::other("the blob's source failed"))))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Full(None) | Self::Stream { remaining: 0, .. } => true,
            Self::Full(Some(_)) | Self::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Empty | Self::Full(None) => 0,
            Self::Full(Some(bytes)) => bytes.len() as u64,
            Self::Stream { remaining, .. } => *remaining,
        })
    }
}

type PoolKey = (String, u16, Trust);
type Sender = SendRequest<RequestBody>;

/// Opens connections and keeps idle ones.
#[derive(Debug)]
pub(crate) struct Pool {
    options: Arc<Options>,
    idle: Mutex<HashMap<PoolKey, Vec<(Instant, Sender)>>>,
    tls: Mutex<HashMap<PoolKey, Arc<rustls::ClientConfig>>>,
}

/// Why a connection or an exchange on it failed.
#[derive(Debug)]
pub(crate) struct TransportFailure {
    /// In Go's words.
    pub(crate) cause: String,
}

impl TransportFailure {
    fn new(cause: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
        }
    }

    /// An address that was checked and still cannot be asked for.
    pub(crate) fn bad_target() -> Self {
        Self::new("invalid address")
    }

    /// As the error of a request.
    pub(crate) fn into_error(self, method: &hyper::Method, target: &Target) -> Error {
        Error::Transport {
            method: crate::auth::go_method(method),
            url: target.shown(),
            cause: self.cause,
        }
    }
}

impl Pool {
    pub(crate) fn new(options: Arc<Options>) -> Self {
        Self {
            options,
            idle: Mutex::default(),
            tls: Mutex::default(),
        }
    }

    /// Sends one request and waits for the head of the answer. Idle connections the server has
    /// closed meanwhile are replaced.
    pub(crate) async fn exchange(
        &self,
        target: &Target,
        trust: Trust,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TransportFailure> {
        let key = (target.host.clone(), target.port, trust);
        let taken = match request.body() {
            RequestBody::Stream { taken, .. } => taken.clone(),
            _ => Arc::default(),
        };
        let mut request = request;
        while let Some(mut sender) = self.take_idle(&key) {
            match self.timed(&taken, sender.try_send_request(request)).await? {
                Ok(response) => return Ok(self.keep(key, sender, response)),
                Err(mut error) => match error.take_message() {
                    // Nothing of it was sent: another connection may do.
                    Some(unsent) => request = unsent,
                    None => return Err(TransportFailure::new(exchange_cause(error.error()))),
                },
            }
        }
        let mut sender = self.connect(target, trust).await?;
        match self.timed(&taken, sender.send_request(request)).await? {
            Ok(response) => Ok(self.keep(key, sender, response)),
            Err(error) => Err(TransportFailure::new(exchange_cause(&error))),
        }
    }

    /// The wait for the head of an answer: as long as the request's body moves, or the silence
    /// after it is not too long.
    async fn timed<F: Future>(
        &self,
        taken: &AtomicU64,
        exchange: F,
    ) -> Result<F::Output, TransportFailure> {
        let mut exchange = pin!(exchange);
        loop {
            let before = taken.load(Ordering::Relaxed);
            match tokio::time::timeout(self.options.idle_timeout, exchange.as_mut()).await {
                Ok(output) => return Ok(output),
                Err(_) if taken.load(Ordering::Relaxed) != before => {}
                Err(_) => {
                    let cause = "net/http: timeout awaiting response headers";
                    return Err(TransportFailure::new(cause));
                }
            }
        }
    }

    fn take_idle(&self, key: &PoolKey) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.get_mut(key)?;
        senders.retain(|(since, sender)| since.elapsed() < IDLE_TIME_MAX && !sender.is_closed());
        // One whose answer is still being read is not ready yet.
        let at = senders.iter().rposition(|(_, sender)| sender.is_ready())?;
        Some(senders.remove(at).1)
    }

    fn keep(
        &self,
        key: PoolKey,
        sender: Sender,
        response: Response<Incoming>,
    ) -> Response<Incoming> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, senders| {
            senders
                .retain(|(since, sender)| since.elapsed() < IDLE_TIME_MAX && !sender.is_closed());
            !senders.is_empty()
        });
        let senders = idle.entry(key).or_default();
        if senders.len() < IDLE_COUNT_MAX {
            senders.push((Instant::now(), sender));
        }
        response
    }

    async fn connect(&self, target: &Target, trust: Trust) -> Result<Sender, TransportFailure> {
        let timeout = self.options.connect_timeout;
        tokio::time::timeout(timeout, self.connect_now(target, trust))
            .await
            .map_err(|_| {
                TransportFailure::new(format!("dial tcp {}: i/o timeout", dialled(target)))
            })?
    }

    async fn connect_now(&self, target: &Target, trust: Trust) -> Result<Sender, TransportFailure> {
        let stream = dial(target).await?;
        let _ = stream.set_nodelay(true);
        if trust == Trust::Plain {
            return handshake(TokioIo::new(stream)).await;
        }
        let config = self.tls_config(target, trust).await?;
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| TransportFailure::new(format!("invalid host name {:?}", target.host)))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| TransportFailure::new(io_cause(&error, &target.host)))?;
        handshake(TokioIo::new(stream)).await
    }

    async fn tls_config(
        &self,
        target: &Target,
        trust: Trust,
    ) -> Result<Arc<rustls::ClientConfig>, TransportFailure> {
        let key = (target.host.clone(), target.port, trust);
        let known = self
            .tls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(config) = known {
            return Ok(config);
        }
        let (options, host, port) = (self.options.clone(), target.host.clone(), target.port);
        let built = tokio::task::spawn_blocking(move || {
            crate::tls::client_config(&options, &host, port, trust)
        })
        .await;
        let config = match built {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => return Err(TransportFailure::new(error.to_string())),
            Err(error) => return Err(TransportFailure::new(error.to_string())),
        };
        let mut configs = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        // Certificates may be replaced while the daemon runs: never keep many, nor for ever.
        if configs.len() >= 64 {
            configs.clear();
        }
        configs.insert(key, config.clone());
        Ok(config)
    }

    /// Forgets idle connections and certificates read from files.
    pub(crate) fn forget(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.tls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

async fn handshake<T>(io: T) -> Result<Sender, TransportFailure>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = Builder::new()
        .max_buf_size(BUFFER_LENGTH_MAX)
        .max_header_size(HEADER_LENGTH_MAX)
        .handshake(io)
        .await
        .map_err(|error| TransportFailure::new(exchange_cause(&error)))?;
    tokio::spawn(async move {
        // Its failures reach whoever waits for an answer on it.
        let _ = connection.await;
    });
    Ok(sender)
}

fn dialled(target: &Target) -> String {
    match target.host.contains(':') {
        true => format!("[{}]:{}", target.host, target.port),
        false => format!("{}:{}", target.host, target.port),
    }
}

async fn dial(target: &Target) -> Result<TcpStream, TransportFailure> {
    let lookup = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let addresses: Vec<_> = match lookup {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let text = error.to_string();
            let cause = if text.contains("Temporary failure") || text.contains("try again") {
                "server misbehaving"
            } else {
                "no such host"
            };
            return Err(TransportFailure::new(format!(
                "dial tcp: lookup {}: {cause}",
                target.host
            )));
        }
    };
    let mut first = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                let cause = format!(
                    "dial tcp {address}: connect: {}",
                    io_cause(&error, &target.host)
                );
                first.get_or_insert(cause);
            }
        }
    }
    let cause = first.unwrap_or_else(|| format!("dial tcp: lookup {}: no such host", target.host));
    Err(TransportFailure::new(cause))
}

/// The system's text alone, or what TLS had to say.
fn io_cause(error: &io::Error, host: &str) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(inner) = inner {
        return tls_cause(inner, host);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error")
                .next()
                .unwrap_or_default()
                .to_lowercase()
        }
    }
}

fn tls_cause(error: &rustls::Error, host: &str) -> String {
    use rustls::{CertificateError, Error as Tls};
    let x509 = |what: &str| format!("tls: failed to verify certificate: x509: {what}");
    match error {
        Tls::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => x509("certificate signed by unknown authority"),
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                x509("certificate has expired or is not yet valid")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                x509(&format!("certificate is not valid for {host}"))
            }
            other => x509(&format!("{other:?}")),
        },
        // Plain HTTP is no TLS record.
        Tls::InvalidMessage(_) => "http: server gave HTTP response to HTTPS client".to_owned(),
        Tls::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        other => format!("tls: {other}"),
    }
}

fn alert_text(alert: rustls::AlertDescription) -> String {
    use rustls::AlertDescription as Alert;
    match alert {
        Alert::HandshakeFailure => "handshake failure".to_owned(),
        Alert::BadCertificate => "bad certificate".to_owned(),
        Alert::CertificateRequired => "certificate required".to_owned(),
        Alert::UnknownCA => "unknown certificate authority".to_owned(),
        Alert::ProtocolVersion => "protocol version not supported".to_owned(),
        Alert::InternalError => "internal error".to_owned(),
        other => format!("{other:?}"),
    }
}

/// What broke an exchange.
pub(crate) fn exchange_cause(error: &hyper::Error) -> String {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return io_cause(io, "this host");
        }
        source = inner.source();
    }
    if error.is_incomplete_message() {
        return "unexpected EOF".to_owned();
    }
    if error.is_parse_too_large() {
        return "net/http: server response headers exceeded the limit".to_owned();
    }
    error.to_string()
}
