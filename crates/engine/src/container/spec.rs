//! From a container's record to the OCI document its shim runs. Pure: what only the host knows
//! comes in [`Facts`].
//!
//! The defaults are Docker's (`daemon/pkg/oci/defaults.go`), so programs find the same file
//! systems, limits and hidden paths as there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wharf_api_types::container::HostConfig;
use wharf_oci::defaults;
use wharf_oci::runtime::{
    BlockIo, Capabilities, ConsoleSize, Cpu, DeviceRule, IdMapping, Linux, Memory, Mount,
    Namespace, NamespaceKind, Pids, Process, Resources, Rlimit, Root, Spec, ThrottleDevice,
    WeightDevice,
};

use super::apparmor;
use super::devices::Devices;
use super::host::RootlessFacts;
use super::mounts::{MountSource, ReadOnlyReach, tmpfs_options};
use super::record::ContainerRecord;
use super::security::SecurityOptions;
use crate::user_namespaces::{IdMap, IdMaps};
use crate::volumes::VolumeSource;

/// `/dev/shm` unless told otherwise, bytes.
pub(super) const SHM_SIZE_DEFAULT: i64 = 64 * 1024 * 1024;

const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The default hidden paths on a host with `cpu_count` processors of which those with a thermal
/// throttle directory leak the host's load.
pub(super) fn masked_paths(throttle_dirs: &[String]) -> Vec<String> {
    defaults::MASKED_PATHS
        .iter()
        .map(|path| (*path).to_owned())
        .chain(throttle_dirs.iter().cloned())
        .collect()
}

/// The default read-only paths.
pub(super) fn readonly_paths() -> Vec<String> {
    defaults::READONLY_PATHS
        .iter()
        .map(|path| (*path).to_owned())
        .collect()
}

/// What the record does not say.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// The container's cgroup, from the hierarchy's root; empty where it has none.
    pub cgroup_path: String,
    /// Where `hosts`, `hostname` and `resolv.conf` lie. Other containers' for `container:`.
    pub files_dir: PathBuf,
    /// What each volume mounts.
    pub volumes: BTreeMap<String, VolumeSource>,
    /// Devices beside the default ones.
    pub devices: Devices,
    /// Host path bound over `/dev/shm`; `None` for a tmpfs of the container's own.
    pub shm: Option<PathBuf>,
    /// Capabilities of the program.
    pub capabilities: Vec<String>,
    /// Security options.
    pub security: SecurityOptions,
    /// Whether AppArmor confines containers.
    pub apparmor: bool,
    /// `no-new-privileges` when the container does not say.
    pub no_new_privileges_default: bool,
    /// Resource limits of the daemon that the container does not override.
    pub default_ulimits: Vec<Rlimit>,
    /// Environment of legacy links.
    pub link_env: Vec<String>,
    /// Namespaces handed over as descriptors: listed without a path.
    pub joined: Vec<NamespaceKind>,
    /// Rate limits of block devices.
    pub throttle: Throttle,
    /// Mounts can be made read-only with everything below them.
    pub recursive_readonly: bool,
    /// The mapping of the container's user namespace, which is handed over as a descriptor.
    pub id_maps: Option<IdMaps>,
    /// Mappings of single mounts, by destination.
    pub mount_maps: BTreeMap<String, IdMaps>,
    /// The host has message queues at `/dev/mqueue`.
    pub host_mqueue: bool,
    /// We are root in a user namespace only.
    pub rootless: Option<RootlessFacts>,
}

/// Rate limits of block devices, numbers looked up.
#[derive(Debug, Clone, Default)]
pub(super) struct Throttle {
    /// Weights.
    pub weights: Vec<WeightDevice>,
    /// Bytes read per second.
    pub read_bps: Vec<ThrottleDevice>,
    /// Bytes written per second.
    pub write_bps: Vec<ThrottleDevice>,
    /// Reads per second.
    pub read_iops: Vec<ThrottleDevice>,
    /// Writes per second.
    pub write_iops: Vec<ThrottleDevice>,
}

/// The OCI document of a container.
pub(super) fn build(record: &ContainerRecord, facts: &Facts) -> Spec {
    let host = &record.host_config;
    let own_uts = host.uts_mode != "host";
    let own_network = has_own_network(host);
    Spec {
        oci_version: wharf_oci::runtime::VERSION.to_owned(),
        process: Some(process(record, facts)),
        root: Some(Root {
            path: PathBuf::new(),
            readonly: host.readonly_rootfs,
        }),
        hostname: (own_uts && !record.config.hostname.is_empty())
            .then(|| record.config.hostname.clone()),
        domainname: (own_uts && !record.config.domainname.is_empty())
            .then(|| record.config.domainname.clone()),
        mounts: mounts(record, facts),
        hooks: None,
        annotations: host.annotations.clone().unwrap_or_default(),
        linux: Some(Linux {
            uid_mappings: map_of(facts, |maps| &maps.uids),
            gid_mappings: map_of(facts, |maps| &maps.gids),
            sysctl: sysctls(host, own_network, facts),
            resources: Some(resources(host, facts)),
            cgroups_path: (!facts.cgroup_path.is_empty()).then(|| facts.cgroup_path.clone()),
            namespaces: namespaces(host, facts),
            devices: facts.devices.nodes.clone(),
            masked_paths: host.masked_paths.clone().unwrap_or_default(),
            readonly_paths: host.readonly_paths.clone().unwrap_or_default(),
            rootfs_propagation: rootfs_propagation(record),
            mount_label: Some(record.labels.mount.clone()).filter(|label| !label.is_empty()),
            ..Linux::default()
        }),
    }
}

fn map_of(facts: &Facts, half: impl Fn(&IdMaps) -> &IdMap) -> Vec<IdMapping> {
    facts
        .id_maps
        .as_ref()
        .map(|maps| half(maps).to_oci())
        .unwrap_or_default()
}

fn has_own_network(host: &HostConfig) -> bool {
    host.network_mode != "host" && !host.network_mode.starts_with("container:")
}

fn process(record: &ContainerRecord, facts: &Facts) -> Process {
    let host = &record.host_config;
    let set = facts.capabilities.clone();
    let mut args = vec![record.path.clone()];
    args.extend(record.args.iter().cloned());
    let [height, width] = host.console_size;
    Process {
        terminal: record.config.tty,
        console_size: (height > 0 && width > 0).then(|| ConsoleSize {
            height: u64::from(height),
            width: u64::from(width),
        }),
        args,
        env: environment(record, &facts.link_env),
        cwd: if record.config.working_dir.is_empty() {
            "/".to_owned()
        } else {
            record.config.working_dir.clone()
        },
        capabilities: Some(Capabilities {
            bounding: set.clone(),
            effective: set.clone(),
            permitted: set,
            ..Capabilities::default()
        }),
        rlimits: rlimits(host, &facts.default_ulimits),
        no_new_privileges: facts
            .security
            .no_new_privileges
            .unwrap_or(facts.no_new_privileges_default),
        apparmor_profile: apparmor::profile(
            facts.apparmor,
            host.privileged,
            &facts.security.apparmor,
        ),
        selinux_label: Some(record.labels.process.clone()).filter(|label| !label.is_empty()),
        oom_score_adj: {
            let wanted = i32::try_from(host.oom_score_adj).unwrap_or_default();
            Some(
                facts
                    .rootless
                    .map_or(wanted, |own| wanted.max(own.oom_score_adj)),
            )
        },
        ..Process::default()
    }
}

/// `PATH`, `HOSTNAME`, `TERM`, links, then what image and user say.
pub(super) fn environment(record: &ContainerRecord, links: &[String]) -> Vec<String> {
    let mut env = vec![
        PATH_DEFAULT.to_owned(),
        format!("HOSTNAME={}", record.config.hostname),
    ];
    if record.config.tty {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(links.iter().cloned());
    override_env(env, record.config.env.as_deref().unwrap_or_default())
}

/// Later values take the place of earlier ones; a name without a value removes it.
pub(super) fn override_env(mut env: Vec<String>, overrides: &[String]) -> Vec<String> {
    for variable in overrides {
        let name = variable.split('=').next().unwrap_or(variable);
        let position = env
            .iter()
            .position(|known| known.split('=').next() == Some(name));
        match (position, variable.contains('=')) {
            (Some(at), true) => env[at].clone_from(variable),
            (None, true) => env.push(variable.clone()),
            (Some(at), false) => drop(env.remove(at)),
            (None, false) => {}
        }
    }
    env
}

/// `nofile` → `RLIMIT_NOFILE`.
pub(super) fn rlimit_name(name: &str) -> Option<String> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    (NAMES.contains(&name) || name == "as").then(|| format!("RLIMIT_{}", name.to_ascii_uppercase()))
}

/// Resource limits: the container's own, and the defaults it does not name.
pub(super) fn rlimits(host: &HostConfig, defaults: &[Rlimit]) -> Vec<Rlimit> {
    let mut limits: Vec<Rlimit> = Vec::new();
    for ulimit in host.ulimits.iter().flatten() {
        let Some(kind) = rlimit_name(&ulimit.name) else {
            continue;
        };
        // -1 is unlimited, which the kernel spells with all bits set.
        let limit = Rlimit {
            kind,
            hard: ulimit.hard as u64,
            soft: ulimit.soft as u64,
        };
        limits.retain(|known| known.kind != limit.kind);
        limits.push(limit);
    }
    for default in defaults {
        if !limits.iter().any(|limit| limit.kind == default.kind) {
            limits.push(default.clone());
        }
    }
    limits
}

fn sysctls(host: &HostConfig, own_network: bool, facts: &Facts) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    if own_network {
        // Groups that are not mapped are none to the kernel.
        let last_group = match &facts.id_maps {
            None => Some(
                facts
                    .rootless
                    .map_or(i32::MAX.unsigned_abs(), |own| own.last_gid),
            ),
            Some(maps) => maps.gids.last_from_zero(),
        };
        if let Some(last) = last_group {
            sysctls.insert("net.ipv4.ping_group_range".to_owned(), format!("0 {last}"));
        }
        sysctls.insert(
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "0".to_owned(),
        );
    }
    sysctls.extend(
        host.sysctls
            .iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    sysctls
}

fn namespaces(host: &HostConfig, facts: &Facts) -> Vec<Namespace> {
    let mut list = vec![NamespaceKind::Mount];
    if host.network_mode != "host" {
        list.push(NamespaceKind::Network);
    }
    if host.uts_mode != "host" {
        list.push(NamespaceKind::Uts);
    }
    if host.pid_mode != "host" {
        list.push(NamespaceKind::Pid);
    }
    if host.ipc_mode != "host" {
        list.push(NamespaceKind::Ipc);
    }
    if host.cgroupns_mode == "private" {
        list.push(NamespaceKind::Cgroup);
    }
    if facts.id_maps.is_some() {
        list.push(NamespaceKind::User);
    }
    for kind in &facts.joined {
        if !list.contains(kind) {
            list.push(*kind);
        }
    }
    list.into_iter()
        .map(|kind| Namespace { kind, path: None })
        .collect()
}

fn resources(host: &HostConfig, facts: &Facts) -> Resources {
    let mut devices = Vec::new();
    if host.privileged {
        devices.push(DeviceRule {
            allow: true,
            access: Some("rwm".to_owned()),
            ..DeviceRule::default()
        });
    } else {
        devices.push(DeviceRule {
            allow: false,
            access: Some("rwm".to_owned()),
            ..DeviceRule::default()
        });
        for (major, minor) in [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)] {
            devices.push(character_device(true, major, minor));
        }
        devices.push(character_device(false, 10, 229));
        devices.extend(facts.devices.rules.iter().cloned());
        for rule in host.device_cgroup_rules.iter().flatten() {
            devices.extend(super::devices::parse_rule(rule));
        }
    }
    let block_io = BlockIo {
        weight: (host.blkio_weight > 0).then_some(host.blkio_weight),
        weight_device: facts.throttle.weights.clone(),
        throttle_read_bps_device: facts.throttle.read_bps.clone(),
        throttle_write_bps_device: facts.throttle.write_bps.clone(),
        throttle_read_iops_device: facts.throttle.read_iops.clone(),
        throttle_write_iops_device: facts.throttle.write_iops.clone(),
        ..BlockIo::default()
    };
    Resources {
        devices,
        memory: memory(host),
        cpu: cpu(host),
        pids: host
            .pids_limit
            .filter(|limit| *limit > 0)
            .map(|limit| Pids { limit: Some(limit) }),
        block_io: (block_io != BlockIo::default()).then_some(block_io),
        ..Resources::default()
    }
}

/// Processor limits, if there are any.
pub(super) fn cpu(host: &HostConfig) -> Option<Cpu> {
    let (period, quota) = if host.nano_cpus > 0 {
        const PERIOD_US: i64 = 100_000;
        // Billionths of a CPU into microseconds of CPU time per period.
        (
            PERIOD_US,
            (i128::from(host.nano_cpus) * i128::from(PERIOD_US) / 1_000_000_000) as i64,
        )
    } else {
        (host.cpu_period, host.cpu_quota)
    };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let cpu = Cpu {
        shares: positive(host.cpu_shares),
        quota: (quota != 0).then_some(quota),
        period: positive(period),
        realtime_period: positive(host.cpu_realtime_period),
        realtime_runtime: (host.cpu_realtime_runtime != 0).then_some(host.cpu_realtime_runtime),
        cpus: text(&host.cpuset_cpus),
        mems: text(&host.cpuset_mems),
        ..Cpu::default()
    };
    (cpu != Cpu::default()).then_some(cpu)
}

/// Memory limits, if there are any.
pub(super) fn memory(host: &HostConfig) -> Option<Memory> {
    let positive = |value: i64| (value > 0).then_some(value);
    let memory = Memory {
        limit: positive(host.memory),
        reservation: positive(host.memory_reservation),
        swap: (host.memory_swap != 0 && (host.memory > 0 || host.memory_swap > 0))
            .then_some(host.memory_swap),
        kernel_tcp: positive(host.kernel_memory_tcp),
        swappiness: host
            .memory_swappiness
            .and_then(|value| u64::try_from(value).ok()),
        disable_oom_killer: host.oom_kill_disable.filter(|disabled| *disabled),
        ..Memory::default()
    };
    (memory != Memory::default()).then_some(memory)
}

fn character_device(allow: bool, major: i64, minor: i64) -> DeviceRule {
    DeviceRule {
        allow,
        kind: Some("c".to_owned()),
        major: Some(major),
        minor: Some(minor),
        access: Some("rwm".to_owned()),
    }
}

/// Shared and slave binds need a root that passes mounts on.
fn rootfs_propagation(record: &ContainerRecord) -> Option<String> {
    let any = |words: [&str; 2]| {
        record
            .mounts
            .iter()
            .any(|mount| words.contains(&mount.propagation.as_str()))
    };
    if any(["shared", "rshared"]) {
        Some("shared".to_owned())
    } else if any(["slave", "rslave"]) {
        Some("slave".to_owned())
    } else {
        None
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn default_mounts(host: &HostConfig, facts: &Facts) -> Vec<Mount> {
    let writable_cgroup = host.privileged || facts.security.writable_cgroups;
    let cgroup_access = if writable_cgroup { "rw" } else { "ro" };
    let sys_access = if host.privileged { "rw" } else { "ro" };
    let mut pts_options = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    // Debian's group "tty", where there is one.
    if facts
        .id_maps
        .as_ref()
        .is_none_or(|maps| maps.gids.to_host(5).is_some())
    {
        pts_options.push("gid=5");
    }
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/dev/pts", "devpts", "devpts", &pts_options),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", sys_access],
        ),
        // The document says "cgroup" for both versions; the runtime looks at the host.
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &[cgroup_access, "nosuid", "noexec", "nodev"],
        ),
    ];
    let foreign = facts.id_maps.is_some() || facts.rootless.is_some();
    if !foreign || host.ipc_mode != "host" {
        mounts.push(mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ));
    } else if facts.host_mqueue {
        // The host's queues cannot be mounted by a root of another user namespace.
        mounts.push(bind("/dev/mqueue", Path::new("/dev/mqueue"), &["rprivate"]));
    }
    if facts.rootless.is_some() {
        show_the_hosts(&mut mounts, host);
    }
    match (&facts.shm, host.ipc_mode.as_str()) {
        (_, "none") => {}
        (Some(path), _) => mounts.push(bind("/dev/shm", path, &["rprivate"])),
        (None, _) => {
            let size = format!(
                "size={}",
                if host.shm_size > 0 {
                    host.shm_size
                } else {
                    SHM_SIZE_DEFAULT
                }
            );
            mounts.push(mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", &size],
            ));
        }
    }
    for (name, path) in [
        ("resolv.conf", "/etc/resolv.conf"),
        ("hostname", "/etc/hostname"),
        ("hosts", "/etc/hosts"),
    ] {
        mounts.push(bind(path, &facts.files_dir.join(name), &["rprivate"]));
    }
    for (host, inside) in &facts.devices.binds {
        mounts.push(bind(inside, host, &["rprivate"]));
    }
    mounts
}

/// The mount with its ids mapped. Without a mapping in the document it is the container's.
fn mapped(mut mount: Mount, maps: Option<&IdMaps>, facts: &Facts) -> Mount {
    if let Some(maps) = maps {
        mount.options.push("idmap".to_owned());
        if facts.id_maps.as_ref() != Some(maps) {
            mount.uid_mappings = maps.uids.to_oci();
            mount.gid_mappings = maps.gids.to_oci();
        }
    }
    mount
}

/// File systems that show a namespace of the host's: nobody but its root may mount them anew, so the
/// host's own mounts are shown.
fn show_the_hosts(mounts: &mut [Mount], host: &HostConfig) {
    for mount in mounts {
        let shared = match mount.destination.as_str() {
            "/proc" => host.pid_mode == "host",
            "/sys" => host.network_mode == "host",
            _ => false,
        };
        if shared {
            let options = mount.options.iter().map(String::as_str);
            let options: Vec<&str> = options
                .map(|option| if option == "ro" { "rro" } else { option })
                .collect();
            *mount = bind(&mount.destination, Path::new(&mount.destination), &options);
        }
    }
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> Mount {
    let mut all = vec!["rbind"];
    all.extend_from_slice(options);
    mount(destination, "bind", &source.to_string_lossy(), &all)
}

fn mounts(record: &ContainerRecord, facts: &Facts) -> Vec<Mount> {
    let host = &record.host_config;
    let mut user: Vec<Mount> = Vec::new();
    for (destination, options) in host.tmpfs.iter().flatten() {
        if let Ok((destination, options)) = tmpfs_options(destination, options) {
            user.push(tmpfs(&destination, &options, false));
        }
    }
    for record in &record.mounts {
        let destination = &record.destination;
        user.push(match &record.source {
            MountSource::Tmpfs { options } => tmpfs(destination, options, !record.rw),
            MountSource::Bind {
                path,
                non_recursive,
                ..
            } => {
                let mut options = vec![if *non_recursive { "bind" } else { "rbind" }.to_owned()];
                options.push(record.propagation.clone());
                if !record.rw {
                    options.push(read_only(
                        record.read_only_reach,
                        facts.recursive_readonly && !non_recursive,
                    ));
                }
                let bound = Mount {
                    options,
                    ..mount(destination, "bind", path, &[])
                };
                // Files of the host belong to whom they belong to, unless asked for.
                mapped(bound, facts.mount_maps.get(destination), facts)
            }
            MountSource::Volume { name, .. } => {
                let mut mount = match facts.volumes.get(name) {
                    Some(VolumeSource::Mount {
                        fs_type,
                        source,
                        options,
                        ..
                    }) => {
                        let mount = Mount {
                            options: options.clone(),
                            ..mount(destination, fs_type, source, &[])
                        };
                        mapped(mount, facts.mount_maps.get(destination), facts)
                    }
                    // A volume holds the ids its containers see, whatever the host calls them:
                    // containers with different mappings can share it.
                    Some(VolumeSource::Directory(path)) => mapped(
                        bind(destination, path, &["rprivate"]),
                        facts.mount_maps.get(destination).or(facts.id_maps.as_ref()),
                        facts,
                    ),
                    // `start` looks every volume up; one that is missing fails there.
                    None => continue,
                };
                if !record.rw {
                    let is_bind = mount.kind.as_deref() == Some("bind");
                    mount.options.push(read_only(
                        ReadOnlyReach::Recursive,
                        is_bind && facts.recursive_readonly,
                    ));
                }
                mount
            }
        });
    }
    let overridden = |mount: &Mount| {
        user.iter().any(|given| {
            given.destination == mount.destination
                || (given.destination == "/dev" && mount.destination.starts_with("/dev/"))
        })
    };
    let mut all: Vec<Mount> = default_mounts(host, facts)
        .into_iter()
        .filter(|mount| !overridden(mount))
        .collect();
    if host.readonly_rootfs {
        for mount in &mut all {
            let kept = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]
                .contains(&mount.destination.as_str());
            if !kept && !mount.options.iter().any(|option| option == "ro") {
                mount.options.push("ro".to_owned());
            }
        }
    }
    // A mount comes after those above it; equal depth keeps the given order.
    user.sort_by_key(|mount| depth(&mount.destination));
    let first_deep = all.len();
    all.extend(user);
    let (defaults, _) = all.split_at(first_deep);
    let unordered = defaults.iter().any(|default| {
        all[first_deep..].iter().any(|given| {
            default
                .destination
                .starts_with(&format!("{}/", given.destination))
        })
    });
    if unordered {
        all.sort_by_key(|mount| depth(&mount.destination));
    }
    all
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

fn read_only(reach: ReadOnlyReach, recursive_possible: bool) -> String {
    match reach {
        ReadOnlyReach::NonRecursive => "ro",
        ReadOnlyReach::ForceRecursive => "rro",
        ReadOnlyReach::Recursive if recursive_possible => "rro",
        ReadOnlyReach::Recursive => "ro",
    }
    .to_owned()
}

/// Docker's defaults with the user's options over them.
fn tmpfs(destination: &str, given: &[String], read_only: bool) -> Mount {
    const OPPOSITES: [(&str, &str); 5] = [
        ("exec", "noexec"),
        ("suid", "nosuid"),
        ("dev", "nodev"),
        ("rw", "ro"),
        ("atime", "noatime"),
    ];
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev", "rprivate"]
        .map(str::to_owned)
        .to_vec();
    for option in given {
        let key = option.split('=').next().unwrap_or(option);
        let opposite = OPPOSITES.iter().find_map(|(a, b)| match key {
            key if key == *a => Some(*b),
            key if key == *b => Some(*a),
            _ => None,
        });
        options.retain(|known| {
            let known_key = known.split('=').next().unwrap_or(known);
            known_key != key && Some(known_key) != opposite
        });
        options.push(option.clone());
    }
    if read_only {
        options.push("ro".to_owned());
    }
    Mount {
        options,
        ..mount(destination, "tmpfs", "tmpfs", &[])
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
