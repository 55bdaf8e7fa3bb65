//! How a container meets the host: devices, limits, restarts, logs, namespaces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::{is_default, null_default, string_or_list};
use crate::mount::Mount;
use crate::port::PortMap;

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

#[cfg(test)]
mod tests {
    use super::*;

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
