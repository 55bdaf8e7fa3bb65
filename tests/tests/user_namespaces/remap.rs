//! The daemon-wide remap: whom it is for, what is no setting for it, and that a container stays
//! under the one it was made with.

use wharf_tests::{Daemon, run};

use crate::{daemon, host, inspect, owner, uid_map};

#[test]
fn the_remap_is_for_all_containers_that_do_not_opt_out() {
    let host = host();
    let daemon = daemon(&host, &["--userns-remap", "mapper"]);
    daemon
        .docker(&["info", "--format", "{{.SecurityOptions}}"])
        .ok()
        .says("name=userns");
    let open = host.join("open");
    std::fs::create_dir(&open).unwrap();
    host.sh(&format!("chmod 777 {}", open.display())).ok();
    let bind = format!("{}:/open", open.display());
    daemon
        .docker(&["run", "--rm", "-v", &bind, "busybox", "sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/gid_map; touch /open/file; ping -c 1 -w 5 127.0.0.1 >/dev/null && echo pinged; ip link add dummy0 type dummy 2>&1 | head -1"])
        .ok()
        .says("pinged")
        .says("700000")
        .says("800000");
    assert_eq!(owner(&host, &open.join("file")), "700000:800000");
    daemon
        .docker(&[
            "run",
            "--rm",
            "--userns=host",
            "busybox",
            "cat",
            "/proc/self/uid_map",
        ])
        .ok()
        .says("4294967295");
    for (flags, why) in [
        (
            &["--privileged"][..],
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        ),
        (
            &["--network", "host"],
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (
            &["--pid", "host"],
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
    ] {
        let mut words = vec!["run", "--rm"];
        words.extend(flags);
        let mut allowed = words.clone();
        words.extend(["busybox", "true"]);
        daemon.docker(&words).code(125).complains(why);
        allowed.extend(["--userns=host", "busybox", "true"]);
        daemon.docker(&allowed).ok();
    }
    // What a container keeps does not depend on the remap: no data root of its own, nothing chowned.
    daemon
        .docker(&[
            "run",
            "--name",
            "kept",
            "-v",
            "kept:/data",
            "busybox",
            "sh",
            "-c",
            "touch /mine; chown 33:33 /mine; touch /data/its",
        ])
        .ok();
    assert_eq!(
        inspect(&daemon, "kept")["State"]["IDMappings"]["UidMap"][0],
        "0:700000:65536"
    );
    let its = daemon.data_root().join("volumes/kept/_data/its");
    assert_eq!(owner(&host, &its), "0:0");
    daemon.terminate();
    drop(daemon);
    let daemon = Daemon::start(&host);
    daemon
        .docker(&["info", "--format", "{{.SecurityOptions}}"])
        .ok()
        .never_says("userns");
    daemon.docker(&["start", "-a", "kept"]).ok();
    daemon
        .docker(&[
            "run",
            "--rm",
            "--volumes-from",
            "kept",
            "busybox",
            "stat",
            "-c",
            "%u:%g",
            "/data/its",
        ])
        .ok()
        .is("0:0");
    let copied = host.join("copied.tar");
    let mut command = daemon.docker_command(&["cp", "-a", "kept:/mine", "-"]);
    command.stdout(std::fs::File::create(&copied).unwrap());
    assert!(command.status().unwrap().success());
    host.sh(&format!("tar tvf {} --numeric-owner", copied.display()))
        .ok()
        .says(" 33/33 ");
}

#[test]
fn a_wrong_remap_is_named_at_the_start() {
    let host = host();
    let folder = host.join("wrong");
    for (setting, why) in [
        (
            "nobody-there",
            "Error during uid lookup for \"nobody-there\"",
        ),
        (
            "a:b:c",
            "Invalid user/group specification in --userns-remap: \"a:b:c\"",
        ),
        (
            "daemon",
            "Can't create ID mappings: no subuid ranges found for user \"daemon\"",
        ),
    ] {
        let mut command = host.command(wharf_tests::wharf_binary());
        command
            .arg("daemon")
            .args(["--userns-remap", setting, "--pidfile"])
            .arg(folder.with_extension("pid"))
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--host")
            .arg(format!(
                "unix://{}",
                folder.with_extension("sock").display()
            ));
        let output = run(command, None);
        assert_ne!(output.code, 0, "{setting}");
        assert!(
            output.stderr.contains(why) || output.stdout.contains(why),
            "{setting}: {output:?}"
        );
    }
}

/// A container made under one setting must not become the host's root under the next.
#[test]
fn a_remapped_container_stays_remapped() {
    let host = host();
    let mut daemon = daemon(&host, &["--userns-remap", "mapper"]);
    let run = |daemon: &Daemon<'_>, name: &str| {
        let arguments = ["run", "-d", "--name", name, "busybox", "sleep", "1000"];
        daemon.wharf(&arguments).ok();
    };
    run(&daemon, "mine");
    let mapped = ["0:700000:65536"];
    assert_eq!(uid_map(&daemon, "mine"), mapped);
    daemon.kill();
    daemon.restart_with(&[]);
    daemon.docker(&["restart", "-t", "0", "mine"]).ok();
    assert_eq!(uid_map(&daemon, "mine"), mapped);
    run(&daemon, "other");
    assert_eq!(uid_map(&daemon, "other"), ["0:0:4294967295"]);
}
