//! The pieces Docker puts into every container's document unless told otherwise.
//!
//! All of it is data: the engine's planner starts from these values and changes them.

use crate::runtime::{
    Capabilities, DeviceRule, Linux, Mount, Namespace, NamespaceKind, Process, Spec, VERSION,
};

/// The capabilities a container has (bounding, permitted and effective; none is inheritable).
pub const CAPABILITIES: [&str; 14] = [
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

/// Paths hidden from a container. The engine adds every existing
/// `/sys/devices/system/cpu/cpuN/thermal_throttle`.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths a container can only read.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// `PATH` when neither image nor user sets it.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The capability sets of a container that has just the given capabilities.
pub fn capabilities<S: AsRef<str>>(names: &[S]) -> Capabilities {
    let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
    Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..Capabilities::default()
    }
}

/// The file systems every container has, in the order they are mounted. `/dev/shm` is the
/// 64 MiB one of Docker's default; `/sys/fs/cgroup` is read-only.
pub fn mounts() -> Vec<Mount> {
    [
        ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"][..]),
        (
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        (
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        (
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["ro", "nosuid", "noexec", "nodev"],
        ),
        (
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        (
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"],
        ),
    ]
    .into_iter()
    .map(|(destination, kind, source, options)| Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    })
    .collect()
}

/// The device rules every container starts with: everything denied, then the harmless character
/// devices. The runtime adds making nodes, pseudo-terminals and the other default devices, as
/// every OCI runtime does.
pub fn device_rules() -> Vec<DeviceRule> {
    let rule = |allow, kind: Option<&str>, major, minor, access: &str| DeviceRule {
        allow,
        kind: kind.map(str::to_owned),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    vec![
        rule(false, None, None, None, "rwm"),
        rule(true, Some("c"), Some(1), Some(5), "rwm"),
        rule(true, Some("c"), Some(1), Some(3), "rwm"),
        rule(true, Some("c"), Some(1), Some(9), "rwm"),
        rule(true, Some("c"), Some(1), Some(8), "rwm"),
        rule(true, Some("c"), Some(5), Some(0), "rwm"),
        rule(true, Some("c"), Some(5), Some(1), "rwm"),
        rule(false, Some("c"), Some(10), Some(229), "rwm"),
    ]
}

/// The namespaces a container gets of its own. `cgroup` is added on cgroup v2 only.
pub const NAMESPACES: [NamespaceKind; 5] = [
    NamespaceKind::Mount,
    NamespaceKind::Network,
    NamespaceKind::Uts,
    NamespaceKind::Pid,
    NamespaceKind::Ipc,
];

/// A document with all of the above, to be completed with arguments, environment and cgroup.
pub fn spec() -> Spec {
    Spec {
        oci_version: VERSION.to_owned(),
        process: Some(Process {
            cwd: "/".to_owned(),
            env: vec![PATH.to_owned()],
            capabilities: Some(capabilities(&CAPABILITIES)),
            ..Process::default()
        }),
        mounts: mounts(),
        linux: Some(Linux {
            namespaces: NAMESPACES
                .into_iter()
                .map(|kind| Namespace { kind, path: None })
                .collect(),
            masked_paths: MASKED_PATHS.iter().map(|path| (*path).to_owned()).collect(),
            readonly_paths: READONLY_PATHS
                .iter()
                .map(|path| (*path).to_owned())
                .collect(),
            resources: Some(crate::runtime::Resources {
                devices: device_rules(),
                ..Default::default()
            }),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_document_survives_a_round_trip() {
        let spec = spec();
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
        assert!(
            !text.contains("null"),
            "absent values are not written: {text}"
        );
    }
}
