//! `GET /containers/{id}/stats`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStats {
    /// Container id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// With its leading slash.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `linux` (API 1.52 and newer).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_type: String,
    /// When, RFC 3339.
    pub read: String,
    /// CPU.
    pub cpu_stats: CpuStats,
    /// Memory.
    pub memory_stats: MemoryStats,
    /// By interface; absent without a network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<BTreeMap<String, NetworkStats>>,
    /// Tasks.
    pub pids_stats: PidsStats,
    /// Block devices.
    pub blkio_stats: BlkioStats,
    /// Windows only.
    pub num_procs: u32,
    /// Windows only.
    pub storage_stats: StorageStats,
    /// When the sample before was taken.
    pub preread: String,
    /// CPU in the sample before.
    pub precpu_stats: CpuStats,
    /// What Docker does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_stats: Option<Box<ExtraStats>>,
}

impl ContainerStats {
    /// Takes out what `version` does not know.
    pub fn adapt(&mut self, version: crate::ApiVersion) {
        if !version.at_least(52) {
            self.os_type.clear();
        }
    }
}

/// Figures beyond Docker's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtraStats {
    /// Bytes that cannot be taken away without swapping: usage without the page cache that was not
    /// used lately.
    pub memory_working_set: u64,
    /// Bytes swapped out; absent where the kernel does not count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<u64>,
    /// How often the memory limit was hit (on cgroup v2 too).
    pub memory_limit_hits: u64,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
    /// Periods in which saved up CPU quota was used.
    pub cpu_bursts: u64,
    /// Nanoseconds of saved up CPU quota used.
    pub cpu_burst_time: u64,
    /// Share of time in which tasks could not go on. Only with cgroup v2: v1 counts it for the
    /// whole machine alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<PressureStats>,
}

/// Part of [`ExtraStats`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PressureStats {
    /// For want of a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Pressure>,
    /// For want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Pressure>,
    /// For want of block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Pressure>,
}

/// Part of [`PressureStats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressure {
    /// At least one task.
    pub some: Stall,
    /// All tasks at once.
    pub full: Stall,
}

/// Part of [`Pressure`]; percents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stall {
    /// Of the last ten seconds.
    pub avg10: f64,
    /// Of the last minute.
    pub avg60: f64,
    /// Of the last five minutes.
    pub avg300: f64,
    /// Microseconds since the beginning.
    pub total: u64,
}

/// CPU times, nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// Used by the container.
    pub cpu_usage: CpuUsage,
    /// Used by the whole machine.
    #[serde(skip_serializing_if = "crate::decode::is_default")]
    pub system_cpu_usage: u64,
    /// CPUs.
    #[serde(skip_serializing_if = "crate::decode::is_default")]
    pub online_cpus: u32,
    /// CFS quota.
    pub throttling_data: ThrottlingData,
}

/// Part of [`CpuStats`], nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// All.
    pub total_usage: u64,
    /// By CPU; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percpu_usage: Option<Vec<u64>>,
    /// In the kernel.
    pub usage_in_kernelmode: u64,
    /// In user space.
    pub usage_in_usermode: u64,
}

/// Part of [`CpuStats`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottlingData {
    /// Periods with work to do.
    pub periods: u64,
    /// Periods that hit the quota.
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled_time: u64,
}

/// Memory, bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Now.
    #[serde(skip_serializing_if = "crate::decode::is_default")]
    pub usage: u64,
    /// Highest; cgroup v1 only.
    #[serde(skip_serializing_if = "crate::decode::is_default")]
    pub max_usage: u64,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<BTreeMap<String, u64>>,
    /// Times the limit was hit; cgroup v1 only.
    #[serde(skip_serializing_if = "crate::decode::is_default")]
    pub failcnt: u64,
    /// The limit, or the machine's memory.
    #[serde(skip_serializing_if = "crate::decode::is_default")]
    pub limit: u64,
}

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStats {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Incoming packets dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Outgoing packets dropped.
    pub tx_dropped: u64,
}

/// Tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// Now.
    #[serde(skip_serializing_if = "crate::decode::is_default")]
    pub current: u64,
    /// The limit.
    #[serde(skip_serializing_if = "crate::decode::is_default")]
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    /// Bytes by device and operation.
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
    /// Operations by device and operation.
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    /// Queued operations.
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    /// Service times.
    pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
    /// Wait times.
    pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
    /// Merged operations.
    pub io_merged_recursive: Option<Vec<BlkioEntry>>,
    /// Device time.
    pub io_time_recursive: Option<Vec<BlkioEntry>>,
    /// Sectors.
    pub sectors_recursive: Option<Vec<BlkioEntry>>,
}

/// One number of a block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    /// Device major number.
    pub major: u64,
    /// Device minor number.
    pub minor: u64,
    /// `read`, `write`, ….
    pub op: String,
    /// The number.
    pub value: u64,
}

/// Windows only; always empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageStats {}
