//! Containers with `--rm`: what is kept about them, and that it goes with them.

use std::collections::BTreeSet;

use wharf_tests::traces::{nothing_is_left, traces};
use wharf_tests::waiting::{becomes, eventually};
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
    let daemon = Daemon::start(&host);
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
    let daemon = Daemon::start(&host);
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

/// The root a container of `busybox` is shown, as the kernel lists it.
fn shown_root(daemon: &Daemon<'_>) -> String {
    let script = "grep -o 'upperdir=[^,]*' /proc/self/mountinfo";
    let run = ["run", "--rm", "busybox", "sh", "-c", script];
    daemon.docker(&run).ok().text()
}

/// Runs a container, and waits until the next one of its image has its root mounted.
#[track_caller]
fn next_is_made_ahead(daemon: &Daemon<'_>) {
    daemon.docker(&["run", "--rm", "busybox", "true"]).ok();
    let mounted = format!(
        "ls -d {}/data/containers-rw/ready-*/work/work/incompat",
        daemon.host.join("engine").display()
    );
    becomes(&0, || daemon.host.sh(&mounted).code);
}

#[test]
fn what_is_made_ahead_is_used_and_never_shows_another_image() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    next_is_made_ahead(&daemon);
    // Its mount shows a moment before it can be had.
    eventually("what is made ahead is used", || {
        let root = shown_root(&daemon);
        if root.contains("/ready-") {
            Ok(())
        } else {
            Err(root)
        }
    });
    next_is_made_ahead(&daemon);

    // The same name, something else: what is there for it shows what was.
    host.sh(
        "mkdir -p /run/other/bin && cp /bin/busybox /run/other/bin/cat && echo new > /run/other/marker \
&& tar -C /run/other -cf /run/other.tar .",
    )
    .ok();
    daemon.docker(&["import", "/run/other.tar", "busybox"]).ok();
    let marker = ["run", "--rm", "busybox", "cat", "/marker"];
    daemon.docker(&marker).ok().is("new");
    daemon.docker(&marker).ok().is("new");

    // The same image once more, of layers made anew.
    daemon.docker(&["rmi", "-f", "busybox"]).ok();
    daemon.docker(&["image", "prune", "-af"]).ok();
    daemon.load(&fixtures::busybox());
    next_is_made_ahead(&daemon);
    daemon.docker(&["rmi", "-f", "busybox"]).ok();
    daemon.load(&fixtures::busybox());
    assert!(!shown_root(&daemon).is_empty());
}

#[test]
fn what_is_made_ahead_belongs_to_one_container() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    let before = kept(&daemon);
    let create = |daemon: &Daemon<'_>, name: &str| {
        next_is_made_ahead(daemon);
        let create = ["create", "--rm", "--name", name, "busybox", "cat", "/etc/f"];
        daemon.docker(&create).ok();
    };
    // Its layer can be used before it starts.
    create(&daemon, "filled");
    host.sh("echo copied > /run/f").ok();
    daemon.docker(&["cp", "/run/f", "filled:/etc/f"]).ok();
    daemon.docker(&["start", "-a", "filled"]).ok().is("copied");

    create(&daemon, "removed");
    daemon.docker(&["rm", "removed"]).ok();

    create(&daemon, "kept");
    daemon.docker(&["cp", "/run/f", "kept:/etc/f"]).ok();
    create(&daemon, "mounted");
    daemon.kill();
    daemon.restart();
    daemon.docker(&["start", "-a", "kept"]).ok().is("copied");
    daemon
        .docker(&["start", "-a", "mounted"])
        .code(1)
        .complains("can't open '/etc/f'");
    // An orderly end takes along what nobody has got: its work directories are barred to their owner.
    next_is_made_ahead(&daemon);
    assert_eq!(daemon.terminate(), 0);
    let layers = host.join("engine").join("data/containers-rw");
    host.sh(&format!("find {} -name incompat", layers.display()))
        .ok()
        .is("");
    daemon.restart();
    assert_eq!(daemon.docker(&["ps", "-aq"]).ok().stdout, "");
    nothing_is_left(&before, || kept(&daemon));
}
