//! Checks of what a user asks for, in Docker's words. Pure: what the host can do is passed in.
//!
//! Options that Wharf does not offer are refused here by their names; nothing is accepted and then
//! ignored.

use std::collections::BTreeSet;

use wharf_api_types::container::{ContainerConfig, CreateContainer, HostConfig};
use wharf_fault::{Error, Result};

use super::{restart_policy, runtimes, signal};
use crate::config::DaemonConfig;

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
pub(super) fn resources(
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

/// Checks `Config`.
pub(super) fn config(config: &ContainerConfig) -> Result<()> {
    if config.image.is_empty() {
        // Docker can make containers without an image; there is nothing such a container could run here.
        return Err(Error::invalid(
            "no image specified: Config.Image must not be empty",
        ));
    }
    if config.hostname.len() > 63 || config.hostname.contains(['\n', '\0', ' ']) {
        return Err(Error::invalid(format!(
            "invalid hostname: {}",
            config.hostname
        )));
    }
    if config.domainname.len() > 63 || config.domainname.contains(['\n', '\0', ' ']) {
        return Err(Error::invalid(format!(
            "invalid domainname: {}",
            config.domainname
        )));
    }
    if !config.stop_signal.is_empty() {
        signal::parse(&config.stop_signal)?;
    }
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') || variable.contains('\0') {
            return Err(Error::invalid(format!(
                "invalid environment variable: {variable}"
            )));
        }
    }
    for argument in config
        .cmd
        .iter()
        .flatten()
        .chain(config.entrypoint.iter().flatten())
    {
        if argument.contains('\0') {
            return Err(Error::invalid("invalid argument: it contains a null byte"));
        }
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    for port in config.exposed_ports.keys() {
        super::ports::parse_port(port)?;
    }
    if let Some(health) = &config.healthcheck {
        const MILLISECOND: i64 = 1_000_000;
        for (value, name) in [
            (health.interval, "Interval"),
            (health.timeout, "Timeout"),
            (health.start_period, "StartPeriod"),
            (health.start_interval, "StartInterval"),
        ] {
            if value != 0 && value < MILLISECOND {
                return Err(Error::invalid(format!(
                    "{name} in Healthcheck cannot be less than 1ms"
                )));
            }
        }
        if health.retries < 0 {
            return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
        }
        match health.test.first().map(String::as_str) {
            None | Some("" | "NONE") => {}
            Some("CMD" | "CMD-SHELL") if health.test.len() > 1 => {}
            Some(other) => {
                return Err(Error::invalid(format!(
                    "Unknown healthcheck type \"{other}\""
                )));
            }
        }
    }
    Ok(())
}

/// Checks `HostConfig` apart from limits and mounts.
pub(super) fn host_config(c: &HostConfig, daemon: &DaemonConfig) -> Result<()> {
    let invalid = |text: String| Err(Error::invalid(text));
    let missing = |what: &str| {
        Err(Error::not_implemented(format!(
            "{what} is not supported by this version of Wharf"
        )))
    };
    restart_policy::validate(&c.restart_policy)?;
    super::cgroups::check_parent(&c.cgroup_parent, daemon.systemd_cgroup)?;
    if c.auto_remove && !restart_policy::is_none(&c.restart_policy) {
        return invalid("can't create 'AutoRemove' container with restart policy".to_owned());
    }
    if c.shm_size < 0 {
        return invalid("SHM size can not be less than 0".to_owned());
    }
    if !(-1000..=1000).contains(&c.oom_score_adj) {
        return invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            c.oom_score_adj
        ));
    }
    if !matches!(c.isolation.as_str(), "" | "default") {
        return invalid(format!("invalid isolation '{}' on linux", c.isolation));
    }
    if !c.runtime.is_empty() && !daemon.knows_runtime(&c.runtime) {
        return Err(runtimes::unknown(&c.runtime));
    }
    match c.log_config.r#type.as_str() {
        "" | "json-file" | "local" | "none" => {}
        known @ ("syslog" | "journald" | "gelf" | "fluentd" | "awslogs" | "splunk" | "gcplogs"
        | "etwlogs") => {
            return missing(&format!("log driver \"{known}\""));
        }
        other => {
            return invalid(format!(
                "error looking up logging plugin {other}: plugin \"{other}\" not found"
            ));
        }
    }
    modes(c)?;
    crate::user_namespaces::Mode::parse(&c.userns_mode).map_err(Error::invalid)?;
    if !c.cgroup.is_empty() {
        return missing("HostConfig.Cgroup");
    }
    if c.storage_opt
        .as_ref()
        .is_some_and(|options| !options.is_empty())
    {
        return invalid(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
                .to_owned(),
        );
    }
    if c.device_requests.iter().flatten().next().is_some() {
        return missing("HostConfig.DeviceRequests (--gpus, CDI devices)");
    }
    for extra in c.extra_hosts.iter().flatten() {
        let Some((name, address)) = extra.split_once(':').or_else(|| extra.split_once('=')) else {
            return invalid(format!("bad format for add-host: \"{extra}\""));
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return invalid(format!("bad format for add-host: \"{extra}\""));
        }
        let plain = address.trim_start_matches('[').trim_end_matches(']');
        if address != "host-gateway" && plain.parse::<std::net::IpAddr>().is_err() {
            return invalid(format!("invalid IP address in add-host: \"{address}\""));
        }
    }
    for server in c.dns.iter().flatten() {
        if server.parse::<std::net::IpAddr>().is_err() {
            return invalid(format!(
                "bad format for DNS server: {server}: it is not an IP address"
            ));
        }
    }
    for word in c
        .dns_search
        .iter()
        .flatten()
        .chain(c.dns_options.iter().flatten())
    {
        if word.contains(['\n', '\r', '\0']) {
            return invalid(format!("invalid DNS option: {word:?}"));
        }
    }
    for (port, bindings) in &c.port_bindings {
        super::ports::parse_port(port)?;
        for binding in bindings.iter().flatten() {
            super::ports::parse_binding(binding)?;
        }
    }
    for ulimit in c.ulimits.iter().flatten() {
        super::spec::rlimit_name(&ulimit.name)
            .ok_or_else(|| Error::invalid(format!("invalid ulimit type: {}", ulimit.name)))?;
        if ulimit.hard != -1 && (ulimit.soft > ulimit.hard || (ulimit.soft == -1)) {
            return invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                ulimit.soft, ulimit.hard
            ));
        }
    }
    for rule in c.device_cgroup_rules.iter().flatten() {
        super::devices::parse_rule(rule)?;
    }
    for device in c.devices.iter().flatten() {
        let permissions = device.cgroup_permissions.as_str();
        if !permissions.chars().all(|letter| "rwm".contains(letter)) {
            return invalid(format!("invalid device mode: {permissions}"));
        }
    }
    sysctls(c)?;
    for group in c.group_add.iter().flatten() {
        if group.is_empty() || group.contains([':', '\n', '\0']) {
            return invalid(format!("invalid group: {group}"));
        }
    }
    for link in c.links.iter().flatten() {
        parse_link(link)?;
    }
    super::security::parse(c)?;
    Ok(())
}

/// `container[:alias]`.
pub(super) fn parse_link(link: &str) -> Result<(&str, &str)> {
    let parts: Vec<&str> = link.split(':').collect();
    match parts[..] {
        [name] if !name.is_empty() => Ok((name, name)),
        // Docker's own records keep links as `/child:/parent/alias`.
        [name, alias] if !name.is_empty() && !alias.is_empty() => Ok((
            name.trim_start_matches('/'),
            alias.rsplit('/').next().unwrap_or(alias),
        )),
        _ => Err(Error::invalid(format!("bad format for links: {link}"))),
    }
}

fn modes(c: &HostConfig) -> Result<()> {
    let invalid = |text: String| Err(Error::invalid(text));
    let container_or = |mode: &str, words: &[&str]| {
        words.contains(&mode)
            || mode
                .strip_prefix("container:")
                .is_some_and(|name| !name.is_empty())
    };
    if !container_or(&c.pid_mode, &["", "host"]) {
        return invalid(format!("invalid PID mode: {}", c.pid_mode));
    }
    if !container_or(&c.ipc_mode, &["", "none", "private", "shareable", "host"]) {
        return invalid(format!("invalid IPC mode: {}", c.ipc_mode));
    }
    if !matches!(c.uts_mode.as_str(), "" | "host") {
        return invalid(format!("invalid UTS mode: {}", c.uts_mode));
    }
    if !matches!(c.cgroupns_mode.as_str(), "" | "host" | "private") {
        return invalid(format!(
            "invalid cgroup namespace mode: {}",
            c.cgroupns_mode
        ));
    }
    Ok(())
}

/// Namespaced kernel parameters only, and only for namespaces the container has to itself.
fn sysctls(c: &HostConfig) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    for (name, value) in c.sysctls.iter().flatten() {
        let bad = name.is_empty()
            || name.contains(['\0', '\n'])
            || name
                .split(['.', '/'])
                .any(|part| part.is_empty() || part == "..")
            || value.contains('\0');
        if bad {
            return Err(Error::invalid(format!("invalid sysctl: {name}")));
        }
        let dotted = name.replace('/', ".");
        if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            if c.ipc_mode == "host" {
                return Err(Error::invalid(format!(
                    "sysctl \"{name}\" is not in a separate kernel namespace"
                )));
            }
        } else if dotted.starts_with("net.") {
            if c.network_mode == "host" {
                return Err(Error::invalid(format!(
                    "sysctl \"{name}\" not allowed in host network namespace"
                )));
            }
        } else if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
            if c.uts_mode == "host" {
                return Err(Error::invalid(format!(
                    "sysctl \"{name}\" is not in a separate kernel namespace"
                )));
            }
        } else {
            return Err(Error::invalid(format!(
                "sysctl \"{name}\" is not in a separate kernel namespace"
            )));
        }
    }
    Ok(())
}

/// Options that exclude each other across `Config`, `HostConfig` and the endpoints.
pub(super) fn combinations(request: &CreateContainer) -> Result<()> {
    let (config, host) = (&request.config, &request.host_config);
    let conflict = |text: &str| Err(Error::invalid(format!("conflicting options: {text}")));
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let mode = host.network_mode.as_str();
    if let Some(target) = mode.strip_prefix("container:") {
        if target.is_empty() {
            return Err(Error::invalid(
                "invalid network mode: invalid container format container:<name|id>",
            ));
        }
        if !config.hostname.is_empty() {
            return conflict("hostname and the network mode");
        }
        if some(&host.links) {
            return conflict(
                "container type network can't be used with links. This would result in undefined behavior",
            );
        }
        if some(&host.dns) {
            return conflict("dns and the network mode");
        }
        if some(&host.extra_hosts) {
            return conflict("custom host-to-IP mapping and the network mode");
        }
        if !config.mac_address.is_empty() {
            return conflict("mac-address and the network mode");
        }
        if !host.port_bindings.is_empty() || host.publish_all_ports {
            return conflict("port publishing and the container type network mode");
        }
        if !config.exposed_ports.is_empty() {
            return conflict("port exposing and the container type network mode");
        }
    }
    if mode == "host" && some(&host.links) {
        return conflict(
            "host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use wharf_api_types::container::RestartPolicy;

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
        resources(&mut config.clone(), &host(), Limits::New)
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
        let warnings = resources(&mut config, &host(), Limits::New).unwrap();
        assert_eq!(warnings.len(), 1);
        assert_eq!(config.blkio_weight, 0);
        let mut config = HostConfig {
            kernel_memory: 8 << 20,
            ..HostConfig::default()
        };
        let warnings = resources(&mut config, &host(), Limits::New).unwrap();
        assert!(warnings[0].starts_with("Your kernel does not support kernel memory limit"));
        assert_eq!(config.kernel_memory, 0);
    }

    #[test]
    fn an_update_may_change_swap_alone() {
        let mut swap = HostConfig {
            memory_swap: 64 << 20,
            ..HostConfig::default()
        };
        assert!(resources(&mut swap, &host(), Limits::New).is_err());
        assert!(resources(&mut swap, &host(), Limits::Update).is_ok());
    }

    #[test]
    fn combinations_are_refused() {
        let with = |host_config: HostConfig| {
            self::host_config(&host_config, &DaemonConfig::default())
                .unwrap_err()
                .to_string()
        };
        let always = RestartPolicy {
            name: "always".into(),
            maximum_retry_count: 0,
        };
        assert_eq!(
            with(HostConfig {
                auto_remove: true,
                restart_policy: always,
                ..HostConfig::default()
            }),
            "can't create 'AutoRemove' container with restart policy"
        );
        assert_eq!(
            with(HostConfig {
                runtime: "kata".into(),
                ..HostConfig::default()
            }),
            "unknown or invalid runtime name: kata"
        );
        assert_eq!(
            with(HostConfig {
                shm_size: -1,
                ..HostConfig::default()
            }),
            "SHM size can not be less than 0"
        );
        let sysctls = Some([("vm.swappiness".to_owned(), "1".to_owned())].into());
        assert!(
            with(HostConfig {
                sysctls,
                ..HostConfig::default()
            })
            .contains("\"vm.swappiness\" is not in a separate")
        );
        assert_eq!(
            with(HostConfig {
                extra_hosts: Some(vec!["a".into()]),
                ..HostConfig::default()
            }),
            "bad format for add-host: \"a\""
        );
        let mut request = CreateContainer::default();
        request.host_config.network_mode = "container:x".into();
        request.config.hostname = "h".into();
        assert_eq!(
            combinations(&request).unwrap_err().to_string(),
            "conflicting options: hostname and the network mode"
        );
    }

    #[test]
    fn config_is_checked() {
        let with = |c: ContainerConfig| config(&c).unwrap_err().to_string();
        let base = || ContainerConfig {
            image: "x".into(),
            ..ContainerConfig::default()
        };
        assert!(
            with(ContainerConfig {
                stop_signal: "SIGFOO".into(),
                ..base()
            })
            .contains("invalid signal: SIGFOO")
        );
        assert!(
            with(ContainerConfig {
                env: Some(vec!["=a".into()]),
                ..base()
            })
            .contains("invalid environment variable: =a")
        );
        assert!(
            with(ContainerConfig {
                working_dir: "a".into(),
                ..base()
            })
            .contains("absolute path")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_of_cpus_or_an_error(text in "[0-9,-]{0,20}|.*") {
            if let Some(set) = parse_cpu_list(&text) {
                prop_assert_eq!(parse_cpu_list(&format_cpu_list(&set)), Some(set));
            }
            drop(parse_link(&text));
        }
    }
}
