//! Checks of a container's limits, in Docker's words, against what the host's kernel can do.
//!
//! What the kernel lacks is taken out and warned of; what contradicts itself is refused.

use std::collections::BTreeSet;

use wharf_api_types::container::HostConfig;
use wharf_fault::{Error, Result};

/// Smallest memory limit, bytes.
const MEMORY_MIN: i64 = 6 * 1024 * 1024;

/// What the host's kernel offers.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// CPUs online.
    pub cpu_count: u32,
    /// CPUs usable, by number.
    pub cpus: BTreeSet<u32>,
    /// Memory nodes, by number.
    pub mems: BTreeSet<u32>,
    /// cgroup v2.
    pub cgroup_v2: bool,
    /// Memory limits.
    pub memory: bool,
    /// Swap limits.
    pub swap: bool,
    /// CPU shares and quotas.
    pub cpu: bool,
    /// CPU sets.
    pub cpuset: bool,
    /// Task limits.
    pub pids: bool,
    /// Real-time shares of a CPU.
    pub cpu_realtime: bool,
    /// Limits on kernel memory of TCP buffers.
    pub kernel_memory_tcp: bool,
    /// Block device weights.
    pub blkio_weight: bool,
    /// Block device rates.
    pub blkio_throttle: bool,
}

/// Whose limits are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limits {
    /// All of a new container.
    New,
    /// Changes to those of a container that exists.
    Update,
}

/// Checks and normalises limits; returns the warnings of `create` and `update`.
pub(super) fn check(
    host_config: &mut HostConfig,
    host: &Host,
    limits: Limits,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    let c = host_config;
    let invalid = |text: &str| Err(Error::invalid(text));

    if c.memory != 0 && c.memory < MEMORY_MIN {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if c.memory > 0 && !host.memory {
        warn(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
        );
        c.memory = 0;
        c.memory_swap = -1;
    }
    if c.memory > 0 && c.memory_swap != -1 && !host.swap {
        warn(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
        );
        c.memory_swap = -1;
    }
    if c.memory_swap < -1 {
        return invalid("Invalid MemorySwap value: it must be -1 or more");
    }
    if c.memory > 0 && c.memory_swap > 0 && c.memory_swap < c.memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if c.memory == 0 && c.memory_swap > 0 && limits == Limits::New {
        return invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if let Some(swappiness) = c.memory_swappiness {
        if swappiness == -1 {
            c.memory_swappiness = None;
        } else if !(0..=100).contains(&swappiness) {
            return invalid(&format!(
                "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
            ));
        } else if host.cgroup_v2 || !host.memory {
            warn(
                "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
            );
            c.memory_swappiness = None;
        }
    }
    if c.memory_reservation > 0 && !host.memory {
        warn(
            "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
        );
        c.memory_reservation = 0;
    }
    if c.memory_reservation < 0 || (c.memory_reservation > 0 && c.memory_reservation < MEMORY_MIN) {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if c.memory > 0 && c.memory_reservation > 0 && c.memory < c.memory_reservation {
        return invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    if c.kernel_memory > 0 {
        warn(
            "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
        );
    }
    c.kernel_memory = 0;
    if c.kernel_memory_tcp > 0 && !host.kernel_memory_tcp {
        warn(
            "Your kernel does not support kernel memory TCP limit capabilities or the cgroup is not mounted. Limitation discarded.",
        );
        c.kernel_memory_tcp = 0;
    }
    if c.oom_kill_disable.is_some() && (host.cgroup_v2 || !host.memory) {
        if c.oom_kill_disable == Some(true) {
            warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.");
        }
        c.oom_kill_disable = None;
    }
    if c.oom_kill_disable == Some(true) && c.memory == 0 {
        warn(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.",
        );
    }
    if c.pids_limit.is_some() && !host.pids {
        warn(
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
        );
        c.pids_limit = None;
    }
    cpu(c, host, &mut warn)?;
    if c.blkio_weight > 0 && !(10..=1000).contains(&c.blkio_weight) {
        return invalid("Range of blkio weight is from 10 to 1000");
    }
    if c.blkio_weight > 0 && !host.blkio_weight {
        warn(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
        );
        c.blkio_weight = 0;
    }
    for device in c.blkio_weight_device.iter().flatten() {
        if !(10..=1000).contains(&device.weight) {
            return invalid("Range of blkio weight is from 10 to 1000");
        }
    }
    if c.blkio_weight_device.iter().flatten().next().is_some() && !host.blkio_weight {
        warn(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
        );
        c.blkio_weight_device = Some(Vec::new());
    }
    if !host.blkio_throttle {
        let lists = [
            (&mut c.blkio_device_read_bps, "BPS Block I/O read limit"),
            (&mut c.blkio_device_write_bps, "BPS Block I/O write limit"),
            (&mut c.blkio_device_read_iops, "IOPS Block read limit"),
            (&mut c.blkio_device_write_iops, "IOPS Block write limit"),
        ];
        for (list, what) in lists {
            if list.iter().flatten().next().is_some() {
                warn(&format!(
                    "Your kernel does not support {what} or the cgroup is not mounted. Limit discarded."
                ));
                *list = Some(Vec::new());
            }
        }
    }
    if c.io_maximum_bandwidth != 0 || c.io_maximum_iops != 0 {
        return invalid(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        );
    }
    if c.cpu_percent > 0 {
        warn("linux does not support CPU percent. Percent discarded.");
        c.cpu_percent = 0;
    }
    if c.cpu_count > 0 {
        return invalid("CpuCount is not supported on linux");
    }
    Ok(warnings)
}

fn cpu(c: &mut HostConfig, host: &Host, warn: &mut impl FnMut(&str)) -> Result<()> {
    let invalid = |text: String| Err(Error::invalid(text));
    if c.nano_cpus > 0 && c.cpu_period > 0 {
        return invalid(
            "Conflicting options: Nano CPUs and CPU Period cannot both be set".to_owned(),
        );
    }
    if c.nano_cpus > 0 && c.cpu_quota > 0 {
        return invalid(
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set".to_owned(),
        );
    }
    if c.nano_cpus > 0 && !host.cpu {
        return invalid(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted".to_owned(),
        );
    }
    if c.nano_cpus < 0 || c.nano_cpus > i64::from(host.cpu_count) * 1_000_000_000 {
        let n = host.cpu_count;
        return invalid(format!(
            "range of CPUs is from 0.01 to {n}.00, as there are only {n} CPUs available"
        ));
    }
    if c.cpu_shares < 0 {
        return invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            c.cpu_shares
        ));
    }
    if c.cpu_shares > 0 && !host.cpu {
        warn(
            "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
        );
        c.cpu_shares = 0;
    }
    if (c.cpu_period != 0 || c.cpu_quota != 0) && !host.cpu {
        warn("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.");
        c.cpu_period = 0;
        c.cpu_quota = 0;
    }
    if c.cpu_period != 0 && !(1000..=1_000_000).contains(&c.cpu_period) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
                .to_owned(),
        );
    }
    if c.cpu_quota > 0 && c.cpu_quota < 1000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned());
    }
    if (c.cpu_realtime_period != 0 || c.cpu_realtime_runtime != 0) && !host.cpu_realtime {
        return invalid("Your kernel does not support CPU real-time scheduler".to_owned());
    }
    if c.cpu_realtime_period != 0
        && c.cpu_realtime_runtime != 0
        && c.cpu_realtime_runtime > c.cpu_realtime_period
    {
        return invalid(
            "cpu real-time runtime cannot be higher than cpu real-time period".to_owned(),
        );
    }
    if (!c.cpuset_cpus.is_empty() || !c.cpuset_mems.is_empty()) && !host.cpuset {
        warn("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.");
        c.cpuset_cpus.clear();
        c.cpuset_mems.clear();
    }
    for (list, available, what, short) in [
        (&c.cpuset_cpus, &host.cpus, "CPUs", "cpus"),
        (&c.cpuset_mems, &host.mems, "memory nodes", "mems"),
    ] {
        let Some(wanted) = parse_cpu_list(list) else {
            return invalid(format!("Invalid value {list} for cpuset {short}"));
        };
        if !wanted.is_subset(available) {
            let available = format_cpu_list(available);
            return invalid(format!(
                "Requested {what} are not available - requested {list}, available: {available}"
            ));
        }
    }
    Ok(())
}

/// `0-2,7` as a set; bounded, as it comes from outside.
pub(super) fn parse_cpu_list(text: &str) -> Option<BTreeSet<u32>> {
    const NUMBER_MAX: u32 = 8192;
    let mut set = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > NUMBER_MAX {
            return None;
        }
        set.extend(first..=last);
    }
    Some(set)
}

fn format_cpu_list(set: &BTreeSet<u32>) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &n in set {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => parts.push((n, n)),
        }
    }
    let part = |&(a, b): &(u32, u32)| {
        if a == b {
            a.to_string()
        } else {
            format!("{a}-{b}")
        }
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host() -> Host {
        Host {
            cpu_count: 2,
            cpus: BTreeSet::from([0, 1]),
            mems: BTreeSet::from([0]),
            cgroup_v2: false,
            memory: true,
            swap: true,
            cpu: true,
            cpuset: true,
            pids: true,
            cpu_realtime: false,
            kernel_memory_tcp: true,
            blkio_weight: false,
            blkio_throttle: true,
        }
    }

    fn refused(config: HostConfig) -> String {
        check(&mut config.clone(), &host(), Limits::New)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn limits_are_refused_in_dockers_words() {
        let d = HostConfig::default;
        assert_eq!(
            refused(HostConfig {
                memory: 1024,
                ..d()
            }),
            "Minimum memory limit allowed is 6MB"
        );
        assert_eq!(
            refused(HostConfig {
                nano_cpus: 3_000_000_000,
                ..d()
            }),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
        );
        assert_eq!(
            refused(HostConfig {
                cpuset_cpus: "0-3".into(),
                ..d()
            }),
            "Requested CPUs are not available - requested 0-3, available: 0-1"
        );
        assert_eq!(
            refused(HostConfig {
                cpuset_cpus: "x".into(),
                ..d()
            }),
            "Invalid value x for cpuset cpus"
        );
        assert_eq!(
            refused(HostConfig {
                blkio_weight: 5,
                ..d()
            }),
            "Range of blkio weight is from 10 to 1000"
        );
        assert_eq!(
            refused(HostConfig {
                memory: 8 << 20,
                memory_swap: 7 << 20,
                ..d()
            }),
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        );
        assert_eq!(
            refused(HostConfig {
                nano_cpus: 1,
                cpu_quota: 5000,
                ..d()
            }),
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set"
        );
    }

    #[test]
    fn what_the_kernel_lacks_is_a_warning() {
        let mut config = HostConfig {
            blkio_weight: 300,
            ..HostConfig::default()
        };
        let warnings = check(&mut config, &host(), Limits::New).unwrap();
        assert_eq!(warnings.len(), 1);
        assert_eq!(config.blkio_weight, 0);
        let mut config = HostConfig {
            kernel_memory: 8 << 20,
            ..HostConfig::default()
        };
        let warnings = check(&mut config, &host(), Limits::New).unwrap();
        assert!(warnings[0].starts_with("Your kernel does not support kernel memory limit"));
        assert_eq!(config.kernel_memory, 0);
    }

    #[test]
    fn an_update_may_change_swap_alone() {
        let mut swap = HostConfig {
            memory_swap: 64 << 20,
            ..HostConfig::default()
        };
        assert!(check(&mut swap, &host(), Limits::New).is_err());
        assert!(check(&mut swap, &host(), Limits::Update).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_of_cpus_or_an_error(text in "[0-9,-]{0,20}|.*") {
            if let Some(set) = parse_cpu_list(&text) {
                prop_assert_eq!(parse_cpu_list(&format_cpu_list(&set)), Some(set));
            }
        }
    }
}
