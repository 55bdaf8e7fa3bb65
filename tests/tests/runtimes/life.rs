//! A container's life and its execs' under another runtime: streams, exit codes, what cannot be run,
//! restarts, and the end of the daemon or a shim.

use wharf_tests::traces::{nothing_is_left, settled};
use wharf_tests::waiting::{becomes, eventually};
use wharf_tests::{Daemon, fixtures};

use crate::{RUNTIMES, host_for, kept, with_each};

#[test]
fn streams_exit_codes_and_users() {
    with_each("runtimes::streams", |daemon, run| {
        run(&["--rm", "busybox", "echo", "hello"]).ok().is("hello");
        run(&["--rm", "busybox", "sh", "-c", "echo err >&2; exit 7"])
            .code(7)
            .complains("err");
        run(&["--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).code(137);
        daemon
            .docker_with_input(
                &["run", "-i", "--rm", "--runtime", "other", "busybox", "cat"],
                b"from outside\n",
            )
            .ok()
            .is("from outside");
        run(&["-t", "--rm", "busybox", "sh", "-c", "tty; test -t 2"])
            .ok()
            .says("/dev/");
        run(&[
            "--rm",
            "-u",
            "nobody:4",
            "--group-add",
            "6",
            "busybox",
            "id",
        ])
        .ok()
        .says("uid=65534");
        run(&["--rm", "-u", "nosuch", "busybox", "id"])
            .code(125)
            .complains("unable to find user nosuch: no matching entries in passwd file");
        run(&[
            "--rm",
            "-w",
            "/not/there",
            "-e",
            "A=b",
            "busybox",
            "sh",
            "-c",
            "echo $PWD $A",
        ])
        .ok()
        .is("/not/there b");
        run(&[
            "--name",
            "logged",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2",
        ])
        .ok();
        daemon
            .docker(&["logs", "logged"])
            .ok()
            .is("out")
            .complains("err");
        daemon.docker(&["start", "-a", "logged"]).ok().is("out");
        daemon.docker(&["rm", "logged"]).ok();
    });
}

#[test]
fn programs_that_cannot_be_run_are_told_apart() {
    with_each("runtimes::missing", |daemon, run| {
        let before = settled(daemon, || kept(daemon));
        run(&["--rm", "busybox", "nosuch"])
            .code(127)
            .complains("OCI runtime create failed: ")
            .complains("nosuch");
        run(&["--rm", "busybox", "/etc/passwd"])
            .code(126)
            .complains("ermission denied");
        run(&["-d", "--name", "sleeper", "busybox", "sleep", "1000"]).ok();
        daemon
            .docker(&["exec", "sleeper", "nosuch"])
            .code(127)
            .says("OCI runtime exec failed: ");
        daemon.docker(&["exec", "sleeper", "/etc/passwd"]).code(126);
        daemon.docker(&["rm", "-f", "sleeper"]).ok();
        nothing_is_left(&before, || kept(daemon));
    });
}

#[test]
fn execs_have_streams_terminals_and_users() {
    with_each("runtimes::execs", |daemon, run| {
        run(&["-d", "--name", "sleeper", "busybox", "sleep", "1000"]).ok();
        daemon
            .docker(&[
                "exec",
                "sleeper",
                "sh",
                "-c",
                "echo one; echo two >&2; exit 5",
            ])
            .code(5)
            .is("one")
            .complains("two");
        daemon
            .docker_with_input(&["exec", "-i", "sleeper", "cat"], b"typed")
            .ok()
            .is("typed");
        daemon
            .docker(&[
                "exec",
                "-t",
                "sleeper",
                "sh",
                "-c",
                "test -t 1 && echo terminal",
            ])
            .ok()
            .says("terminal");
        daemon
            .docker(&[
                "exec",
                "-u",
                "nobody",
                "-w",
                "/tmp",
                "-e",
                "A=b",
                "sleeper",
                "sh",
                "-c",
                "id -u; pwd; echo $A",
            ])
            .ok()
            .is("65534\n/tmp\nb");
        daemon
            .docker(&["exec", "-d", "sleeper", "touch", "/made"])
            .ok();
        daemon
            .docker(&[
                "exec",
                "sleeper",
                "sh",
                "-c",
                "until test -e /made; do :; done",
            ])
            .ok();
        daemon.docker(&["top", "sleeper"]).ok().says("sleep 1000");
        daemon.docker(&["cp", "sleeper:/made", "-"]).ok();
        daemon.docker(&["rm", "-f", "sleeper"]).ok();
    });
}

#[test]
fn restart_policies_and_health_checks() {
    with_each("runtimes::restarts", |daemon, run| {
        run(&[
            "-d",
            "--name",
            "failing",
            "--restart",
            "on-failure:2",
            "busybox",
            "sh",
            "-c",
            "echo run; exit 1",
        ])
        .ok();
        becomes(&"2 exited".to_owned(), || {
            let format = "{{.RestartCount}} {{.State.Status}}";
            daemon
                .docker(&["inspect", "-f", format, "failing"])
                .ok()
                .text()
        });
        daemon.docker(&["logs", "failing"]).ok().is("run\nrun\nrun");
        daemon.docker(&["rm", "failing"]).ok();
        run(&[
            "-d",
            "--name",
            "probed",
            "--health-cmd",
            "test -e /well",
            "--health-interval",
            "100ms",
            "--health-retries",
            "1",
            "busybox",
            "sh",
            "-c",
            "touch /well; sleep 1000",
        ])
        .ok();
        for (change, status) in [("true", "healthy"), ("rm /well", "unhealthy")] {
            daemon.docker(&["exec", "probed", "sh", "-c", change]).ok();
            becomes(&status.to_owned(), || {
                let health = ["inspect", "-f", "{{.State.Health.Status}}", "probed"];
                daemon.docker(&health).ok().text()
            });
        }
        daemon.docker(&["restart", "-t", "0", "probed"]).ok();
        daemon.docker(&["exec", "probed", "true"]).ok();
        daemon.docker(&["rm", "-f", "probed"]).ok();
    });
}

#[test]
fn containers_outlive_the_daemon_and_nothing_outlives_a_shim() {
    for runtime in RUNTIMES {
        let Some((host, flag)) = host_for("runtimes::survival", runtime) else {
            continue;
        };
        let daemon = Daemon::start_with(&host, &[&flag]);
        daemon.load(&fixtures::busybox());
        daemon.docker(&["run", "--rm", "busybox", "true"]).ok();
        let before = settled(&daemon, || kept(&daemon));
        let run = ["run", "-d", "--runtime", "other", "--name"];
        let start = |daemon: &Daemon<'_>, name: &str, script: &str| {
            let mut all = run.to_vec();
            all.extend([name, "busybox", "sh", "-c", script]);
            daemon.docker(&all).ok();
        };
        start(&daemon, "lives", "sleep 1000");
        start(
            &daemon,
            "ends",
            "until test -e /go; do sleep 0.05; done; exit 4",
        );
        start(&daemon, "lost", "sleep 1000");
        daemon.docker(&["pause", "lost"]).ok();
        daemon
            .docker(&["exec", "-d", "ends", "sh", "-c", "sleep 0.3; touch /go"])
            .ok();
        daemon.kill();
        // One shim dies while no daemon looks.
        let id = std::fs::read_dir(daemon.exec_root().join("containers"))
            .expect("the exec root is there");
        let lost: Vec<_> = id
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                std::fs::read_to_string(path.join("run.json"))
                    .is_ok_and(|text| text.contains("\"paused\":true"))
            })
            .collect();
        assert_eq!(lost.len(), 1);
        let record = eventually("a running shim's record", || {
            std::fs::read_to_string(lost[0].join("shim.json")).map_err(|error| error.to_string())
        });
        let pid = record
            .split("\"shim_pid\":")
            .nth(1)
            .and_then(|rest| rest.split(',').next())
            .expect("the record names the shim");
        daemon.host.sh(&format!("kill -9 {pid}")).ok();
        daemon.restart();
        daemon
            .docker(&["exec", "lives", "echo", "here"])
            .ok()
            .is("here");
        daemon.docker(&["wait", "ends"]).ok().is("4");
        daemon
            .docker(&["inspect", "-f", "{{.State.Status}}", "lost"])
            .ok()
            .is("exited");
        daemon.docker(&["stop", "-t", "0", "lives"]).ok();
        daemon.docker(&["start", "lost"]).ok();
        daemon.docker(&["exec", "lost", "true"]).ok();
        daemon.docker(&["rm", "-f", "lives", "ends", "lost"]).ok();
        nothing_is_left(&before, || kept(&daemon));
        daemon
            .host
            .eventually("! pgrep -x sleep | grep -v '^[1-9]$'");
    }
}
