//! The next container's id and cgroup are there before it is asked for, are used, and are not left behind.

use std::path::Path;

use wharf_tests::host::cgroup_hierarchies;
use wharf_tests::waiting::eventually;
use wharf_tests::{Daemon, Host, fixtures};

fn next_ids(daemon: &Daemon<'_>) -> Vec<String> {
    let notes = std::fs::read_dir(daemon.exec_root().join("next-ids")).unwrap();
    let names = notes.map(|note| note.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// What is there for the container that is made next.
fn next_id(daemon: &Daemon<'_>) -> String {
    eventually(
        "one container's id is chosen, and its cgroup made",
        || match next_ids(daemon).as_slice() {
            [id] if has_cgroup(daemon.host, id) => Ok(id.clone()),
            other => Err(format!("{other:?}")),
        },
    )
}

fn has_cgroup(host: &Host, id: &str) -> bool {
    cgroup_hierarchies().iter().any(|hierarchy| {
        let parent = hierarchy.join(host.cgroup_parent().trim_start_matches('/'));
        Path::new(&parent).join(id).exists()
    })
}

#[test]
fn the_next_containers_cgroup_is_made_ahead_and_not_left_behind() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    assert!(next_ids(&daemon).is_empty());
    daemon.wharf(&["run", "--rm", "busybox", "true"]).ok();

    // It is used, with the limits of the container that got it.
    let id = next_id(&daemon);
    let run = [
        "run", "-d", "--name", "box", "--memory", "64m", "busybox", "sleep", "1000",
    ];
    daemon.wharf(&run).ok().is(&id);
    let limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true";
    daemon
        .wharf(&["exec", "box", "sh", "-c", limit])
        .ok()
        .is("67108864");
    let next = eventually("there is another one", || {
        match next_ids(&daemon).as_slice() {
            [next] if *next != id => Ok(next.clone()),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(has_cgroup(&host, &next));

    // A container that has its own place does not get it; one that is not started gives it back.
    let parent = format!("{}/other", host.cgroup_parent());
    let create = ["create", "--cgroup-parent", &parent, "busybox"];
    assert_ne!(daemon.wharf(&create).ok().text(), next);
    let wrong = ["create", "--name", "box", "busybox"];
    daemon.wharf(&wrong).code(1).complains("already in use");
    assert!(!has_cgroup(&host, &next) && next_ids(&daemon).is_empty());
    daemon.wharf(&["run", "--rm", "busybox", "true"]).ok();
    let next = next_id(&daemon);
    daemon
        .wharf(&["create", "--name", "unused", "busybox"])
        .ok()
        .is(&next);
    daemon.wharf(&["rm", "unused"]).ok();
    assert!(!has_cgroup(&host, &next) && next_ids(&daemon).is_empty());

    // Whatever becomes of the daemon: the container keeps its cgroup, nobody's goes.
    daemon.wharf(&["run", "--rm", "busybox", "true"]).ok();
    let next = next_id(&daemon);
    daemon
        .wharf(&["create", "--name", "later", "busybox", "true"])
        .ok()
        .is(&next);
    daemon.kill();
    daemon.restart();
    assert!(has_cgroup(&host, &id) && !has_cgroup(&host, &next));
    assert!(next_ids(&daemon).is_empty());
    daemon.wharf(&["start", "-a", "later"]).ok();
    let next = next_id(&daemon);
    assert_eq!(daemon.terminate(), 0);
    assert!(has_cgroup(&host, &id) && !has_cgroup(&host, &next));
    assert!(next_ids(&daemon).is_empty());
    daemon.restart();
    daemon.wharf(&["exec", "box", "true"]).ok();
}
