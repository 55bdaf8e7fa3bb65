//! Requests, replies and events.

use std::fmt;

use serde::{Deserialize, Serialize};
use wharf_oci::runtime::{Process, Resources};

use crate::cause::SignalOrigin;
use crate::files::ExitRecord;
use crate::start::Start;

/// One frame from the daemon to the shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestFrame {
    /// Chosen by the daemon, repeated in the reply.
    pub id: u64,
    /// How many descriptors travel with this frame.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fds: usize,
    /// What is asked.
    pub op: Request,
}

/// What the daemon asks of the shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Run the container; answered by [`Reply::Started`].
    Start(Box<Start>),
    /// Run another process in the container; answered by [`Reply::ExecStarted`]. With `attach` in
    /// it, the client's socket travels along.
    Exec(Box<ExecStart>),
    /// Connect a client's socket (the one descriptor of the frame) to a running process.
    Attach {
        /// Whose streams.
        target: Target,
        /// Which of them, and how.
        mode: AttachMode,
    },
    /// Send a signal.
    Signal {
        /// To whom.
        target: Target,
        /// The signal's number.
        signal: i32,
        /// Signal every process of the container instead of its first only.
        #[serde(default)]
        all: bool,
        /// On whose behalf.
        #[serde(default)]
        origin: SignalOrigin,
    },
    /// Set a terminal's size, in characters.
    Resize {
        /// Whose terminal.
        target: Target,
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Close the standard input of a process.
    CloseStdin {
        /// Whose.
        target: Target,
    },
    /// Freeze every process of a container that another runtime's program runs. For the built-in
    /// runtime the daemon does it through the cgroup.
    Pause,
    /// Let them go on.
    Resume,
    /// Let the runtime's program change such a container's limits.
    Update {
        /// Those that change.
        resources: Box<Resources>,
    },
    /// Let the runtime's program write such a container down.
    Checkpoint {
        /// Where images go.
        images: std::path::PathBuf,
        /// Where logs go.
        work: std::path::PathBuf,
        /// The container goes on.
        leave_running: bool,
    },
    /// Which processes such a container has; answered by [`Reply::Processes`].
    Processes,
    /// Ask how things are; answered by [`Reply::State`].
    State,
    /// Hand back duplicates of the held descriptors; answered by [`Reply::Held`].
    HeldFds,
    /// Keep another descriptor under this name (the one of the frame), in place of an older one.
    Hold {
        /// Its name.
        name: String,
    },
    /// The container's end is booked: remove what is left of it. Until then, or until nobody is
    /// connected any more, the shim keeps out of the way of those who wait for that end.
    Release,
}

/// A process the shim looks after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The container's own program.
    Main,
    /// The exec session with this id.
    Exec(String),
}

/// Another process in a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecStart {
    /// The exec session's id.
    pub exec_id: String,
    /// What to run: arguments, environment, working directory, terminal, capabilities.
    pub process: Process,
    /// Docker's `User`, resolved in the container, where an empty one is root; `None` takes
    /// `process.user` as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Further groups, by name or number, resolved in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// The seccomp filter, base64, as in [`Start`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_bpf: Option<String>,
    /// Whether the process gets a standard input; without it it reads `/dev/null`.
    #[serde(default)]
    pub open_stdin: bool,
    /// The client that is connected from the first byte on; its socket travels with the frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<AttachMode>,
}

/// Which streams of a process a client is connected to, and how.
///
/// The shim gets the client's socket and reads and writes it directly. When the process has ended
/// it first tells the daemon, then closes its descriptor once everything is flushed. The client
/// sees the end of the stream when every copy is closed: a daemon that keeps its own until it has
/// dealt with [`Event::ExecExited`] or [`Event::Exited`] can be sure that whoever saw the end also
/// finds the exit code. It must then only close its copy, not shut the socket down: the shim may
/// still be sending. Clients that leave earlier are shut down by the shim and told of with
/// [`Event::Detached`] or [`Event::ClientGone`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttachMode {
    /// The client's bytes go to the process.
    #[serde(default)]
    pub stdin: bool,
    /// The client gets standard output.
    #[serde(default)]
    pub stdout: bool,
    /// The client gets standard error.
    #[serde(default)]
    pub stderr: bool,
    /// Output is wrapped in Docker's frames `[stream 0 0 0 length]`; ignored with a terminal.
    #[serde(default)]
    pub multiplexed: bool,
    /// The key sequence that detaches, as the bytes they send; empty for none. Looked for with a
    /// terminal only, as Docker does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detach_keys: Vec<u8>,
    /// Returned in [`Event::Detached`], for the daemon to know which client it was.
    #[serde(default)]
    pub token: u64,
}

/// One frame from the shim to the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The answer to a request.
    Reply {
        /// The request's id.
        id: u64,
        /// How many descriptors travel with this frame.
        #[serde(default, skip_serializing_if = "is_zero")]
        fds: usize,
        /// What came of it.
        result: Result<Reply, Failure>,
    },
    /// Something happened.
    Event(Event),
}

impl Message {
    /// How many descriptors travel with this frame.
    pub fn fds(&self) -> usize {
        match self {
            Self::Reply { fds, .. } => *fds,
            Self::Event(_) => 0,
        }
    }
}

/// A successful answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done, nothing to tell.
    Done,
    /// The container's program runs.
    Started {
        /// Its process id on the host.
        pid: i32,
        /// When, in nanoseconds since the epoch.
        started_at_ns: i64,
    },
    /// The exec's program runs.
    ExecStarted {
        /// Its process id on the host.
        pid: i32,
    },
    /// The container's processes.
    Processes {
        /// Their ids on the host.
        pids: Vec<i32>,
    },
    /// How things are.
    State(Box<ShimState>),
    /// The held descriptors travel along, in the order of these names.
    Held {
        /// Their names.
        names: Vec<String>,
    },
}

/// What a shim knows about its container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShimState {
    /// [`crate::VERSION`] of the shim.
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// The shim's own process id.
    pub shim_pid: i32,
    /// The container's program; `None` before [`Request::Start`] is through.
    pub pid: Option<i32>,
    /// When it started, in nanoseconds since the epoch.
    pub started_at_ns: i64,
    /// Set once it has ended.
    pub exit: Option<ExitRecord>,
    /// Exec sessions that run, and those whose end no daemon has been told yet.
    pub execs: Vec<ExecState>,
    /// Clients attached to the main process.
    pub attached: u32,
}

/// An exec session as the shim knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecState {
    /// The session's id.
    pub exec_id: String,
    /// Its process id on the host.
    pub pid: i32,
    /// The exit code, once it has ended.
    pub exit_code: Option<i32>,
}

/// Something the shim tells unasked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The container has ended, its log is complete and the record is on disk.
    Exited(ExitRecord),
    /// An exec has ended and all its output has been sent.
    ExecExited {
        /// Which.
        exec_id: String,
        /// Its exit code, 128 + n for a signal.
        exit_code: i32,
    },
    /// A client has left with the detach keys.
    Detached {
        /// From which process.
        target: Target,
        /// The token of its [`AttachMode`].
        token: u64,
    },
    /// A client has gone in any other way while its process runs: it vanished, or the end of its
    /// input ended the attachment. The shim has shut its socket down.
    ClientGone {
        /// From which process.
        target: Target,
        /// The token of its [`AttachMode`].
        token: u64,
    },
    /// The kernel killed a process of the container for want of memory.
    OomKilled,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure, for exit codes and HTTP statuses.
    pub kind: FailureKind,
    /// The whole sentence for the user, as Docker words it where Docker has one.
    pub message: String,
    /// The exit code Docker gives for it: 127, 126, or 128 for everything else.
    pub exit_code: i32,
}

/// The kinds of failure a caller has to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program does not exist in the container (exit code 127).
    CommandNotFound,
    /// The program exists but can not be run (exit code 126).
    CommandNotExecutable,
    /// Something the user named does not fit: a user, a device, a mount source, a limit.
    InvalidParameter,
    /// The named exec session, or the container, is not running.
    NotRunning,
    /// The request makes no sense now: started twice, not started yet.
    Conflict,
    /// The kernel or the host refused.
    System,
}

impl Failure {
    /// A failure of `kind`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let exit_code = match kind {
            FailureKind::CommandNotFound => 127,
            FailureKind::CommandNotExecutable => 126,
            _ => 128,
        };
        Self {
            kind,
            message: message.into(),
            exit_code,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
