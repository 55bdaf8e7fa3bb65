//! Execs on the wire.

use serde::{Deserialize, Serialize};

use crate::decode::{null_default, string_or_list};

/// Body of `POST /containers/{id}/exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateExec {
    /// `user[:group]`; empty is the container's user.
    #[serde(deserialize_with = "null_default")]
    pub user: String,
    /// All capabilities.
    #[serde(deserialize_with = "null_default")]
    pub privileged: bool,
    /// Give the program a terminal.
    #[serde(deserialize_with = "null_default")]
    pub tty: bool,
    /// Initial terminal size, `[height, width]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
    /// Attach standard input.
    #[serde(deserialize_with = "null_default")]
    pub attach_stdin: bool,
    /// Attach standard error.
    #[serde(deserialize_with = "null_default")]
    pub attach_stderr: bool,
    /// Attach standard output.
    #[serde(deserialize_with = "null_default")]
    pub attach_stdout: bool,
    /// Only older clients send it here.
    #[serde(deserialize_with = "null_default")]
    pub detach: bool,
    /// Key sequence that detaches.
    #[serde(deserialize_with = "null_default")]
    pub detach_keys: String,
    /// More environment.
    pub env: Option<Vec<String>>,
    /// Working directory.
    #[serde(deserialize_with = "null_default")]
    pub working_dir: String,
    /// Program and arguments.
    #[serde(deserialize_with = "string_or_list")]
    pub cmd: Option<Vec<String>>,
}

/// Body of `POST /exec/{id}/start`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StartExec {
    /// Do not attach.
    #[serde(deserialize_with = "null_default")]
    pub detach: bool,
    /// Must equal what create said.
    #[serde(deserialize_with = "null_default")]
    pub tty: bool,
    /// Terminal size, `[height, width]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
}

/// Answer of `GET /exec/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecInspect {
    /// Exec id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Still running.
    pub running: bool,
    /// Exit status; null before the end.
    pub exit_code: Option<i64>,
    /// The program.
    pub process_config: ExecProcessConfig,
    /// Standard input is open.
    pub open_stdin: bool,
    /// Standard error is open.
    pub open_stderr: bool,
    /// Standard output is open.
    pub open_stdout: bool,
    /// No longer of use.
    pub can_remove: bool,
    /// The container.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Key sequence that detaches.
    pub detach_keys: Option<String>,
    /// PID on the host.
    pub pid: i64,
}

/// Part of [`ExecInspect`]; Docker spells these in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecProcessConfig {
    /// With a terminal.
    pub tty: bool,
    /// The program.
    pub entrypoint: String,
    /// Its arguments.
    #[serde(deserialize_with = "null_default")]
    pub arguments: Vec<String>,
    /// All capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}
