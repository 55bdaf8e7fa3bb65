//! Containers with `--rm`: what is kept about them, and that it goes with them.

use wharf_tests::{Daemon, Host, fixtures};

/// What the engine keeps about containers, by path. The directories made ahead change with each.
fn kept(daemon: &Daemon<'_>) -> String {
    let find = format!(
        "cd {} && find data/containers data/containers-rw exec/records exec/exits exec/containers \
-mindepth 1 -maxdepth 1 -not -name 'ready-*' | sort",
        daemon.host.join("engine").display()
    );
    daemon.host.sh(&find).ok().stdout
}

/// Expects what was there `before`: what is left of a run goes a moment after its end was told.
#[track_caller]
fn nothing_is_left(daemon: &Daemon<'_>, before: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while kept(daemon) != before {
        assert!(
            std::time::Instant::now() < deadline,
            "{} instead of {before}",
            kept(daemon)
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn containers_that_are_removed_with_their_end_outlive_the_daemon_only() {
    let host = Host::new();
    let mut daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    let before = kept(&daemon);
    let run = [
        "run",
        "-d",
        "--rm",
        "--name",
        "passing",
        "-v",
        "/anonymous",
        "-v",
        "named:/named",
        "busybox",
        "sleep",
        "1000",
    ];
    daemon.docker(&run).ok();
    daemon
        .docker(&[
            "exec",
            "passing",
            "sh",
            "-c",
            "echo kept > /file; echo kept > /named/file",
        ])
        .ok();
    // Its record is no record of the store's.
    assert!(kept(&daemon).contains("exec/records/"), "{}", kept(&daemon));

    daemon.kill();
    daemon.restart();
    daemon
        .docker(&["exec", "passing", "cat", "/file"])
        .ok()
        .says("kept");
    daemon.docker(&["rename", "passing", "renamed"]).ok();

    // A restart is not its end: the same layer is mounted once more.
    daemon.docker(&["restart", "-t", "0", "renamed"]).ok();
    daemon
        .docker(&["exec", "renamed", "cat", "/file"])
        .ok()
        .says("kept");
    daemon.docker(&["cp", "renamed:/file", "-"]).ok();
    daemon.kill();
    daemon.restart();
    let names = ["ps", "--format", "{{.Names}}"];
    assert_eq!(daemon.docker(&names).ok().stdout, "renamed\n");
    let volumes = ["volume", "ls", "-q"];
    assert_eq!(daemon.docker(&volumes).ok().stdout.lines().count(), 2);

    daemon.docker(&["stop", "-t", "0", "renamed"]).ok();
    daemon.docker(&["wait", "renamed"]);
    assert_eq!(daemon.docker(&["ps", "-aq"]).ok().stdout, "");
    // What others may look into outlives it, what is its own does not.
    assert_eq!(daemon.docker(&volumes).ok().stdout, "named\n");
    daemon
        .docker(&[
            "run",
            "--rm",
            "-v",
            "named:/named",
            "busybox",
            "cat",
            "/named/file",
        ])
        .ok()
        .says("kept");
    // Closes the shim's connection, and the next start finds nothing to do.
    daemon.kill();
    daemon.restart();
    assert_eq!(daemon.docker(&volumes).ok().stdout, "named\n");
    nothing_is_left(&daemon, &before);
}

#[test]
fn an_end_while_there_is_no_daemon_is_the_end() {
    let host = Host::new();
    let mut daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    let before = kept(&daemon);
    let run = [
        "run",
        "-d",
        "--rm",
        "-v",
        "/anonymous",
        "busybox",
        "sleep",
        "1000",
    ];
    let id = daemon.docker(&run).ok().stdout;
    let pid = ["inspect", "--format", "{{.State.Pid}}", id.trim()];
    let pid = daemon.docker(&pid).ok().stdout;
    daemon.kill();
    host.sh(&format!("kill -9 {pid}")).ok();
    daemon.restart();
    assert_eq!(daemon.docker(&["ps", "-aq"]).ok().stdout, "");
    assert_eq!(daemon.docker(&["volume", "ls", "-q"]).ok().stdout, "");
    daemon.kill();
    daemon.restart();
    nothing_is_left(&daemon, &before);
}
