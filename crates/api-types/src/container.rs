//! Containers on the wire: what `create` takes, and what `inspect`, `list`, `wait`, `top` and
//! `prune` answer.
//!
//! Field order is the order in which Docker prints them. Every field of a request may be absent or
//! `null`; both mean the zero value, as Docker's decoder has it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::{is_default, null_default, string_or_list};
use crate::endpoint::EndpointSettings;
use crate::go_json::{self, GoJsonError};
use crate::mount::{Mount, MountPoint};

use crate::port::{PortMap, PortSet, PortSummary};
use crate::version::ApiVersion;

/// An empty JSON object, the value type of Go's sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

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

/// Log driver and its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// `json-file`, `local`, `none`; empty is the daemon's default.
    #[serde(deserialize_with = "null_default")]
    pub r#type: String,
    /// Options of the driver.
    #[serde(deserialize_with = "null_default")]
    pub config: BTreeMap<String, String>,
}

/// What happens when the container ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// Empty, `no`, `always`, `unless-stopped` or `on-failure`.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// With `on-failure`: 0 is without bound.
    #[serde(deserialize_with = "null_default")]
    pub maximum_retry_count: i64,
}

/// Weight of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// Device path.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// Rate limit of one block device, bytes or operations per second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// Device path.
    pub path: String,
    /// The limit.
    pub rate: u64,
}

/// A host device in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// Path on the host.
    #[serde(deserialize_with = "null_default")]
    pub path_on_host: String,
    /// Path in the container.
    #[serde(deserialize_with = "null_default")]
    pub path_in_container: String,
    /// Any of `rwm`.
    #[serde(deserialize_with = "null_default")]
    pub cgroup_permissions: String,
}

/// A request to a device driver (GPUs, CDI).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceRequest {
    /// Driver name.
    #[serde(deserialize_with = "null_default")]
    pub driver: String,
    /// Number of devices; -1 is all.
    #[serde(deserialize_with = "null_default")]
    pub count: i64,
    /// Devices by id.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    /// Alternatives of capability sets.
    pub capabilities: Option<Vec<Vec<String>>>,
    /// Driver options.
    pub options: Option<BTreeMap<String, String>>,
}

/// A resource limit of the processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// `nofile`, `nproc`, … without `RLIMIT_`.
    pub name: String,
    /// Hard limit; -1 is unlimited.
    pub hard: i64,
    /// Soft limit; -1 is unlimited.
    pub soft: i64,
}

/// How the container meets the host (`HostConfig`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `-v` in its short form.
    pub binds: Option<Vec<String>>,
    /// Where the client wrote the id.
    #[serde(rename = "ContainerIDFile", deserialize_with = "null_default")]
    pub container_id_file: String,
    /// Log driver.
    #[serde(deserialize_with = "null_default")]
    pub log_config: LogConfig,
    /// `bridge`, `host`, `none`, `container:X`, `default` or a network.
    #[serde(deserialize_with = "null_default")]
    pub network_mode: String,
    /// Published ports.
    #[serde(deserialize_with = "null_default")]
    pub port_bindings: PortMap,
    /// What happens when the container ends.
    #[serde(deserialize_with = "null_default")]
    pub restart_policy: RestartPolicy,
    /// Remove the container when it ends.
    #[serde(deserialize_with = "null_default")]
    pub auto_remove: bool,
    /// Volume driver of `binds`.
    #[serde(deserialize_with = "null_default")]
    pub volume_driver: String,
    /// Containers whose mounts are taken over, `name[:ro]`.
    pub volumes_from: Option<Vec<String>>,
    /// Initial terminal size, `[height, width]`.
    #[serde(deserialize_with = "null_default")]
    pub console_size: [u32; 2],
    /// OCI annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Capabilities to add.
    #[serde(deserialize_with = "string_or_list")]
    pub cap_add: Option<Vec<String>>,
    /// Capabilities to drop.
    #[serde(deserialize_with = "string_or_list")]
    pub cap_drop: Option<Vec<String>>,
    /// `host` or `private`.
    #[serde(deserialize_with = "null_default")]
    pub cgroupns_mode: String,
    /// DNS servers.
    pub dns: Option<Vec<String>>,
    /// Resolver options.
    pub dns_options: Option<Vec<String>>,
    /// Search domains.
    pub dns_search: Option<Vec<String>>,
    /// `host:address` lines for the hosts file.
    pub extra_hosts: Option<Vec<String>>,
    /// Supplementary groups.
    pub group_add: Option<Vec<String>>,
    /// `none`, `private`, `shareable`, `host`, `container:X`.
    #[serde(deserialize_with = "null_default")]
    pub ipc_mode: String,
    /// Cgroup of another container, `container:X`.
    #[serde(deserialize_with = "null_default")]
    pub cgroup: String,
    /// Legacy links, `container:alias`.
    pub links: Option<Vec<String>>,
    /// -1000 to 1000.
    #[serde(deserialize_with = "null_default")]
    pub oom_score_adj: i64,
    /// Empty, `host` or `container:X`.
    #[serde(deserialize_with = "null_default")]
    pub pid_mode: String,
    /// All capabilities and devices.
    #[serde(deserialize_with = "null_default")]
    pub privileged: bool,
    /// Publish every exposed port.
    #[serde(deserialize_with = "null_default")]
    pub publish_all_ports: bool,
    /// Root file system read-only.
    #[serde(deserialize_with = "null_default")]
    pub readonly_rootfs: bool,
    /// `seccomp=…`, `no-new-privileges`, ….
    pub security_opt: Option<Vec<String>>,
    /// Storage driver options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_opt: Option<BTreeMap<String, String>>,
    /// Target → mount options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<BTreeMap<String, String>>,
    /// Empty or `host`.
    #[serde(rename = "UTSMode", deserialize_with = "null_default")]
    pub uts_mode: String,
    /// Empty or `host`; Wharf also knows `auto`, `keep-id`, `private:…` and `container:X`.
    #[serde(deserialize_with = "null_default")]
    pub userns_mode: String,
    /// Bytes of `/dev/shm`; 0 is the daemon's default.
    #[serde(deserialize_with = "null_default")]
    pub shm_size: i64,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysctls: Option<BTreeMap<String, String>>,
    /// OCI runtime; empty is the daemon's default.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub runtime: String,
    /// Windows only.
    #[serde(deserialize_with = "null_default")]
    pub isolation: String,
    /// Relative CPU weight, 2 to 262144.
    #[serde(deserialize_with = "null_default")]
    pub cpu_shares: i64,
    /// Bytes.
    #[serde(deserialize_with = "null_default")]
    pub memory: i64,
    /// Billionths of a CPU.
    #[serde(rename = "NanoCpus", deserialize_with = "null_default")]
    pub nano_cpus: i64,
    /// Parent cgroup.
    #[serde(deserialize_with = "null_default")]
    pub cgroup_parent: String,
    /// 10 to 1000.
    #[serde(deserialize_with = "null_default")]
    pub blkio_weight: u16,
    /// Weights by device.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// Bytes per second read.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// Bytes per second written.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// Reads per second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// Writes per second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// CFS period, microseconds.
    #[serde(deserialize_with = "null_default")]
    pub cpu_period: i64,
    /// CFS quota, microseconds per period.
    #[serde(deserialize_with = "null_default")]
    pub cpu_quota: i64,
    /// Real-time period, microseconds.
    #[serde(deserialize_with = "null_default")]
    pub cpu_realtime_period: i64,
    /// Real-time runtime, microseconds per period.
    #[serde(deserialize_with = "null_default")]
    pub cpu_realtime_runtime: i64,
    /// `0-2,7`.
    #[serde(deserialize_with = "null_default")]
    pub cpuset_cpus: String,
    /// `0-1`.
    #[serde(deserialize_with = "null_default")]
    pub cpuset_mems: String,
    /// Host devices.
    pub devices: Option<Vec<DeviceMapping>>,
    /// `c 42:* rmw`.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Requests to device drivers.
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Long gone from the kernel.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub kernel_memory: i64,
    /// Long gone from the kernel.
    #[serde(
        rename = "KernelMemoryTCP",
        deserialize_with = "null_default",
        skip_serializing_if = "is_default"
    )]
    pub kernel_memory_tcp: i64,
    /// Soft limit, bytes.
    #[serde(deserialize_with = "null_default")]
    pub memory_reservation: i64,
    /// Memory and swap together, bytes; -1 is unlimited swap.
    #[serde(deserialize_with = "null_default")]
    pub memory_swap: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Never kill on out of memory.
    pub oom_kill_disable: Option<bool>,
    /// Number of tasks; 0 and -1 are unlimited.
    pub pids_limit: Option<i64>,
    /// Resource limits of the processes.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Windows only.
    #[serde(deserialize_with = "null_default")]
    pub cpu_count: i64,
    /// Windows only.
    #[serde(deserialize_with = "null_default")]
    pub cpu_percent: i64,
    /// Windows only.
    #[serde(rename = "IOMaximumIOps", deserialize_with = "null_default")]
    pub io_maximum_iops: u64,
    /// Windows only.
    #[serde(rename = "IOMaximumBandwidth", deserialize_with = "null_default")]
    pub io_maximum_bandwidth: u64,
    /// `--mount`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    /// Paths hidden from the container; absent is the default list, `[]` is none.
    pub masked_paths: Option<Vec<String>>,
    /// Paths made read-only; absent is the default list, `[]` is none.
    pub readonly_paths: Option<Vec<String>>,
    /// Run an init as PID 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

/// Endpoints wanted at create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkingConfig {
    /// By network name or id.
    #[serde(deserialize_with = "null_default")]
    pub endpoints_config: BTreeMap<String, Option<EndpointSettings>>,
}

/// Body of `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateContainer {
    /// What to run.
    #[serde(flatten)]
    pub config: ContainerConfig,
    /// Where to run it.
    #[serde(deserialize_with = "null_default")]
    pub host_config: HostConfig,
    /// Networks to join.
    #[serde(deserialize_with = "null_default")]
    pub networking_config: NetworkingConfig,
}

impl CreateContainer {
    /// Decodes the body as Docker's decoder does: `null` is the zero value, keys match in any
    /// letter case.
    pub fn decode(body: &[u8]) -> Result<Self, GoJsonError> {
        Self::from_value(go_json::from_slice(body)?)
    }

    /// The same from a value.
    pub fn from_value(mut value: serde_json::Value) -> Result<Self, GoJsonError> {
        let mut take = |name: &str| {
            let object = value.as_object_mut()?;
            let key = object
                .keys()
                .find(|key| key.eq_ignore_ascii_case(name))?
                .clone();
            object.remove(&key)
        };
        let host_config = take("HostConfig").unwrap_or_default();
        let networking_config = take("NetworkingConfig").unwrap_or_default();
        Ok(Self {
            config: go_json::from_value(value)?,
            host_config: go_json::from_value(host_config)?,
            networking_config: go_json::from_value(networking_config)?,
        })
    }
}

/// Answer of `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerCreated {
    /// The new id.
    pub id: String,
    /// What was accepted but will not work on this host.
    #[serde(deserialize_with = "null_default")]
    pub warnings: Vec<String>,
}

/// Answer of `POST /containers/{id}/update`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerUpdated {
    /// What was accepted but will not work on this host; Docker prints `null` for none.
    pub warnings: Option<Vec<String>>,
}

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

/// Storage driver data of inspect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverData {
    /// Driver-specific values.
    pub data: Option<BTreeMap<String, String>>,
    /// Driver name.
    pub name: String,
}

/// `Storage` of inspect, API 1.52 and newer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Storage {
    /// The root file system.
    #[serde(rename = "RootFS", skip_serializing_if = "Option::is_none")]
    pub root_fs: Option<RootFsStorage>,
}

/// Part of [`Storage`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFsStorage {
    /// A snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<RootFsSnapshot>,
}

/// Part of [`Storage`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFsSnapshot {
    /// Snapshotter name.
    pub name: String,
}

/// `NetworkSettings` of inspect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Fields that API 1.52 dropped.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub legacy: Option<LegacyNetworkSettings>,
    /// Id of the network sandbox.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of the network namespace.
    pub sandbox_key: String,
    /// Published and exposed ports.
    #[serde(deserialize_with = "null_default")]
    pub ports: PortMap,
    /// Endpoints by network name.
    #[serde(deserialize_with = "null_default")]
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// Fields of [`NetworkSettings`] before API 1.52: those of the default bridge's endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LegacyNetworkSettings {
    /// Always empty.
    pub bridge: String,
    /// Always false.
    pub hairpin_mode: bool,
    /// Always empty.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Always 0.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: i64,
    /// Always null.
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Option<Vec<String>>,
    /// Always null.
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Option<Vec<String>>,
    /// Endpoint on the default bridge.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4 gateway.
    pub gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// IPv6 prefix length.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    /// IPv4 address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// IPv4 prefix length.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    /// IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// MAC address.
    pub mac_address: String,
}

/// Answer of `GET /containers/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerInspect {
    /// Full id.
    pub id: String,
    /// RFC 3339.
    pub created: String,
    /// The program.
    pub path: String,
    /// Its arguments.
    #[serde(deserialize_with = "null_default")]
    pub args: Vec<String>,
    /// State.
    pub state: ContainerState,
    /// Image id.
    pub image: String,
    /// Host path of the container's `resolv.conf`.
    pub resolv_conf_path: String,
    /// Host path of the container's `hostname`.
    pub hostname_path: String,
    /// Host path of the container's `hosts`.
    pub hosts_path: String,
    /// Host path of the log, for `json-file`.
    pub log_path: String,
    /// With its leading slash.
    pub name: String,
    /// Restarts by the restart policy.
    pub restart_count: i64,
    /// Storage driver.
    pub driver: String,
    /// `linux`.
    pub platform: String,
    /// SELinux label.
    pub mount_label: String,
    /// SELinux label.
    pub process_label: String,
    /// AppArmor profile.
    pub app_armor_profile: String,
    /// Running execs.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// Host side.
    pub host_config: HostConfig,
    /// Storage driver data, API before 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    /// Storage, API 1.52 and newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Bytes in the container's layer; only with `size=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of the whole root file system; only with `size=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Mounts.
    #[serde(deserialize_with = "null_default")]
    pub mounts: Vec<MountPoint>,
    /// What it runs.
    pub config: ContainerConfig,
    /// Networks.
    pub network_settings: NetworkSettings,
    /// The manifest the container was made from (API 1.48 and newer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<serde_json::Value>,
}

/// One line of `GET /containers/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// Full id.
    pub id: String,
    /// Names, with leading slashes.
    #[serde(deserialize_with = "null_default")]
    pub names: Vec<String>,
    /// Image as the user named it.
    pub image: String,
    /// Image id.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The manifest the container was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<serde_json::Value>,
    /// Program and arguments, joined.
    pub command: String,
    /// Unix seconds.
    pub created: i64,
    /// Ports.
    #[serde(deserialize_with = "null_default")]
    pub ports: Vec<PortSummary>,
    /// Bytes; only with `size=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes; only with `size=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Labels.
    #[serde(deserialize_with = "null_default")]
    pub labels: BTreeMap<String, String>,
    /// As `State.Status` of inspect.
    pub state: String,
    /// For people: `Up 2 minutes (healthy)`.
    pub status: String,
    /// Health (API 1.52 and newer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    /// Host side.
    pub host_config: SummaryHostConfig,
    /// Networks.
    pub network_settings: SummaryNetworkSettings,
    /// Mounts.
    #[serde(deserialize_with = "null_default")]
    pub mounts: Vec<MountPoint>,
}

/// Part of [`ContainerSummary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthSummary {
    /// `none`, `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Consecutive failures.
    pub failing_streak: i64,
}

/// Part of [`ContainerSummary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryHostConfig {
    /// Network mode.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// OCI annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Part of [`ContainerSummary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryNetworkSettings {
    /// Endpoints by network name.
    #[serde(deserialize_with = "null_default")]
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// Answer of `POST /containers/{id}/wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitResponse {
    /// Why waiting failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
    /// Exit status.
    pub status_code: i64,
}

/// Part of [`WaitResponse`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitError {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Answer of `GET /containers/{id}/top`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TopResponse {
    /// One row per process.
    #[serde(deserialize_with = "null_default")]
    pub processes: Vec<Vec<String>>,
    /// Column titles.
    #[serde(deserialize_with = "null_default")]
    pub titles: Vec<String>,
}

/// Answer of `POST /containers/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainersPruned {
    /// Ids; null when none.
    pub containers_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

impl ContainerInspect {
    /// Takes out what `version` does not know.
    pub fn adapt(&mut self, version: ApiVersion) {
        if version.at_least(52) {
            self.network_settings.legacy = None;
            self.config.mac_address.clear();
        }
        if !version.at_least(48) {
            self.image_manifest_descriptor = None;
        }
    }
}

impl ContainerSummary {
    /// Takes out what `version` does not know.
    pub fn adapt(&mut self, version: ApiVersion) {
        if !version.at_least(52) {
            self.health = None;
        }
        if !version.at_least(48) {
            self.image_manifest_descriptor = None;
        }
        if !version.at_least(46) {
            self.host_config.annotations = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_any_shape_decodes() {
        let body = br#"{"Image":"busybox","cmd":"true","Env":null,"Labels":{"a":"b"},
            "HostConfig":{"memory":6291456,"Binds":null,"RestartPolicy":null,"ConsoleSize":[0,0],"CapAdd":["NET_ADMIN"],
                "PortBindings":{"80/tcp":[{"HostPort":"8080"}],"81/tcp":null}},
            "NetworkingConfig":{"EndpointsConfig":{"front":null}}}"#;
        let request = CreateContainer::decode(body).unwrap();
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.config.cmd, Some(vec!["true".to_owned()]));
        assert_eq!(request.host_config.memory, 6_291_456);
        assert_eq!(
            request.host_config.port_bindings["80/tcp"]
                .as_ref()
                .unwrap()[0]
                .host_port,
            "8080"
        );
        assert!(
            request
                .networking_config
                .endpoints_config
                .contains_key("front")
        );
        assert!(CreateContainer::decode(b"[]").is_err());
    }

    #[test]
    fn host_config_prints_in_dockers_order() {
        let text = serde_json::to_string(&HostConfig::default()).unwrap();
        assert!(text.starts_with(r#"{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"","PortBindings":{},"#), "{text}");
        assert!(text.contains(r#""Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"#), "{text}");
        assert!(
            text.ends_with(r#""IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null}"#),
            "{text}"
        );
    }
}
