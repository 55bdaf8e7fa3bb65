//! Capabilities and `--security-opt`.

use wharf_api_types::container::HostConfig;
use wharf_fault::{Error, Result};
use wharf_oci::defaults;
use wharf_sys::capability::{Capabilities, bounding};

use super::selinux::LabelOptions;

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
    Capabilities::named(&full).map(|_| full)
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
            defaults::CAPABILITIES
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

/// What this process may give: its bounding set.
pub(super) fn available() -> Vec<&'static str> {
    bounding().names().collect()
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
        let all = Capabilities::ALL.names().collect::<Vec<_>>();
        assert_eq!(all.len(), 41);
        let mut defaults = defaults::CAPABILITIES.iter();
        assert!(defaults.all(|name| Capabilities::named(name).is_some()));
        assert_eq!(capabilities(&host(&[], &[]), &all), defaults::CAPABILITIES);
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
