//! Capabilities, masked and read-only paths, no-new-privileges.

use wharf_container_runtime::Stage;
use wharf_oci::runtime::Rlimit;

use crate::Test;
use crate::sandbox::Sandbox;

pub(crate) const TESTS: &[Test] = &[
    ("capabilities_are_dockers", capabilities),
    ("privileged_gets_what_there_is", privileged),
    ("paths_are_masked_and_read_only", protected_paths),
    ("no_new_privileges_is_set", no_new_privileges),
    ("read_only_root_is_read_only", read_only_root),
    ("resource_limits_are_set", resource_limits),
    ("sysctls_are_the_containers_own", sysctls),
    ("devices_are_made_and_guarded", devices),
    ("unsupported_is_refused_by_name", refused),
];

fn capabilities(sandbox: &Sandbox) {
    let outcome = sandbox.shell(
        "grep Cap /proc/self/status | xargs; mkdir /x && mount -t tmpfs t /x; ip link set lo up",
    );
    let wanted = "CapInh: 0000000000000000 CapPrm: 00000000a80425fb CapEff: 00000000a80425fb \
                  CapBnd: 00000000a80425fb CapAmb: 0000000000000000\n";
    assert_eq!(outcome.stdout, wanted);
    assert!(
        outcome.stderr.contains("mount") && outcome.stderr.contains("ip: "),
        "{outcome:?}"
    );
}

fn privileged(sandbox: &Sandbox) {
    let script = "mkdir /x && mount -t tmpfs t /x && ip link set lo up && echo fine";
    let mut container = sandbox.container(&["sh", "-c", script]);
    container.config.seccomp = None;
    container.process().capabilities = Some(crate::sandbox::all_capabilities());
    container.linux().masked_paths.clear();
    container.linux().readonly_paths.clear();
    let all = wharf_oci::runtime::DeviceRule {
        allow: true,
        access: Some("rwm".into()),
        ..Default::default()
    };
    container
        .linux()
        .resources
        .as_mut()
        .unwrap()
        .devices
        .push(all);
    assert_eq!(container.run().stdout, "fine\n");
}

fn protected_paths(sandbox: &Sandbox) {
    let outcome = sandbox.shell(
        "for f in interrupts kcore keys; do ! test -e /proc/$f || wc -c </proc/$f; done | sort -u; ls -A /sys/firmware | wc -l; \
         test -e /proc/sys/kernel/panic || echo missing; \
         echo 1 >/proc/sys/kernel/panic; echo x >/sys/kernel/profiling; \
         for d in memory/ ''; do ! test -e /sys/fs/cgroup/${d}cgroup.procs || echo 1 >/sys/fs/cgroup/${d}cgroup.procs; done; ls /sys/fs/cgroup | head -3 | xargs; cat /proc/self/cgroup | wc -l",
    );
    assert!(outcome.stdout.starts_with("0\n0\n"), "{outcome:?}");
    assert_eq!(
        outcome.stderr.matches("Read-only file system").count(),
        3,
        "{outcome:?}"
    );
    assert!(
        outcome.stdout.contains("blkio cpu cpuacct") || outcome.stdout.contains("cgroup"),
        "{outcome:?}"
    );
}

fn no_new_privileges(sandbox: &Sandbox) {
    let mut container =
        sandbox.container(&["grep", "-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status"]);
    assert_eq!(container.run().stdout, "NoNewPrivs:\t0\nSeccomp:\t2\n");
    container.process().no_new_privileges = true;
    assert_eq!(container.run().stdout, "NoNewPrivs:\t1\nSeccomp:\t2\n");
}

fn read_only_root(sandbox: &Sandbox) {
    let mut container = sandbox.container(&[
        "sh",
        "-c",
        "echo x >/file; echo y >/dev/shm/file && cat /dev/shm/file",
    ]);
    container.config.spec.root = Some(wharf_oci::runtime::Root {
        readonly: true,
        ..Default::default()
    });
    let outcome = container.run();
    assert_eq!(outcome.stdout, "y\n");
    assert!(outcome.stderr.contains("Read-only file system"));
}

fn resource_limits(sandbox: &Sandbox) {
    let mut container = sandbox.container(&[
        "sh",
        "-c",
        "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; umask",
    ]);
    container.process().rlimits = vec![Rlimit {
        kind: "RLIMIT_NOFILE".into(),
        soft: 123,
        hard: 456,
    }];
    container.process().oom_score_adj = Some(500);
    assert_eq!(container.run().stdout, "123\n456\n500\n0022\n");
    container.process().rlimits = vec![Rlimit {
        kind: "RLIMIT_NOFILE".into(),
        soft: 1 << 40,
        hard: 1 << 40,
    }];
    let error = container.error();
    assert_eq!(
        error.to_string(),
        "error setting rlimit type 7: operation not permitted"
    );
}

fn sysctls(sandbox: &Sandbox) {
    let mut container =
        sandbox.container(&["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"]);
    container
        .linux()
        .sysctl
        .insert("net.ipv4.ip_unprivileged_port_start".into(), "77".into());
    assert_eq!(container.run().stdout, "77\n");
    container
        .linux()
        .sysctl
        .insert("kernel.panic".into(), "77".into());
    assert_eq!(
        container.error().to_string(),
        r#"sysctl "kernel.panic" is not in a separate kernel namespace"#
    );
}

fn devices(sandbox: &Sandbox) {
    let script = "ls /dev | grep -v ^core | xargs; echo x >/dev/null; head -c 3 /dev/zero | wc -c; \
                  mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg; head -c 2 /dev/other | wc -c; ls -l /dev/other";
    let mut container = sandbox.container(&["sh", "-c", script]);
    container.linux().devices = vec![wharf_oci::runtime::Device {
        path: "/dev/other".into(),
        kind: "c".into(),
        major: Some(1),
        minor: Some(5),
        file_mode: Some(0o640),
        uid: Some(33),
        gid: Some(4),
    }];
    let outcome = container.run();
    let names =
        "fd full mqueue null other ptmx pts random shm stderr stdin stdout tty urandom zero";
    let mut lines = outcome.stdout.lines();
    assert_eq!(lines.next(), Some(names), "{outcome:?}");
    assert_eq!([lines.next(), lines.next()], [Some("3"), Some("2")]);
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("crw-r-----    1 web      adm"),
        "{outcome:?}"
    );
    assert!(
        outcome.stderr.contains("kmsg: Operation not permitted"),
        "{outcome:?}"
    );
}

fn refused(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["true"]);
    container.config.spec.hooks = Some(wharf_oci::runtime::Hooks {
        prestart: vec![wharf_oci::runtime::Hook {
            path: "/bin/true".into(),
            ..Default::default()
        }],
        ..Default::default()
    });
    assert_eq!(
        container.error().to_string(),
        "hooks need a container with an ID and a bundle"
    );
    let mut container = sandbox.container(&["true"]);
    container
        .linux()
        .namespaces
        .retain(|namespace| namespace.kind != wharf_oci::runtime::NamespaceKind::Mount);
    // In the caller's mount namespace it may be, its user namespace's root may not.
    assert_eq!(container.run().code, 0);
    let linux = container.linux();
    linux.namespaces.push(wharf_oci::runtime::Namespace {
        kind: wharf_oci::runtime::NamespaceKind::User,
        path: None,
    });
    linux.uid_mappings = vec![wharf_oci::runtime::IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 1000,
    }];
    linux.gid_mappings.clone_from(&linux.uid_mappings);
    let error = container.error();
    assert_eq!(error.stage, Stage::Config);
    assert!(error.to_string().contains("needs a new mount namespace"));
    let mut container = sandbox.container(&["true"]);
    container
        .process()
        .capabilities
        .as_mut()
        .unwrap()
        .bounding
        .push("CAP_NONSENSE".into());
    assert_eq!(
        container.error().to_string(),
        r#"unknown capability "CAP_NONSENSE""#
    );
}
