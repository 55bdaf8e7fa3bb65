//! Checks of what a user asks for, in Docker's words; those of limits are in [`limits`](super::limits).
//!
//! Options that Wharf does not offer are refused here by their names; nothing is accepted and then
//! ignored.

use wharf_api_types::container::{ContainerConfig, CreateContainer, HostConfig};
use wharf_fault::{Error, Result};

use super::{restart_policy, runtimes, signal};
use crate::config::DaemonConfig;

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
        fn any_text_is_a_link_or_an_error(text in ".*") {
            drop(parse_link(&text));
        }
    }
}
