//! Container log files: written by the shim, read by the daemon.
//!
//! Two formats are kept, `json-file` and `local`, both as Docker has them, so its tools read our
//! files and we read theirs. A file is bounded and rotated (see [`rotation`]'s drawing of the
//! names); bytes never cross the daemon on their way to disk.
//!
//! - [`options`]: `--log-driver` and `--log-opt` to a [`LogTarget`].
//! - [`LogWriter`]: output of a container to entries in a file.
//! - [`LogReader`]: entries of all files, from the oldest or the last few, and new ones as they come.
//! - [`render`]: entries to what `docker logs` sends.

mod compression;
mod entry;
mod json_line;
mod local_record;
pub mod options;
mod reader;
pub mod render;
mod rotation;
mod target;
pub mod timestamp;
mod watch;
mod writer;

pub use entry::{Entry, Stream};
pub use options::{OptionError, Subject};
pub use reader::{LogReader, Progress, Query};
pub use render::Format;
pub use target::{Driver, LogTarget};
pub use watch::Watch;
pub use writer::{LogWriter, TEXT_MAX};
