//! The HTTP face of the engine: the Docker Engine API on unix, TCP and TLS sockets.
//!
//! ```text
//! Listener ─▶ connection ─▶ dispatch ─▶ router ─▶ routes::* ─▶ one engine call ─▶ reply
//!             (one task)    version,    method    decode                        encode
//!                           headers     and path
//! ```
//!
//! A route decodes, calls the engine once and encodes. The one table from error kind to status is
//! in [`reply`]. Connections that stop speaking HTTP (attach, exec, websockets) leave through
//! [`hijack`].

mod connection;
mod dispatch;
mod hijack;
#[cfg(test)]
mod hijack_tests;
mod listen;
mod negotiate;
mod reply;
mod request;
mod router;
mod routes;
mod serve;
mod tidy_memory;
mod tls;

pub use listen::{Address, ListenError, Listener, socket_group};
pub use serve::{Limits, serve, serve_with_limits};
pub use tls::{TlsError, TlsFiles};
