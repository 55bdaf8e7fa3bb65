//! Killed daemons, shims, keepers and network programs: containers go on, or are cleaned up.

use wharf_tests::user::{NEIGHBOUR, User};
use wharf_tests::{Host, fixtures};

use crate::ready;

/// A shell line that ends when process `$p` has.
const WAIT: &str = "for i in $(seq 6000); do [ -e /proc/$p ] || exit 0; sleep 0.01; done; exit 1";

/// One network program, and two keepers: the one outside, and the process in the namespaces.
const COMPLETE: &str =
    "test $(pgrep -c -f '[p]asta --quiet') = 1 && test $(pgrep -c -f [r]ootless-keeper) = 2";

/// A server on a network of its own, published, and a page on the other machine.
fn set_up(user: &User<'_>) {
    user.wharf(&["version"]).ok();
    user.load(&fixtures::busybox());
    user.docker(&["network", "create", "back"]).ok();
    user.docker(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "back",
        "-p",
        "8080:80",
        "busybox",
        "sh",
        "-c",
        "mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w",
    ])
    .ok();
    user.serve_page_on_neighbour("from the other machine");
}

/// Which process the container is, and since when.
fn identity(user: &User<'_>) -> String {
    user.docker(&[
        "inspect",
        "-f",
        "{{.State.Pid}} {{.State.StartedAt}}",
        "web",
    ])
    .ok()
    .text()
}

/// The container is reached, reaches its neighbours and the other machine.
fn check_network(user: &User<'_>) {
    user.host.fetch("http://127.0.0.1:8080/").ok().is("page");
    user.docker(&[
        "run",
        "--rm",
        "--network",
        "back",
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "http://web/",
    ])
    .ok()
    .is("page");
    // A network program takes a moment to be there again.
    let fetch = format!(
        "for i in $(seq 100); do timeout 2 wget -q -O - http://{NEIGHBOUR}:8000/page && exit 0; usleep 50000; done; exit 1"
    );
    user.docker(&["exec", "web", "sh", "-c", &fetch])
        .ok()
        .is("from the other machine");
}

fn end(user: &User<'_>) {
    user.docker(&["rm", "-f", "web"]).ok();
    user.docker(&["network", "rm", "back"]).ok();
    user.sh("kill -TERM $(cat $XDG_RUNTIME_DIR/wharf.pid)").ok();
    user.wait_until_gone();
    user.sh("ls $XDG_RUNTIME_DIR $XDG_RUNTIME_DIR/wharf")
        .never_says("lifeline")
        .never_says("uplink");
}

#[test]
fn containers_outlive_the_users_daemon() {
    if !ready("containers_outlive_the_users_daemon") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    set_up(&user);
    let first = identity(&user);
    user.sh(&format!(
        "p=$(cat $XDG_RUNTIME_DIR/wharf.pid); kill -9 $p; {WAIT}"
    ))
    .ok();
    // The next command joins the namespaces of before.
    user.wharf(&["ps", "--format", "{{.Names}}"]).ok().is("web");
    assert_eq!(first, identity(&user));
    check_network(&user);
    user.docker(&["exec", "web", "nslookup", "web"]).ok();

    // Killed shim: nothing of the container is left after the next start, though no cgroup tells.
    user.sh(&format!(
        "p=$(cat $XDG_RUNTIME_DIR/wharf.pid); kill -9 $p; pkill -9 -f '^wharf-shim'; {WAIT}"
    ))
    .ok();
    user.wharf(&["ps", "-q"]).ok().is("");
    user.eventually("! pgrep httpd");
    user.docker(&["start", "web"]).ok();
    check_network(&user);
    end(&user);
}

#[test]
fn a_killed_keepers_containers_keep_their_network() {
    if !ready("a_killed_keepers_containers_keep_their_network") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    set_up(&user);
    let first = identity(&user);
    // The older of the two is the keeper, the newer the process in its namespaces.
    let kills = [
        "pkill -9 -o -f [r]ootless-keeper",
        "pkill -9 -f [r]ootless-keeper",
        "kill -9 $p; pkill -9 -f [r]ootless-keeper",
        "kill -9 $p; pkill -9 -o -f [r]ootless-keeper",
    ];
    for kill in kills {
        // The daemon notices and ends; the next command goes on with everything.
        user.sh(&format!(
            "p=$(cat $XDG_RUNTIME_DIR/wharf.pid); {kill}; {WAIT}"
        ))
        .ok();
        user.wharf(&["ps", "--format", "{{.Names}}"]).ok().is("web");
        assert_eq!(first, identity(&user), "after {kill}");
        check_network(&user);
        // The network program of the killed keeper is gone.
        user.eventually(COMPLETE);
    }
    // What else there is comes back by itself.
    let daemon = user.sh("cat $XDG_RUNTIME_DIR/wharf.pid").ok().text();
    for kill in [
        "pkill -9 -n -f [r]ootless-keeper",
        "pkill -9 -f '[p]asta --quiet'",
    ] {
        for _ in 0..3 {
            user.sh(kill).ok();
            check_network(&user);
            user.eventually(COMPLETE);
        }
    }
    assert_eq!(
        user.sh("cat $XDG_RUNTIME_DIR/wharf.pid").ok().text(),
        daemon
    );
    assert_eq!(first, identity(&user));
    end(&user);
}

#[test]
fn a_killed_keeper_without_containers_leaves_nothing() {
    if !ready("a_killed_keeper_without_containers_leaves_nothing") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    user.wharf(&["version"]).ok();
    user.sh(&format!(
        "p=$(cat $XDG_RUNTIME_DIR/wharf.pid); pkill -9 -f [r]ootless-keeper; {WAIT}"
    ))
    .ok();
    user.wharf(&["version"]).ok();
    user.eventually(COMPLETE);
    user.sh("kill -TERM $(cat $XDG_RUNTIME_DIR/wharf.pid)").ok();
    user.wait_until_gone();
}
