//! What a container runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::{is_default, null_default, string_or_list};
use crate::port::PortSet;

use super::Empty;

/// What a container runs (`Config` of inspect and create).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// Host name inside the container.
    #[serde(deserialize_with = "null_default")]
    pub hostname: String,
    /// NIS domain name.
    #[serde(deserialize_with = "null_default")]
    pub domainname: String,
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "null_default")]
    pub user: String,
    /// The client attaches to standard input.
    #[serde(deserialize_with = "null_default")]
    pub attach_stdin: bool,
    /// The client attaches to standard output.
    #[serde(deserialize_with = "null_default")]
    pub attach_stdout: bool,
    /// The client attaches to standard error.
    #[serde(deserialize_with = "null_default")]
    pub attach_stderr: bool,
    /// Ports the program listens on.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: PortSet,
    /// Give the program a terminal.
    #[serde(deserialize_with = "null_default")]
    pub tty: bool,
    /// Keep standard input open.
    #[serde(deserialize_with = "null_default")]
    pub open_stdin: bool,
    /// Close standard input after the first client that attached to it leaves.
    #[serde(deserialize_with = "null_default")]
    pub stdin_once: bool,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Arguments, or the program when there is no entrypoint.
    #[serde(deserialize_with = "string_or_list")]
    pub cmd: Option<Vec<String>>,
    /// The health probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Windows only.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    /// The image as the user named it.
    #[serde(deserialize_with = "null_default")]
    pub image: String,
    /// Places that get an anonymous volume.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Working directory.
    #[serde(deserialize_with = "null_default")]
    pub working_dir: String,
    /// The program.
    #[serde(deserialize_with = "string_or_list")]
    pub entrypoint: Option<Vec<String>>,
    /// No network at all.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub network_disabled: bool,
    /// MAC address of the first endpoint (API before 1.52).
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub mac_address: String,
    /// Build triggers of the image.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Signal that asks the program to stop.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Seconds between the stop signal and SIGKILL; -1 waits for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell of shell-form commands.
    #[serde(
        deserialize_with = "string_or_list",
        skip_serializing_if = "Option::is_none"
    )]
    pub shell: Option<Vec<String>>,
}

/// A health probe. Durations in nanoseconds; 0 inherits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `[]` inherit, `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", "command"]`.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Time between two probes.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub interval: i64,
    /// A probe that takes longer failed.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub timeout: i64,
    /// Failures before this time since the start do not count.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub start_period: i64,
    /// Time between two probes during the start period.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub start_interval: i64,
    /// Consecutive failures that make the container unhealthy.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub retries: i64,
}
