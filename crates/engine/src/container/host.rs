//! What this host offers, looked up once when the engine opens.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use wharf_api_types::container::HostConfig;

use super::limits::{Host, parse_cpu_list};
use super::selinux::Selinux;
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
    /// SELinux confines containers, by the daemon's configuration and with the host's policy.
    pub selinux: Option<Selinux>,
    /// The host's name.
    pub hostname: String,
    /// The kernel's major and minor version.
    pub kernel: (u32, u32),
    /// Processors' thermal throttle directories, hidden from containers.
    pub throttle_dirs: Vec<String>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// We may make cgroups.
    pub cgroups: bool,
    /// We are root in a user namespace only.
    pub rootless: Option<RootlessFacts>,
}

/// What is different for an ordinary user's engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RootlessFacts {
    /// The last of the consecutive group ids from 0 on that exist here.
    pub last_gid: u32,
    /// Our own out-of-memory score adjustment: none of our processes can have a lower one.
    pub oom_score_adj: i32,
}

impl RootlessFacts {
    fn gather() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            last_gid: last_id(&read("/proc/self/gid_map")),
            oom_score_adj: read("/proc/self/oom_score_adj").trim().parse().unwrap_or(0),
        }
    }

    /// Takes back what an ordinary user's containers cannot have, and says so.
    pub(super) fn take_back(self, host: &mut HostConfig, has_cpu: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        if host.nano_cpus > 0 && !has_cpu {
            host.nano_cpus = 0;
            warnings.push(
                "This user has no cpu cgroup. CPUs discarded (info says why, and what helps)."
                    .to_owned(),
            );
        }
        let own = i64::from(self.oom_score_adj);
        if host.oom_score_adj != 0 && host.oom_score_adj < own {
            warnings.push(format!(
                "An ordinary user's processes cannot be spared when memory is short. OomScoreAdj {} discarded, it is {own}.",
                host.oom_score_adj
            ));
            host.oom_score_adj = own;
        }
        warnings
    }
}

/// The last consecutive id, from 0 on, that an id map has.
fn last_id(map: &str) -> u32 {
    let mut ranges: Vec<(u32, u32)> = map
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            let (first, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some((first.ok()?, count.ok()?))
        })
        .collect();
    ranges.sort_unstable();
    let mut next = 0_u32;
    for (first, count) in ranges {
        if first != next {
            break;
        }
        next = next.saturating_add(count);
    }
    next.saturating_sub(1)
}

impl HostFacts {
    /// Looks around. `parent` is where cgroups can be made; a `rootless` engine has none, or one
    /// with the controllers it was given.
    pub(super) fn gather(rootless: bool, selinux_enabled: bool, parent: Option<&str>) -> Self {
        let cgroups = parent.is_some();
        let cgroup = |controller: &str, file: &str| {
            cgroups
                && Path::new("/sys/fs/cgroup")
                    .join(controller)
                    .join(file)
                    .exists()
        };
        let cgroup_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let v2_root = match parent.filter(|_| rootless) {
            Some(parent) => Path::new("/sys/fs/cgroup").join(parent.trim_start_matches('/')),
            None => PathBuf::from("/sys/fs/cgroup"),
        };
        let v2_controllers =
            std::fs::read_to_string(v2_root.join("cgroup.controllers")).unwrap_or_default();
        let has = |name: &str, v1: bool| {
            if !cgroups {
                false
            } else if cgroup_v2 {
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
            // Profiles are loaded and given by root.
            apparmor: !rootless && apparmor::make_ready(),
            selinux: (selinux_enabled && !rootless).then(find_selinux).flatten(),
            hostname: uname.nodename().to_string_lossy().into_owned(),
            kernel,
            throttle_dirs,
            memory_bytes: memory_bytes(),
            cgroups,
            rootless: rootless.then(RootlessFacts::gather),
        }
    }
}

fn find_selinux() -> Option<Selinux> {
    let found = Selinux::of_host();
    if found.is_none() {
        // As for Docker, one configuration is for hosts with and without.
        tracing::warn!("selinux-enabled: SELinux, or its policy for containers, is not there");
    }
    found
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
    fn consecutive_ids_are_counted() {
        assert_eq!(last_id("0 1000 1\n1 100000 65536\n"), 65_536);
        assert_eq!(last_id("1 100000 65536\n0 1000 1\n70000 1 1\n"), 65_536);
        assert_eq!(last_id("0 0 4294967295\n"), u32::MAX - 1);
        assert_eq!(last_id(""), 0);
    }

    #[test]
    fn kernel_versions_are_read() {
        assert_eq!(kernel_version("6.18.44-fc"), (6, 18));
        assert_eq!(kernel_version("5.10"), (5, 10));
        assert_eq!(kernel_version("x"), (0, 0));
    }

    #[test]
    fn the_host_has_processors_and_memory() {
        let facts = HostFacts::gather(false, false, Some("/wharf"));
        assert!(facts.limits.cpu_count > 0 && facts.memory_bytes > 0);
        assert!(facts.limits.cpus.contains(&0));
    }
}
