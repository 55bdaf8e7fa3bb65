//! Why a container ended, as far as its shim saw it. Only what was seen: what nobody can know is
//! left out.

use serde::{Deserialize, Serialize};

/// Circumstances of an end, beside exit code and signal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExitCause {
    /// The last signal the engine had passed on to the container's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested: Option<RequestedSignal>,
    /// The kernel killed processes of the container for want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom: Option<OomRecord>,
    /// The program is a child of the built-in init, which turns the signal that ended it into an
    /// exit code.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
    /// The system call for which the seccomp filter ended the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forbidden_call: Option<ForbiddenCall>,
}

/// A signal sent through the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedSignal {
    /// Its number.
    pub signal: i32,
    /// On whose behalf.
    pub origin: SignalOrigin,
    /// When, in nanoseconds since the epoch.
    pub at_ns: i64,
}

/// On whose behalf a signal is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalOrigin {
    /// A user's `kill`.
    #[default]
    Kill,
    /// A user's `stop`: the stop signal.
    Stop,
    /// The time that `stop` gives was over.
    StopTimeout,
    /// A user's `restart`.
    Restart,
    /// A user's forced removal.
    Remove,
}

/// What is known about processes killed for want of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OomRecord {
    /// How many processes of the container were killed.
    pub kills: u64,
    /// What had run out; `None` if the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<OomScope>,
    /// Who was killed, as far as the kernel's log tells; the last few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub victims: Vec<OomVictim>,
    /// The memory limit at the end, bytes; `None` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The limit of memory and swap together, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_with_swap: Option<u64>,
    /// The most the container ever used, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
    /// How often the limit was hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_hits: Option<u64>,
    /// Microseconds in which at least one task waited for memory (cgroup v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stalled_us: Option<u64>,
    /// Microseconds in which all tasks did (cgroup v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fully_stalled_us: Option<u64>,
}

/// Whose memory had run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OomScope {
    /// The container's own limit, or one that was set inside it.
    Container,
    /// The limit of a cgroup above it.
    Parent,
    /// The machine's.
    Host,
}

/// A killed process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomVictim {
    /// Its process id on the host.
    pub pid: i32,
    /// Its name, as the kernel knows it.
    pub name: String,
    /// Bytes of its own memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss: Option<u64>,
}

/// A system call the seccomp filter answered with the end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForbiddenCall {
    /// Its number.
    pub number: u32,
    /// Its architecture (`AUDIT_ARCH_…`).
    pub arch: u32,
}
