//! `--device` and `--device-cgroup-rule`: host device nodes in the container.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use wharf_api_types::container::DeviceMapping;
use wharf_fault::{Error, Result};
use wharf_oci::runtime::{Device, DeviceRule};

/// Most nodes one `--device` directory may bring.
const NODES_MAX: usize = 4096;

/// Nodes and access rules of a container's devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Devices {
    /// Nodes to make.
    pub nodes: Vec<Device>,
    /// Nodes of the host to be shown under another path, where none can be made.
    pub binds: Vec<(PathBuf, String)>,
    /// Accesses to allow.
    pub rules: Vec<DeviceRule>,
}

/// Parses `c 42:* rmw`.
pub(super) fn parse_rule(text: &str) -> Result<DeviceRule> {
    let invalid = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let parts: Vec<&str> = text.split(' ').collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = parts[..] else {
        return Err(invalid());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => digits
            .parse::<u32>()
            .map(|n| Some(i64::from(n)))
            .map_err(|_| invalid()),
        _ => Err(invalid()),
    };
    if access.is_empty() || access.len() > 3 || !access.chars().all(|letter| "rwm".contains(letter))
    {
        return Err(invalid());
    }
    Ok(DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major: number(major)?,
        minor: number(minor)?,
        access: Some(access.to_owned()),
    })
}

/// Looks up the host's nodes for `mappings`.
pub(super) fn gather(mappings: &[DeviceMapping]) -> Result<Devices> {
    let mut devices = Devices::default();
    for mapping in mappings {
        let inside = if mapping.path_in_container.is_empty() {
            &mapping.path_on_host
        } else {
            &mapping.path_in_container
        };
        let access = if mapping.cgroup_permissions.is_empty() {
            "rwm"
        } else {
            &mapping.cgroup_permissions
        };
        let failed = |why: String| {
            Error::invalid(format!(
                "error gathering device information while adding custom device \"{}\": {why}",
                mapping.path_on_host
            ))
        };
        let path = std::fs::canonicalize(&mapping.path_on_host).map_err(|e| failed(plain(&e)))?;
        if path.is_dir() {
            walk(&path, inside, access, &mut devices).map_err(failed)?;
            if devices.nodes.is_empty() && devices.binds.is_empty() {
                return Err(failed("not a device node".to_owned()));
            }
        } else {
            let node = node(&path, inside).map_err(|e| failed(plain(&e)))?;
            let node = node.ok_or_else(|| failed("not a device node".to_owned()))?;
            devices.add(&path, node, access);
        }
    }
    Ok(devices)
}

/// Every device of the host, for privileged containers.
pub(super) fn all_of_host() -> Devices {
    let mut devices = Devices::default();
    // What can not be read is not given.
    drop(walk(Path::new("/dev"), "/dev", "rwm", &mut devices));
    // The container has terminals and shared memory of its own.
    devices
        .nodes
        .retain(|node| node.path != "/dev/console" && node.path != "/dev/ptmx");
    devices.rules = vec![DeviceRule {
        allow: true,
        access: Some("rwm".to_owned()),
        ..DeviceRule::default()
    }];
    devices
}

impl Devices {
    fn add(&mut self, source: &Path, node: Device, access: &str) {
        self.rules.push(DeviceRule {
            allow: true,
            kind: Some(node.kind.clone()),
            major: node.major,
            minor: node.minor,
            access: Some(access.to_owned()),
        });
        // The runtime shows the host's node of the same path where it can make none.
        if source != Path::new(&node.path) && !wharf_sys::namespace::is_initial_user() {
            self.binds.push((source.to_owned(), node.path));
        } else {
            self.nodes.push(node);
        }
    }
}

fn walk(
    dir: &Path,
    inside: &str,
    access: &str,
    devices: &mut Devices,
) -> std::result::Result<(), String> {
    let entries = std::fs::read_dir(dir).map_err(|e| plain(&e))?;
    for entry in entries.flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let inside = format!("{inside}/{name}");
        if kind.is_dir() {
            if !matches!(
                name.as_str(),
                "pts" | "shm" | "fd" | "mqueue" | ".lxc" | ".lxd-mounts" | ".udev"
            ) {
                walk(&entry.path(), &inside, access, devices)?;
            }
        } else if let Ok(Some(node)) = node(&entry.path(), &inside) {
            devices.add(&entry.path(), node, access);
        }
        if devices.nodes.len() + devices.binds.len() > NODES_MAX {
            return Err(format!("more than {NODES_MAX} device nodes"));
        }
    }
    Ok(())
}

fn node(path: &Path, inside: &str) -> std::io::Result<Option<Device>> {
    let metadata = std::fs::symlink_metadata(path)?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Ok(None),
    };
    let number = metadata.rdev();
    // In a user namespace the host's node itself is used: its owner is what it is.
    let owned = wharf_sys::namespace::is_initial_user();
    Ok(Some(Device {
        path: inside.to_owned(),
        kind: kind.to_owned(),
        major: Some(i64::from(rustix::fs::major(number))),
        minor: Some(i64::from(rustix::fs::minor(number))),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: owned.then(|| metadata.uid()),
        gid: owned.then(|| metadata.gid()),
    }))
}

/// An operating system error without Rust's `(os error N)`, in lower case as Docker prints it.
pub(super) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}

/// Major and minor number of a block device, for rate limits.
pub(super) fn block_device(path: &str) -> Result<(i64, i64)> {
    let metadata =
        std::fs::metadata(path).map_err(|e| Error::invalid(format!("{path}: {}", plain(&e))))?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::invalid(format!("{path}: not a block device")));
    }
    Ok((
        i64::from(rustix::fs::major(metadata.rdev())),
        i64::from(rustix::fs::minor(metadata.rdev())),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_are_checked() {
        let rule = parse_rule("c 42:* rmw").unwrap();
        assert_eq!(
            (rule.major, rule.minor, rule.access.as_deref()),
            (Some(42), None, Some("rmw"))
        );
        for bad in [
            "", "x 1:1 r", "c 1 r", "c 1:1 q", "c 1:1", "c a:1 r", "c 1:1  r",
        ] {
            assert_eq!(
                parse_rule(bad).unwrap_err().to_string(),
                format!("invalid device cgroup rule format: '{bad}'")
            );
        }
    }

    #[test]
    fn host_nodes_are_found() {
        let mapping = |path: &str| DeviceMapping {
            path_on_host: path.into(),
            ..DeviceMapping::default()
        };
        let devices = gather(&[mapping("/dev/null")]).unwrap();
        assert_eq!(
            (devices.nodes[0].major, devices.nodes[0].minor),
            (Some(1), Some(3))
        );
        assert!(
            gather(&[mapping("/dev/no-such-device")])
                .unwrap_err()
                .to_string()
                .contains("no such file or directory")
        );
        assert!(
            gather(&[mapping("/etc/passwd")])
                .unwrap_err()
                .to_string()
                .contains("not a device node")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_or_an_error(text in ".*", rule in "[abc] [0-9*]{1,4}:[0-9*]{1,4} [rwm]{1,3}") {
            drop(parse_rule(&text));
            drop(parse_rule(&rule));
        }
    }
}
