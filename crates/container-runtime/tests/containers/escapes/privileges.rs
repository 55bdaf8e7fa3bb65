//! More privileges than a container should have.
//!
//! * CVE-2022-29162 (runc), CVE-2022-24769 (moby), CVE-2022-27650 (crun): inheritable capabilities
//!   were not empty, so that a program with inheritable file capabilities gained them for a user
//!   who is not root.
//!   Guard: the default sets leave them empty (`oci/defaults.rs`), and the sets of a process are
//!   exactly the document's (`launch.rs`).
//! * CVE-2022-0492: a writable cgroup (`release_agent`, or limits of its own).
//!   Guard: cgroups are mounted read-only unless the document says otherwise (`oci/defaults.rs`,
//!   `mounts.rs`).
//! * CVE-2023-25809 (runc): the same with a user namespace and without a cgroup namespace: there
//!   the hierarchy cannot be mounted anew, and the copy of the host's mount that took its place was
//!   writable, for a root that has got its cgroup as its own.
//!   Guard: the copy gets the mount's attributes (`show_cgroups` in `mounts.rs`).

use std::fs;

use wharf_container_runtime::ExecConfig;
use wharf_oci::runtime::{IdMapping, Namespace, NamespaceKind};

use crate::Test;
use crate::sandbox::{Sandbox, end, pipes, reap};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2022_29162_nothing_is_inheritable", inheritable),
    ("cve_2022_0492_cgroups_are_read_only", cgroups),
    (
        "cve_2023_25809_cgroups_are_read_only_in_user_namespaces",
        mapped_cgroups,
    ),
];

fn inheritable(sandbox: &Sandbox) {
    // cap_net_raw+ei: version 2, effective; permitted and inheritable words of both halves.
    let net_raw = 1_u32 << 13;
    let words = [0x0200_0001, 0, net_raw, 0, 0];
    let value: Vec<u8> = words
        .iter()
        .flat_map(|word: &u32| word.to_le_bytes())
        .collect();
    let mut container = sandbox.container(&["/caps/grep", "Cap[PE]", "/proc/self/status"]);
    fs::create_dir(container.upper.join("caps")).unwrap();
    let program = container.upper.join("caps/grep");
    fs::copy("/bin/busybox", &program).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&program, "security.capability", &value, flags).unwrap();
    container.process().user.uid = 33;
    let none = "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n";
    container.config.user = Some("33".into());
    let outcome = container.run();
    assert_eq!(outcome.stdout, none, "{outcome:?}");

    container.process().args = ["sleep", "1000"].map(str::to_owned).to_vec();
    let (running, _output) = container.start();
    container.process().args = ["grep", "CapInh", "/proc/self/status"]
        .map(str::to_owned)
        .to_vec();
    let config = ExecConfig {
        process: container.process().clone(),
        ..ExecConfig::default()
    };
    let (stdio, [mut out, _]) = pipes();
    let executed = wharf_container_runtime::exec(&running, &config, stdio).unwrap();
    let mut stdout = String::new();
    std::io::Read::read_to_string(&mut out, &mut stdout).unwrap();
    assert_eq!(
        (reap(executed.pid), stdout.as_str()),
        (0, "CapInh:\t0000000000000000\n")
    );
    end(running);
}

fn cgroups(sandbox: &Sandbox) {
    let script = "cd /sys/fs/cgroup; for f in $(find . -name cgroup.procs -o -name tasks -o -name release_agent \
                  -o -name notify_on_release -o -name '*limit*' -o -name '*.max'); do \
                  { echo 0 >$f; } 2>/dev/null && echo $f; done; \
                  for d in . */; do mkdir $d/new 2>/dev/null && echo $d/new; done; \
                  mount -o remount,rw . 2>/dev/null && echo remounted; ls | wc -l";
    let outcome = sandbox.shell(script);
    let count = outcome.stdout.trim().parse::<u32>();
    assert!(count.is_ok_and(|count| count > 0), "{outcome:?}");
}

fn mapped_cgroups(sandbox: &Sandbox) {
    const ROOT: u32 = 200_000;
    let script = "exec 2>/dev/null; cd /sys/fs/cgroup; for d in $(find . -type d -user 0); do echo own; \
                  mkdir $d/new && echo made $d; { echo $$ >$d/cgroup.procs; } && echo entered $d; done";
    let mut container = sandbox.container(&["sh", "-c", script]);
    let linux = container.linux();
    linux.namespaces.push(Namespace {
        kind: NamespaceKind::User,
        path: None,
    });
    let has_own = |namespace: &Namespace| namespace.kind == NamespaceKind::Cgroup;
    assert!(!linux.namespaces.iter().any(has_own));
    let range = IdMapping {
        container_id: 0,
        host_id: ROOT,
        size: 65_536,
    };
    linux.uid_mappings = vec![range];
    linux.gid_mappings = vec![range];
    // As for somebody without root: the cgroup is the user's.
    let path = linux.cgroups_path.clone().unwrap();
    let cgroup = wharf_container_runtime::Cgroup::at(&path).unwrap();
    for directory in cgroup.directories() {
        if directory
            .components()
            .any(|part| part.as_os_str() == "cpuset")
        {
            // A new one has no processors yet.
            continue;
        }
        fs::create_dir_all(directory).unwrap();
        for file in [directory, &directory.join("cgroup.procs")] {
            std::os::unix::fs::chown(file, Some(ROOT), Some(ROOT)).unwrap();
        }
    }
    let outcome = container.run();
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.dedup();
    assert_eq!(lines, ["own"], "{outcome:?}");
}
