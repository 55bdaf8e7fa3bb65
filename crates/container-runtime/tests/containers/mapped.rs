//! User namespaces: who is who inside and outside, and what still works.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::MetadataExt as _;

use rustix::process::Pid;
use wharf_container_runtime::{
    ExecConfig, IdMaps, NamespaceFd, RootFilesystem, Stage, Stdio, user_namespace,
};
use wharf_oci::runtime::{
    Device, IdMapping, Mount, Namespace, NamespaceKind, Process, Rlimit, TimeOffset,
};

use crate::Test;
use crate::sandbox::{Outcome, Prepared, Sandbox, end, finish, pipes, read_terminal, reap};

pub(crate) const TESTS: &[Test] = &[
    ("mapped_root_is_another_outside", root),
    ("mapped_layers_keep_their_owners", layers),
    ("mapped_container_has_what_others_have", everything),
    ("mapped_root_has_capabilities_of_its_own", capabilities),
    ("mapped_devices_are_there", devices),
    ("mapped_binds_and_idmapped_binds", binds),
    ("mapped_users_own_their_streams", streams),
    ("mapped_terminal", terminal),
    ("mapped_exec_is_inside", exec),
    ("mapped_user_namespace_is_joined", joined),
    ("mapped_network_namespaces", networks),
    ("mapped_host_namespaces", host_namespaces),
    ("mapped_without_root", without_root),
    ("mapped_directory_as_root", directory),
    ("mapped_mounts_are_protected", protected),
    ("mapped_limits_may_be_raised", limits),
    ("mapped_container_nests", nested),
    ("mapped_time_is_shifted", time),
    ("mapped_init_reaps", init),
    ("mapped_by_somebody_without_privileges", unprivileged),
    ("wrong_mappings_are_refused", refused),
];

/// Tests of the unified hierarchy, too.
pub(crate) const UNIFIED: &[Test] = &[
    ("mapped_root_is_another_outside", root),
    ("mapped_container_has_what_others_have", everything),
    ("mapped_exec_is_inside", exec),
    ("mapped_user_namespace_is_joined", joined),
    ("mapped_host_namespaces", host_namespaces),
    ("mapped_root_manages_its_cgroups", own_cgroups),
];

const FIRST: u32 = 200_000;
const SIZE: u32 = 65_536;

fn range(container_id: u32, host_id: u32, size: u32) -> IdMapping {
    IdMapping {
        container_id,
        host_id,
        size,
    }
}

fn map(prepared: &mut Prepared, ranges: &[IdMapping]) {
    let linux = prepared.linux();
    linux.namespaces.push(Namespace {
        kind: NamespaceKind::User,
        path: None,
    });
    linux.uid_mappings = ranges.to_vec();
    linux.gid_mappings = ranges.to_vec();
}

fn mapped(sandbox: &Sandbox, arguments: &[&str]) -> Prepared {
    let mut prepared = sandbox.container(arguments);
    map(&mut prepared, &[range(0, FIRST, SIZE)]);
    prepared
}

fn shell(sandbox: &Sandbox, script: &str) -> Prepared {
    mapped(sandbox, &["sh", "-c", script])
}

/// The user a process of the host's view runs as.
fn user_of(pid: Pid) -> u32 {
    fs::metadata(format!("/proc/{}", pid.as_raw_nonzero()))
        .unwrap()
        .uid()
}

fn root(sandbox: &Sandbox) {
    let (container, output) = shell(
        sandbox,
        "id -u; id -G; cat /proc/self/uid_map; echo; exec sleep 1000",
    )
    .start();
    let [out, _err] = output;
    let lines = std::io::BufReader::new(out).lines().map(Result::unwrap);
    let text: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let words = text.iter().flat_map(|line| line.split_ascii_whitespace());
    assert_eq!(
        words.collect::<Vec<_>>(),
        ["0", "0", "0", "200000", "65536"]
    );
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid.as_raw_nonzero()));
    let status = status.unwrap();
    assert!(
        status.contains("Uid:\t200000\t200000\t200000\t200000"),
        "{status}"
    );
    assert!(
        status.contains("Gid:\t200000\t200000\t200000\t200000"),
        "{status}"
    );
    assert!(status.contains("Groups:\t \n"), "{status}");
    let pid = container.pid;
    end(container);
    assert!(!fs::exists(format!("/proc/{}", pid.as_raw_nonzero())).unwrap());
}

fn layers(sandbox: &Sandbox) {
    let lower = sandbox.directory("layer");
    fs::write(lower.join("of-web"), "x").unwrap();
    std::os::unix::fs::chown(lower.join("of-web"), Some(33), Some(33)).unwrap();
    fs::create_dir(lower.join("capable")).unwrap();
    let busybox = lower.join("capable/busybox");
    fs::copy("/bin/busybox", &busybox).unwrap();
    let file = fs::File::options().write(true).open(busybox).unwrap();
    // Version 2, effective: CAP_NET_BIND_SERVICE.
    let mut value = [0; 20];
    value[..8].copy_from_slice(&[1, 0, 0, 2, 0, 4, 0, 0]);
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(&file, c"security.capability", &value, none).unwrap();
    fs::create_dir(lower.join("private")).unwrap();
    fs::write(lower.join("private/old"), "old").unwrap();
    let script = "stat -c '%u:%g %n' /bin/busybox /of-web /private; \
                  echo new >/private/new && echo more >>/private/old && cat /private/old && rm /of-web; \
                  mkdir /private/dir; chown 33:33 /private/dir; \
                  su web -s /bin/sh -c 'touch /private/dir/mine; /capable/busybox grep CapEff /proc/self/status'";
    let mut container = shell(sandbox, script);
    let RootFilesystem::Overlay { lower: layers, .. } = &mut container.config.rootfs else {
        panic!("an overlay")
    };
    layers.insert(0, lower.clone());
    let outcome = container.run();
    assert_eq!(
        outcome.stdout,
        "0:0 /bin/busybox\n33:33 /of-web\n0:0 /private\noldmore\n\
         CapEff:\t0000000000000400\n",
        "{outcome:?}"
    );
    // On the disk everything belongs to those the image says.
    let owner = |path: &str| {
        let status = fs::symlink_metadata(container.upper.join(path)).unwrap();
        (status.uid(), status.gid())
    };
    assert_eq!(owner("private/new"), (0, 0));
    assert_eq!(owner("private/old"), (0, 0));
    assert_eq!(owner("private/dir"), (33, 33));
    assert_eq!(owner("private/dir/mine"), (33, 33));
    assert_eq!(owner("of-web"), (0, 0), "a whiteout");
    assert_eq!(
        fs::read_to_string(lower.join("private/old")).unwrap(),
        "old"
    );
}

fn everything(sandbox: &Sandbox) {
    let script = "hostname; echo $$; ls /proc/sys >/dev/null && echo proc; ls /sys/class/net; \
                  awk '$2 ~ \"^/(proc|sys|dev|dev/pts|dev/mqueue|dev/shm|sys/fs/cgroup)$\" { print $2 }' /proc/mounts | sort | xargs; \
                  cat /proc/sys/net/ipv4/ip_forward; \
                  stat -c %u /dev /dev/shm /proc/self/; cat /proc/keys 2>&1 | head -c 0; echo x >/sys/fs/cgroup/x; true";
    let mut container = shell(sandbox, script);
    container
        .linux()
        .sysctl
        .insert("net.ipv4.ip_forward".into(), "1".into());
    container
        .linux()
        .sysctl
        .insert("kernel.shm_rmid_forced".into(), "1".into());
    container.process().oom_score_adj = Some(100);
    let outcome = container.run();
    assert_eq!(
        outcome.stdout,
        "box\n1\nproc\nlo\n/dev /dev/mqueue /dev/pts /dev/shm /proc /sys /sys/fs/cgroup\n1\n0\n0\n0\n",
        "{outcome:?}"
    );
}

fn capabilities(sandbox: &Sandbox) {
    let script = "grep CapEff /proc/self/status; mount -t tmpfs x /tmp 2>/dev/null || echo no mount; \
                  hostname other 2>/dev/null || echo no hostname; chown web /root && stat -c %u /root";
    let outcome = shell(sandbox, script).run();
    assert_eq!(
        outcome.stdout, "CapEff:\t00000000a80425fb\nno mount\nno hostname\n33\n",
        "{outcome:?}"
    );
    let script = "mount -t tmpfs x /tmp && hostname other && hostname && ip link add d0 type dummy 2>/dev/null; \
                  mknod /tmp/d c 1 3 2>/dev/null || echo no node; grep CapEff /proc/self/status";
    let mut container = shell(sandbox, script);
    container.process().capabilities = Some(crate::sandbox::all_capabilities());
    container.config.seccomp = None;
    let outcome = container.run();
    // More than root has on this machine, where a capability is missing.
    assert_eq!(
        outcome.stdout, "other\nno node\nCapEff:\t000001ffffffffff\n",
        "{outcome:?}"
    );
}

fn devices(sandbox: &Sandbox) {
    let script = "stat -c '%A %u:%g %t:%T %n' /dev/null /dev/tty /dev/mine; echo x >/dev/null && head -c 3 /dev/zero | wc -c; \
                  readlink /dev/fd; test -p /dev/fifo && echo fifo; head -c 1 /dev/mine | wc -c";
    let mut container = shell(sandbox, script);
    container.linux().devices = vec![
        Device {
            path: "/dev/mine".into(),
            kind: "c".into(),
            major: Some(1),
            minor: Some(5),
            file_mode: Some(0o640),
            uid: Some(33),
            gid: Some(4),
        },
        Device {
            path: "/dev/fifo".into(),
            kind: "p".into(),
            major: None,
            minor: None,
            file_mode: Some(0o600),
            uid: None,
            gid: None,
        },
    ];
    let outcome = container.run();
    assert_eq!(
        outcome.stdout,
        "crw-rw-rw- 0:0 1:3 /dev/null\ncrw-rw-rw- 0:0 5:0 /dev/tty\ncrw-r----- 33:4 1:5 /dev/mine\n\
         3\n/proc/self/fd\nfifo\n1\n",
        "{outcome:?}"
    );
    container.linux().devices[0].uid = Some(SIZE);
    let text = container.error().to_string();
    assert!(
        text.contains("/dev/mine: its owner 65536:4 is not in"),
        "{text}"
    );
}

pub(crate) fn bind(source: &std::path::Path, destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some("bind".into()),
        source: Some(source.display().to_string()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn binds(sandbox: &Sandbox) {
    // The directory above is for the host's root only: nobody in the container could get through.
    let volume = sandbox.directory("volume");
    fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    fs::write(volume.join("of-root"), "x").unwrap();
    fs::write(volume.join("of-1000"), "x").unwrap();
    std::os::unix::fs::chown(volume.join("of-1000"), Some(1000), Some(1000)).unwrap();
    let mut container = shell(
        sandbox,
        "stat -c %u /plain/of-root /mapped/of-root /mapped/of-1000 /own/of-1000 | xargs; \
         touch /plain/new-plain /mapped/new-mapped; touch /ro/x; touch /own/new-own; true",
    );
    let mut own = bind(&volume, "/own", &["rbind", "rprivate"]);
    // Files of 1000 are those of the container's root, which is FIRST outside.
    own.uid_mappings = vec![range(1000, FIRST, 1), range(0, FIRST + 1000, 1)];
    own.gid_mappings = own.uid_mappings.clone();
    container.config.spec.mounts.extend([
        bind(&volume, "/plain", &["rbind", "rprivate"]),
        bind(&volume, "/mapped", &["rbind", "rprivate", "ridmap"]),
        bind(&volume, "/ro", &["rbind", "ro", "idmap"]),
        own,
    ]);
    let outcome = container.run();
    assert_eq!(outcome.stdout, "65534 0 1000 0\n", "{outcome:?}");
    assert!(outcome.stderr.contains("/ro/x: Read-only"), "{outcome:?}");
    let owner = |name: &str| fs::metadata(volume.join(name)).unwrap().uid();
    assert_eq!(owner("new-plain"), FIRST);
    assert_eq!(owner("new-mapped"), 0);
    assert_eq!(owner("new-own"), 1000);
}

fn streams(sandbox: &Sandbox) {
    let script = "echo again >/dev/stdout; echo wrong >/dev/stderr";
    for user in ["root", "web"] {
        let mut container = shell(sandbox, script);
        container.config.user = Some(user.into());
        let outcome = container.run();
        assert_eq!(
            (outcome.stdout.as_str(), outcome.stderr.as_str()),
            ("again\n", "wrong\n"),
            "{user}"
        );
    }
}

fn terminal(sandbox: &Sandbox) {
    let script = "tty; stat -c '%u %a' $(tty); stat -c %u /dev/console; echo x >/dev/tty; read line; echo got $line";
    let mut container = shell(sandbox, script);
    container.process().terminal = true;
    container.config.user = Some("web".into());
    let mut running =
        wharf_container_runtime::run(&container.config, Vec::new(), Stdio::Terminal).unwrap();
    let master = running.terminal.take().unwrap();
    let mut writer = fs::File::from(master.try_clone().unwrap());
    writer.write_all(b"word\n").unwrap();
    let text = read_terminal(master);
    assert!(
        text.contains("/dev/pts/0\r\n")
            && text.contains("33 620\r\n33\r\n")
            && text.contains("got word"),
        "{text}"
    );
    assert_eq!(reap(running.pid), 0);
    running.cgroup.unwrap().remove().unwrap();
}

fn run_in(
    container: &wharf_container_runtime::Running,
    script: &str,
    user: Option<&str>,
) -> Outcome {
    let (stdio, [out, err]) = pipes();
    let config = ExecConfig {
        process: Process {
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![wharf_oci::defaults::PATH.to_owned()],
            capabilities: Some(wharf_oci::defaults::capabilities(
                &wharf_oci::defaults::CAPABILITIES,
            )),
            ..Process::default()
        },
        user: user.map(str::to_owned),
        ..ExecConfig::default()
    };
    let executed = wharf_container_runtime::exec(container, &config, stdio).unwrap();
    Outcome {
        stdout: std::io::read_to_string(out).unwrap(),
        stderr: std::io::read_to_string(err).unwrap(),
        code: reap(executed.pid),
    }
}

fn exec(sandbox: &Sandbox) {
    let (container, _output) = mapped(sandbox, &["sleep", "1000"]).start();
    let script = "id -u; id -G; cat /proc/self/uid_map | xargs; grep CapEff /proc/self/status; \
                  test \"$(cat /proc/self/cgroup)\" = \"$(cat /proc/1/cgroup)\" && echo same; \
                  for n in user mnt pid net uts ipc; do test $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) && echo $n; done | xargs; \
                  echo x >/root/made-by-exec; kill -0 1 && echo may; echo out >/dev/stdout";
    let outcome = run_in(&container, script, None);
    assert_eq!(
        outcome.stdout,
        "0\n0\n0 200000 65536\nCapEff:\t00000000a80425fb\nsame\nuser mnt pid net uts ipc\nmay\nout\n",
        "{outcome:?}"
    );
    let outcome = run_in(
        &container,
        "id -u; id -G; echo out >/dev/stdout",
        Some("web:disk"),
    );
    assert_eq!(outcome.stdout, "33\n6\nout\n", "{outcome:?}");

    let mut config = ExecConfig {
        process: Process {
            args: vec!["stat".into(), "-c".into(), "%u".into(), "/dev/pts/0".into()],
            env: vec![wharf_oci::defaults::PATH.to_owned()],
            terminal: true,
            ..Process::default()
        },
        ..ExecConfig::default()
    };
    config.user = Some("web".into());
    let mut executed = wharf_container_runtime::exec(&container, &config, Stdio::Terminal).unwrap();
    assert_eq!(read_terminal(executed.terminal.take().unwrap()), "33\r\n");
    assert_eq!(reap(executed.pid), 0);
    end(container);
}

fn joined(sandbox: &Sandbox) {
    let (first, _output) = mapped(sandbox, &["sleep", "1000"]).start();
    let script = "id -u; cat /proc/self/uid_map | xargs; hostname; touch /made; \
                  echo again >/dev/stdout; readlink /proc/self/ns/user";
    let mut second = sandbox.container(&["sh", "-c", script]);
    let user = |fd| NamespaceFd {
        kind: NamespaceKind::User,
        fd,
    };
    let (stdio, output) = pipes();
    let namespaces = vec![user(first.pidfd.try_clone().unwrap())];
    let running = wharf_container_runtime::run(&second.config, namespaces, stdio).unwrap();
    let outcome = finish(running, output);
    let link = fs::read_link(format!("/proc/{}/ns/user", first.pid.as_raw_nonzero())).unwrap();
    assert_eq!(
        outcome.stdout,
        format!("0\n0 200000 65536\nbox\nagain\n{}\n", link.display()),
        "{outcome:?}"
    );
    assert_eq!(fs::metadata(second.upper.join("made")).unwrap().uid(), 0);

    // By path, with more namespaces of the first, and with what the document claims.
    second.config.spec.hostname = None;
    second.process().args = ["sh", "-c", "cat /proc/1/comm; id -u"]
        .map(str::to_owned)
        .to_vec();
    for namespace in &mut second.linux().namespaces {
        let name = match namespace.kind {
            NamespaceKind::Pid => "pid",
            NamespaceKind::Network => "net",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            _ => continue,
        };
        namespace.path = Some(format!("/proc/{}/ns/{name}", first.pid.as_raw_nonzero()));
    }
    map(
        &mut second,
        &[range(0, FIRST, 1), range(1, FIRST + 1, SIZE - 1)],
    );
    let path = format!("/proc/{}/ns/user", first.pid.as_raw_nonzero());
    second.linux().namespaces.last_mut().unwrap().path = Some(path);
    let outcome = second.run();
    assert_eq!(outcome.stdout, "sleep\n0\n", "{outcome:?}");
    second.linux().uid_mappings = vec![range(0, FIRST, 1)];
    assert_eq!(
        second.error().to_string(),
        "the user namespace to be joined has another mapping than the document"
    );
    second.linux().uid_mappings.clear();
    second.linux().gid_mappings.clear();
    second.process().args = vec!["nonesuch".into()];
    assert_eq!(second.error().stage, Stage::ProgramNotInPath);
    end(first);
}

fn networks(sandbox: &Sandbox) {
    // One that belongs to the host, as a daemon has them ready.
    let hosts = wharf_sys::namespace::in_new_network_namespace(|| {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open("/proc/thread-self/ns/net", flags, rustix::fs::Mode::empty()).unwrap()
    })
    .unwrap();
    let mut container = shell(
        sandbox,
        "ls /sys/class/net; cat /proc/sys/net/ipv4/ip_forward; ip link set lo up 2>/dev/null || echo no",
    );
    container
        .linux()
        .sysctl
        .insert("net.ipv4.ip_forward".into(), "1".into());
    let namespace = |kind, fd| NamespaceFd { kind, fd };
    let (stdio, output) = pipes();
    let namespaces = vec![namespace(NamespaceKind::Network, hosts)];
    let running = wharf_container_runtime::run(&container.config, namespaces, stdio).unwrap();
    let outcome = finish(running, output);
    assert_eq!(outcome.stdout, "lo\n1\nno\n", "{outcome:?}");

    // One that belongs to the container's user namespace: its root rules there.
    let ranges = [range(0, FIRST, SIZE)];
    let maps = IdMaps::new("x", &ranges, &ranges).unwrap();
    let (user, network) = user_namespace::create_with_network(&maps).unwrap();
    let mut container = sandbox.container(&["sh", "-c", "ip link set lo up && echo up; id -u"]);
    let capabilities = [&wharf_oci::defaults::CAPABILITIES[..], &["CAP_NET_ADMIN"]].concat();
    container.process().capabilities = Some(wharf_oci::defaults::capabilities(&capabilities));
    let namespaces = vec![
        namespace(NamespaceKind::User, user),
        namespace(NamespaceKind::Network, network),
    ];
    let (stdio, output) = pipes();
    let running = wharf_container_runtime::run(&container.config, namespaces, stdio).unwrap();
    assert_eq!(user_of(running.pid), FIRST);
    let outcome = finish(running, output);
    assert_eq!(outcome.stdout, "up\n0\n", "{outcome:?}");
}

fn host_namespaces(sandbox: &Sandbox) {
    let script = "ls /sys/class/net >/dev/null && echo sys; test -d /proc/1 && echo proc; ls /dev/mqueue && echo mqueue; \
                  ls /sys/fs/cgroup >/dev/null && echo cgroup";
    let mut container = shell(sandbox, script);
    container
        .linux()
        .namespaces
        .retain(|namespace| matches!(namespace.kind, NamespaceKind::Mount | NamespaceKind::User));
    container.config.spec.hostname = None;
    let outcome = container.run();
    assert_eq!(outcome.stdout, "sys\nproc\nmqueue\ncgroup\n", "{outcome:?}");
}

fn without_root(sandbox: &Sandbox) {
    let mut container =
        sandbox.container(&["sh", "-c", "id -u; id -g; touch /tmp/made; stat -c %u /tmp"]);
    map(&mut container, &[range(1000, FIRST, 10)]);
    container.process().user.uid = 1001;
    container.process().user.gid = 1001;
    let outcome = container.run();
    assert!(outcome.stdout.starts_with("1001\n1001\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("touch"), "{outcome:?}");
    container.process().user.uid = 0;
    assert_eq!(container.error().stage, Stage::Identity);
}

fn directory(sandbox: &Sandbox) {
    let top = sandbox.directory("root");
    let copied = std::process::Command::new("/bin/cp")
        .arg("-a")
        .arg(sandbox.path().join("lower/bin"))
        .arg(&top)
        .status();
    assert!(copied.unwrap().success());
    let script = "stat -c %u /bin/busybox; touch /made && echo made";
    let mut container = shell(sandbox, script);
    container.config.rootfs = RootFilesystem::Layer(top.clone());
    assert_eq!(container.run().stdout, "0\nmade\n");
    assert_eq!(fs::metadata(top.join("made")).unwrap().uid(), 0);
    // As runc's callers do it: a directory whose owners are already those outside.
    for directory in ["proc", "sys", "dev"] {
        fs::create_dir_all(top.join(directory)).unwrap();
    }
    let changed = std::process::Command::new("/bin/chown")
        .args(["-R", "200000:200000"])
        .arg(&top)
        .status();
    assert!(changed.unwrap().success());
    container.config.rootfs = RootFilesystem::Path(top.clone());
    let outcome = container.run();
    assert_eq!(outcome.stdout, "0\nmade\n", "{outcome:?}");
    assert_eq!(fs::metadata(top.join("made")).unwrap().uid(), FIRST);
}

fn protected(sandbox: &Sandbox) {
    let script = "touch /x 2>&1; cat /proc/kcore | wc -c; ls /proc/acpi /sys/firmware | grep -v : | wc -w; \
                  echo 1 >/proc/sys/kernel/panic; touch /proc/bus/x; true";
    let mut container = shell(sandbox, script);
    container.config.spec.root.get_or_insert_default().readonly = true;
    let outcome = container.run();
    assert_eq!(
        outcome.stdout, "touch: /x: Read-only file system\n0\n0\n",
        "{outcome:?}"
    );
    assert!(
        outcome.stderr.contains("/proc/sys/kernel/panic: Read-only")
            || outcome
                .stderr
                .contains("can't create /proc/sys/kernel/panic"),
        "{outcome:?}"
    );
}

fn limits(sandbox: &Sandbox) {
    let current = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = |value| Rlimit {
        kind: "RLIMIT_NOFILE".into(),
        hard: value,
        soft: value,
    };
    let mut container = shell(sandbox, "ulimit -n; ulimit -Hn");
    container.process().rlimits = vec![limit(77)];
    assert_eq!(container.run().stdout, "77\n77\n");
    let maximum = current.maximum.unwrap_or(u64::from(u32::MAX));
    container.process().rlimits = vec![limit(maximum + 1)];
    match container.try_run() {
        Ok(outcome) => assert_eq!(outcome.stdout, format!("{0}\n{0}\n", maximum + 1)),
        // Root without CAP_SYS_RESOURCE.
        Err(error) => assert_eq!(error.stage, Stage::Rlimit),
    }
}

fn nested(sandbox: &Sandbox) {
    let mut container = shell(
        sandbox,
        "unshare -U -r sh -c 'id -u; cat /proc/self/uid_map' | xargs; unshare -U -r -m sh -c 'mount -t tmpfs x /tmp && echo mounted'",
    );
    container.config.seccomp = None;
    let outcome = container.run();
    assert_eq!(outcome.stdout, "0 0 0 1\nmounted\n", "{outcome:?}");
}

fn time(sandbox: &Sandbox) {
    let script =
        "cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets | awk '{ print $1, $2, $3 }'";
    for user in [false, true] {
        let mut container = if user {
            shell(sandbox, script)
        } else {
            sandbox.container(&["sh", "-c", script])
        };
        container.linux().namespaces.push(Namespace {
            kind: NamespaceKind::Time,
            path: None,
        });
        let offset = |secs| TimeOffset { secs, nanosecs: 5 };
        container.linux().time_offsets = [
            ("boottime".to_owned(), offset(1_000_000)),
            ("monotonic".to_owned(), offset(7)),
        ]
        .into();
        let outcome = container.run();
        let (uptime, offsets) = outcome.stdout.split_once('\n').unwrap();
        assert!(uptime.parse::<u64>().unwrap() >= 1_000_000, "{outcome:?}");
        assert_eq!(
            offsets, "monotonic 7 5\nboottime 1000000 5\n",
            "{outcome:?}"
        );
        let linux = container.linux();
        linux
            .time_offsets
            .insert("boottime".into(), offset(-1_000_000_000));
        assert_eq!(
            container.error().to_string(),
            "linux.timeOffsets would make a clock negative or overflow"
        );
        let linux = container.linux();
        linux
            .namespaces
            .retain(|namespace| namespace.kind != NamespaceKind::Time);
        assert_eq!(
            container.error().to_string(),
            "linux.timeOffsets needs a new time namespace"
        );
    }
    // We are where we were.
    let own = fs::read_link("/proc/self/ns/time_for_children").unwrap();
    assert_eq!(fs::read_link("/proc/self/ns/time").unwrap(), own);
}

fn init(sandbox: &Sandbox) {
    let mut container = shell(sandbox, "cat /proc/1/comm; exit 3");
    container.config.init = true;
    let outcome = container.run();
    assert_eq!(outcome.code, 3, "{outcome:?}");
    assert!(!outcome.stdout.starts_with("cat"), "{outcome:?}");
}

fn own_cgroups(sandbox: &Sandbox) {
    let script = "mkdir /sys/fs/cgroup/sub && echo $$ >/sys/fs/cgroup/sub/cgroup.procs && cat /proc/self/cgroup | tail -1; \
                  echo 5 >/sys/fs/cgroup/cgroup.freeze";
    let mut container = shell(sandbox, script);
    container.linux().namespaces.push(Namespace {
        kind: NamespaceKind::Cgroup,
        path: None,
    });
    for mount in &mut container.config.spec.mounts {
        if mount.kind.as_deref() == Some("cgroup") {
            mount.options.retain(|option| option != "ro");
        }
    }
    let (running, output) = container.start();
    let [out, err] = output;
    let outcome = (
        std::io::read_to_string(out).unwrap(),
        std::io::read_to_string(err).unwrap(),
    );
    reap(running.pid);
    running.cgroup.unwrap().remove().unwrap();
    assert!(outcome.0.ends_with(":/sub\n"), "{outcome:?}");
    assert!(
        outcome.1.contains("cgroup.freeze"),
        "its own limits are not its: {outcome:?}"
    );
}

/// Runs `work` as `daemon`, who has subordinate IDs from 500000 on, in a process of its own.
fn as_daemon(work: impl FnOnce()) {
    use rustix::fs::{Gid, Uid};
    let ids = tempfile::NamedTempFile::new().unwrap();
    fs::write(&ids, "daemon:500000:65536\n").unwrap();
    fs::set_permissions(&ids, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let source = std::ffi::CString::new(ids.path().display().to_string()).unwrap();
    // In the mount namespace of these tests.
    for place in [c"/etc/subuid", c"/etc/subgid"] {
        let tree = wharf_sys::mount::clone_tree(rustix::fs::CWD, &source, false).unwrap();
        wharf_sys::mount::attach_at(&tree, place).unwrap();
    }
    let child = wharf_sys::clone::fork(|| {
        let (uid, gid) = (Uid::from_raw(1), Gid::from_raw(1));
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        // As a program of theirs would be.
        let dumpable = rustix::process::DumpableBehavior::Dumpable;
        rustix::process::set_dumpable_behavior(dumpable).unwrap();
        work();
        0
    })
    .unwrap();
    let code = reap(child);
    for place in [c"/etc/subuid", c"/etc/subgid"] {
        wharf_sys::mount::detach(place).unwrap();
    }
    assert_eq!(code, 0, "see above");
}

fn unprivileged(sandbox: &Sandbox) {
    let top = tempfile::tempdir().unwrap();
    fs::set_permissions(
        top.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let root = top.path().join("root");
    fs::create_dir(&root).unwrap();
    let shell = |script: &str| {
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .status();
        assert!(status.unwrap().success(), "{script}");
    };
    let (from, to) = (sandbox.path().join("lower"), root.display());
    shell(&format!(
        "cp -a {}/. {to} && chown -R 1:1 {to}",
        from.display()
    ));
    let volume = top.path().join("volume");
    fs::create_dir(&volume).unwrap();
    std::os::unix::fs::chown(&volume, Some(1), Some(1)).unwrap();

    let script = "id -u; cat /proc/self/uid_map | xargs; touch /made /volume/made; chown web /made && echo given; \
                  echo x >/dev/null && echo again >/dev/stdout; ls /sys/class/net";
    let mut container = sandbox.container(&["sh", "-c", script]);
    container.linux().cgroups_path = None;
    container.linux().resources = None;
    container.config.rootfs = RootFilesystem::Path(root.clone());
    container
        .config
        .spec
        .mounts
        .push(bind(&volume, "/volume", &["rbind", "rprivate"]));
    map(&mut container, &[range(0, 1, 1), range(1, 500_000, 65_535)]);
    if std::path::Path::new("/usr/bin/newuidmap").exists() {
        as_daemon(|| {
            let outcome = container.run();
            assert_eq!(
                outcome.stdout, "0\n0 1 1 1 500000 65535\ngiven\nagain\nlo\n",
                "{outcome:?}"
            );
        });
        assert_eq!(fs::metadata(root.join("made")).unwrap().uid(), 500_032);
        assert_eq!(fs::metadata(volume.join("made")).unwrap().uid(), 1);
        // IDs that are somebody else's.
        let linux = container.linux();
        linux.uid_mappings[1] = range(1, 700_000, 10);
        as_daemon(|| {
            let text = container.try_run().unwrap_err().to_string();
            assert!(
                text.contains("newuidmap failed: newuidmap: uid range"),
                "{text}"
            );
        });
    } else {
        println!("skipped in part: newuidmap (package uidmap) is missing");
    }
    // Themselves alone: no program is needed.
    let linux = container.linux();
    linux.uid_mappings = vec![range(0, 1, 1)];
    linux.gid_mappings = vec![range(0, 1, 1)];
    container.process().args = ["sh", "-c", "id -u; cat /proc/self/setgroups; touch /own"]
        .map(str::to_owned)
        .to_vec();
    as_daemon(|| {
        let outcome = container.run();
        assert_eq!(outcome.stdout, "0\ndeny\n", "{outcome:?}");
        container.process().args = vec!["sleep".into(), "1000".into()];
        let (running, _output) = container.start();
        let outcome = run_in(&running, "id -u; id -g", None);
        assert_eq!(outcome.stdout, "0\n0\n", "{outcome:?}");
        wharf_container_runtime::kill(&running, rustix::process::Signal::KILL).unwrap();
        reap(running.pid);
    });
    assert_eq!(fs::metadata(root.join("own")).unwrap().uid(), 1);
    container.config.rootfs = RootFilesystem::Layer(root);
    as_daemon(|| {
        assert_eq!(
            container.try_run().unwrap_err().to_string(),
            "layers are shown through a user namespace's mapping, which needs privileges"
        );
    });
}

fn refused(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["true"]);
    container.linux().uid_mappings = vec![range(0, 1, 1)];
    assert_eq!(
        container.error().to_string(),
        "linux.uidMappings and linux.gidMappings need a user namespace"
    );
    map(&mut container, &[range(0, 1, 1)]);
    container.linux().gid_mappings.clear();
    assert_eq!(
        container.error().to_string(),
        "linux: gidMappings are missing"
    );
    container.linux().gid_mappings = vec![range(0, 5, 2), range(1, 9, 1)];
    assert_eq!(
        container.error().to_string(),
        "linux: gidMappings overlap (0 5 2 and 1 9 1)"
    );
    let mut container = sandbox.container(&["true"]);
    let volume = sandbox.directory("volume");
    container
        .config
        .spec
        .mounts
        .push(bind(&volume, "/x", &["bind", "idmap"]));
    assert_eq!(
        container.error().to_string(),
        "mount option idmap without mappings needs a user namespace of the container"
    );
    let mut container = mapped(sandbox, &["true"]);
    container.config.spec.mounts.push(bind(
        std::path::Path::new("/proc/sys"),
        "/x",
        &["bind", "idmap"],
    ));
    assert_eq!(
        container.error().to_string(),
        "the file system of /proc/sys cannot map IDs (idmapped mounts)"
    );
}
