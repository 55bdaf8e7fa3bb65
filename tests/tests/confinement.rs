//! What keeps a container in its place, from outside: defaults, what can be asked for, and attacks
//! that need the whole engine. The runtime's own are in
//! `crates/container-runtime/tests/containers/escapes`.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use wharf_tests::bundle::Bundle;
use wharf_tests::waiting::eventually;
use wharf_tests::{Daemon, Host, fixtures};

fn with_busybox(host: &Host) -> Daemon<'_> {
    let daemon = Daemon::start(host);
    daemon.load(&fixtures::busybox());
    daemon
}

/// CVE-2019-5736: a container runs the runtime's own program (`/proc/self/exe` as entrypoint, or
/// as a script's interpreter), keeps its file open and overwrites it once nobody executes it: the
/// next container's runtime is the attacker's, on the host. Guard: the shim is executed from a
/// sealed file in memory (`sys/memfd.rs`, `engine/container/shim_spawn.rs`), which nobody can
/// write, whoever has it open.
#[test]
fn cve_2019_5736_our_program_cannot_be_overwritten() {
    let host = Host::new();
    let daemon = with_busybox(&host);
    daemon
        .docker(&[
            "run", "-d", "--init", "--name", "victim", "busybox", "sleep", "1000",
        ])
        .ok();
    // From inside: PID 1 is our program.
    daemon
        .docker(&[
            "exec",
            "victim",
            "sh",
            "-c",
            "echo overwritten >/proc/1/exe",
        ])
        .code(1);
    daemon.docker(&["run", "--rm", "busybox", "/proc/self/exe"]);
    daemon.docker(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "echo '#!/proc/self/exe' >/x; chmod +x /x; exec /x",
    ]);
    // With its file in hand when nobody executes it any more.
    let pid = daemon
        .docker(&["inspect", "-f", "{{.State.Pid}}", "victim"])
        .ok();
    let path = format!(
        "/proc/{}/root/proc/{}/exe",
        host.init_pid(),
        pid.stdout.trim()
    );
    let program = File::open(path).unwrap();
    daemon.docker(&["rm", "-f", "victim"]).ok();
    daemon.kill();
    let again = format!("/proc/self/fd/{}", program.as_raw_fd());
    let written = eventually("nobody executes the program", || {
        match File::options().write(true).open(&again) {
            // The shim that was kept ready is still on its way out.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                Err(error.to_string())
            }
            Err(error) => Ok(Err(error)),
            Ok(mut file) => Ok(file.write_all(b"overwritten")),
        }
    });
    let error = written.unwrap_err();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::PermissionDenied,
        "{error}"
    );
}

/// CVE-2024-21626 by way of the engine: whatever number the working directory names, it is none of
/// the daemon's or the shim's directories.
#[test]
fn cve_2024_21626_working_directories_are_the_containers() {
    let host = Host::new();
    let daemon = with_busybox(&host);
    daemon
        .docker(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    for number in 3..20 {
        let directory = format!("/proc/self/fd/{number}");
        for out in [
            daemon.docker(&["run", "--rm", "-w", &directory, "busybox", "pwd"]),
            daemon.docker(&["exec", "-w", &directory, "box", "pwd"]),
        ] {
            assert!(out.code != 0 || out.stdout == "/\n", "{number}: {out:?}");
        }
    }
}

/// CVE-2022-23648 (containerd): the image's volume is a link to a directory of the host, whose
/// files are copied into the new volume. Guard: the image's files are read below its own root
/// (`sys/rootfs.rs`).
#[test]
fn cve_2022_23648_image_volumes_hold_nothing_of_the_hosts() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    let secret = host.join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("key"), "secret").unwrap();
    let target = secret.display().to_string();
    for link in [target.clone(), format!("../../../../../../../..{target}")] {
        daemon.load(&with_linked_volume(&host, &link));
        daemon
            .docker(&[
                "create",
                "--name",
                "box",
                "evil",
                "sh",
                "-c",
                "ls -R /data/; true",
            ])
            .ok();
        let out = daemon.docker(&["start", "-a", "box"]);
        assert!(!out.stdout.contains("key"), "{out:?}");
        let copied = host.sh(&format!("find {} -name key", daemon.data_root().display()));
        assert_eq!(copied.stdout, "", "{copied:?}");
        daemon.docker(&["rm", "-f", "-v", "box"]).ok();
    }
}

/// An image whose volume `/data` is a link to `target`.
fn with_linked_volume(host: &Host, target: &str) -> std::path::PathBuf {
    let layer = host.join("layer.tar");
    let mut tar = tar::Builder::new(File::create(&layer).unwrap());
    tar.append_path_with_name("/bin/busybox", "bin/busybox")
        .unwrap();
    for (path, target) in [
        ("bin/sh", "busybox"),
        ("bin/ls", "busybox"),
        ("data", target),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        header.set_mtime(1_700_000_000);
        tar.append_link(&mut header, path, target).unwrap();
    }
    tar.finish().unwrap();
    fixtures::archive(
        host.path(),
        "evil",
        &[layer],
        &serde_json::json!({"Cmd": ["sh"], "Volumes": {"/data": {}}, "Env": ["PATH=/bin"]}),
    )
}

/// CVE-2020-15257 (containerd): the shim's control socket was an abstract one, which a container
/// with the host's network could connect to. Guard: ours are files in a directory of root's.
/// CVE-2024-25621, CVE-2021-41091 (containerd, moby): the data root was open to every user of the
/// host, who could run set-user-ID programs of containers there.
#[test]
fn cve_2020_15257_nothing_of_ours_is_open_to_others() {
    let host = Host::new();
    let daemon = with_busybox(&host);
    let out = daemon.docker(&[
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "grep",
        "-c",
        "@",
        "/proc/net/unix",
    ]);
    assert_eq!(out.stdout, "0\n", "{out:?}");
    for directory in [daemon.data_root(), daemon.exec_root()] {
        let mode = host.sh(&format!("stat -c %a {}", directory.display())).ok();
        assert!(mode.stdout.trim().ends_with('0'), "{directory:?}: {mode:?}");
    }
    // Also where somebody else made it, and the files with containers' environments by themselves.
    let root = daemon.data_root().display().to_string();
    host.sh(&format!("chmod 755 {root}")).ok();
    daemon.kill();
    daemon.restart();
    let modes = host.sh(&format!(
        "stat -c %a {root} {root}/state.redb {root}/events.log"
    ));
    modes.ok().is("750\n600\n600");
    let out = host.sh(&format!(
        "find {} {} -type s -perm /006",
        daemon.data_root().display(),
        daemon.exec_root().display()
    ));
    assert_eq!(out.stdout, "", "{out:?}");
}

/// CVE-2026-53495 (containerd): execs whose children keep their output open were waited for without
/// end, and each held memory until there was none. Guard: what an exec's children write after its
/// end is nobody's (`finish_execs` in `shim/container.rs`).
#[test]
fn cve_2026_53495_nothing_is_kept_of_execs_whose_children_go_on() {
    let host = Host::new();
    let daemon = with_busybox(&host);
    let run = ["run", "-d", "--name", "box", "busybox", "sleep", "1000"];
    daemon.docker(&run).ok();
    let pid = daemon
        .docker(&["inspect", "-f", "{{.State.Pid}}", "box"])
        .ok()
        .text();
    let parent = format!("sed -n 's/^PPid:\\t//p' /proc/{}/status", pid.trim());
    let shim = host.sh(&parent).ok().text();
    let count = || {
        let list = format!("ls /proc/{}/fd | wc -l", shim.trim());
        host.sh(&list).ok().text().trim().parse::<u32>().unwrap()
    };
    let child = ["exec", "-d", "box", "sh", "-c", "sleep 1000 & echo; exit 0"];
    // Attached, it ends with the process, too.
    daemon
        .docker(&["exec", "box", "sh", "-c", "sleep 1000 & echo x"])
        .ok()
        .is("x");
    daemon.docker(&child).ok();
    let before = count();
    for _ in 0..20 {
        daemon.docker(&child).ok();
    }
    eventually("the descriptors of execs go", || {
        let now = count();
        if now <= before + 3 {
            Ok(())
        } else {
            Err(format!("from {before} to {now}"))
        }
    });
}

/// The defaults, and what `--security-opt` makes of them, for the program and for an exec.
#[test]
fn defaults_and_options() {
    let host = Host::new();
    let daemon = with_busybox(&host);
    let status =
        "grep -E '^(CapInh|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t\\n'";
    let defaults = "CapInh:0000000000000000CapBnd:00000000a80425fbCapAmb:0000000000000000NoNewPrivs:0Seccomp:2";
    let run = |options: &[&str], script: &str| {
        let arguments = [&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat();
        daemon.docker(&arguments)
    };
    run(&[], status).ok().is(defaults);
    daemon
        .docker(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    daemon
        .docker(&["exec", "box", "sh", "-c", status])
        .ok()
        .is(defaults);
    run(&["--security-opt", "seccomp=unconfined"], status)
        .ok()
        .says("Seccomp:0");
    run(&["--security-opt", "no-new-privileges"], status)
        .ok()
        .says("NoNewPrivs:1");
    // A process that joins does not make directories.
    let out = daemon.docker(&["exec", "-w", "/nope/deep", "box", "ls", "-ld", "/nope"]);
    assert!(
        out.code != 0 && format!("{out:?}").contains("chdir to cwd"),
        "{out:?}"
    );
    daemon.docker(&["exec", "box", "ls", "/nope"]).code(1);
    let profile = host.join("profile.json");
    std::fs::write(
        &profile,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
            [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#,
    )
    .unwrap();
    let option = format!("seccomp={}", profile.display());
    run(&["--security-opt", &option], "mkdir /x 2>&1")
        .code(1)
        .says("No space left on device");
    let kept = [
        "run",
        "-d",
        "--name",
        "kept",
        "--security-opt",
        option.as_str(),
    ];
    daemon
        .docker(&[&kept[..], &["busybox", "sleep", "1000"]].concat())
        .ok();
    daemon
        .docker(&["exec", "--privileged", "kept", "mkdir", "/x"])
        .code(1)
        .complains("No space left on device");
    // Also where everything else is allowed.
    let privileged = ["--privileged", "--security-opt", option.as_str()];
    run(&privileged, "mkdir /x 2>&1")
        .code(1)
        .says("No space left on device");
    run(
        &["--privileged"],
        "mkdir /x; grep Seccomp: /proc/self/status",
    )
    .ok()
    .says("Seccomp:\t0");
    // Paths the kernel's settings are behind.
    let write = "exec 2>&1; echo 1 >/proc/sys/kernel/panic";
    run(&[], write).code(1).says("Read-only file system");
    let covered = "grep -c ' /proc/' /proc/self/mounts";
    assert_ne!(run(&[], covered).ok().stdout, "0\n");
    run(&["--security-opt", "systempaths=unconfined"], covered)
        .code(1)
        .is("0");
    // What this host cannot enforce is refused, not forgotten.
    let refused = |option: &str, why: &str| {
        let out = run(&["--security-opt", option], "true").code(125);
        assert!(out.stderr.contains(why), "{out:?}");
    };
    let enforced = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !enforced.is_ok_and(|text| text.starts_with('Y')) {
        refused("apparmor=mine", "AppArmor is not enabled");
    }
    refused("label=type:mine_t", "SELinux is not enabled");
    refused(
        "label=colour:red",
        "invalid --security-opt label=colour:red",
    );
    run(&["--security-opt", "label=disable"], "true").ok();
}

/// AppArmor, where the kernel has it: the default profile is there, is entered, and denies. With our
/// client: in the guest, which is emulated, the reference client takes seconds to start.
#[test]
fn apparmor_confines() {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.starts_with('Y')) {
        return wharf_tests::skip("apparmor_confines", "the kernel has no AppArmor");
    }
    let host = Host::new();
    let daemon = with_busybox(&host);
    daemon
        .wharf(&["info", "-f", "{{.SecurityOptions}}"])
        .ok()
        .says("name=apparmor");
    let run = |options: &[&str], script: &str| {
        let arguments = [&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat();
        daemon.wharf(&arguments)
    };
    let current = "cat /proc/self/attr/current";
    run(&[], current).ok().says("docker-default (enforce)");
    let free = ["--security-opt", "apparmor=unconfined"];
    run(&free, current).ok().says("unconfined");
    run(&["--privileged"], current).ok().says("unconfined");
    // What nothing else denies: a setting of the kernel's (written as it is) where /proc is not
    // read-only, and a mount with the capability to make it.
    let setting = "exec 2>&1; v=$(cat /proc/sys/kernel/panic); echo $v >/proc/sys/kernel/panic";
    let open = ["--security-opt", "systempaths=unconfined"];
    run(&open, setting).code(1).says("Permission denied");
    run(&[open, free].concat(), setting).ok();
    let mount = "mount -t tmpfs none /mnt 2>&1";
    let able = [
        "--cap-add",
        "SYS_ADMIN",
        "--security-opt",
        "seccomp=unconfined",
    ];
    let denied = run(&able, &format!("mkdir -p /mnt; {mount}"));
    assert_ne!(denied.code, 0, "{denied:?}");
    run(
        &[&able[..], &free].concat(),
        &format!("mkdir -p /mnt; {mount}"),
    )
    .ok();
    // Execs too, and `inspect` says so.
    daemon
        .wharf(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    daemon
        .wharf(&["exec", "box", "cat", "/proc/self/attr/current"])
        .ok()
        .says("docker-default (enforce)");
    daemon
        .wharf(&["inspect", "-f", "{{.AppArmorProfile}}", "box"])
        .ok()
        .is("docker-default");
    // What the kernel answers is what Docker's client takes for a missing program.
    run(&["--security-opt", "apparmor=none-such"], "true")
        .code(127)
        .complains("\"none-such\" (AppArmor profile): no such file or directory");
}

/// A profile that leaves calls to a supervisor, which is told which container asks.
#[test]
fn supervisor_of_a_container() {
    let host = Host::new();
    let daemon = with_busybox(&host);
    let socket = host.join("agent");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let profile = host.join("profile.json");
    let json = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket, "listenerMetadata": "mine",
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}],
    });
    std::fs::write(&profile, json.to_string()).unwrap();
    let option = format!("seccomp={}", profile.display());
    let id = daemon
        .docker(&[
            "run",
            "-d",
            "--security-opt",
            &option,
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    let (mut connection, _) = listener.accept().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut connection, &mut text).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["metadata"], "mine");
    assert_eq!(document["state"]["id"], id.stdout.trim());
    assert_eq!(document["state"]["status"], "creating");
}

/// Masks and standard input are the host's null device, whose mode and owner are nothing that a
/// container's root may touch (`chmod 0 /dev/stdin`).
#[test]
fn the_hosts_null_device_stays_what_it_is() {
    let host = Host::new();
    // Nodes of the test's own are the host's: should it fail, the machine's are not hurt.
    host.sh(&format!(
        "mkdir {0} && mount -t tmpfs tmpfs {0} && cd {0} && \
         mknod -m 666 null c 1 3 && mknod -m 666 zero c 1 5 && mknod -m 666 full c 1 7 && \
         for name in *; do mount --bind $name /dev/$name; done",
        host.join("nodes").display()
    ))
    .ok();
    let daemon = with_busybox(&host);
    let attack = "for f in /dev/stdin /proc/self/fd/0 /proc/keys /proc/timer_list; do \
        chmod 600 $f 2>&1; chown 1000:1000 $f 2>&1; done; \
        head -c 1 < /dev/stdin | wc -c; head -c 1 /proc/keys | wc -c";
    let unchanged = || {
        host.sh("stat -c '%a %u:%g' /dev/null /dev/zero /dev/full | uniq")
            .ok()
            .is("666 0:0");
    };
    for user in ["0", "1000:1000"] {
        let run = ["run", "--rm", "-u", user, "busybox", "sh", "-c", attack];
        let output = daemon.docker(&run).ok();
        unchanged();
        output.says("\n0\n0");
    }
    daemon
        .docker(&["run", "-d", "--name", "target", "busybox", "sleep", "1000"])
        .ok();
    for user in ["0", "1000:1000"] {
        daemon
            .docker(&["exec", "-u", user, "target", "sh", "-c", attack])
            .ok()
            .says("\n0\n0");
        unchanged();
    }
    // The same by the runtime's own command line, whose caller gives the streams.
    let bundle = Bundle::new(&host, "attack", attack);
    let command = bundle.command(&["run", "attack"]);
    // Opened inside, where the device is the test's own.
    let line: Vec<_> = command.get_args().map(|word| word.to_owned()).collect();
    let script = line
        .iter()
        .position(|word| word == "-c")
        .expect("a shell line")
        + 1;
    let redirected = format!("{} < /dev/null", line[script].display());
    let mut inside = std::process::Command::new(command.get_program());
    inside
        .args(&line[..script])
        .arg(redirected)
        .args(&line[script + 1..]);
    wharf_tests::run(inside, None).ok().says("\n0\n0");
    unchanged();
    // Without a tty, a device stays whose it is, also if the program's user is another one.
    let mut bundle = Bundle::new(&host, "user", "head -c 1 > /dev/null");
    bundle.config["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000});
    bundle.write();
    host.sh(&format!(
        "cd {}; {} runtime --root {} run user < /dev/full > /dev/full 2> /dev/zero",
        bundle.join("").display(),
        wharf_tests::wharf_binary().display(),
        bundle.state_root().display(),
    ));
    unchanged();
}
