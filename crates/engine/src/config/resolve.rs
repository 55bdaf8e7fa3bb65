//! From settings to a configuration: defaults, checks with Docker's texts, reload.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;
use wharf_fault::{Error, Result};

use super::{DaemonConfig, Pool, Reload, Settings, parse_bytes, runtimes};

impl DaemonConfig {
    /// Fills in defaults and checks every value.
    pub fn resolve(settings: Settings) -> Result<Self> {
        let default = Self::default();
        let group_given = settings.group.is_some();
        let config = Self {
            allow_insecure_tcp: settings.allow_insecure_tcp.unwrap_or(false),
            bip: settings.bip.unwrap_or_default(),
            bridge: settings.bridge.unwrap_or_default(),
            cgroup_parent: settings.cgroup_parent.unwrap_or_default(),
            data_root: absolute("data-root", settings.data_root.unwrap_or(default.data_root))?,
            debug: settings.debug.unwrap_or(false),
            default_address_pools: settings.default_address_pools.unwrap_or_default(),
            default_cgroupns_mode: settings.default_cgroupns_mode.unwrap_or_default(),
            default_ipc_mode: settings
                .default_ipc_mode
                .unwrap_or(default.default_ipc_mode),
            default_runtime: settings.default_runtime.unwrap_or(default.default_runtime),
            default_shm_size: shm_size(settings.default_shm_size, default.default_shm_size)?,
            default_ulimits: settings.default_ulimits.unwrap_or_default(),
            dns: addresses(settings.dns.unwrap_or_default())?,
            dns_opts: settings.dns_opts.unwrap_or_default(),
            dns_search: settings.dns_search.unwrap_or_default(),
            exec_root: absolute("exec-root", settings.exec_root.unwrap_or(default.exec_root))?,
            experimental: settings.experimental.unwrap_or(false),
            features: settings.features.unwrap_or_default(),
            fixed_cidr: settings.fixed_cidr.unwrap_or_default(),
            group: settings.group.unwrap_or(default.group),
            group_given,
            hosts: settings.hosts.unwrap_or_default(),
            icc: settings.icc.unwrap_or(true),
            init: settings.init.unwrap_or(false),
            insecure_registries: settings.insecure_registries.unwrap_or_default(),
            ip: match settings.ip {
                Some(ip) => address("ip", &ip)?,
                None => default.ip,
            },
            ip_forward: settings.ip_forward.unwrap_or(true),
            ip_masq: settings.ip_masq.unwrap_or(true),
            iptables: settings.iptables.unwrap_or(true),
            ipv6: settings.ipv6.unwrap_or(false),
            labels: settings.labels.unwrap_or_default(),
            log_driver: settings.log_driver.unwrap_or(default.log_driver),
            log_level: settings.log_level.unwrap_or(default.log_level),
            log_opts: settings.log_opts.unwrap_or_default(),
            max_concurrent_downloads: positive(
                "max concurrent downloads",
                settings.max_concurrent_downloads,
                default.max_concurrent_downloads,
            )?,
            max_concurrent_uploads: positive(
                "max concurrent uploads",
                settings.max_concurrent_uploads,
                default.max_concurrent_uploads,
            )?,
            max_download_attempts: positive(
                "max download attempts",
                settings.max_download_attempts,
                default.max_download_attempts,
            )?,
            mtu: match settings.mtu {
                Some(mtu) => u32::try_from(mtu)
                    .ok()
                    .filter(|mtu| *mtu <= 65535)
                    .ok_or_else(|| Error::invalid(format!("invalid default MTU: {mtu}")))?,
                None => 0,
            },
            no_new_privileges: settings.no_new_privileges.unwrap_or(false),
            selinux_enabled: settings.selinux_enabled.unwrap_or(false),
            pidfile: settings.pidfile.unwrap_or_default(),
            registry_mirrors: settings.registry_mirrors.unwrap_or_default(),
            runtimes: runtimes::resolve(settings.runtimes.unwrap_or_default())?,
            seccomp_profile: settings.seccomp_profile.unwrap_or_default(),
            shutdown_timeout: settings
                .shutdown_timeout
                .unwrap_or(default.shutdown_timeout),
            storage_driver: settings.storage_driver.unwrap_or_default(),
            systemd_cgroup: systemd_cgroup(&settings.exec_opts.unwrap_or_default())?,
            tls: settings.tls.unwrap_or(false),
            tlscacert: settings.tlscacert.unwrap_or_default(),
            tlscert: settings.tlscert.unwrap_or_default(),
            tlskey: settings.tlskey.unwrap_or_default(),
            tlsverify: settings.tlsverify.unwrap_or(false),
            userland_proxy: settings.userland_proxy.unwrap_or(true),
            userns_remap: settings.userns_remap.unwrap_or_default(),
        };
        if settings.live_restore == Some(false) {
            return Err(Error::not_implemented(
                "live-restore: containers always go on without the daemon; it cannot be switched off",
            ));
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        check_labels(&self.labels)?;
        one_of(
            &self.log_level,
            &["debug", "info", "warn", "error", "fatal"],
            "invalid logging level",
        )?;
        one_of(
            &self.default_ipc_mode,
            &["private", "shareable"],
            "IPC mode is not supported as default value",
        )?;
        one_of(
            &self.default_cgroupns_mode,
            &["", "private", "host"],
            "default cgroup namespace mode is invalid",
        )?;
        if !self.knows_runtime(&self.default_runtime) {
            return Err(Error::invalid(format!(
                "specified default runtime '{}' does not exist",
                self.default_runtime
            )));
        }
        one_of(
            &self.storage_driver,
            &["", "overlay2", "overlay", "overlayfs"],
            "storage driver is not supported by this version of Wharf",
        )?;
        one_of(
            &self.log_driver,
            &["json-file", "local", "none"],
            "log driver is not supported by this version of Wharf",
        )?;
        crate::container::cgroups::check_parent(&self.cgroup_parent, self.systemd_cgroup)?;
        if self.bridge == "none" {
            return Err(Error::not_implemented(
                "bridge: a daemon without the default bridge network is not supported by this version of Wharf",
            ));
        }
        if !self.iptables {
            return Err(Error::not_implemented(
                "iptables: leaving the firewall alone is not supported by this version of Wharf",
            ));
        }
        check_features(&self.features)?;
        if !self.bip.is_empty() {
            prefix("bip", &self.bip)?;
        }
        if !self.bip.is_empty() && !self.bridge.is_empty() {
            return Err(Error::invalid(
                "You specified -b & --bip, mutually exclusive options. Please specify only one",
            ));
        }
        if !self.fixed_cidr.is_empty() {
            prefix("fixed-cidr", &self.fixed_cidr)?;
        }
        for pool in &self.default_address_pools {
            check_pool(pool)?;
        }
        for mirror in &self.registry_mirrors {
            check_mirror(mirror)?;
        }
        for (name, limit) in &self.default_ulimits {
            if limit.soft > limit.hard && limit.hard != -1 {
                return Err(Error::invalid(format!(
                    "ulimit soft limit must be less than or equal to hard limit: {name}: {} > {}",
                    limit.soft, limit.hard
                )));
            }
        }
        if self.tlsverify && self.tlscacert.as_os_str().is_empty() {
            return Err(Error::invalid(
                "tlsverify needs the authorities of client certificates: tlscacert",
            ));
        }
        if (self.tls || self.tlsverify)
            && (self.tlscert.as_os_str().is_empty() || self.tlskey.as_os_str().is_empty())
        {
            return Err(Error::invalid(
                "tls needs a certificate and its key: tlscert, tlskey",
            ));
        }
        Ok(())
    }

    /// What a new version of the file changes in a daemon that runs.
    pub fn reload(&self, new: Self) -> Reload {
        let mut config = self.clone();
        let mut changed = Vec::new();
        macro_rules! take {
            ($($key:literal $field:ident;)*) => {$(
                if config.$field != new.$field {
                    config.$field = new.$field.clone();
                    changed.push($key);
                }
            )*};
        }
        take! {
            "debug" debug;
            "default-runtime" default_runtime;
            "features" features;
            "insecure-registries" insecure_registries;
            "labels" labels;
            "log-level" log_level;
            "max-concurrent-downloads" max_concurrent_downloads;
            "max-concurrent-uploads" max_concurrent_uploads;
            "max-download-attempts" max_download_attempts;
            "registry-mirrors" registry_mirrors;
            "runtimes" runtimes;
            "shutdown-timeout" shutdown_timeout;
        }
        let mut ignored = Vec::new();
        macro_rules! differ {
            ($($key:literal $field:ident;)*) => {$(
                if config.$field != new.$field {
                    ignored.push($key);
                }
            )*};
        }
        differ! {
            "allow-insecure-tcp" allow_insecure_tcp;
            "bip" bip;
            "bridge" bridge;
            "cgroup-parent" cgroup_parent;
            "data-root" data_root;
            "default-address-pools" default_address_pools;
            "default-cgroupns-mode" default_cgroupns_mode;
            "default-ipc-mode" default_ipc_mode;
            "default-shm-size" default_shm_size;
            "default-ulimits" default_ulimits;
            "dns" dns;
            "dns-opts" dns_opts;
            "dns-search" dns_search;
            "exec-root" exec_root;
            "experimental" experimental;
            "fixed-cidr" fixed_cidr;
            "group" group;
            "hosts" hosts;
            "icc" icc;
            "init" init;
            "ip" ip;
            "ip-forward" ip_forward;
            "ip-masq" ip_masq;
            "iptables" iptables;
            "ipv6" ipv6;
            "log-driver" log_driver;
            "log-opts" log_opts;
            "mtu" mtu;
            "no-new-privileges" no_new_privileges;
            "selinux-enabled" selinux_enabled;
            "pidfile" pidfile;
            "seccomp-profile" seccomp_profile;
            "storage-driver" storage_driver;
            "tls" tls;
            "tlscacert" tlscacert;
            "tlscert" tlscert;
            "tlskey" tlskey;
            "tlsverify" tlsverify;
            "userland-proxy" userland_proxy;
            "userns-remap" userns_remap;
        }
        Reload {
            config,
            changed,
            ignored,
        }
    }
}

fn absolute(key: &str, path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|error| Error::invalid(format!("invalid {key}: {error}")))
}

fn positive(what: &str, given: Option<i64>, default: usize) -> Result<usize> {
    match given {
        None => Ok(default),
        Some(number) => usize::try_from(number)
            .ok()
            .filter(|number| (1..=1000).contains(number))
            .ok_or_else(|| Error::invalid(format!("invalid {what}: {number}"))),
    }
}

fn shm_size(given: Option<Value>, default: i64) -> Result<i64> {
    let parsed = match &given {
        None => Some(default),
        Some(Value::Number(number)) => number.as_i64(),
        Some(Value::String(text)) => parse_bytes(text),
        Some(_) => None,
    };
    parsed.filter(|bytes| *bytes > 0).ok_or_else(|| {
        Error::invalid(format!(
            "invalid value for default-shm-size: {}",
            given.unwrap_or_default()
        ))
    })
}

fn addresses(list: Vec<String>) -> Result<Vec<IpAddr>> {
    list.iter().map(|text| address("dns", text)).collect()
}

fn address(key: &str, text: &str) -> Result<IpAddr> {
    text.trim()
        .parse()
        .map_err(|_| Error::invalid(format!("{key}: {text} is not an ip address")))
}

/// Splits `10.1.0.1/16`.
fn prefix(key: &str, text: &str) -> Result<(IpAddr, u8)> {
    let wrong = || Error::invalid(format!("{key}: invalid CIDR address: {text}"));
    let (ip, length) = text.split_once('/').ok_or_else(wrong)?;
    let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
    let length: u8 = length.parse().map_err(|_| wrong())?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    if length > max {
        Err(wrong())
    } else {
        Ok((ip, length))
    }
}

fn check_pool(pool: &Pool) -> Result<()> {
    let (ip, length) = prefix("default-address-pools", &pool.base)?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    if pool.size < length || pool.size > max {
        return Err(Error::invalid(format!(
            "default-address-pools: invalid pools size {} for {}: it must be between {length} and {max}",
            pool.size, pool.base
        )));
    }
    Ok(())
}

fn check_labels(labels: &[String]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for label in labels {
        let Some((key, value)) = label.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Error::invalid(format!(
                "invalid label '{label}': bad attribute format: {label}"
            )));
        };
        if seen
            .insert(key, value)
            .is_some_and(|before| before != value)
        {
            return Err(Error::invalid(format!("conflict labels for {key}")));
        }
    }
    Ok(())
}

fn check_mirror(mirror: &str) -> Result<()> {
    let host = mirror
        .strip_prefix("https://")
        .or_else(|| mirror.strip_prefix("http://"));
    let host = match host {
        Some(host) => host,
        None if !mirror.contains("://") => mirror,
        None => {
            return Err(Error::invalid(format!(
                "invalid mirror: unsupported scheme in {mirror:?}: must use either 'https://' or 'http://'"
            )));
        }
    };
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains(['?', '#', '@', ' ']) {
        return Err(Error::invalid(format!(
            "invalid mirror: {mirror:?} is not the address of a registry"
        )));
    }
    Ok(())
}

/// Switches nobody knows may be off; one that is on promises something.
fn check_features(features: &BTreeMap<String, bool>) -> Result<()> {
    for (name, on) in features {
        let fits = match name.as_str() {
            // Says which builder clients should choose; see the `Builder-Version` header.
            "buildkit" => true,
            // The image store is of that kind, always.
            "containerd-snapshotter" => *on,
            _ => !on,
        };
        if !fits {
            return Err(Error::not_implemented(format!(
                "features: {name}={on} is not supported by this version of Wharf"
            )));
        }
    }
    Ok(())
}

/// Whether the options say that systemd makes the cgroups.
fn systemd_cgroup(options: &[String]) -> Result<bool> {
    let mut systemd = false;
    for option in options {
        systemd = match option.split_once('=') {
            Some(("native.cgroupdriver", "cgroupfs")) => false,
            Some(("native.cgroupdriver", "systemd")) => true,
            Some(("native.cgroupdriver", driver)) => {
                return Err(Error::invalid(format!(
                    "native.cgroupdriver option {driver} not supported"
                )));
            }
            _ => {
                return Err(Error::invalid(format!(
                    "option {option:?} not supported by exec-opts"
                )));
            }
        };
    }
    Ok(systemd)
}

fn one_of(value: &str, known: &[&str], what: &str) -> Result<()> {
    if known.contains(&value) {
        Ok(())
    } else {
        Err(Error::invalid(format!("{what}: {value}")))
    }
}
