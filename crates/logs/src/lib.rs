//! Container log files: written by the shim, read by the daemon.

mod target;

pub use target::{Driver, LogTarget};
