//! Networks at their limits, end to end.

use wharf_tests::{Daemon, Host, fixtures};

/// The kernel's bridges have 1023 ports. Whoever comes after that is told so, and nothing of them is left.
#[test]
fn a_full_bridge_is_said_to_be_full() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    daemon
        .docker(&[
            "network",
            "create",
            "--subnet",
            "10.9.0.0/20",
            "-o",
            "com.docker.network.bridge.name=wide0",
            "wide",
        ])
        .ok();
    host.sh(
        "for i in $(seq 1023); do echo link add p$i master wide0 type veth peer name q$i; done > /run/ports; \
         ip -batch /run/ports",
    )
    .ok();
    let run = [
        "run",
        "--rm",
        "--name",
        "late",
        "--network",
        "wide",
        "busybox",
        "true",
    ];
    daemon.docker(&run).code(125).complains(
        "network wide is full: a bridge takes 1023 containers; put others into a second network",
    );
    host.sh("ip -o link show master wide0 | grep -c veth")
        .code(1)
        .is("0");
    daemon
        .docker(&["network", "inspect", "-f", "{{len .Containers}}", "wide"])
        .ok()
        .is("0");
    // One that is there already cannot be connected either, and goes on.
    daemon
        .docker(&["run", "-d", "--name", "there", "busybox", "sleep", "1000"])
        .ok();
    daemon
        .docker(&["network", "connect", "wide", "there"])
        .code(1)
        .complains("network wide is full");
    daemon
        .docker(&["exec", "there", "ls", "/sys/class/net"])
        .ok()
        .is("eth0\nlo");
    host.sh("ip link delete p7").ok();
    daemon.docker(&["network", "connect", "wide", "there"]).ok();
    daemon
        .docker(&["exec", "there", "ls", "/sys/class/net"])
        .ok()
        .is("eth0\neth1\nlo");
    daemon.docker(&["rm", "-f", "there"]).ok();
    // The kernel takes a namespace's ports away some time after its last process.
    host.eventually("[ $(ip -o link show master wide0 | wc -l) -lt 1023 ]");
    daemon.docker(&run).ok();
}

/// Only a missing image is pulled: what else does not exist is said.
#[test]
fn a_missing_network_is_not_a_missing_image() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    for (flags, words) in [
        (["--network", "nosuch"], "network nosuch not found"),
        (["--volumes-from", "nosuch"], "No such container: nosuch"),
        (["--volume-driver=nosuch", "-vdata:/x"], "nosuch"),
    ] {
        let mut all = vec!["run", "--rm"];
        all.extend(flags);
        all.extend(["busybox", "true"]);
        let output = daemon.wharf(&all).code(125).complains(words);
        assert!(
            !output.stderr.contains("Unable to find image"),
            "{}",
            output.stderr
        );
    }
    daemon
        .wharf(&["run", "--rm", "127.0.0.1:1/nosuch:1", "true"])
        .code(125)
        .complains("Unable to find image '127.0.0.1:1/nosuch:1' locally");
}
