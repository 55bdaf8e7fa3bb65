//! What the integration tests share: a content store in memory, a real registry, and a registry
//! of our own that misbehaves on request.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses another part"
)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure here is a failed test, and a skipped one must be seen"
)]

pub mod fake;
pub mod memory;
pub mod real;

use std::time::Duration;

use wharf_registry_client::{Client, Options};

/// A client that does not wait long.
pub fn client(change: impl FnOnce(&mut Options)) -> Client {
    let mut options = Options {
        connect_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(5),
        backoff: Duration::from_millis(5),
        certificate_dirs: Vec::new(),
        ..Options::default()
    };
    change(&mut options);
    Client::new(options).unwrap()
}
