//! The HTTP client every Wharf front end talks to an engine with.
//!
//! It speaks HTTP/1.1 over a unix socket, TCP, TLS or the standard streams of an `ssh` child,
//! to Wharf's daemon or any other engine with Docker's API. What it owns:
//!
//! - [`Host`]: where the engine is, as written in `DOCKER_HOST` or after `-H`;
//! - [`Client`]: requests, one reused connection, the API version, starting a missing daemon;
//! - [`Response`]: bodies as JSON, as a stream of JSON messages or as bytes;
//! - [`Hijacked`]: the raw duplex stream of attach and exec;
//! - [`stdcopy`]: taking the two interleaved output streams of a container apart.
//!
//! The API version is negotiated lazily: the first request carries the newest version known here
//! and only an engine that refuses it costs a second round trip.

mod client;
mod error;
mod hijack;
mod host;
mod query;
mod response;
mod ssh;
pub mod stdcopy;
mod tls;
mod transport;

pub use client::{API_VERSION, Autostart, Body, Client, Settings};
pub use error::{Error, Result};
pub use hijack::Hijacked;
pub use host::{Host, HostError};
pub use hyper::Method;
pub use query::Query;
pub use response::{JsonLines, Response};
pub use tls::{TlsError, TlsSettings};
pub use transport::Transport;
