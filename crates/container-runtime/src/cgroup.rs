//! A container's cgroup.

use rustix::process::Signal;
use std::io;
use std::os::fd::OwnedFd;
use wharf_oci::runtime::Resources;

/// A container's cgroup: one directory on v2, one per hierarchy on v1.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
}

/// Usage figures; what the kernel does not offer stays 0 or empty. Bytes and nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processors.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices, one entry per device and operation.
    pub block_io: Vec<BlockIoStat>,
}

/// Processor usage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Nanoseconds used in all.
    pub usage_ns: u64,
    /// Nanoseconds used in user mode.
    pub user_ns: u64,
    /// Nanoseconds used in the kernel.
    pub system_ns: u64,
    /// Nanoseconds used per processor (v1 only).
    pub per_cpu_ns: Vec<u64>,
    /// Quota periods that have passed.
    pub periods: u64,
    /// Quota periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds spent waiting for quota.
    pub throttled_ns: u64,
}

/// Memory usage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Bytes in use, page cache included.
    pub usage: u64,
    /// The most it ever was.
    pub max_usage: u64,
    /// The limit; `u64::MAX` for none.
    pub limit: u64,
    /// How often the limit was hit.
    pub fail_count: u64,
    /// The lines of `memory.stat`.
    pub stat: Vec<(String, u64)>,
}

/// Number of tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Tasks now.
    pub current: u64,
    /// The limit; 0 for none.
    pub limit: u64,
}

/// A block device figure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIoStat {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `read`, `write`, ….
    pub operation: String,
    /// Bytes; 0 where only operations are counted.
    pub bytes: u64,
    /// Operations.
    pub operations: u64,
}

impl Cgroup {
    /// The cgroup at `path` (absolute from the hierarchy's root), which need not exist. Needs no
    /// running container: the daemon reads statistics through it.
    pub fn at(path: &str) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Its path from the hierarchy's root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the machine has the unified hierarchy (v2) and nothing else that matters.
    pub fn is_unified(&self) -> bool {
        false
    }

    /// Applies `resources` to the existing cgroup (`docker update`).
    pub fn update(&self, _resources: &Resources) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Reads usage figures.
    pub fn stats(&self) -> io::Result<Stats> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The processes in it and in its children.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Freezes every process; returns when all are.
    pub fn pause(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Lets them go on.
    pub fn resume(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Signals every process in it, children included, frozen ones too.
    pub fn signal_all(&self, _signal: Signal) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// How many processes the kernel killed for want of memory.
    pub fn oom_kills(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A descriptor that becomes readable (epoll: `EPOLLIN` for v1, `EPOLLPRI` for v2) when the
    /// cgroup runs out of memory; compare [`oom_kills`](Self::oom_kills) then.
    pub fn oom_notifier(&self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes it and the children containers made in it. All its processes must have ended.
    pub fn remove(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
