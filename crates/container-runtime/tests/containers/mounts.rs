//! Binds, propagation, attributes, other root file systems.

use std::fs;
use std::path::Path;

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
    ("tmpfs_takes_options_and_mode", tmpfs),
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
