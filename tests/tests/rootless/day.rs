//! A day of work as an ordinary user, and what is different in it.

use wharf_tests::day::{self, Registries};
use wharf_tests::user::{HOST_ADDRESS, User};
use wharf_tests::{Host, docker_client, fixtures, skip};

use crate::ready;

fn ready_with_client(test: &str) -> bool {
    if docker_client().is_none() {
        skip(test, "no docker client 28.x on this machine");
        return false;
    }
    ready(test)
}

#[test]
fn a_users_morning() {
    if !ready_with_client("a_users_morning") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    user.wharf(&["version"]).ok().says("Server:");
    day::morning(&user);
}

#[test]
fn a_users_noon() {
    if !ready_with_client("a_users_noon") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    user.wharf(&["version"]).ok();
    day::noon(&user);
}

#[test]
fn a_users_afternoon() {
    if !ready_with_client("a_users_afternoon") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    user.wharf(&["version"]).ok();
    day::afternoon(&user);
}

#[test]
fn a_users_evening() {
    if !ready_with_client("a_users_evening") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    let registries = Registries::start(&host);
    user.wharf(&["version"]).ok();
    day::evening(&user, &registries);
}

#[test]
fn what_is_different_for_a_user() {
    if !ready("what_is_different_for_a_user") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    user.wharf(&["version"]).ok();
    user.load(&fixtures::busybox());
    let docker = |arguments: &[&str]| user.docker(arguments);

    // Files belong to whom they should: root in there is the user, others are subordinate.
    let folder = user.home().join("src");
    user.sh("mkdir ~/src; echo mine > ~/src/mine").ok();
    let bind = format!("{}:/src", folder.display());
    docker(&[
        "run",
        "--rm",
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        "stat -c %u /src/mine; echo new > /src/new; touch /src/theirs; chown 1000:1000 /src/theirs",
    ])
    .ok()
    .is("0");
    user.sh("stat -c %u ~/src/new ~/src/theirs")
        .ok()
        .is(&format!("{}\n{}", user.outside(0), user.outside(1000)));

    // The host's network is the host's.
    docker(&[
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "ip",
        "addr",
        "show",
        "out0",
    ])
    .ok()
    .says(HOST_ADDRESS);
    docker(&[
        "run", "--rm", "--pid", "host", "--ipc", "host", "--uts", "host", "busybox", "ps",
    ])
    .ok()
    .says("rootless-keeper");

    // To the outside.
    user.serve_page_on_neighbour("from the other machine");
    docker(&[
        "run",
        "--rm",
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "http://192.0.2.1:8000/page",
    ])
    .ok()
    .is("from the other machine");

    // Low ports are root's.
    docker(&["run", "--rm", "-p", "80:80", "busybox", "true"])
        // Docker's client takes these words for those of a program.
        .code(126)
        .complains("sysctl -w net.ipv4.ip_unprivileged_port_start=80");

    // Where systemd ends what a user has, a restart policy does not help.
    host.sh("mkdir -p /run/systemd/system").ok();
    docker(&[
        "create",
        "--name",
        "always",
        "--restart",
        "always",
        "busybox",
    ])
    .ok()
    .complains("loginctl enable-linger ann");
    docker(&["create", "--name", "once", "busybox"])
        .ok()
        .never_complains("linger");
    docker(&["rm", "always", "once"]).ok();

    // Nothing is left but what was asked for, and then nothing.
    docker(&["system", "prune", "-af", "--volumes"]).ok();
    docker(&["ps", "-aq"]).ok().is("");
    docker(&["images", "-q"]).ok().is("");
    user.sh("kill -TERM $(cat $XDG_RUNTIME_DIR/wharf.pid)").ok();
    user.wait_until_gone();
    let mounts = host.sh("cat /proc/mounts").ok();
    mounts.never_says(".local/share/wharf");
}
