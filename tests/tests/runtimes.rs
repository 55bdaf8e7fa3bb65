//! Containers run by other OCI runtimes: Debian's `runc` and `crun`, through the same interface.
//!
//! What the built-in runtime does is looked at elsewhere; here is what an engine must do around a
//! foreign program: streams, terminals, exit codes, limits, pauses, restarts of both sides, and
//! that nothing is left behind.

use std::collections::BTreeSet;

use wharf_tests::traces::{nothing_is_left, settled, traces};
use wharf_tests::waiting::{becomes, eventually};
use wharf_tests::{Daemon, Host, Output, fixtures};

const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// A host on which `runtime` works, and the flag that makes a daemon offer it as `other`.
fn host_for(test: &str, runtime: &str) -> Option<(Host, String)> {
    let host = Host::new();
    let path = host.sh(&format!("command -v {runtime}"));
    if path.code != 0 {
        wharf_tests::skip(test, &format!("{runtime} is not installed"));
        return None;
    }
    // A null device of the host's own: runtimes give their standard streams to a container's root.
    host.sh(&format!(
        "mkdir {0} && mount -t tmpfs tmpfs {0} && mknod -m 666 {0}/null c 1 3 && mount --bind {0}/null /dev/null",
        host.join("nodes").display()
    ))
    .ok();
    // crun refuses hybrid hosts whose v2 mount has a controller.
    host.sh("umount /sys/fs/cgroup/unified 2>/dev/null; true")
        .ok();
    Some((host, format!("--add-runtime=other={}", path.text())))
}

/// Runs `body` with a daemon per runtime.
fn with_each(test: &str, body: impl Fn(&Daemon<'_>, &dyn Fn(&[&str]) -> wharf_tests::Output)) {
    for runtime in RUNTIMES {
        let Some((host, flag)) = host_for(test, runtime) else {
            continue;
        };
        let daemon = Daemon::start_with(&host, &[&flag]);
        daemon.load(&fixtures::busybox());
        let run = |arguments: &[&str]| {
            let mut all = vec!["run", "--runtime", "other"];
            all.extend(arguments);
            daemon.docker(&all)
        };
        // A daemon that has started a container keeps ready what the next one takes.
        run(&["--rm", "busybox", "true"]).ok();
        body(&daemon, &run);
        host.sh("stat -c '%a %u:%g' /dev/null").ok().is("666 0:0");
    }
}

/// What must be the same before and after.
fn kept(daemon: &Daemon<'_>) -> BTreeSet<String> {
    traces(daemon, "data/containers exec -mindepth 1")
}

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
fn signals_pauses_and_limits() {
    with_each("runtimes::limits", |daemon, run| {
        let before = settled(daemon, || kept(daemon));
        let trap = "trap 'echo told; exit 3' USR1; echo ready; while :; do sleep 0.1; done";
        run(&["-d", "--name", "trapper", "busybox", "sh", "-c", trap]).ok();
        becomes(&"ready".to_owned(), || {
            daemon.docker(&["logs", "trapper"]).ok().text()
        });
        daemon.docker(&["kill", "-s", "USR1", "trapper"]).ok();
        daemon.docker(&["wait", "trapper"]).ok().is("3");
        daemon.docker(&["logs", "trapper"]).ok().says("told");
        daemon.docker(&["rm", "trapper"]).ok();

        run(&["-d", "--name", "paused", "busybox", "sleep", "1000"]).ok();
        daemon.docker(&["pause", "paused"]).ok();
        daemon
            .docker(&["inspect", "-f", "{{.State.Status}}", "paused"])
            .ok()
            .is("paused");
        daemon.docker(&["exec", "paused", "true"]).code(1);
        daemon.docker(&["unpause", "paused"]).ok();
        daemon.docker(&["exec", "paused", "true"]).ok();
        daemon.docker(&["pause", "paused"]).ok();
        daemon.docker(&["stop", "-t", "0", "paused"]).ok();
        daemon
            .docker(&["inspect", "-f", "{{.State.ExitCode}}", "paused"])
            .ok()
            .is("137");
        daemon.docker(&["rm", "paused"]).ok();

        // Memory for good: the kernel kills it, and that is said.
        run(&[
            "--name",
            "hungry",
            "-m",
            "16m",
            "--memory-swap",
            "16m",
            "--pids-limit",
            "50",
            "--cpus",
            "0.5",
            "busybox",
            "sh",
            "-c",
            "x=a; while :; do x=$x$x; done",
        ])
        .code(137);
        daemon
            .docker(&["inspect", "-f", "{{.State.OOMKilled}}", "hungry"])
            .ok()
            .is("true");
        daemon.docker(&["rm", "hungry"]).ok();
        run(&[
            "-d", "--name", "measured", "-m", "32m", "busybox", "sleep", "1000",
        ])
        .ok();
        daemon
            .docker(&[
                "stats",
                "--no-stream",
                "--format",
                "{{.MemUsage}}",
                "measured",
            ])
            .ok()
            .says("/ 32MiB");
        daemon.docker(&["rm", "-f", "measured"]).ok();
        nothing_is_left(&before, || kept(daemon));
    });
}

#[test]
fn confinement_reaches_the_runtime() {
    with_each("runtimes::confinement", |daemon, run| {
        let status = run(&[
            "--rm",
            "busybox",
            "grep",
            "-E",
            "Seccomp:|CapEff|NoNewPrivs",
            "/proc/self/status",
        ])
        .ok()
        .says("Seccomp:\t2")
        .stdout;
        let own = daemon
            .docker(&[
                "run",
                "--rm",
                "busybox",
                "grep",
                "-E",
                "Seccomp:|CapEff|NoNewPrivs",
                "/proc/self/status",
            ])
            .ok()
            .stdout;
        assert_eq!(status, own);
        run(&[
            "--rm",
            "--security-opt",
            "seccomp=unconfined",
            "--cap-drop",
            "ALL",
            "busybox",
            "cat",
            "/proc/self/status",
        ])
        .ok()
        .says("Seccomp:\t0")
        .says("CapEff:\t0000000000000000");
        run(&[
            "--rm",
            "-u",
            "nobody",
            "busybox",
            "grep",
            "CapEff",
            "/proc/self/status",
        ])
        .ok()
        .says("0000000000000000");
        run(&[
            "--rm",
            "--read-only",
            "--tmpfs",
            "/t",
            "busybox",
            "sh",
            "-c",
            "touch /t/x && ! touch /x",
        ])
        .ok();
        run(&[
            "--rm",
            "--privileged",
            "busybox",
            "sh",
            "-c",
            "mount -t tmpfs x /tmp && echo mounted",
        ])
        .ok()
        .is("mounted");
        run(&[
            "--rm",
            "--init",
            "busybox",
            "sh",
            "-c",
            "tr '\\0' ' ' < /proc/1/cmdline",
        ])
        .ok()
        .says("docker-init -- sh");
        run(&[
            "--rm",
            "--hostname",
            "h",
            "--ulimit",
            "nofile=123",
            "--sysctl",
            "net.ipv4.ip_forward=0",
            "busybox",
            "sh",
            "-c",
            "hostname; ulimit -n; cat /proc/sys/net/ipv4/ip_forward",
        ])
        .ok()
        .is("h\n123\n0");
    });
}

#[test]
fn networks_ports_and_volumes() {
    with_each("runtimes::networks", |daemon, run| {
        daemon.docker(&["network", "create", "net"]).ok();
        let volume = daemon.host.join("shared");
        std::fs::create_dir_all(volume.join("below")).expect("scratch is writable");
        daemon
            .host
            .sh(&format!(
                "mount --bind {0} {0} && mount --make-shared {0}",
                volume.display()
            ))
            .ok();
        run(&[
            "-d",
            "--name",
            "web",
            "--network",
            "net",
            "-p",
            "127.0.0.1:8080:80",
            "-v",
            "data:/www",
            "busybox",
            "sh",
            "-c",
            "echo page > /www/index.html; exec httpd -f -p 80 -h /www",
        ])
        .ok();
        daemon.host.fetch("http://127.0.0.1:8080/").ok().is("page");
        run(&[
            "--rm",
            "--network",
            "net",
            "busybox",
            "wget",
            "-q",
            "-O-",
            "http://web/",
        ])
        .ok()
        .is("page");
        run(&[
            "--rm",
            "--network",
            "container:web",
            "busybox",
            "wget",
            "-q",
            "-O-",
            "http://127.0.0.1/",
        ])
        .ok()
        .is("page");
        run(&["--rm", "--pid", "container:web", "busybox", "ps"])
            .ok()
            .says("httpd");
        run(&[
            "--rm",
            "-v",
            "data:/d:ro",
            "busybox",
            "cat",
            "/d/index.html",
        ])
        .ok()
        .is("page");
        run(&[
            "--rm",
            "--network",
            "host",
            "busybox",
            "wget",
            "-q",
            "-O-",
            "http://127.0.0.1:8080/",
        ])
        .ok()
        .is("page");
        // What is mounted in a shared bind reaches the host, though the root file system does not show there.
        let bind = format!("{}:/s:rshared", volume.display());
        run(&[
            "--rm",
            "--privileged",
            "-v",
            &bind,
            "busybox",
            "mount",
            "-t",
            "tmpfs",
            "x",
            "/s/below",
        ])
        .ok();
        daemon
            .host
            .sh(&format!(
                "grep -c {} /proc/self/mountinfo; umount {0}",
                volume.join("below").display()
            ))
            .ok()
            .is("1");
        daemon.host.sh("! grep -q rootfs /proc/1/mountinfo").ok();
        daemon.docker(&["rm", "-f", "web"]).ok();
        daemon.host.sh(&format!("umount {}", volume.display())).ok();
    });
}

/// Runs `body` with a daemon whose client is Wharf's: it has the modes that Docker's has not.
fn with_each_mapped(test: &str, body: impl Fn(&Daemon<'_>, &dyn Fn(&[&str]) -> Output)) {
    with_each(test, |daemon, _| {
        // Runtimes go to the root file system as the container's root.
        let folder = daemon.host.path().display();
        daemon.host.sh(&format!("chmod 711 {folder}")).ok();
        let run = |arguments: &[&str]| {
            let mut all = vec![
                "run",
                "--runtime",
                "other",
                "--userns",
                "private:uidmapping=0:700000:65536",
            ];
            all.extend(arguments);
            daemon.wharf(&all)
        };
        body(daemon, &run);
    });
}

#[test]
fn user_namespaces_have_their_ids_and_capabilities() {
    with_each_mapped("runtimes::user_namespaces", |daemon, run| {
        let before = settled(daemon, || kept(daemon));
        let script = "tr -s ' ' < /proc/self/uid_map; stat -c %u:%g / /etc/passwd /etc/hosts /dev/null; \
            ping -c 1 -w 5 127.0.0.1 >/dev/null && echo pinged; ip addr add 192.0.2.9/32 dev lo && echo added; \
            mount -t tmpfs x /tmp 2>/dev/null || echo no mount; \
            echo x > /dev/null; head -c 3 /dev/zero | wc -c; test -d /sys/class/net && echo sys";
        run(&[
            "--rm",
            "--cap-add",
            "NET_ADMIN",
            "--sysctl",
            "net.ipv4.ip_forward=1",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok()
        .is(" 0 700000 65536\n0:0\n0:0\n0:0\n65534:65534\npinged\nadded\nno mount\n3\nsys");
        daemon.docker(&["volume", "create", "data"]).ok();
        run(&[
            "-d", "--name", "mapped", "--init", "-p", "127.0.0.1:8080:80", "-v", "data:/data", "-m", "64m",
            "busybox", "sh", "-c",
            "touch /mine /data/its; chown 33:33 /mine /data/its; echo page > /index.html; exec httpd -f -p 80",
        ])
        .ok();
        daemon
            .host
            .fetch("http://127.0.0.1:8080/index.html")
            .ok()
            .is("page");
        daemon
            .docker(&[
                "exec",
                "-u",
                "nobody",
                "mapped",
                "sh",
                "-c",
                "id -u; stat -c %u /mine /data/its; echo x > /dev/stderr",
            ])
            .ok()
            .is("65534\n33\n33");
        daemon
            .docker(&["exec", "-t", "mapped", "sh", "-c", "tty"])
            .ok()
            .says("/dev/");
        daemon
            .host
            .sh(&format!(
                "ps -o uid= -p {}; stat -c %u:%g {}/volumes/data/_data/its",
                daemon
                    .docker(&["inspect", "-f", "{{.State.Pid}}", "mapped"])
                    .ok()
                    .text(),
                daemon.data_root().display(),
            ))
            .ok()
            .is("700000\n33:33");
        daemon.docker(&["cp", "mapped:/mine", "-"]).ok();
        run(&[
            "--rm",
            "-v",
            "data:/data",
            "-u",
            "33:33",
            "busybox",
            "sh",
            "-c",
            "echo more > /data/its",
        ])
        .ok();
        daemon
            .wharf(&[
                "run",
                "--rm",
                "--runtime",
                "other",
                "--userns",
                "container:mapped",
                "--network",
                "container:mapped",
                "--pid",
                "container:mapped",
                "busybox",
                "sh",
                "-c",
                "ps | grep -c httpd; wget -q -O- http://127.0.0.1/index.html",
            ])
            .ok()
            .says("page");
        run(&["-it", "--rm", "busybox", "true"]).code(1);
        run(&["-t", "--rm", "busybox", "stat", "-c", "%u", "/dev/console"])
            .ok()
            .says("0");
        daemon.docker(&["restart", "-t", "0", "mapped"]).ok();
        daemon.docker(&["rm", "-f", "mapped"]).ok();
        daemon.docker(&["volume", "rm", "data"]).ok();
        nothing_is_left(&before, || kept(daemon));
    });
}

#[test]
fn binds_are_mapped_also_for_runtimes_that_cannot() {
    with_each_mapped("runtimes::mapped_binds", |daemon, run| {
        let folder = daemon.host.join("bound");
        std::fs::create_dir(&folder).expect("scratch is writable");
        std::fs::write(folder.join("theirs"), "x").expect("scratch is writable");
        daemon
            .host
            .sh(&format!(
                "chown 5:5 {0}/theirs; chmod 777 {0}",
                folder.display()
            ))
            .ok();
        let bind = |options: &str| format!("{}:/b{options}", folder.display());
        let script = "stat -c %u /b/theirs; echo > /b/$0";
        run(&[
            "--rm",
            "-v",
            &bind(":idmap"),
            "busybox",
            "sh",
            "-c",
            script,
            "idmapped",
        ])
        .ok()
        .is("5");
        run(&[
            "--rm",
            "-v",
            &bind(""),
            "busybox",
            "sh",
            "-c",
            script,
            "plain",
        ])
        .ok()
        .is("65534");
        daemon
            .host
            .sh(&format!(
                "cd {}; stat -c %u idmapped plain",
                folder.display()
            ))
            .ok()
            .is("0\n700000");
        // Whoever may not pass the way to the root file system is told which directory it is.
        daemon
            .host
            .sh(&format!("chmod 700 {}", daemon.host.path().display()))
            .ok();
        run(&["--rm", "busybox", "true"])
            .code(125)
            .complains("enters a container in a user namespace as uid 700000, who may not pass ");
    });
}

#[test]
fn updates_are_the_runtimes() {
    with_each("runtimes::updates", |daemon, run| {
        run(&[
            "-d",
            "--name",
            "limited",
            "-m",
            "32m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "50",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
        daemon
            .docker(&[
                "update",
                "-m",
                "48m",
                "--memory-swap",
                "64m",
                "--cpus",
                "0.25",
                "--pids-limit",
                "20",
                "--cpu-shares",
                "512",
                "limited",
            ])
            .ok();
        let in_force = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes \
            cpu/cpu.cfs_quota_us cpu/cpu.shares pids/pids.max 2>/dev/null || \
            { cat memory.max memory.swap.max cpu.max pids.max; }";
        let seen = daemon
            .docker(&["exec", "limited", "sh", "-c", in_force])
            .ok()
            .text();
        assert!(
            [
                "50331648\n67108864\n25000\n512\n20",
                "50331648\n16777216\n25000 100000\n20"
            ]
            .contains(&seen.as_str()),
            "{seen}"
        );
        daemon
            .docker(&["update", "--restart", "always", "limited"])
            .ok();
        // A second change leaves the first in force.
        daemon
            .docker(&["update", "--pids-limit", "30", "limited"])
            .ok();
        let again = daemon
            .docker(&["exec", "limited", "sh", "-c", in_force])
            .ok()
            .text();
        assert_eq!(
            again,
            seen.strip_suffix("20")
                .expect("the last is pids")
                .to_owned()
                + "30"
        );
        daemon.docker(&["update", "-m", "4k", "limited"]).code(1);
        daemon.docker(&["rm", "-f", "limited"]).ok();
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

#[test]
fn runtimes_are_configured_as_in_docker() {
    let Some((host, _)) = host_for("runtimes::configuration", "runc") else {
        return;
    };
    let file = host.join("daemon.json");
    let write = |text: &str| std::fs::write(&file, text).expect("scratch is writable");
    write(r#"{"runtimes":{"slow":{"path":"runc"},"gone":{"path":"/no/such/runc"}}}"#);
    let daemon = Daemon::start_with(&host, &["--config-file", &file.display().to_string()]);
    daemon.load(&fixtures::busybox());
    daemon
        .docker(&["run", "--rm", "--runtime", "nosuch", "busybox", "true"])
        .code(125)
        .complains("unknown or invalid runtime name: nosuch");
    daemon
        .docker(&["run", "--rm", "--runtime", "gone", "busybox", "true"])
        .code(127)
        .complains("fork/exec /no/such/runc: no such file or directory");
    for built_in in ["runc", "io.containerd.runc.v2", "wharf"] {
        daemon
            .docker(&["run", "--rm", "--runtime", built_in, "busybox", "echo", "x"])
            .ok()
            .is("x");
    }
    daemon
        .docker(&[
            "info",
            "--format",
            "{{.DefaultRuntime}} {{range $k, $v := .Runtimes}}{{$k}}={{$v.Path}} {{end}}",
        ])
        .ok()
        .is("runc gone=/no/such/runc io.containerd.runc.v2=wharf runc=wharf slow=runc wharf=wharf");
    daemon
        .docker(&[
            "create",
            "--name",
            "sleeper",
            "--runtime",
            "slow",
            "busybox",
            "true",
        ])
        .ok();
    // A script is a runtime, too.
    let script = host.join("wrapped");
    std::fs::write(
        &script,
        "#!/bin/sh\necho \"$@\" >> $(dirname $0)/called\nexec runc \"$@\"\n",
    )
    .expect("scratch is writable");
    host.sh(&format!("chmod 755 {}", script.display())).ok();
    write(&format!(
        r#"{{"default-runtime":"mine","runtimes":{{"mine":{{"path":"{}","runtimeArgs":["--debug"]}}}}}}"#,
        script.display()
    ));
    host.sh(&format!(
        "kill -HUP $(cat {})",
        host.join("engine/wharf.pid").display()
    ))
    .ok();
    becomes(&"mine".to_owned(), || {
        let format = "{{.DefaultRuntime}}";
        daemon.docker(&["info", "-f", format]).ok().text()
    });
    daemon
        .docker(&["run", "--name", "wrapped-one", "busybox", "echo", "y"])
        .ok()
        .is("y");
    daemon
        .docker(&["inspect", "-f", "{{.HostConfig.Runtime}}", "wrapped-one"])
        .ok()
        .is("mine");
    host.sh(&format!(
        "cut -d' ' -f1,2 {} | sort -u",
        host.join("called").display()
    ))
    .ok()
    .is("--debug --root");
    daemon
        .docker(&["start", "sleeper"])
        .code(1)
        .complains("unknown or invalid runtime name: slow");
    daemon.docker(&["rm", "sleeper", "wrapped-one"]).ok();
}
