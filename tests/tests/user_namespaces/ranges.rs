//! Ranges of ids given out by the engine: no two containers have the same, and each is free again
//! when nobody has it any more.

use wharf_tests::Daemon;

use crate::{daemon, host, inspect, owner, uid_map};

#[test]
fn automatic_ranges_differ_and_share_a_volume() {
    let host = host();
    let daemon = daemon(&host, &[]);
    for name in ["one", "two"] {
        daemon
            .wharf(&[
                "run",
                "-d",
                "--name",
                name,
                "--userns=auto",
                "-v",
                "shared:/shared",
                "busybox",
                "sleep",
                "600",
            ])
            .ok();
    }
    daemon
        .wharf(&[
            "run",
            "-d",
            "--name",
            "three",
            "--userns=auto:size=1000,uidmapping=5:4700:1",
            "busybox",
            "sleep",
            "600",
        ])
        .ok();
    let (one, two) = (uid_map(&daemon, "one"), uid_map(&daemon, "two"));
    assert_eq!(one, ["0:1879048192:65536"]);
    assert_eq!(two, ["0:1879113728:65536"]);
    assert_eq!(
        uid_map(&daemon, "three"),
        ["0:1879179264:5", "5:4700:1", "6:1879179269:994"]
    );
    assert_eq!(
        inspect(&daemon, "three")["State"]["IDMappings"]["UidMap"],
        serde_json::json!(["0:1879179264:5", "5:4700:1", "6:1879179269:994"])
    );
    // Each writes; each sees the other's files as its own ids; the host has plain ids.
    daemon.docker(&["exec", "one", "touch", "/shared/one"]).ok();
    daemon
        .docker(&["exec", "--user", "33", "two", "touch", "/shared/two"])
        .code(1)
        .complains("Permission denied");
    daemon
        .docker(&["exec", "two", "chmod", "1777", "/shared"])
        .ok();
    daemon
        .docker(&["exec", "--user", "33:33", "two", "touch", "/shared/two"])
        .ok();
    for name in ["one", "two"] {
        daemon
            .docker(&[
                "exec",
                name,
                "stat",
                "-c",
                "%u:%g",
                "/shared/one",
                "/shared/two",
            ])
            .ok()
            .is("0:0\n33:33");
    }
    let volume = daemon.data_root().join("volumes/shared/_data");
    assert_eq!(owner(&host, &volume.join("one")), "0:0");
    assert_eq!(owner(&host, &volume.join("two")), "33:33");
    // A process of the one has no rights over the other's: they are different users of the host.
    let pid = inspect(&daemon, "one")["State"]["Pid"].to_string();
    host.sh(&format!("stat -c %u /proc/{pid}"))
        .ok()
        .is("1879048192");
    daemon
        .docker(&["top", "one", "-eo", "pid,uid,comm"])
        .ok()
        .says("1879048192");
    // A range is free again with its container.
    daemon.docker(&["rm", "-f", "one"]).ok();
    daemon
        .wharf(&[
            "run",
            "-d",
            "--name",
            "four",
            "--userns=auto",
            "busybox",
            "sleep",
            "600",
        ])
        .ok();
    assert_eq!(uid_map(&daemon, "four"), one);
    // Not more than there is.
    host.sh("echo containers:5000000:100000 > /etc/subuid; cp /etc/subuid /etc/subgid")
        .ok();
    daemon
        .wharf(&[
            "run",
            "-d",
            "--name",
            "five",
            "--userns=auto",
            "busybox",
            "sleep",
            "600",
        ])
        .ok();
    assert_eq!(uid_map(&daemon, "five"), ["0:5000000:65536"]);
    daemon
        .wharf(&["run", "--rm", "--userns=auto", "busybox", "true"])
        .code(125)
        .complains(
            "not enough unused user ids for a user namespace of 65536: 34464 of 100000 are left",
        );
    daemon
        .wharf(&[
            "run",
            "--rm",
            "--userns=auto:size=34464",
            "busybox",
            "cat",
            "/proc/self/uid_map",
        ])
        .ok()
        .says("5065536");
}

#[test]
fn ranges_survive_the_daemon_and_end_with_their_containers() {
    let host = host();
    let daemon = daemon(&host, &[]);
    let create = |daemon: &Daemon<'_>, name: &str| {
        daemon
            .wharf(&["create", "--name", name, "--userns=auto", "busybox", "true"])
            .ok();
        inspect(daemon, name)["State"]["IDMappings"]["UidMap"][0].clone()
    };
    let first = create(&daemon, "box-a");
    let second = create(&daemon, "box-b");
    assert_ne!(first, second);
    daemon.kill();
    daemon.restart();
    let third = create(&daemon, "box-c");
    assert!(third != first && third != second);
    assert_eq!(
        inspect(&daemon, "box-a")["State"]["IDMappings"]["UidMap"][0],
        first
    );
    daemon.docker(&["rm", "box-a"]).ok();
    daemon.kill();
    daemon.restart();
    assert_eq!(create(&daemon, "box-d"), first);
    // A container that could not be made holds nothing.
    daemon
        .wharf(&[
            "create",
            "--userns=auto",
            "-v",
            "/a:/b:idmap=uids=@70000-70000-1",
            "busybox",
            "true",
        ])
        .code(1)
        .complains("the container has no id 70000");
    daemon.docker(&["rm", "box-d"]).ok();
    assert_eq!(create(&daemon, "box-e"), first);
    // One that joined another's namespace may outlive its owner, and holds the range as long.
    daemon.docker(&["rm", "box-e"]).ok();
    let run = |name: &str, mode: &str| {
        daemon
            .wharf(&[
                "run", "-d", "--name", name, mode, "busybox", "sleep", "1000",
            ])
            .ok();
    };
    run("owner", "--userns=auto");
    run("guest", "--userns=container:owner");
    daemon.docker(&["rm", "-f", "owner"]).ok();
    let held = uid_map(&daemon, "guest");
    run("stranger", "--userns=auto");
    assert_ne!(uid_map(&daemon, "stranger"), held);
    daemon.docker(&["rm", "-f", "guest"]).ok();
    run("heir", "--userns=auto");
    assert_eq!(uid_map(&daemon, "heir"), held);
    // The host's root is part of what is needed.
    daemon
        .wharf(&[
            "create",
            "--userns=private:uidmapping=5:100000:10",
            "busybox",
            "true",
        ])
        .code(1)
        .complains("needs a mapping of the container's id 0");
}
