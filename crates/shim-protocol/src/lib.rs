//! What the daemon and a container's shim say to each other.
//!
//! The shim lives as long as its container; the daemon comes and goes. They talk over unix stream
//! sockets: the first is a socketpair whose one end the shim inherits as descriptor
//! [`CONTROL_FD`], later ones (after a daemon restart, or beside it) are connections to the
//! listening socket [`files::socket`]. Both speak the same messages:
//!
//! ```text
//! frame   = length (u32, little endian) JSON
//! daemon → shim   Request { id, fds, op }        descriptors go with the frame by SCM_RIGHTS
//! shim → daemon   Message::Reply { id, fds, result }   one for every request, in any order
//!                 Message::Event(event)                pushed to every open connection
//! ```
//!
//! A container's life on the wire:
//!
//! ```text
//! daemon                       shim
//!   Start + fds  ───────────▶  sets up cgroup, rootfs, process; execs the container's program
//!                ◀───────────  Reply Started { pid, started_at_ns }   or Err(Failure), then exits
//!   Exec, Attach, Signal … ─▶
//!                ◀───────────  ExecExited, Detached …
//!                ◀───────────  Exited(ExitRecord)   after exit.json is on disk; the shim then
//!                              removes the cgroup and closes the connection: nothing is left of
//!                              the container. It only stays to flush what slow clients have not
//!                              read yet.
//! ```
//!
//! - [`message`]: the requests, replies and events.
//! - [`start`]: everything a shim has to know to run a container.
//! - [`cause`]: why a container ended.
//! - [`wire`]: frames and descriptors; usable blocking, non-blocking and under tokio.
//! - [`files`]: what the shim leaves on disk: the exit record and its own whereabouts.

pub mod cause;
pub mod files;
pub mod message;
pub mod start;
pub mod wire;

pub use cause::{
    ExitCause, ForbiddenCall, OomRecord, OomScope, OomVictim, RequestedSignal, SignalOrigin,
};
pub use files::{ExitRecord, ShimRecord};
pub use message::{
    AttachMode, Event, ExecStart, Failure, FailureKind, Message, Reply, Request, RequestFrame,
    ShimState, Target,
};
pub use start::{Restore, Rootfs, RuntimeProgram, Start, StartFd};
pub use wire::{Connection, Decoder};

/// The descriptor on which a freshly spawned shim finds its control connection.
pub const CONTROL_FD: i32 = 3;

/// The protocol's version; a daemon that reconnects to an older shim learns it from
/// [`ShimState::version`]. Fields are only ever added, unknown ones are ignored.
pub const VERSION: u32 = 1;
