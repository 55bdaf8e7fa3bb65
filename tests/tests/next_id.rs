//! The next container's id and cgroup are there before it is asked for, are used, and are not left behind.

use std::path::PathBuf;

use wharf_tests::host::cgroup_hierarchies;
use wharf_tests::waiting::eventually;
use wharf_tests::{Daemon, Host, fixtures};

fn next_ids(daemon: &Daemon<'_>) -> Vec<String> {
    let notes = std::fs::read_dir(daemon.exec_root().join("next-ids")).unwrap();
    let names = notes.map(|note| note.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// What is there for the container that is made next, as soon as there is anything but `last`.
fn next_id(daemon: &Daemon<'_>, last: &str) -> String {
    eventually("an id is chosen, and its cgroup made", || {
        match next_ids(daemon).as_slice() {
            [id] if id != last && has_cgroup(daemon.host, id) => Ok(id.clone()),
            other => Err(format!("{other:?}")),
        }
    })
}

/// Whether it is there on every hierarchy where this host's containers are at all.
fn has_cgroup(host: &Host, id: &str) -> bool {
    let parents: Vec<_> = cgroup_hierarchies()
        .iter()
        .map(|hierarchy| hierarchy.join(host.cgroup_parent().trim_start_matches('/')))
        .filter(|parent| parent.exists())
        .collect();
    !parents.is_empty() && parents.iter().all(|parent| parent.join(id).exists())
}

/// Whether nothing of it is there, nor a note.
fn is_gone(daemon: &Daemon<'_>, id: &str) -> bool {
    let parent = daemon.host.cgroup_parent();
    let gone = |hierarchy: &PathBuf| {
        let parent = hierarchy.join(parent.trim_start_matches('/'));
        !parent.join(id).exists()
    };
    cgroup_hierarchies().iter().all(gone) && next_ids(daemon).is_empty()
}

/// Makes a container called `name`, which gets what is there for it.
fn make(daemon: &Daemon<'_>, name: &str, arguments: &[&str]) -> String {
    eventually("the container gets the id that is there", || {
        let expected = next_id(daemon, "");
        let id = daemon.wharf(arguments).ok().text();
        if id == expected {
            return Ok(id);
        }
        // The engine had made its cgroup, and not yet put it among those it gives.
        daemon.wharf(&["rm", "-f", name]).ok();
        Err(id)
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
    let run = [
        "run", "-d", "--name", "box", "--memory", "64m", "busybox", "sleep", "1000",
    ];
    let id = make(&daemon, "box", &run);
    let limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true";
    daemon
        .wharf(&["exec", "box", "sh", "-c", limit])
        .ok()
        .is("67108864");
    let next = next_id(&daemon, &id);

    // A container that has its own place does not get it; one that is not started gives it back.
    let parent = format!("{}/other", host.cgroup_parent());
    let create = ["create", "--cgroup-parent", &parent, "busybox"];
    assert_ne!(daemon.wharf(&create).ok().text(), next);
    let wrong = ["create", "--name", "box", "busybox"];
    eventually("a container that is not made gives it back", || {
        daemon.wharf(&wrong).code(1).complains("already in use");
        if is_gone(&daemon, &next) {
            Ok(())
        } else {
            Err(next.clone())
        }
    });
    daemon.wharf(&["run", "--rm", "busybox", "true"]).ok();
    let unused = ["create", "--name", "unused", "busybox"];
    let next = make(&daemon, "unused", &unused);
    daemon.wharf(&["rm", "unused"]).ok();
    assert!(is_gone(&daemon, &next));

    // Whatever becomes of the daemon: the container keeps its cgroup, nobody's goes.
    daemon.wharf(&["run", "--rm", "busybox", "true"]).ok();
    let later = ["create", "--name", "later", "busybox", "true"];
    let next = make(&daemon, "later", &later);
    daemon.kill();
    daemon.restart();
    assert!(has_cgroup(&host, &id) && is_gone(&daemon, &next));
    daemon.wharf(&["start", "-a", "later"]).ok();
    let next = next_id(&daemon, "");
    assert_eq!(daemon.terminate(), 0);
    assert!(has_cgroup(&host, &id) && is_gone(&daemon, &next));
    daemon.restart();
    daemon.wharf(&["exec", "box", "true"]).ok();
}
