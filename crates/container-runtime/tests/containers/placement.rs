//! Where a container's memory, processors and network devices are.

use std::process::Command;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use wharf_container_runtime::{Stage, exec};
use wharf_oci::runtime::{
    CpuAffinity, IdMapping, IntelRdt, MemoryPolicy, Namespace, NamespaceKind, NetDevice,
};

use crate::Test;
use crate::sandbox::{Sandbox, end, pipes, reap};

pub(crate) const TESTS: &[Test] = &[
    ("memory_comes_from_the_nodes_asked_for", memory_policy),
    ("exec_runs_on_the_processors_asked_for", affinity),
    ("network_devices_move_in", net_devices),
    ("resctrl_is_refused_where_there_is_none", resctrl),
    ("selinux_labels_are_refused_where_there_is_none", selinux),
];

fn memory_policy(sandbox: &Sandbox) {
    let script = "cut -d' ' -f2 /proc/self/numa_maps | sort -u";
    let mut container = sandbox.container(&["sh", "-c", script]);
    let mut policy = |mode: &str, nodes: &str| {
        container.linux().memory_policy = Some(MemoryPolicy {
            mode: mode.into(),
            nodes: (!nodes.is_empty()).then(|| nodes.into()),
            flags: Vec::new(),
        });
        container.try_run()
    };
    assert_eq!(policy("MPOL_BIND", "0").unwrap().stdout, "bind:0\n");
    assert_eq!(
        policy("MPOL_INTERLEAVE", "0").unwrap().stdout,
        "interleave:0\n"
    );
    assert_eq!(policy("MPOL_DEFAULT", "").unwrap().stdout, "default\n");
    let text = policy("MPOL_BIND", "1000").unwrap_err().to_string();
    assert!(
        text.starts_with("linux.memoryPolicy: the kernel refuses it"),
        "{text}"
    );
}

fn affinity(sandbox: &Sandbox) {
    let (container, _output) = sandbox.container(&["sleep", "1000"]).start();
    let mut config = crate::exec::config(&["grep", "Cpus_allowed_list", "/proc/self/status"]);
    let mut run = |initial: Option<&str>, last: Option<&str>| {
        config.process.exec_cpu_affinity = Some(CpuAffinity {
            initial: initial.map(str::to_owned),
            last: last.map(str::to_owned),
        });
        let (stdio, [out, _err]) = pipes();
        exec(&container, &config, stdio).map(|executed| {
            let text = std::io::read_to_string(out).unwrap();
            reap(executed.pid);
            text.split_ascii_whitespace().last().unwrap().to_owned()
        })
    };
    assert_eq!(run(Some("0"), Some("1")).unwrap(), "1");
    assert_eq!(run(None, Some("0")).unwrap(), "0");
    assert_eq!(
        run(Some("x"), None).unwrap_err().to_string(),
        "execCPUAffinity: \"x\" is not a list of processors"
    );
    let text = run(None, Some("1000")).unwrap_err().to_string();
    assert!(text.starts_with("execCPUAffinity 1000: "), "{text}");
    end(container);
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_ascii_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn net_devices(sandbox: &Sandbox) {
    // In a network of our own, instead of the machine's.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let own = rustix::fs::open("/proc/self/ns/net", flags, rustix::fs::Mode::empty()).unwrap();
    wharf_sys::namespace::unshare(UnshareFlags::NEWNET).unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| move_devices(sandbox)));
    move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&own),
        Some(LinkNameSpaceType::Network),
    )
    .unwrap();
    outcome.unwrap();
}

fn move_devices(sandbox: &Sandbox) {
    let script = "ip -o address show dev data | grep -c 'inet 10.9.0.2/24'; ip -o address show dev data | grep -c 'inet6 fd00::2/64'; \
                  ip -o link show data | grep -c UP; ip -o link show data | grep -o 'mtu 1400'; ip -o link show v2 | wc -l; \
                  cat /proc/sys/net/ipv4/conf/data/forwarding";
    for user in [false, true] {
        ip("link add v0 type veth peer name v1");
        ip("link add v2 type veth peer name v3");
        ip("link set v1 mtu 1400 up");
        ip("address add 10.9.0.2/24 dev v1");
        ip("address add fd00::2/64 dev v1 nodad");
        let mut container = sandbox.container(&["sh", "-c", script]);
        if user {
            let ranges = vec![IdMapping {
                container_id: 0,
                host_id: 300_000,
                size: 65_536,
            }];
            container.linux().uid_mappings = ranges.clone();
            container.linux().gid_mappings = ranges;
            container.linux().namespaces.push(Namespace {
                kind: NamespaceKind::User,
                path: None,
            });
        }
        let renamed = |name: &str| NetDevice {
            name: Some(name.into()),
        };
        container.linux().net_devices = [
            ("v1".into(), renamed("data")),
            ("v2".into(), NetDevice::default()),
        ]
        .into();
        container
            .linux()
            .sysctl
            .insert("net.ipv4.conf.data.forwarding".into(), "1".into());
        let outcome = container.run();
        assert_eq!(outcome.stdout, "1\n1\n1\nmtu 1400\n1\n1\n", "{outcome:?}");
        assert!(
            !ip("link show").contains("v1"),
            "it went with the container"
        );

        // All or none.
        ip("link add v1 type veth peer name v5");
        let linux = container.linux();
        linux.net_devices = [
            ("v1".into(), renamed("data")),
            ("v9".into(), renamed("other")),
        ]
        .into();
        let error = container.error();
        assert_eq!(
            (error.stage, error.subject.as_str()),
            (Stage::NetDevice, "v9")
        );
        assert!(ip("link show").contains("v1@v5"), "it is back");
        ip("link delete v1");
        container
            .linux()
            .namespaces
            .retain(|namespace| namespace.kind != NamespaceKind::Network);
        container.linux().sysctl.clear();
        assert_eq!(
            container.error().to_string(),
            "linux.netDevices: the container has no network namespace of its own"
        );
    }
}

fn resctrl(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["true"]);
    container.linux().intel_rdt = Some(IntelRdt {
        clos_id: Some("gold".into()),
        ..IntelRdt::default()
    });
    if std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        assert_eq!(container.error().stage, Stage::Resctrl);
    } else {
        assert_eq!(
            container.error().to_string(),
            "linux.intelRdt: resctrl is not mounted on this host"
        );
    }
}

fn selinux(sandbox: &Sandbox) {
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        return;
    }
    let label = "system_u:system_r:container_t:s0:c1,c2";
    let mut container = sandbox.container(&["true"]);
    container.process().selinux_label = Some(label.into());
    assert_eq!(
        container.error().to_string(),
        "process.selinuxLabel: SELinux is not enabled on this host"
    );
    let mut container = sandbox.container(&["true"]);
    container.linux().mount_label = Some(label.into());
    assert_eq!(
        container.error().to_string(),
        "linux.mountLabel: SELinux is not enabled on this host"
    );
}
