//! Containers with `--rm`: what is kept about them, and that it goes with them.

use std::collections::BTreeSet;

use wharf_tests::traces::{nothing_is_left, traces};
use wharf_tests::waiting::becomes;
use wharf_tests::{Daemon, Host, fixtures};

/// What the engine keeps about containers. The directories made ahead change with each.
fn kept(daemon: &Daemon<'_>) -> BTreeSet<String> {
    let files = "data/containers data/containers-rw exec/records exec/exits exec/containers \
-mindepth 1 -maxdepth 1 -not -name 'ready-*'";
    traces(daemon, files)
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
    let now = kept(&daemon);
    let is_record = |line: &String| line.starts_with("file exec/records/");
    assert!(now.iter().any(is_record), "{now:?}");

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
    // It is removed after its end is told.
    becomes(&String::new(), || daemon.docker(&["ps", "-aq"]).ok().stdout);
    // What others may look into outlives it, what is its own does not.
    becomes(&"named\n".to_owned(), || {
        daemon.docker(&volumes).ok().stdout
    });
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
    nothing_is_left(&before, || kept(&daemon));
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
    // Its shim may be about to tell its end.
    for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"]] {
        becomes(&String::new(), || daemon.docker(list).ok().stdout);
    }
    daemon.kill();
    daemon.restart();
    nothing_is_left(&before, || kept(&daemon));
}
