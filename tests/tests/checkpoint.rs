//! Checkpoints: a container written down by CRIU goes on where it was.

use wharf_tests::{Daemon, Host, Output, eventually, fixtures};

/// Counts in memory, and says so. Not in a file: CRIU wants to find the one that was open as it was.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done";

/// A host with a CRIU that works, and a daemon in experimental mode on it.
fn with_daemon(test: &str, flags: &[&str], body: impl FnOnce(&mut Daemon<'_>)) {
    let host = Host::new();
    if let Err(reason) = wharf_tests::criu::provide(&host) {
        wharf_tests::skip(test, &reason);
        return;
    }
    let mut all = vec!["--experimental"];
    all.extend(flags);
    let mut daemon = Daemon::start_with(&host, &all);
    daemon.load(&fixtures::busybox());
    body(&mut daemon);
}

/// Holds a connection to itself: a program CRIU refuses. It calls when somebody listens.
const TALKER: &str = "sleep 1000 | nc -l -p 9 >/dev/null & \
    until grep -q ':0009 .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.05; done; \
    sleep 1000 | nc 127.0.0.1 9";

/// What it has counted to, if it has begun.
fn count(daemon: &Daemon<'_>, name: &str) -> Option<u32> {
    let log = daemon.docker(&["logs", "--tail", "1", name]).ok().text();
    log.strip_prefix("tick ")?.parse().ok()
}

/// Waits until the counter has gone beyond `limit`.
fn goes_beyond(daemon: &Daemon<'_>, name: &str, limit: u32) {
    eventually("it counts", || match count(daemon, name) {
        Some(number) if number > limit => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn started(daemon: &Daemon<'_>, name: &str, options: &[&str]) -> Output {
    let mut all = vec!["run", "-d", "--name", name];
    all.extend(options);
    all.extend(["busybox", "sh", "-c", COUNTER]);
    let output = daemon.docker(&all).ok();
    goes_beyond(daemon, name, 3);
    output
}

/// The whole life, for the runtime that `options` name.
fn life(daemon: &mut Daemon<'_>, options: &[&str]) {
    daemon.docker(&["network", "create", "net"]).ok();
    let mut all = vec![
        "-m",
        "64m",
        "--network",
        "net",
        "-p",
        "127.0.0.1:8080:80",
        "-v",
        "data:/data",
        // With `always` the next daemon would start it anew.
        "--restart",
        "unless-stopped",
        "-u",
        "root",
        "--tmpfs",
        "/scratch",
        "-e",
        "A=b",
    ];
    all.extend(options);
    started(daemon, "counter", &all);
    daemon
        .docker(&[
            "exec",
            "counter",
            "sh",
            "-c",
            "echo kept > /scratch/f; echo kept > /data/f",
        ])
        .ok();
    daemon
        .docker(&[
            "checkpoint",
            "create",
            "--leave-running",
            "counter",
            "early",
        ])
        .ok()
        .is("early");
    let early = count(daemon, "counter").expect("it counts");
    goes_beyond(daemon, "counter", early + 5);
    // A paused one is written down as well, and stays paused if it stays.
    daemon.docker(&["pause", "counter"]).ok();
    daemon
        .docker(&[
            "checkpoint",
            "create",
            "--leave-running",
            "counter",
            "asleep",
        ])
        .ok()
        .is("asleep");
    daemon
        .docker(&["inspect", "-f", "{{.State.Status}}", "counter"])
        .ok()
        .is("paused");
    let asleep = count(daemon, "counter").expect("it has counted");
    daemon.docker(&["unpause", "counter"]).ok();
    goes_beyond(daemon, "counter", asleep + 3);
    daemon.docker(&["pause", "counter"]).ok();
    daemon
        .docker(&["checkpoint", "create", "counter", "late"])
        .ok()
        .is("late");
    // It has ended with the checkpoint, whatever the restart policy says.
    daemon
        .docker(&[
            "inspect",
            "-f",
            "{{.State.Status}} {{.State.ExitCode}}",
            "counter",
        ])
        .ok()
        .is("exited 137");
    daemon
        .docker(&["checkpoint", "ls", "counter"])
        .ok()
        .says("CHECKPOINT NAME")
        .says("early")
        .says("late");
    let last = count(daemon, "counter").expect("it has counted");
    assert!(last > early + 5);

    // The daemon is another one meanwhile.
    daemon.kill();
    daemon.restart();
    daemon
        .docker(&["start", "--checkpoint", "late", "counter"])
        .ok();
    goes_beyond(daemon, "counter", last + 3);
    daemon
        .docker(&["logs", "counter"])
        .ok()
        .says(&format!("tick {}\n", last + 2));
    daemon
        .docker(&[
            "exec",
            "counter",
            "sh",
            "-c",
            "cat /scratch/f /data/f; echo $A; grep -c counter /etc/hostname",
        ])
        .code(1)
        .is("kept\nkept\nb\n0");
    daemon
        .docker(&[
            "stats",
            "--no-stream",
            "--format",
            "{{.MemUsage}}",
            "counter",
        ])
        .ok()
        .says("/ 64MiB");
    daemon
        .docker(&[
            "exec",
            "-d",
            "counter",
            "sh",
            "-c",
            "mkdir /www; echo page > /www/index.html; httpd -f -p 80 -h /www",
        ])
        .ok();
    daemon.host.fetch("http://127.0.0.1:8080/").ok().is("page");
    daemon
        .docker(&[
            "run",
            "--rm",
            "--network",
            "net",
            "busybox",
            "ping",
            "-c1",
            "-w5",
            "counter",
        ])
        .ok();
    daemon
        .docker(&[
            "exec",
            "counter",
            "grep",
            "-E",
            "Seccomp:|CapEff",
            "/proc/1/status",
        ])
        .ok()
        .says("Seccomp:\t2")
        .never_says("ffffffffff");

    // Back to where it was before.
    daemon.docker(&["stop", "-t", "0", "counter"]).ok();
    daemon
        .docker(&["start", "--checkpoint", "early", "counter"])
        .ok();
    // The log keeps what was counted, twice now.
    let again = format!("tick {}", early + 2);
    eventually("it counts from there", || {
        let log = daemon.docker(&["logs", "counter"]).ok().stdout;
        match log.lines().filter(|line| *line == again).count() {
            2 => Ok(()),
            _ => Err(log),
        }
    });
    daemon
        .docker(&["checkpoint", "rm", "counter", "early"])
        .ok();
    daemon
        .docker(&["checkpoint", "ls", "counter"])
        .ok()
        .never_says("early");
    daemon.docker(&["kill", "counter"]).ok();
    daemon.docker(&["rm", "-f", "counter"]).ok();
    daemon.host.sh("! grep -q rootfs /proc/1/mountinfo").ok();
}

#[test]
fn a_container_goes_on_where_it_was() {
    with_daemon("checkpoint::built_in", &[], |daemon| life(daemon, &[]));
}

#[test]
fn runc_writes_and_restores_by_itself() {
    with_daemon(
        "checkpoint::runc",
        &["--add-runtime=other=runc"],
        |daemon| {
            if daemon.host.sh("command -v runc").code != 0 {
                return wharf_tests::skip("checkpoint::runc", "runc is not installed");
            }
            life(daemon, &["--runtime", "other"]);
        },
    );
}

#[test]
fn checkpoints_travel_between_containers() {
    with_daemon("checkpoint::travel", &[], |daemon| {
        let folder = daemon.host.join("checkpoints");
        let folder = folder.display().to_string();
        for (first, second, options) in [
            ("one", "two", &["--network", "none"][..]),
            ("three", "four", &["--network", "host"]),
            ("five", "six", &["--tmpfs", "/tmp", "--privileged"]),
        ] {
            started(daemon, first, options);
            daemon
                .docker(&[
                    "checkpoint",
                    "create",
                    "--checkpoint-dir",
                    &folder,
                    first,
                    first,
                ])
                .ok();
            let mut all = vec!["create", "--name", second];
            all.extend(options);
            all.extend(["busybox", "sh", "-c", COUNTER]);
            daemon.docker(&all).ok();
            daemon
                .wharf(&[
                    "start",
                    "--checkpoint-dir",
                    &folder,
                    "--checkpoint",
                    first,
                    second,
                ])
                .ok();
            goes_beyond(daemon, second, 3);
            let id = daemon
                .docker(&["inspect", "-f", "{{.Id}}", second])
                .ok()
                .text();
            daemon.docker(&["top", second]).ok().says("sleep 0.1");
            let groups = daemon
                .host
                .sh(&format!(
                    "cat /proc/$(DOCKER_HOST={} {} inspect -f '{{{{.State.Pid}}}}' {second})/cgroup",
                    daemon.url(),
                    wharf_tests::wharf_binary().display()
                ))
                .ok();
            groups.says(&id);
            daemon.docker(&["rm", "-f", first, second]).ok();
        }
    });
}

#[test]
fn what_cannot_be_is_said() {
    with_daemon("checkpoint::refusals", &[], |daemon| {
        started(daemon, "counter", &[]);
        daemon
            .docker(&["checkpoint", "create", "counter", "one"])
            .ok();
        daemon
            .docker(&["checkpoint", "create", "counter", "two"])
            .code(1)
            .complains("not running");
        daemon
            .docker(&["start", "--checkpoint", "nosuch", "counter"])
            .code(1)
            .complains("checkpoint nosuch does not exist for container counter");
        daemon
            .docker(&["start", "--checkpoint", "one", "counter"])
            .ok();
        daemon
            .docker(&["checkpoint", "create", "counter", "one"])
            .code(1)
            .complains("checkpoint with name one already exists for container counter");
        daemon
            .docker(&["checkpoint", "create", "counter", "a/b"])
            .code(1)
            .complains("Invalid checkpoint ID (a/b)");
        daemon
            .docker(&[
                "run", "-dt", "--name", "terminal", "busybox", "sleep", "1000",
            ])
            .ok();
        daemon
            .docker(&["checkpoint", "create", "terminal", "one"])
            .code(1)
            .complains("checkpoint not support on containers with tty");
        // CRIU refuses: the container goes on, and nothing is left of the attempt.
        daemon
            .docker(&[
                "run", "-d", "--name", "talker", "busybox", "sh", "-c", TALKER,
            ])
            .ok();
        let talking = "until grep -q ' 01 ' /proc/net/tcp; do sleep 0.05; done";
        daemon.docker(&["exec", "talker", "sh", "-c", talking]).ok();
        daemon
            .docker(&["checkpoint", "create", "talker", "one"])
            .code(1)
            .complains("Cannot checkpoint container talker: criu dump failed: ")
            .complains("log file: ");
        daemon.docker(&["exec", "talker", "true"]).ok();
        daemon
            .docker(&["checkpoint", "ls", "talker"])
            .ok()
            .never_says("one");
        daemon
            .docker(&["rm", "-f", "talker", "terminal", "counter"])
            .ok();
    });
}

#[test]
fn only_an_experimental_daemon_has_checkpoints() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    daemon
        .docker(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    let disabled = "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.";
    daemon
        .wharf(&["checkpoint", "create", "box", "one"])
        .code(1)
        .complains(disabled);
    daemon
        .wharf(&["checkpoint", "ls", "box"])
        .code(1)
        .complains(disabled);
    daemon
        .wharf(&["start", "--checkpoint", "one", "box"])
        .code(1)
        .complains("checkpoint is only supported in experimental mode");
    daemon.docker(&["rm", "-f", "box"]).ok();
}
