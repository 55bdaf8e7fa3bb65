//! What a user's containers can and cannot have of namespaces: `--userns`, checkpoints.

use wharf_tests::user::User;
use wharf_tests::{Host, fixtures};

use crate::ready;

/// The mapping a container sees, one range after the other.
const MAPPING: &str = "sed 's/  */ /g; s/^ //' /proc/self/uid_map";

#[test]
fn user_namespaces_of_a_users_containers() {
    if !ready("user_namespaces_of_a_users_containers") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    user.wharf(&["version"]).ok();
    user.load(&fixtures::busybox());
    let shell = |userns: &str, line: &str| {
        user.wharf(&["run", "--rm", userns, "busybox", "sh", "-c", line])
    };
    // The user's own namespace: root in there is the user, and the rest are the subordinate ids.
    shell("--userns=host", MAPPING).ok().is(&format!(
        "0 {} 1\n1 {} 65536",
        user.outside(0),
        user.outside(1)
    ));

    // Root in there is the caller, and its files are his.
    user.sh("mkdir ~/mine").ok();
    let mine = user.home().join("mine");
    let bind = format!("{}:/mine", mine.display());
    user.wharf(&["run", "--rm", "-v", &bind, "busybox", "touch", "/mine/new"])
        .ok();
    user.sh("stat -c %u ~/mine/new").ok().is("5001");
    user.wharf(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"])
        .ok();
    shell("--userns=container:one", "id -u").ok().is("0");
    user.wharf(&["rm", "-f", "one"]).ok();

    // Others would need idmapped layers, and those are root's to make.
    for mode in [
        "auto",
        "auto:size=4096",
        "keep-id",
        "private:uidmapping=0:1000:10",
    ] {
        shell(&format!("--userns={mode}"), "true")
            .code(125)
            .complains(mode)
            .complains("the kernel lets root alone map the IDs of layers");
    }
    let mapped = format!(
        "type=bind,source={},target=/mine,idmap=uids=5001-0-1;gids=5001-0-1",
        mine.display()
    );
    user.wharf(&["run", "--rm", "--mount", &mapped, "busybox", "true"])
        .code(125)
        .complains("cannot be mapped");
    user.wharf(&["ps", "-aq"]).ok().is("");
    // The daemon's own remap is root's.
    user.sh("kill -TERM $(cat $XDG_RUNTIME_DIR/wharf.pid)").ok();
    user.wait_until_gone();
    user.wharf(&["daemon", "--userns-remap=default"])
        .code(1)
        .complains("userns-remap");
    user.wait_until_gone();
}

#[test]
fn checkpoints_are_refused_by_name() {
    if !ready("checkpoints_are_refused_by_name") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    user.sh(
        "mkdir -p ~/.config/wharf; echo '{\"experimental\": true}' > ~/.config/wharf/daemon.json",
    )
    .ok();
    user.wharf(&["version"]).ok();
    user.load(&fixtures::busybox());
    user.wharf(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"])
        .ok();
    user.wharf(&["checkpoint", "create", "one", "first"])
        .code(1)
        .complains("an ordinary user's engine makes and restores no checkpoints");
    user.wharf(&["checkpoint", "ls", "one"]).ok();
    user.wharf(&["start", "--checkpoint", "first", "one"])
        .code(1)
        .complains("an ordinary user's engine makes and restores no checkpoints");
    user.wharf(&["rm", "-f", "one"]).ok();
}
