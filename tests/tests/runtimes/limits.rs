//! What holds a running container back under another runtime: signals, pauses, limits, and limits
//! that change.

use wharf_tests::traces::{nothing_is_left, settled};
use wharf_tests::waiting::becomes;

use crate::{kept, with_each};

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
