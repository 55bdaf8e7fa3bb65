//! What this host offers, looked up once when the engine opens.

use std::collections::BTreeSet;
use std::path::Path;

use super::validate::{Host, parse_cpu_list};
use super::{apparmor, security};

/// Facts about the host that do not change while the engine runs.
#[derive(Debug, Clone)]
pub(super) struct HostFacts {
    /// For the checks of `create`.
    pub limits: Host,
    /// Capabilities the daemon may give.
    pub capabilities: Vec<&'static str>,
    /// Mounts can be made read-only recursively (Linux 5.12).
    pub recursive_readonly: bool,
    /// AppArmor confines containers.
    pub apparmor: bool,
    /// The host's name.
    pub hostname: String,
    /// The kernel's major and minor version.
    pub kernel: (u32, u32),
    /// Processors' thermal throttle directories, hidden from containers.
    pub throttle_dirs: Vec<String>,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl HostFacts {
    /// Looks around.
    pub(super) fn gather() -> Self {
        let cgroup = |controller: &str, file: &str| {
            Path::new("/sys/fs/cgroup")
                .join(controller)
                .join(file)
                .exists()
        };
        let cgroup_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let v2_controllers =
            std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        let has = |name: &str, v1: bool| {
            if cgroup_v2 {
                v2_controllers.split_whitespace().any(|word| word == name)
            } else {
                v1
            }
        };
        let list = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            parse_cpu_list(&text).unwrap_or_default()
        };
        let cpus = list("/sys/devices/system/cpu/online");
        let mut mems = list("/sys/devices/system/node/online");
        if mems.is_empty() {
            mems = BTreeSet::from([0]);
        }
        let cpu_count =
            u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1);
        let limits = Host {
            cpu_count,
            cpus,
            mems,
            cgroup_v2,
            memory: has("memory", cgroup("memory", "memory.limit_in_bytes")),
            swap: if cgroup_v2 {
                has("memory", false) && Path::new("/proc/swaps").exists()
            } else {
                cgroup("memory", "memory.memsw.limit_in_bytes")
            },
            cpu: has("cpu", cgroup("cpu", "cpu.cfs_quota_us")),
            cpuset: has("cpuset", cgroup("cpuset", "cpuset.cpus")),
            // Version 1 has no limit file in its root.
            pids: has("pids", Path::new("/sys/fs/cgroup/pids").is_dir()),
            cpu_realtime: !cgroup_v2 && cgroup("cpu", "cpu.rt_period_us"),
            kernel_memory_tcp: !cgroup_v2 && cgroup("memory", "memory.kmem.tcp.limit_in_bytes"),
            blkio_weight: if cgroup_v2 {
                has("io", false)
            } else {
                cgroup("blkio", "blkio.weight") || cgroup("blkio", "blkio.bfq.weight")
            },
            blkio_throttle: has("io", cgroup("blkio", "blkio.throttle.read_bps_device")),
        };
        let uname = rustix::system::uname();
        let kernel = kernel_version(&uname.release().to_string_lossy());
        let throttle_dirs = limits
            .cpus
            .iter()
            .map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"))
            .filter(|path| Path::new(path).exists())
            .collect();
        Self {
            limits,
            capabilities: security::available(),
            recursive_readonly: kernel >= (5, 12),
            apparmor: apparmor::make_ready(),
            hostname: uname.nodename().to_string_lossy().into_owned(),
            kernel,
            throttle_dirs,
            memory_bytes: memory_bytes(),
        }
    }
}

fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read() {
        assert_eq!(kernel_version("6.18.44-fc"), (6, 18));
        assert_eq!(kernel_version("5.10"), (5, 10));
        assert_eq!(kernel_version("x"), (0, 0));
    }

    #[test]
    fn the_host_has_processors_and_memory() {
        let facts = HostFacts::gather();
        assert!(facts.limits.cpu_count > 0 && facts.memory_bytes > 0);
        assert!(facts.limits.cpus.contains(&0));
    }
}
