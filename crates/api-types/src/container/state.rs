//! `State` of inspect: how a container is, how its runs ended, and its health.

use serde::{Deserialize, Serialize};

use crate::decode::null_default;

/// `State` of inspect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub status: String,
    /// Also true while paused or restarting.
    pub running: bool,
    /// Frozen.
    pub paused: bool,
    /// Waiting for the next try of the restart policy.
    pub restarting: bool,
    /// The kernel killed it for memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Removal failed half-way.
    pub dead: bool,
    /// PID of the first process on the host.
    pub pid: i64,
    /// Status of the last run.
    pub exit_code: i64,
    /// Why the last start failed.
    pub error: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
    /// Only with a health probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Wharf's own: the mapping of a user namespace, of the present run or the next.
    #[serde(rename = "IDMappings", skip_serializing_if = "Option::is_none")]
    pub id_mappings: Option<IdMappings>,
    /// How the last run ended. Not Docker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Box<ContainerExit>>,
    /// How runs before that ended, oldest first; not all are remembered. Not Docker's.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub earlier_exits: Vec<ContainerExit>,
}

/// The mapping of a user namespace, each part `container:host:size`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IdMappings {
    /// Users.
    pub uid_map: Vec<String>,
    /// Groups.
    pub gid_map: Vec<String>,
}

/// How a run ended, or why it did not begin. Not Docker's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerExit {
    /// `exited`, `stopped`, `killed`, `oom`, `seccomp`, `crashed`, `signal` (from an unknown
    /// sender), `not-started`, `unknown`.
    pub kind: String,
    /// The same as a sentence.
    pub summary: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// RFC 3339.
    pub finished_at: String,
    /// As Docker shows it.
    pub exit_code: i64,
    /// The signal that ended the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// What made the engine send its last signal: `kill`, `stop`, `stop-timeout`, `restart`,
    /// `remove`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// The last signal the engine sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_signal: Option<String>,
    /// Processes were killed for want of memory.
    #[serde(rename = "OOM", skip_serializing_if = "Option::is_none")]
    pub oom: Option<ExitOom>,
    /// The system call the seccomp filter ended the program for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forbidden_system_call: Option<String>,
}

/// Memory at the end of a run in which processes were killed for it; bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExitOom {
    /// Processes killed.
    pub kills: u64,
    /// Whose memory had run out: `container`, `parent` (a cgroup above it), `host`, `unknown`.
    pub scope: String,
    /// The last processes killed, as far as the kernel's log tells.
    #[serde(deserialize_with = "null_default")]
    pub victims: Vec<ExitOomVictim>,
    /// The memory limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The limit of memory and swap together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_with_swap: Option<u64>,
    /// The most that was in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
    /// How often the limit was hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_hits: Option<u64>,
    /// Microseconds some task waited for memory; cgroup v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stalled_us: Option<u64>,
    /// Microseconds all tasks did; cgroup v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fully_stalled_us: Option<u64>,
}

/// A process killed for want of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExitOomVictim {
    /// Its process id on the host.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// Bytes of its own memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss: Option<u64>,
}

/// State of the health probe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Consecutive failures.
    pub failing_streak: i64,
    /// The last five probes.
    #[serde(deserialize_with = "null_default")]
    pub log: Vec<HealthcheckResult>,
}

/// One probe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthcheckResult {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// 0 healthy, 1 unhealthy, -1 could not run or took too long.
    pub exit_code: i64,
    /// First 4096 bytes of the output.
    pub output: String,
}
