//! Capabilities and `--security-opt`.

use wharf_api_types::container::HostConfig;
use wharf_fault::{Error, Result};

use super::selinux::LabelOptions;

/// All capabilities in the order of their numbers (`linux/capability.h`).
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has unless told otherwise, in Docker's order.
pub(super) const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Which system calls a container may make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum SeccompChoice {
    /// The daemon's default profile.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// A profile given as JSON.
    Profile(String),
}

/// What `--security-opt` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SecurityOptions {
    /// Set-user-id programs gain nothing.
    pub no_new_privileges: Option<bool>,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// AppArmor profile; empty for the default.
    pub apparmor: String,
    /// SELinux labels.
    pub labels: LabelOptions,
    /// `/sys/fs/cgroup` is writable.
    pub writable_cgroups: bool,
}

/// Parses `HostConfig.SecurityOpt`.
pub(super) fn parse(host: &HostConfig) -> Result<SecurityOptions> {
    let mut options = SecurityOptions::default();
    for text in host.security_opt.iter().flatten() {
        if text == "no-new-privileges" {
            options.no_new_privileges = Some(true);
            continue;
        }
        let Some((key, value)) = text.split_once('=').or_else(|| text.split_once(':')) else {
            return Err(Error::invalid(format!(
                "invalid --security-opt 1: \"{text}\""
            )));
        };
        let flag = || match value {
            "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
            "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
            _ => Err(Error::invalid(format!(
                "invalid --security-opt 2: \"{text}\""
            ))),
        };
        match key {
            "no-new-privileges" => options.no_new_privileges = Some(flag()?),
            "writable-cgroups" => options.writable_cgroups = flag()?,
            "seccomp" => {
                options.seccomp = match value {
                    "unconfined" => SeccompChoice::Unconfined,
                    "" | "builtin" => SeccompChoice::Default,
                    json => SeccompChoice::Profile(json.to_owned()),
                }
            }
            "apparmor" => options.apparmor = value.to_owned(),
            "label" => options.labels.add(value)?,
            _ => {
                return Err(Error::invalid(format!(
                    "invalid --security-opt 2: \"{text}\""
                )));
            }
        }
    }
    Ok(options)
}

/// `net_admin` → `CAP_NET_ADMIN`; `None` for an unknown name.
fn normalize(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" {
        return Some(upper);
    }
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    CAPABILITIES.contains(&full.as_str()).then_some(full)
}

/// Checks the names of `--cap-add` and `--cap-drop` and gives them their full form, sorted.
pub(super) fn normalize_capabilities(host: &mut HostConfig) -> Result<()> {
    for (list, what) in [
        (&mut host.cap_add, "CapAdd"),
        (&mut host.cap_drop, "CapDrop"),
    ] {
        let Some(names) = list else { continue };
        for name in names.iter_mut() {
            *name = normalize(name).ok_or_else(|| {
                Error::invalid(format!(
                    "invalid {what}: unknown capability: \"CAP_{}\"",
                    name.to_uppercase().trim_start_matches("CAP_")
                ))
            })?;
        }
        names.sort();
        names.dedup();
    }
    Ok(())
}

/// The capabilities of a container's processes. `available` is what the daemon itself may give.
pub(super) fn capabilities(host: &HostConfig, available: &[&'static str]) -> Vec<String> {
    let has =
        |list: &Option<Vec<String>>, name: &str| list.iter().flatten().any(|given| given == name);
    let owned = |names: Vec<&'static str>| names.into_iter().map(str::to_owned).collect();
    if host.privileged {
        return owned(available.to_vec());
    }
    if has(&host.cap_add, "ALL") {
        return owned(
            available
                .iter()
                .copied()
                .filter(|name| !has(&host.cap_drop, name))
                .collect(),
        );
    }
    let mut set: Vec<String> = Vec::new();
    if !has(&host.cap_drop, "ALL") {
        set.extend(
            DEFAULT_CAPABILITIES
                .iter()
                .filter(|name| !has(&host.cap_drop, name))
                .map(|name| (*name).to_owned()),
        );
    }
    for name in host.cap_add.iter().flatten() {
        if !set.contains(name) && (has(&host.cap_drop, "ALL") || !has(&host.cap_drop, name)) {
            set.push(name.clone());
        }
    }
    set
}

/// The names of the capabilities in a `CapBnd` bit mask.
pub(super) fn from_mask(mask: u64) -> Vec<&'static str> {
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask >> bit & 1 == 1)
        .map(|(_, name)| *name)
        .collect()
}

/// What this process may give: its bounding set.
pub(super) fn available() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    from_mask(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(add: &[&str], drop: &[&str]) -> HostConfig {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let mut host = HostConfig {
            cap_add: list(add),
            cap_drop: list(drop),
            ..HostConfig::default()
        };
        normalize_capabilities(&mut host).unwrap();
        host
    }

    #[test]
    fn capabilities_follow_docker() {
        let all = from_mask(u64::MAX);
        assert_eq!(all.len(), 41);
        assert_eq!(capabilities(&host(&[], &[]), &all), DEFAULT_CAPABILITIES);
        assert_eq!(
            capabilities(&host(&["net_admin"], &["ALL"]), &all),
            ["CAP_NET_ADMIN"]
        );
        assert_eq!(
            capabilities(&host(&["ALL"], &["CAP_SYS_ADMIN"]), &all).len(),
            40
        );
        assert!(!capabilities(&host(&[], &["chown"]), &all).contains(&"CAP_CHOWN".to_owned()));
        assert_eq!(
            capabilities(
                &HostConfig {
                    privileged: true,
                    ..HostConfig::default()
                },
                &all
            )
            .len(),
            41
        );
    }

    #[test]
    fn unknown_names_are_refused() {
        let mut bad = HostConfig {
            cap_add: Some(vec!["nope".into()]),
            ..HostConfig::default()
        };
        let error = normalize_capabilities(&mut bad).unwrap_err().to_string();
        assert_eq!(error, "invalid CapAdd: unknown capability: \"CAP_NOPE\"");
        let with = |text: &str| HostConfig {
            security_opt: Some(vec![text.into()]),
            ..HostConfig::default()
        };
        assert_eq!(
            parse(&with("what")).unwrap_err().to_string(),
            "invalid --security-opt 1: \"what\""
        );
        assert_eq!(
            parse(&with("a=b")).unwrap_err().to_string(),
            "invalid --security-opt 2: \"a=b\""
        );
        assert_eq!(
            parse(&with("seccomp=unconfined")).unwrap().seccomp,
            SeccompChoice::Unconfined
        );
        assert_eq!(
            parse(&with("no-new-privileges:true"))
                .unwrap()
                .no_new_privileges,
            Some(true)
        );
    }
}
