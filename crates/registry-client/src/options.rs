//! How a client behaves: where certificates lie, which registries are trusted how far, timeouts.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`Client`](crate::Client), mostly from `daemon.json`.
///
/// Proxies are not supported: neither settings nor `HTTP_PROXY` and its kin are looked at.
#[derive(Debug, Clone)]
pub struct Options {
    /// `insecure-registries`: hosts (`reg.example:5000`) or networks (`10.0.0.0/8`) spoken to with
    /// unverified TLS and then plain HTTP. Loopback addresses always are.
    pub insecure_registries: Vec<String>,
    /// `registry-mirrors`: tried in order before Docker Hub, and for Docker Hub only.
    pub mirrors: Vec<String>,
    /// Directories with one `<host:port>/{ca.crt,*.cert,*.key}` folder per registry.
    pub certificate_dirs: Vec<PathBuf>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// For name lookup, TCP and TLS together.
    pub connect_timeout: Duration,
    /// The longest silence of a server while it should be answering.
    pub idle_timeout: Duration,
    /// How often one request is tried when the network or the server (429, 5xx) fails.
    pub attempts: u32,
    /// The first pause between two attempts; it doubles each time, to at most 16 times this.
    pub backoff: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure_registries: Vec::new(),
            mirrors: Vec::new(),
            certificate_dirs: vec![
                PathBuf::from("/etc/wharf/certs.d"),
                PathBuf::from("/etc/docker/certs.d"),
            ],
            user_agent: concat!("wharf/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            attempts: 5,
            backoff: Duration::from_secs(1),
        }
    }
}
