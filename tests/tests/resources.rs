//! Limits that bite and are reported right, on cgroup v1 and v2 alike. `cargo xtask vm test` runs these
//! in a guest that has nothing but v2, with systemd.

use wharf_tests::{Daemon, Host, Output, fixtures, skip};

/// A daemon with the busybox image.
fn daemon(host: &Host) -> Daemon<'_> {
    let daemon = Daemon::start(host);
    daemon.load(&fixtures::busybox());
    daemon
}

/// `docker run --rm` without a network, which none of these needs.
fn run(daemon: &Daemon<'_>, flags: &[&str], script: &str) -> Output {
    daemon.docker(
        &[
            &["run", "--rm", "--network", "none"],
            flags,
            &["busybox", "sh", "-c", script],
        ]
        .concat(),
    )
}

fn is_unified(daemon: &Daemon<'_>) -> bool {
    daemon
        .docker(&["info", "--format", "{{.CgroupVersion}}"])
        .ok()
        .text()
        == "2"
}

/// What a container sees of its own cgroup: `v1` and `v2` name the file on either version.
fn control_file(daemon: &Daemon<'_>, flags: &[&str], v1: &str, v2: &str) -> String {
    let file = if is_unified(daemon) { v2 } else { v1 };
    run(daemon, flags, &format!("cat /sys/fs/cgroup/{file}"))
        .ok()
        .text()
}

#[test]
fn memory_limits_kill_and_are_reported() {
    let host = Host::new();
    let daemon = daemon(&host);
    daemon
        .docker(&[
            "run",
            "--name",
            "hungry",
            "--network",
            "none",
            "--memory",
            "32m",
            "--memory-swap",
            "32m",
            "busybox",
            "dd",
            "if=/dev/zero",
            "of=/dev/null",
            "bs=64M",
            "count=1",
        ])
        .code(137);
    let state = daemon.docker(&[
        "inspect",
        "--format",
        "{{.State.OOMKilled}} {{.State.ExitCode}}",
        "hungry",
    ]);
    assert_eq!(state.ok().text(), "true 137");

    let limit = control_file(
        &daemon,
        &["--memory", "48m"],
        "memory/memory.limit_in_bytes",
        "memory.max",
    );
    assert_eq!(limit, (48 << 20).to_string());
    let swapping = std::fs::read_to_string("/proc/swaps")
        .unwrap_or_default()
        .lines()
        .count()
        > 1;
    if !swapping {
        return skip(
            "memory_limits_kill_and_are_reported",
            "its last part needs swap",
        );
    }
    // 48 MB fit in 32 MB of memory and as much swap.
    let flags = ["--memory", "32m", "--memory-swap", "64m"];
    run(
        &daemon,
        &flags,
        "dd if=/dev/zero of=/dev/null bs=48M count=1",
    )
    .ok();
    let swap = control_file(
        &daemon,
        &flags,
        "memory/memory.memsw.limit_in_bytes",
        "memory.swap.max",
    );
    let expected = if is_unified(&daemon) {
        32 << 20
    } else {
        64 << 20
    };
    assert_eq!(swap, expected.to_string());
}

#[test]
fn processor_and_process_limits_bite() {
    let host = Host::new();
    let daemon = daemon(&host);
    assert_eq!(
        run(&daemon, &["--cpuset-cpus", "0"], "nproc").ok().text(),
        "1"
    );
    let quota = control_file(
        &daemon,
        &["--cpus", "0.5"],
        "cpu/cpu.cfs_quota_us",
        "cpu.max",
    );
    assert_eq!(quota.split(' ').next(), Some("50000"));
    let weight = control_file(
        &daemon,
        &["--cpu-shares", "2048"],
        "cpu/cpu.shares",
        "cpu.weight",
    );
    assert_eq!(weight, if is_unified(&daemon) { "174" } else { "2048" });
    let out = run(
        &daemon,
        &["--pids-limit", "6"],
        "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; echo more",
    );
    assert!(out.stderr.contains("can't fork"), "{out:?}");
}

#[test]
fn block_device_limits_reach_the_kernel() {
    let host = Host::new();
    let daemon = daemon(&host);
    let disk = std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| name.starts_with("vd") || name.starts_with("sd") || name.starts_with("nvme"));
    let Some(disk) = disk.filter(|disk| std::path::Path::new("/dev").join(disk).exists()) else {
        return skip("block_device_limits_reach_the_kernel", "no disk");
    };
    let number =
        std::fs::read_to_string(format!("/sys/block/{disk}/dev")).expect("a disk has a number");
    let rate = format!("/dev/{disk}:1mb");
    let limit = control_file(
        &daemon,
        &["--device-write-bps", &rate],
        "blkio/blkio.throttle.write_bps_device",
        "io.max",
    );
    assert!(limit.starts_with(number.trim()), "{limit}");
    assert!(limit.contains("1048576"), "{limit}");
}

#[test]
fn running_containers_are_measured_and_paused() {
    let host = Host::new();
    let daemon = daemon(&host);
    let flags = ["--network", "none", "--memory", "64m", "--pids-limit", "20"];
    daemon
        .docker(
            &[
                &["run", "-d", "--name", "box"],
                &flags[..],
                &["busybox", "sh", "-c", "sleep 1000 & exec sleep 1000"],
            ]
            .concat(),
        )
        .ok();
    let stats = daemon
        .docker(&[
            "stats",
            "--no-stream",
            "--format",
            "{{.MemUsage}} {{.PIDs}}",
            "box",
        ])
        .ok()
        .text();
    assert!(stats.contains("/ 64MiB 2"), "{stats}");
    assert!(!stats.starts_with("0B"), "{stats}");

    daemon.docker(&["pause", "box"]).ok();
    let status = || {
        daemon
            .docker(&["inspect", "--format", "{{.State.Status}}", "box"])
            .ok()
            .text()
    };
    assert_eq!(status(), "paused");
    let exec = daemon.docker(&["exec", "box", "true"]);
    assert!(exec.stderr.contains("is paused"), "{exec:?}");
    daemon.docker(&["unpause", "box"]).ok();
    assert_eq!(status(), "running");
    daemon.docker(&["exec", "box", "true"]).ok();

    daemon.docker(&["rm", "-f", "box"]).ok();
}

#[test]
fn devices_are_filtered() {
    let host = Host::new();
    let daemon = daemon(&host);
    let script =
        "mknod /log c 1 11 && head -c 1 /log >/dev/null && echo read; head -c 2 /dev/zero | wc -c";
    let out = run(&daemon, &[], script);
    assert_eq!(out.stdout.trim(), "2", "{out:?}");
    assert!(out.stderr.contains("Operation not permitted"), "{out:?}");
    let allowed = run(
        &daemon,
        &["--device-cgroup-rule", "c 1:7 r"],
        "mknod /full c 1 7 && head -c 1 /full | wc -c",
    );
    assert_eq!(allowed.ok().text(), "1");
    let allowed = run(
        &daemon,
        &["--device", "/dev/kmsg:/dev/log", "--cap-add", "SYSLOG"],
        "test -c /dev/log && : </dev/log && echo opened",
    );
    assert_eq!(allowed.ok().text(), "opened");
}

#[test]
fn cgroups_are_where_they_were_asked_for() {
    let host = Host::new();
    let daemon = daemon(&host);
    let parent = format!("{}/special", host.cgroup_parent());
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "box",
            "--network",
            "none",
            "--cgroup-parent",
            &parent,
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    let id = daemon
        .docker(&["inspect", "--format", "{{.Id}}", "box"])
        .ok()
        .text();
    let pid = daemon
        .docker(&["inspect", "--format", "{{.State.Pid}}", "box"])
        .ok()
        .text();
    let list = host.sh(&format!("cat /proc/{pid}/cgroup")).ok().text();
    assert!(list.contains(&format!("{parent}/{id}")), "{list}");
    daemon.docker(&["rm", "-f", "box"]).ok();
    if is_unified(&daemon) {
        // Private by default, as Docker does on v2; host when asked.
        assert_eq!(
            run(&daemon, &[], "cat /proc/self/cgroup").ok().text(),
            "0::/"
        );
        let out = run(&daemon, &["--cgroupns", "host"], "cat /proc/self/cgroup")
            .ok()
            .text();
        assert!(
            out.starts_with(&format!("0::{}", host.cgroup_parent())),
            "{out}"
        );
    }
}
