//! Limits changed on running containers, figures, and why containers ended.

use serde_json::Value;
use wharf_tests::{Daemon, Host, fixtures};

fn daemon(host: &Host) -> Daemon<'_> {
    let daemon = Daemon::start(host);
    daemon.load(&fixtures::busybox());
    daemon
}

fn inspect(daemon: &Daemon<'_>, name: &str) -> Value {
    let out = daemon.docker(&["inspect", name]).ok();
    let list: Value = serde_json::from_str(&out.stdout).expect("inspect prints JSON");
    list[0].clone()
}

#[test]
fn limits_change_on_running_containers() {
    let host = Host::new();
    let daemon = daemon(&host);
    let docker = |arguments: &[&str]| daemon.docker(arguments);
    docker(&[
        "run", "-d", "--name", "worker", "--memory", "64m", "busybox", "sleep", "1000",
    ])
    .ok();
    let inside = |file: &str| {
        let (v1, v2) = match file {
            "memory" => ("memory/memory.limit_in_bytes", "memory.max"),
            "cpu" => ("cpu/cpu.cfs_quota_us", "cpu.max"),
            "pids" => ("pids/pids.max", "pids.max"),
            other => panic!("{other}"),
        };
        let line = format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}");
        docker(&["exec", "worker", "sh", "-c", &line]).ok().text()
    };
    assert_eq!(inside("memory"), (64 << 20).to_string());
    // Docker's rule: the swap limit does not follow by itself.
    docker(&["update", "--memory", "256m", "worker"])
        .code(1)
        .complains("update the memoryswap at the same time");
    docker(&[
        "update",
        "--memory",
        "256m",
        "--memory-swap",
        "512m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "77",
        "worker",
    ])
    .ok()
    .is("worker");
    assert_eq!(inside("memory"), (256 << 20).to_string());
    assert!(inside("cpu").starts_with("50000"));
    assert_eq!(inside("pids"), "77");
    docker(&["update", "--cpu-quota", "20000", "worker"])
        .code(1)
        .complains("CPU Quota cannot be updated as NanoCPUs has already been set");
    docker(&["update", "--memory", "1m", "worker"])
        .code(1)
        .complains("Minimum memory limit allowed is 6MB");
    docker(&["update", "--pids-limit", "-1", "worker"]).ok();
    assert_eq!(inside("pids"), "max");
    docker(&["update", "--restart", "on-failure:4", "worker"]).ok();
    let before = inspect(&daemon, "worker");
    assert_eq!(before["HostConfig"]["Memory"], 256 << 20);
    assert_eq!(before["HostConfig"]["NanoCpus"], 500_000_000);
    assert_eq!(
        before["HostConfig"]["RestartPolicy"]["MaximumRetryCount"],
        4
    );
    docker(&["update", "--memory", "64m", "nobody"])
        .code(1)
        .complains("No such container");

    // Stopped: kept for the next run.
    docker(&["stop", "-t", "0", "worker"]).ok();
    docker(&[
        "update",
        "--memory",
        "128m",
        "--memory-swap",
        "-1",
        "worker",
    ])
    .ok();
    docker(&["start", "worker"]).ok();
    assert_eq!(inside("memory"), (128 << 20).to_string());
    docker(&["rm", "-f", "worker"]).ok();
    docker(&[
        "run", "-d", "--rm", "--name", "fleeting", "busybox", "sleep", "1000",
    ])
    .ok();
    docker(&["update", "--restart", "always", "fleeting"])
        .code(1)
        .complains("AutoRemove is enabled");
}

#[test]
fn ends_are_explained() {
    let host = Host::new();
    let daemon = daemon(&host);
    let docker = |arguments: &[&str]| daemon.docker(arguments);
    let kind = |name: &str| {
        let last = inspect(&daemon, name)["State"]["LastExit"].clone();
        last["Kind"].as_str().unwrap_or_default().to_owned()
    };
    // Out of its own memory.
    docker(&[
        "run",
        "--name",
        "hog",
        "--memory",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        "echo begin; exec tail /dev/zero",
    ])
    .code(137);
    let state = inspect(&daemon, "hog")["State"].clone();
    assert_eq!(
        (&state["OOMKilled"], &state["ExitCode"]),
        (&Value::Bool(true), &Value::from(137))
    );
    let oom = &state["LastExit"]["OOM"];
    assert_eq!(kind("hog"), "oom", "{state}");
    assert_eq!(oom["Limit"], 16 << 20, "{oom}");
    assert!(
        oom["Kills"].as_u64() >= Some(1) && oom["Peak"].as_u64() > Some(8 << 20),
        "{oom}"
    );
    let why = daemon.wharf(&["why", "hog"]).ok();
    why.says("want of memory")
        .says("limit 16MiB")
        .says("begin")
        .says("update --memory");
    let why = daemon.wharf(&["why", "--format", "json", "hog"]).ok();
    let why: Value = serde_json::from_str(&why.stdout).expect("JSON");
    assert_eq!(why["LastExit"]["OOM"]["Limit"], 16 << 20);
    daemon
        .wharf(&["why", "--format", "{{.LastExit.Kind}}", "hog"])
        .ok()
        .is("oom");
    // The log remembers earlier runs; each end is told with its own.
    for _ in 0..2 {
        docker(&["start", "-a", "hog"]).code(137);
    }
    let oom = inspect(&daemon, "hog")["State"]["LastExit"]["OOM"].clone();
    let victims = oom["Victims"].as_array().map_or(0, Vec::len) as u64;
    assert!(Some(victims) <= oom["Kills"].as_u64(), "{oom}");
    // A child alone: the program goes on, and is said to.
    docker(&[
        "run",
        "-d",
        "--name",
        "parent",
        "--memory",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        "tail /dev/zero; echo lost; exec sleep 1000",
    ])
    .ok();
    wharf_tests::eventually("the child is killed", || {
        let log = docker(&["logs", "parent"]).ok();
        if log.stdout.contains("lost") {
            Ok(())
        } else {
            Err(format!("{log:?}"))
        }
    });
    wharf_tests::eventually("the engine knows", || {
        let state = inspect(&daemon, "parent")["State"].clone();
        if state["OOMKilled"] == true {
            Ok(())
        } else {
            Err(state.to_string())
        }
    });
    daemon
        .wharf(&["why", "parent"])
        .ok()
        .says("It has been running")
        .says("A process in it was killed for want of memory")
        .says("update --memory");

    // By itself.
    docker(&["run", "--name", "three", "busybox", "sh", "-c", "exit 3"]).code(3);
    assert_eq!(kind("three"), "exited");
    daemon
        .wharf(&["why", "three"])
        .ok()
        .says("ended by itself with exit code 3");
    // Never began.
    docker(&["run", "--name", "none", "busybox", "no-such-program"]).code(127);
    assert_eq!(kind("none"), "not-started");
    daemon
        .wharf(&["why", "none"])
        .ok()
        .says("executable file not found")
        .says("run --rm -it --entrypoint sh busybox")
        .never_says("update --restart");
    // By a user: at once, and after patience.
    for (name, end, expected, origin) in [
        ("killed", vec!["kill", "killed"], "killed", "kill"),
        (
            "stopped",
            vec!["stop", "-t", "1", "stopped"],
            "stopped",
            "stop-timeout",
        ),
    ] {
        let folder = host.join(name);
        std::fs::create_dir(&folder).expect("scratch is writable");
        host.sh(&format!("mkfifo {}/ready", folder.display())).ok();
        let volume = format!("{}:/ready", folder.display());
        let script = "trap '' TERM; echo > /ready/ready; while :; do sleep 1000 & wait; done";
        docker(&[
            "run", "-d", "--name", name, "-v", &volume, "busybox", "sh", "-c", script,
        ])
        .ok();
        // Opens when the signal is ignored.
        host.sh(&format!("read x < {}/ready", folder.display()))
            .ok();
        docker(&end).ok();
        docker(&["wait", name]).ok();
        let last = inspect(&daemon, name)["State"]["LastExit"].clone();
        assert_eq!(
            (&last["Kind"], &last["RequestedBy"]),
            (&expected.into(), &origin.into()),
            "{last}"
        );
    }
    daemon
        .wharf(&["why", "stopped"])
        .ok()
        .says("did not end in the time it had");
    // From outside: nobody knows who.
    docker(&["run", "-d", "--name", "victim", "busybox", "sleep", "1000"]).ok();
    let pid = inspect(&daemon, "victim")["State"]["Pid"].to_string();
    host.sh(&format!("kill -9 {pid}")).ok();
    docker(&["wait", "victim"]).ok().is("137");
    assert_eq!(kind("victim"), "signal");
    daemon
        .wharf(&["why", "victim"])
        .ok()
        .says("the sender is unknown");
    // With an init the sender may be a neighbour.
    docker(&[
        "run", "-d", "--init", "--name", "below", "busybox", "sleep", "1000",
    ])
    .ok();
    // Detached: the container's end may come before the shell's own.
    docker(&["exec", "-d", "below", "sh", "-c", "kill -9 $(pidof sleep)"]).ok();
    docker(&["wait", "below"]).ok().is("137");
    daemon
        .wharf(&["why", "below"])
        .ok()
        .says("from inside the container or from outside");
    // Runs before the last are remembered.
    docker(&["start", "-a", "three"]).code(3);
    let earlier = inspect(&daemon, "three")["State"]["EarlierExits"].clone();
    assert_eq!(earlier[0]["ExitCode"], 3);
    daemon.wharf(&["why", "three"]).ok().says("Earlier runs");
    docker(&["create", "--name", "fresh", "busybox"]).ok();
    daemon.wharf(&["why", "fresh"]).ok().says("never started");
    daemon
        .wharf(&["why", "nobody"])
        .code(1)
        .complains("No such container");
}

/// Between the end and its being told, the second signal finds nobody.
#[test]
fn a_container_that_ends_at_the_first_signal_is_stopped() {
    let host = Host::new();
    let daemon = daemon(&host);
    let script = "trap exit TERM; while :; do sleep 1000 & wait; done";
    let run = ["run", "-d", "--name", "box", "busybox", "sh", "-c", script];
    // With our own client: where the guest emulates, the reference one takes seconds to start.
    daemon.wharf(&run).ok();
    for _ in 0..10 {
        daemon.wharf(&["restart", "-t", "0", "box"]).ok();
        daemon.wharf(&["stop", "-t", "0", "box"]).ok();
        daemon.wharf(&["start", "box"]).ok();
    }
}

#[test]
fn figures_come_at_once_and_say_more() {
    let host = Host::new();
    let daemon = daemon(&host);
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "busy",
            "--memory",
            "64m",
            "--cpus",
            "0.2",
            "busybox",
            "sh",
            "-c",
            "while :; do :; done",
        ])
        .ok();
    let stats = |query: &str| -> Value {
        let socket = daemon.url();
        let socket = socket.trim_start_matches("unix://").to_owned();
        let line = format!(
            "curl -s --unix-socket {socket} 'http://localhost/containers/busy/stats?stream=false{query}'"
        );
        let out = host.sh(&line).ok();
        serde_json::from_str(&out.stdout).expect("a sample is JSON")
    };
    let first = stats("&one-shot=true");
    assert_eq!(first["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert!(
        first["preread"]
            .as_str()
            .expect("a time")
            .starts_with("0001-")
    );
    assert_eq!(first["memory_stats"]["limit"], 64 << 20);
    let second = stats("");
    let used = |stats: &Value, which: &str| {
        stats[which]["cpu_usage"]["total_usage"]
            .as_u64()
            .expect("a number")
    };
    assert!(used(&second, "cpu_stats") > used(&second, "precpu_stats"));
    assert!(
        used(&second, "precpu_stats") > 0 && second["cpu_stats"]["online_cpus"].as_u64() > Some(0)
    );
    assert!(second["networks"]["eth0"]["rx_bytes"].is_u64(), "{second}");
    let extra = &second["extra_stats"];
    let working_set = extra["memory_working_set"].as_u64().expect("a number");
    assert!(
        working_set > 0
            && working_set <= second["memory_stats"]["usage"].as_u64().expect("a number")
    );
    // Pressure is per container with cgroup v2 alone, where the kernel counts it.
    let unified = daemon
        .docker(&["info", "--format", "{{.CgroupVersion}}"])
        .ok()
        .text()
        == "2";
    let counted = unified && std::path::Path::new("/proc/pressure/cpu").exists();
    assert_eq!(extra["pressure"].is_null(), !counted, "{extra}");
    if counted {
        // It is held back most of the time.
        let stalled = extra["pressure"]["cpu"]["some"]["total"].as_u64();
        assert!(stalled > Some(0), "{extra}");
    }
}
