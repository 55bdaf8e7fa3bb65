//! The ring around a shim (`crates/shim/src/ring.rs`), seen from outside: what a shim inside it
//! cannot do, and that everything goes on as without.

use wharf_tests::{Daemon, Host, eventually, fixtures, skip};

/// Starts the container `box`. `false`, said aloud, where the kernel has no Landlock.
fn start(test: &str, daemon: &Daemon<'_>, options: &[&str], script: &str) -> bool {
    if let Err(errno) = wharf_sys::landlock::version() {
        skip(test, &format!("the kernel has no Landlock: {errno}"));
        return false;
    }
    start_named(daemon, "box", options, script);
    true
}

fn start_named(daemon: &Daemon<'_>, name: &str, options: &[&str], script: &str) {
    let first = ["run", "-d", "--name", name];
    let words = ["busybox", "sh", "-c", script];
    daemon.docker(&[&first[..], options, &words].concat()).ok();
}

/// The shim's process ID, once its status says that it is inside.
fn wait_for_ring(daemon: &Daemon<'_>, host: &Host, name: &str) -> String {
    let pid = daemon
        .docker(&["inspect", "-f", "{{.State.Pid}}", name])
        .ok()
        .text();
    let parent = host
        .sh(&format!(
            "sed -n 's/^PPid:\\t//p' /proc/{}/status",
            pid.trim()
        ))
        .ok()
        .text();
    eventually("its shim is inside", || {
        let status = status(host, &parent);
        if status.contains("Seccomp:\t2") {
            Ok(())
        } else {
            Err(status)
        }
    });
    parent
}

fn status(host: &Host, pid: &str) -> String {
    let file = format!("cat /proc/{}/status", pid.trim());
    host.sh(&file).ok().text()
}

#[test]
fn a_shim_inside_has_few_privileges() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    if !start(
        "a_shim_inside_has_few_privileges",
        &daemon,
        &[],
        "sleep 1000",
    ) {
        return;
    }
    let shim = wait_for_ring(&daemon, &host, "box");
    let status = status(&host, &shim);
    // DAC_OVERRIDE, KILL, SYSLOG.
    for line in [
        "CapEff:\t0000000400000022",
        "CapPrm:\t0000000400000022",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
}

/// The file a shim compresses its log into has become a link to somebody else's file.
#[test]
fn a_shim_inside_writes_nothing_outside() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    let script = "mkfifo /go; cat /go; seq 1 5000; exit 7";
    let options = [
        "--log-opt",
        "max-size=4k",
        "--log-opt",
        "max-file=3",
        "--log-opt",
        "compress=true",
    ];
    if !start(
        "a_shim_inside_writes_nothing_outside",
        &daemon,
        &options,
        script,
    ) {
        return;
    }
    wait_for_ring(&daemon, &host, "box");
    let log = daemon
        .docker(&["inspect", "-f", "{{.LogPath}}", "box"])
        .ok()
        .text();
    let outside = host.join("outside");
    std::fs::write(&outside, "precious\n").unwrap();
    for number in 1..3 {
        let link = format!("{}.{number}.gz.tmp", log.trim());
        std::os::unix::fs::symlink(&outside, link).unwrap();
    }
    daemon
        .docker(&["exec", "box", "sh", "-c", "echo >/go"])
        .ok();
    daemon.docker(&["wait", "box"]).ok().is("7");
    assert_eq!(std::fs::read(&outside).unwrap(), b"precious\n");
    // What is lost is the compression.
    let out = daemon.docker(&["logs", "box"]).ok();
    assert!(out.stdout.ends_with("4999\n5000\n"), "{out:?}");
}

/// From here on everything a user may want of a container whose shim is inside.
#[test]
fn containers_go_on_inside() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    let script = "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 1000 & wait; done";
    if !start(
        "containers_go_on_inside",
        &daemon,
        &["--pids-limit", "50"],
        script,
    ) {
        return;
    }
    wait_for_ring(&daemon, &host, "box");
    let exec = |daemon: &Daemon<'_>, options: &[&str], words: &[&str]| {
        daemon.docker(&[&["exec"], options, &["box"], words].concat())
    };
    exec(
        &daemon,
        &[],
        &["sh", "-c", "echo out; echo err >&2; exit 9"],
    )
    .code(9)
    .is("out")
    .complains("err");
    exec(&daemon, &[], &["nonexistent"]).code(127);
    exec(&daemon, &["-u", "nobody-known"], &["true"]).code(126);
    daemon
        .docker_with_input(&["exec", "-i", "box", "cat"], b"typed")
        .ok()
        .is("typed");
    exec(
        &daemon,
        &["-t"],
        &["sh", "-c", "test -t 0 && echo terminal"],
    )
    .ok()
    .says("terminal");
    // Its own capabilities, all of them where asked for; the filter likewise.
    let status = "grep -E '^(CapEff|Seccomp):' /proc/self/status | tr -d '\\t\\n'";
    exec(&daemon, &[], &["sh", "-c", status])
        .ok()
        .is("CapEff:00000000a80425fbSeccomp:2");
    let all = exec(&daemon, &["--privileged"], &["sh", "-c", status]).ok();
    assert!(all.stdout.ends_with("Seccomp:0"), "{all:?}");
    assert!(!all.stdout.contains("a80425fb"), "{all:?}");
    // Orders are taken away.
    host.eventually(&format!(
        "! find {} -name 'exec-*' | grep .",
        daemon.exec_root().display()
    ));
    daemon.docker(&["pause", "box"]).ok();
    daemon.docker(&["unpause", "box"]).ok();
    daemon.docker(&["update", "--pids-limit", "60", "box"]).ok();
    daemon.docker(&["top", "box"]).ok().says("sleep 1000");
    daemon.kill();
    daemon.restart();
    exec(&daemon, &[], &["echo", "again"]).ok().is("again");
    let all = exec(&daemon, &["--privileged"], &["sh", "-c", status]).ok();
    assert!(all.stdout.ends_with("Seccomp:0"), "{all:?}");
    // Everybody, also who runs for somebody in the container.
    daemon.docker(&["exec", "-d", "box", "sleep", "2000"]).ok();
    daemon.docker(&["stop", "box"]).ok();
    let code = ["inspect", "-f", "{{.State.ExitCode}}", "box"];
    daemon.docker(&code).ok().is("7");
    daemon.docker(&["logs", "box"]).ok().is("hello\nbye");
    let id = daemon
        .docker(&["inspect", "-f", "{{.Id}}", "box"])
        .ok()
        .text();
    // Its cgroup goes a moment later.
    host.eventually(&format!(
        "! find /sys/fs/cgroup -type d -name '*{}*' | grep .",
        id.trim()
    ));
    daemon.docker(&["restart", "box"]).ok();
    exec(&daemon, &[], &["true"]).ok();
    daemon.docker(&["rm", "-f", "box"]).ok();
    // A container that shares others' processes is ended as a whole.
    start_named(
        &daemon,
        "shared",
        &["--pid", "host"],
        "sleep 3000 & exec sleep 4000",
    );
    wait_for_ring(&daemon, &host, "shared");
    daemon.docker(&["kill", "shared"]).ok();
    daemon.docker(&["wait", "shared"]).ok();
    host.eventually("! grep -lsx -a 'sleep.3000.' /proc/[0-9]*/cmdline");
}
