//! Binds, propagation, attributes, other root file systems.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use wharf_container_runtime::{NamespaceFd, RootFilesystem};
use wharf_oci::runtime::{Mount, NamespaceKind};

use crate::Test;
use crate::sandbox::{Sandbox, end, finish, pipes};

pub(crate) const TESTS: &[Test] = &[
    ("files_and_directories_are_bound", binds),
    (
        "read_only_binds_are_read_only_below_too",
        recursive_read_only,
    ),
    ("missing_sources_are_named", missing_source),
    ("kind_mismatch_is_dockers_error", mismatch),
    ("devices_made_ahead_are_the_same", dev_ahead),
    ("tmpfs_takes_options_and_mode", tmpfs),
    ("tmpfs_begins_with_what_it_covers", copied_up),
    ("mounts_are_changed_by_a_remount", remounted),
    ("binds_map_ids", mapped),
    ("roots_propagation_is_as_asked", root_propagation),
    ("propagation_is_as_asked", propagation),
    ("propagation_needs_a_shared_source", unshared),
    ("plain_directory_is_a_root", plain_directory),
    ("many_layers_are_stacked", layers),
    ("handed_over_namespaces_are_joined", handed_over),
    (
        "namespaces_of_another_container_are_joined",
        another_container,
    ),
];

fn bind(source: &Path, destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some("bind".into()),
        source: Some(source.display().to_string()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn binds(sandbox: &Sandbox) {
    let volume = sandbox.directory("volume");
    fs::write(volume.join("hosts"), "hosts file").unwrap();
    let script = "cat /etc/hosts; echo new >/data/x/file; grep -c ' /data/x ' /proc/mounts; \
                  touch /locked/y; grep ' /locked ' /proc/mounts";
    let mut container = sandbox.container(&["sh", "-c", script]);
    container.config.spec.mounts.extend([
        bind(&volume.join("hosts"), "/etc/hosts", &["rbind", "rprivate"]),
        bind(&volume, "/data/x", &["rbind", "rprivate"]),
        bind(&volume, "/locked", &["bind", "ro", "nosuid", "noexec"]),
    ]);
    let outcome = container.run();
    assert!(outcome.stdout.starts_with("hosts file1\n"), "{outcome:?}");
    assert!(outcome.stdout.contains("ro,nosuid,noexec"), "{outcome:?}");
    assert!(
        outcome.stderr.contains("/locked/y: Read-only file system"),
        "{outcome:?}"
    );
    assert_eq!(fs::read_to_string(volume.join("file")).unwrap(), "new\n");
}

fn dev_ahead(sandbox: &Sandbox) {
    let script = "cd /dev; stat -c '%n %f %u %g %t %T' . * pts/*; readlink fd stdin stdout stderr ptmx core; \
                  echo written > /dev/new && cat /dev/new; grep ' /dev' /proc/mounts";
    type Change<'a> = &'a dyn Fn(&mut Vec<Mount>);
    let outcome = |ahead: bool, change: Change<'_>| {
        let mut container = sandbox.container(&["sh", "-c", script]);
        change(&mut container.config.spec.mounts);
        if ahead {
            let dev = wharf_container_runtime::DevAhead::make().unwrap();
            container.config.dev = dev.map(Arc::new);
            assert!(container.config.dev.is_some());
        }
        let outcome = container.run();
        assert!(outcome.stdout.contains("\nwritten\n"), "{outcome:?}");
        (outcome.stdout, outcome.stderr)
    };
    let size = |mounts: &mut Vec<Mount>| {
        let dev = mounts.iter_mut().find(|it| it.destination == "/dev");
        dev.unwrap().options.retain(|it| !it.starts_with("size="));
    };
    let twice = |mounts: &mut Vec<Mount>| {
        let dev = mounts.iter().position(|it| it.destination == "/dev");
        let dev = mounts[dev.unwrap()].clone();
        mounts.insert(0, dev);
    };
    let alone = |mounts: &mut Vec<Mount>| {
        mounts.retain(|it| !it.destination.starts_with("/dev/"));
    };
    let changes: [Change<'_>; 4] = [&|_| {}, &size, &twice, &alone];
    for change in changes {
        assert_eq!(outcome(true, change), outcome(false, change));
    }
}

fn recursive_read_only(sandbox: &Sandbox) {
    let volume = sandbox.directory("volume");
    fs::create_dir(volume.join("below")).unwrap();
    {
        let tmpfs =
            wharf_sys::mount::new_filesystem("tmpfs", &[], rustix::mount::MountAttrFlags::empty())
                .unwrap();
        wharf_sys::mount::attach_at(
            &tmpfs,
            &std::ffi::CString::new(format!("{}/below", volume.display())).unwrap(),
        )
        .unwrap();
        for (option, writable) in [("ro", true), ("rro", false)] {
            let mut container = sandbox.container(&[
                "sh",
                "-c",
                "touch /data/top; touch /data/below/file && echo yes",
            ]);
            container.config.spec.mounts.push(bind(
                &volume,
                "/data",
                &["rbind", "rprivate", option],
            ));
            let outcome = container.run();
            assert_eq!(outcome.stdout == "yes\n", writable, "{outcome:?}");
            assert!(
                outcome.stderr.contains("/data/top: Read-only"),
                "{outcome:?}"
            );
        }
    }
}

fn missing_source(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["true"]);
    container
        .config
        .spec
        .mounts
        .push(bind(Path::new("/no/such/thing"), "/data", &["rbind"]));
    assert_eq!(
        container.error().to_string(),
        r#"error mounting "/no/such/thing" to rootfs at "/data": no such file or directory"#
    );
}

fn mismatch(sandbox: &Sandbox) {
    let volume = sandbox.directory("volume");
    let mut container = sandbox.container(&["true"]);
    container
        .config
        .spec
        .mounts
        .push(bind(&volume, "/etc/passwd", &["rbind"]));
    let text = container.error().to_string();
    assert!(
        text.contains(
            "not a directory: Are you trying to mount a directory onto a file (or vice-versa)?"
        ),
        "{text}"
    );
}

fn tmpfs(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["sh", "-c", "stat -c %a /run /root; df -k /run | tail -1 | awk '{print $2}'; grep ' /run ' /proc/mounts"]);
    let tmpfs = |destination: &str, options: &[&str]| Mount {
        destination: destination.into(),
        kind: Some("tmpfs".into()),
        source: Some("tmpfs".into()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    };
    container
        .config
        .spec
        .mounts
        .push(tmpfs("/run", &["noexec", "nosuid", "size=4m", "mode=1755"]));
    container
        .config
        .spec
        .mounts
        .push(tmpfs("/root", &["rprivate"]));
    let outcome = container.run();
    assert!(
        outcome.stdout.starts_with("1755\n755\n4096\n"),
        "{outcome:?}"
    );
    assert!(outcome.stdout.contains("nosuid,noexec"), "{outcome:?}");
    container
        .config
        .spec
        .mounts
        .push(tmpfs("/x", &["nonsense=1"]));
    assert_eq!(
        container.error().stage,
        wharf_container_runtime::Stage::Mount
    );
}

fn copied_up(sandbox: &Sandbox) {
    let script = "cat /data/file; readlink /data/link; stat -c '%u:%g %a' /data/dir /data/dir/deep; \
                  stat -c %Y /data/file; grep -c 'tmpfs /data tmpfs ro' /proc/mounts; test -p /data/fifo && echo fifo; touch /data/x";
    let mut container = sandbox.container(&["sh", "-c", script]);
    let lower = sandbox.directory("layer");
    let data = lower.join("data");
    fs::create_dir_all(data.join("dir")).unwrap();
    fs::write(data.join("file"), "content\n").unwrap();
    fs::write(data.join("dir/deep"), "x").unwrap();
    std::os::unix::fs::symlink("/elsewhere", data.join("link")).unwrap();
    let made = std::process::Command::new("/bin/sh")
        .args(["-c", "chown 33:4 dir dir/deep; chmod 1750 dir; chmod 4711 dir/deep; mkfifo fifo; touch -d @1000 file"])
        .current_dir(&data)
        .status();
    assert!(made.unwrap().success());
    let RootFilesystem::Overlay { lower: layers, .. } = &mut container.config.rootfs else {
        panic!("an overlay")
    };
    layers.insert(0, lower);
    container.config.spec.mounts.push(Mount {
        destination: "/data".into(),
        kind: Some("tmpfs".into()),
        source: Some("tmpfs".into()),
        options: ["tmpcopyup", "ro", "nosuid"].map(str::to_owned).to_vec(),
        ..Mount::default()
    });
    let outcome = container.run();
    assert_eq!(
        outcome.stdout, "content\n/elsewhere\n33:4 1750\n33:4 4711\n1000\n1\nfifo\n",
        "{outcome:?}"
    );
    assert!(outcome.stderr.contains("/data/x: Read-only"), "{outcome:?}");
}

fn remounted(sandbox: &Sandbox) {
    let volume = sandbox.directory("volume");
    let script = "grep -E ' /(data|run) ' /proc/mounts | cut -d' ' -f2,4";
    let mut container = sandbox.container(&["sh", "-c", script]);
    let mut again = bind(&volume, "/data", &["remount", "bind", "ro", "noexec"]);
    again.kind = None;
    container.config.spec.mounts.extend([
        bind(
            &volume,
            "/data",
            &["rbind", "rprivate", "nosuid", "rnoatime"],
        ),
        again,
        Mount {
            destination: "/run".into(),
            kind: Some("tmpfs".into()),
            options: ["sync", "dirsync", "noatime", "size=4m"]
                .map(str::to_owned)
                .to_vec(),
            ..Mount::default()
        },
    ]);
    let outcome = container.run();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(
        lines[0].starts_with("/data ro,nosuid,noexec,noatime"),
        "{outcome:?}"
    );
    assert!(
        lines[1].starts_with("/run rw,sync,dirsync,noatime,size=4096k"),
        "{outcome:?}"
    );
    container
        .config
        .spec
        .mounts
        .push(bind(Path::new("/x"), "/nothing", &["remount", "ro"]));
    assert_eq!(
        container.error().stage,
        wharf_container_runtime::Stage::Mount
    );
}

fn mapped(sandbox: &Sandbox) {
    let volume = sandbox.directory("volume");
    fs::create_dir(volume.join("below")).unwrap();
    // A mount of the same file system: not every kernel's tmpfs can map IDs.
    let place =
        |path: &std::path::Path| std::ffi::CString::new(path.display().to_string()).unwrap();
    let other = place(&sandbox.directory("other"));
    let other = wharf_sys::mount::clone_tree(rustix::fs::CWD, &other, false).unwrap();
    wharf_sys::mount::attach_at(&other, &place(&volume.join("below"))).unwrap();
    let range = |container_id, host_id| wharf_oci::runtime::IdMapping {
        container_id,
        host_id,
        size: 1,
    };
    for (option, below) in [("idmap", "0"), ("ridmap", "33")] {
        let script = "touch /data/new; stat -c %u /data /data/below";
        let mut container = sandbox.container(&["sh", "-c", script]);
        let mut mount = bind(&volume, "/data", &["rbind", "rprivate", option]);
        // Root's are web's and the other way round.
        mount.uid_mappings = vec![range(0, 33), range(33, 0)];
        mount.gid_mappings = mount.uid_mappings.clone();
        container.config.spec.mounts.push(mount);
        let outcome = container.run();
        assert_eq!(outcome.stdout, format!("33\n{below}\n"), "{outcome:?}");
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(volume.join("new")).unwrap());
        assert_eq!(owner, 33);
        fs::remove_file(volume.join("new")).unwrap();
    }
}

fn root_propagation(sandbox: &Sandbox) {
    let script = "awk '$5 == \"/\" { print $7 }' /proc/self/mountinfo | sed 's/:.*//'";
    let mut container = sandbox.container(&["sh", "-c", script]);
    for (word, field) in [
        ("shared", "shared"),
        ("rslave", "-"),
        ("private", "-"),
        ("runbindable", "unbindable"),
    ] {
        container.linux().rootfs_propagation = Some(word.into());
        assert_eq!(container.run().stdout, format!("{field}\n"), "{word}");
    }
    container.linux().rootfs_propagation = Some("public".into());
    assert_eq!(
        container.error().to_string(),
        "linux.rootfsPropagation \"public\" is not known"
    );

    // What the host mounts below a root that follows it appears in the container.
    let top = sandbox.directory("root");
    let lower = sandbox.path().join("lower");
    let copied = std::process::Command::new("/bin/cp")
        .arg("-a")
        .arg(lower.join("bin"))
        .arg(&top)
        .status();
    assert!(copied.unwrap().success());
    fs::create_dir(top.join("late")).unwrap();
    let place = std::ffi::CString::new(top.display().to_string()).unwrap();
    let shared = wharf_sys::mount::clone_tree(rustix::fs::CWD, &place, false).unwrap();
    let change = wharf_sys::mount::AttributeChange {
        propagation: Some(wharf_sys::mount::Propagation::Shared),
        ..Default::default()
    };
    wharf_sys::mount::change_attributes(&shared, c"", false, change).unwrap();
    wharf_sys::mount::attach_at(&shared, &place).unwrap();
    container.config.rootfs = RootFilesystem::Path(top.clone());
    container.linux().rootfs_propagation = Some("rslave".into());
    container.process().args = ["sh", "-c", "echo; read x; ls /late"]
        .map(str::to_owned)
        .to_vec();
    let (input, mut writer) = std::io::pipe().unwrap();
    let (stdio, [mut out, err]) = pipes();
    let wharf_container_runtime::Stdio::Streams([_, stdout, stderr]) = stdio else {
        panic!("streams")
    };
    let stdio = wharf_container_runtime::Stdio::Streams([input.into(), stdout, stderr]);
    let running = wharf_container_runtime::run(&container.config, Vec::new(), stdio).unwrap();
    std::io::Read::read_exact(&mut out, &mut [0]).unwrap();
    let late =
        wharf_sys::mount::new_filesystem("tmpfs", &[], rustix::mount::MountAttrFlags::empty())
            .unwrap();
    rustix::fs::mkdirat(&late, "seen", rustix::fs::Mode::RWXU).unwrap();
    let place = std::ffi::CString::new(top.join("late").display().to_string()).unwrap();
    wharf_sys::mount::attach_at(&late, &place).unwrap();
    std::io::Write::write_all(&mut writer, b"\n").unwrap();
    let outcome = finish(running, [out, err]);
    assert_eq!(outcome.stdout, "seen\n", "{outcome:?}");
    wharf_sys::mount::detach(&place).unwrap();
    let place = std::ffi::CString::new(top.display().to_string()).unwrap();
    wharf_sys::mount::detach(&place).unwrap();
}

fn propagation(sandbox: &Sandbox) {
    let volume = sandbox.directory("volume");
    {
        let place = std::ffi::CString::new(volume.display().to_string()).unwrap();
        let tmpfs =
            wharf_sys::mount::new_filesystem("tmpfs", &[], rustix::mount::MountAttrFlags::empty())
                .unwrap();
        wharf_sys::mount::attach_at(&tmpfs, &place).unwrap();
        let shared = wharf_sys::mount::AttributeChange {
            propagation: Some(wharf_sys::mount::Propagation::Shared),
            ..Default::default()
        };
        wharf_sys::mount::change_attributes(&tmpfs, c"", false, shared).unwrap();
        for (option, word) in [
            ("rshared", "shared:"),
            ("rslave", "master:"),
            ("rprivate", ""),
        ] {
            let script = "grep ' /data ' /proc/self/mountinfo";
            let mut container = sandbox.container(&["sh", "-c", script]);
            container
                .config
                .spec
                .mounts
                .push(bind(&volume, "/data", &["rbind", option]));
            let line = container.run().stdout;
            assert!(line.contains(word), "{option}: {line}");
            if word.is_empty() {
                assert!(
                    !line.contains("shared:") && !line.contains("master:"),
                    "{line}"
                );
            }
        }
    }
}

fn unshared(sandbox: &Sandbox) {
    let volume = sandbox.directory("volume");
    for (option, kind) in [("rshared", "shared"), ("rslave", "shared or slave")] {
        let mut container = sandbox.container(&["true"]);
        container
            .config
            .spec
            .mounts
            .push(bind(&volume, "/data", &["rbind", option]));
        let message = format!(
            "path {} is mounted on / but it is not a {kind} mount",
            volume.display()
        );
        assert_eq!(container.error().to_string(), message);
    }
}

fn plain_directory(sandbox: &Sandbox) {
    let mut container =
        sandbox.container(&["sh", "-c", "echo inside >/made-inside; cat /made-inside"]);
    let root = sandbox.directory("root");
    let lower = sandbox.path().join("lower");
    assert!(
        std::process::Command::new("/bin/cp")
            .arg("-a")
            .arg(lower.join("bin"))
            .arg(&root)
            .status()
            .unwrap()
            .success()
    );
    container.config.rootfs = RootFilesystem::Path(root.clone());
    assert_eq!(container.run().stdout, "inside\n");
    assert_eq!(
        fs::read_to_string(root.join("made-inside")).unwrap(),
        "inside\n"
    );
}

fn layers(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["sh", "-c", "cat /which; ls / | grep -c ^layer"]);
    let RootFilesystem::Overlay { lower, .. } = &mut container.config.rootfs else {
        panic!("an overlay")
    };
    for number in 0..100 {
        // Names longer than a mount option may be, and with characters that are special there.
        let layer = sandbox.directory(&format!("l:{},{}", number, "x".repeat(200)));
        fs::write(layer.join("which"), format!("{number}\n")).unwrap();
        fs::create_dir(layer.join(format!("layer{number}"))).unwrap();
        lower.insert(0, layer);
    }
    assert_eq!(container.run().stdout, "99\n100\n");
}

fn handed_over(sandbox: &Sandbox) {
    let fd = wharf_sys::namespace::in_new_network_namespace(|| {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open("/proc/thread-self/ns/net", flags, rustix::fs::Mode::empty()).unwrap()
    })
    .unwrap();
    let inode = rustix::fs::fstat(&fd).unwrap().st_ino;
    let container = sandbox.container(&["readlink", "/proc/self/ns/net"]);
    let (stdio, output) = pipes();
    let namespaces = vec![NamespaceFd {
        kind: NamespaceKind::Network,
        fd,
    }];
    let running = wharf_container_runtime::run(&container.config, namespaces, stdio).unwrap();
    assert_eq!(finish(running, output).stdout, format!("net:[{inode}]\n"));
}

fn another_container(sandbox: &Sandbox) {
    let (first, _output) = sandbox.container(&["sleep", "1000"]).start();
    let mut container = sandbox.container(&["sh", "-c", "cat /proc/1/comm; hostname; test $(readlink /proc/self/ns/ipc) = $(readlink /proc/1/ns/ipc) && echo same"]);
    container.config.spec.hostname = None;
    let namespaces = [
        NamespaceKind::Pid,
        NamespaceKind::Uts,
        NamespaceKind::Ipc,
        NamespaceKind::Network,
    ]
    .into_iter()
    .map(|kind| NamespaceFd {
        kind,
        fd: first.pidfd.try_clone().unwrap(),
    })
    .collect();
    let (stdio, output) = pipes();
    let running = wharf_container_runtime::run(&container.config, namespaces, stdio).unwrap();
    let outcome = finish(running, output);
    assert_eq!(outcome.stdout, "sleep\nbox\nsame\n", "{outcome:?}");
    end(first);
}
