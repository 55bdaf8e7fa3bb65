//! Kernel parameters of the container's own namespaces.

use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use wharf_oci::runtime::NamespaceKind;
use wharf_sys::rootfs::Rootfs;

use crate::error::{Stage, StartError};

/// A parameter to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedSysctl {
    name: String,
    /// The namespace it belongs to.
    pub(crate) namespace: NamespaceKind,
    /// Below `/proc`.
    path: PathBuf,
    value: String,
}

/// Understands `name = value` pairs. Only parameters that belong to a namespace the container has
/// for itself may be set: the others are the host's.
pub(crate) fn plan<'a>(
    parameters: impl IntoIterator<Item = (&'a String, &'a String)>,
    own: &[NamespaceKind],
) -> Result<Vec<PlannedSysctl>, StartError> {
    parameters
        .into_iter()
        .map(|(name, value)| plan_one(name, value, own))
        .collect()
}

fn plan_one(name: &str, value: &str, own: &[NamespaceKind]) -> Result<PlannedSysctl, StartError> {
    let refuse = |what: &str| StartError::refused(Stage::Config, format!("sysctl {name:?} {what}"));
    let parts = parts(name);
    if parts
        .iter()
        .any(|part| part.is_empty() || part == "." || part == ".." || part.contains(['/', '\0']))
    {
        return Err(refuse("is not a valid name"));
    }
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    let namespace = match words.as_slice() {
        ["net", ..] => NamespaceKind::Network,
        ["fs", "mqueue", ..] => NamespaceKind::Ipc,
        ["kernel", parameter] if is_ipc(parameter) => NamespaceKind::Ipc,
        ["kernel", "domainname" | "hostname"] => NamespaceKind::Uts,
        _ => return Err(refuse("is not in a separate kernel namespace")),
    };
    if !own.contains(&namespace) {
        return Err(refuse("is not allowed in the host's namespace"));
    }
    let path = Path::new("sys").join(parts.iter().collect::<PathBuf>());
    Ok(PlannedSysctl {
        name: name.to_owned(),
        namespace,
        path,
        value: value.to_owned(),
    })
}

fn is_ipc(parameter: &str) -> bool {
    matches!(
        parameter,
        "msgmax" | "msgmnb" | "msgmni" | "sem" | "shmall" | "shmmax" | "shmmni" | "shm_rmid_forced"
    )
}

/// The path components of a name. `sysctl.d(5)`: where the first separator is a slash, slashes
/// separate and dots belong to names (`net/ipv4/conf/eth0.1/…`); otherwise it is the other way
/// round.
fn parts(name: &str) -> Vec<String> {
    match name.find(['.', '/']) {
        Some(first) if name.as_bytes()[first] == b'.' => {
            name.split('.').map(|part| part.replace('/', ".")).collect()
        }
        _ => name.split('/').map(str::to_owned).collect(),
    }
}

/// Sets the parameters through `proc`, the top of a procfs of ours. Nothing mounted inside and no
/// link can turn a write into one to another file (CVE-2019-19921, CVE-2025-52881).
pub(crate) fn apply(proc: &Rootfs, parameters: &[PlannedSysctl]) -> Result<(), StartError> {
    for parameter in parameters {
        let failed = |errno| StartError::new(Stage::Sysctl, errno, parameter.name.as_str());
        let file = proc
            .open_in_mount(&parameter.path, OFlags::WRONLY)
            .map_err(failed)?;
        rustix::io::write(file, parameter.value.as_bytes()).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [NamespaceKind; 3] = [
        NamespaceKind::Network,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
    ];

    #[test]
    fn names_become_paths() {
        let path = |name: &str| plan_one(name, "1", &OWN).unwrap().path;
        assert_eq!(
            path("net.ipv4.ip_forward"),
            Path::new("sys/net/ipv4/ip_forward")
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.1/forwarding"),
            Path::new("sys/net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(
            path("net.ipv4.conf.eth0/1.forwarding"),
            Path::new("sys/net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(
            path("kernel.shm_rmid_forced"),
            Path::new("sys/kernel/shm_rmid_forced")
        );
    }

    #[test]
    fn the_hosts_parameters_are_refused() {
        for name in [
            "kernel.panic",
            "vm.swappiness",
            "net/../kernel/panic",
            "net..x",
            "",
            "kernel.sem.x",
        ] {
            assert!(plan_one(name, "1", &OWN).is_err(), "{name}");
        }
        assert!(plan_one("net.core.somaxconn", "1", &[NamespaceKind::Ipc]).is_err());
    }
}
