//! The OCI documents of some containers.

use super::*;
use crate::container::mounts::MountRecord;
use crate::container::record::{ImageSource, State};
use wharf_api_types::container::{ContainerConfig, Ulimit};

fn record(
    config: ContainerConfig,
    host_config: HostConfig,
    mounts: Vec<MountRecord>,
) -> ContainerRecord {
    ContainerRecord {
        id: "a".repeat(64).parse().unwrap(),
        name: "web".into(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        image_id: String::new(),
        image: ImageSource::default(),
        manifest: None,
        path: "nginx".into(),
        args: vec!["-g".into()],
        config,
        host_config,
        networks: BTreeMap::new(),
        mounts,
        id_maps: None,
        labels: Default::default(),
        state: State::default(),
    }
}

fn facts() -> Facts {
    Facts {
        cgroup_path: "/wharf/aaaa".into(),
        files_dir: "/data/containers/aaaa".into(),
        volumes: BTreeMap::from([(
            "data".to_owned(),
            VolumeSource::Directory("/data/volumes/data/_data".into()),
        )]),
        capabilities: vec!["CAP_CHOWN".into()],
        recursive_readonly: true,
        ..Facts::default()
    }
}

fn host() -> HostConfig {
    HostConfig {
        network_mode: "bridge".into(),
        ipc_mode: "private".into(),
        cgroupns_mode: "host".into(),
        masked_paths: Some(masked_paths(&[])),
        readonly_paths: Some(readonly_paths()),
        ..HostConfig::default()
    }
}

fn destinations(spec: &Spec) -> Vec<&str> {
    spec.mounts
        .iter()
        .map(|mount| mount.destination.as_str())
        .collect()
}

fn options<'a>(spec: &'a Spec, destination: &str) -> Vec<&'a str> {
    let mount = spec
        .mounts
        .iter()
        .find(|mount| mount.destination == destination)
        .unwrap();
    mount.options.iter().map(String::as_str).collect()
}

#[test]
fn the_default_container_is_dockers() {
    let config = ContainerConfig {
        hostname: "web".into(),
        env: Some(vec!["A=1".into()]),
        ..ContainerConfig::default()
    };
    let spec = build(&record(config, host(), Vec::new()), &facts());
    let golden = include_str!("spec_golden.json");
    let text = serde_json::to_string_pretty(&spec).unwrap() + "\n";
    assert_eq!(text, golden, "the OCI document changed:\n{text}");
}

#[test]
fn user_mounts_replace_defaults_and_come_after_their_parents() {
    let bind = |source: &str, destination: &str| {
        crate::container::mounts::parse_bind(&format!("{source}:{destination}"), "").unwrap()
    };
    let mounts = vec![
        bind("/dev", "/dev"),
        bind("data", "/srv"),
        bind("/x", "/srv/deep/er"),
        bind("/y", "/srv/deep:ro"),
    ];
    let spec = build(
        &record(ContainerConfig::default(), host(), mounts),
        &facts(),
    );
    let all = destinations(&spec);
    assert_eq!(
        all.iter().filter(|path| path.starts_with("/dev")).count(),
        1
    );
    let at = |path: &str| all.iter().position(|known| *known == path).unwrap();
    assert!(at("/srv") < at("/srv/deep") && at("/srv/deep") < at("/srv/deep/er"));
    assert_eq!(options(&spec, "/srv/deep"), ["rbind", "rprivate", "rro"]);
    let volume = spec
        .mounts
        .iter()
        .find(|mount| mount.destination == "/srv")
        .unwrap();
    assert_eq!(volume.source.as_deref(), Some("/data/volumes/data/_data"));
}

#[test]
fn tmpfs_options_override_the_defaults() {
    let tmpfs = Some(BTreeMap::from([(
        "/t".to_owned(),
        "exec,size=1m".to_owned(),
    )]));
    let spec = build(
        &record(
            ContainerConfig::default(),
            HostConfig { tmpfs, ..host() },
            Vec::new(),
        ),
        &facts(),
    );
    assert_eq!(
        options(&spec, "/t"),
        ["nosuid", "nodev", "rprivate", "exec", "size=1m"]
    );
}

#[test]
fn a_read_only_root_keeps_kernel_file_systems_writable() {
    let spec = build(
        &record(
            ContainerConfig::default(),
            HostConfig {
                readonly_rootfs: true,
                ..host()
            },
            Vec::new(),
        ),
        &facts(),
    );
    assert!(spec.root.as_ref().unwrap().readonly);
    assert!(options(&spec, "/etc/hosts").contains(&"ro"));
    assert!(!options(&spec, "/dev/shm").contains(&"ro"));
}

#[test]
fn limits_become_resources() {
    let config = HostConfig {
        nano_cpus: 1_500_000_000,
        memory: 64 << 20,
        memory_swap: -1,
        pids_limit: Some(10),
        ulimits: Some(vec![Ulimit {
            name: "nofile".into(),
            soft: 1,
            hard: -1,
        }]),
        privileged: true,
        ..host()
    };
    let spec = build(
        &record(ContainerConfig::default(), config, Vec::new()),
        &facts(),
    );
    let resources = spec.linux.as_ref().unwrap().resources.as_ref().unwrap();
    let cpu = resources.cpu.as_ref().unwrap();
    assert_eq!((cpu.period, cpu.quota), (Some(100_000), Some(150_000)));
    assert_eq!(resources.memory.as_ref().unwrap().swap, Some(-1));
    assert_eq!(resources.pids, Some(Pids { limit: Some(10) }));
    assert_eq!(resources.devices.len(), 1);
    let limit = &spec.process.as_ref().unwrap().rlimits[0];
    assert_eq!(
        (limit.kind.as_str(), limit.soft, limit.hard),
        ("RLIMIT_NOFILE", 1, u64::MAX)
    );
}

#[test]
fn host_namespaces_are_left_out() {
    let config = HostConfig {
        network_mode: "host".into(),
        pid_mode: "host".into(),
        ipc_mode: "host".into(),
        uts_mode: "host".into(),
        ..host()
    };
    let spec = build(
        &record(ContainerConfig::default(), config, Vec::new()),
        &facts(),
    );
    let kinds: Vec<_> = spec
        .linux
        .as_ref()
        .unwrap()
        .namespaces
        .iter()
        .map(|namespace| namespace.kind)
        .collect();
    assert_eq!(kinds, [NamespaceKind::Mount]);
    assert!(spec.linux.unwrap().sysctl.is_empty());
    assert_eq!(spec.hostname, None);
}

#[test]
fn environment_is_overridden_by_name() {
    let env = override_env(
        vec!["A=1".into(), "B=2".into()],
        &["B=3".into(), "A".into(), "C=4".into(), "D".into()],
    );
    assert_eq!(env, ["B=3", "C=4"]);
}

fn maps(uids: &[&str], gids: &[&str]) -> IdMaps {
    let map = |texts: &[&str]| {
        let extents = texts
            .iter()
            .map(|text| crate::user_namespaces::Extent::parse(text).unwrap());
        IdMap::new(extents.collect()).unwrap()
    };
    IdMaps {
        uids: map(uids),
        gids: map(gids),
    }
}

/// Whether a mount maps ids, and how if not as the container does.
fn mappings<'a>(spec: &'a Spec, destination: &str) -> (bool, &'a [IdMapping]) {
    let mount = spec
        .mounts
        .iter()
        .find(|mount| mount.destination == destination)
        .unwrap();
    let mapped = mount.options.iter().any(|option| option == "idmap");
    (mapped, &mount.uid_mappings)
}

#[test]
fn a_user_namespace_maps_volumes_and_leaves_binds_alone() {
    let parse = |spec: &str| super::super::mounts::parse_bind(spec, "").unwrap();
    let mounts = vec![
        parse("data:/data"),
        parse("/srv:/srv"),
        parse("/mapped:/mapped:idmap"),
    ];
    let own = maps(&["0:100000:65536"], &["0:200000:65536"]);
    let facts = Facts {
        mount_maps: BTreeMap::from([("/mapped".to_owned(), maps(&["0:1000:1"], &["0:1000:1"]))]),
        id_maps: Some(own.clone()),
        ..facts()
    };
    let spec = build(&record(ContainerConfig::default(), host(), mounts), &facts);
    assert_eq!(mappings(&spec, "/data"), (true, &[][..]));
    assert_eq!(mappings(&spec, "/srv"), (false, &[][..]));
    let given = maps(&["0:1000:1"], &["0:1000:1"]).uids.to_oci();
    assert_eq!(mappings(&spec, "/mapped"), (true, &given[..]));
    assert_eq!(mappings(&spec, "/etc/hosts"), (false, &[][..]));
    let linux = spec.linux.as_ref().unwrap();
    assert_eq!(linux.uid_mappings, own.uids.to_oci());
    assert_eq!(linux.gid_mappings, own.gids.to_oci());
    assert!(
        linux
            .namespaces
            .iter()
            .any(|namespace| namespace.kind == NamespaceKind::User && namespace.path.is_none())
    );
    assert_eq!(linux.sysctl["net.ipv4.ping_group_range"], "0 65535");
    assert!(options(&spec, "/dev/pts").contains(&"gid=5"));
}

#[test]
fn groups_that_are_not_mapped_are_not_named() {
    let facts = Facts {
        id_maps: Some(maps(&["0:100000:10"], &["1:200000:3"])),
        host_mqueue: true,
        ..facts()
    };
    let host = HostConfig {
        ipc_mode: "host".into(),
        ..host()
    };
    let spec = build(
        &record(ContainerConfig::default(), host, Vec::new()),
        &facts,
    );
    assert!(!options(&spec, "/dev/pts").contains(&"gid=5"));
    let linux = spec.linux.as_ref().unwrap();
    assert!(!linux.sysctl.contains_key("net.ipv4.ping_group_range"));
    assert_eq!(options(&spec, "/dev/mqueue"), ["rbind", "rprivate"]);
}
