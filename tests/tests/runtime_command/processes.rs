//! Further processes in a container, and what is seen and changed of all of them.

use serde_json::{Value, json};
use wharf_tests::{Bundle, Host, run};

#[test]
fn exec_runs_a_process_in_the_container() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "exec sleep 1000");
    bundle.config["process"]["env"]
        .as_array_mut()
        .unwrap()
        .push(json!("FROM=config"));
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    bundle.write();
    bundle.runtime(&["create", "c1"]).ok();
    bundle
        .runtime(&["exec", "c1", "uname", "-m"])
        .ok()
        .is("i686");
    // Before the program runs, too.
    bundle.runtime(&["exec", "c1", "true"]).ok();
    bundle.runtime(&["start", "c1"]).ok();
    let script = "echo $FROM $WORD; pwd; id -u; id -g; id -G; cat /proc/self/cgroup; exit 9";
    let out = bundle
        .runtime(&[
            "exec",
            "--env",
            "WORD=flag",
            "--cwd",
            "/tmp",
            "--user",
            "5:6",
            "-g",
            "7",
            "c1",
            "sh",
            "-c",
            script,
        ])
        .code(9)
        .says("config flag\n/tmp\n5\n6\n6 7\n");
    drop(out);
    run(bundle.command(&["exec", "c1", "cat"]), Some(b"input"))
        .ok()
        .is("input");
    bundle
        .runtime(&["exec", "c1", "nonexistent"])
        .code(255)
        .complains("exec failed: unable to start container process: exec: \"nonexistent\": executable file not found in $PATH");
    bundle
        .runtime(&["exec", "c1", "sh", "-c", "kill -9 $$"])
        .code(137);
    // It has the container's filter and capabilities, and more only if asked for.
    let caps = "grep -E 'CapEff|NoNewPrivs' /proc/self/status";
    bundle
        .runtime(&["exec", "--cap", "CAP_SYS_TIME", "c1", "sh", "-c", caps])
        .ok()
        .says("CapEff:\t0000000022000420")
        .says("NoNewPrivs:\t1");

    let document = json!({
        "args": ["sh", "-c", "echo $A; id -u"], "env": ["A=document", "PATH=/bin"], "cwd": "/",
        "user": {"uid": 3, "gid": 4},
    });
    let file = bundle.join("process.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let file = file.display().to_string();
    bundle
        .runtime(&["exec", "--process", &file, "c1"])
        .ok()
        .is("document\n3");

    let pid_file = bundle.join("exec.pid");
    bundle
        .runtime(&[
            "exec",
            "-d",
            "--pid-file",
            &pid_file.display().to_string(),
            "c1",
            "sleep",
            "1000",
        ])
        .ok();
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let pid: u64 = pid.parse().unwrap();
    let all: Vec<Value> =
        serde_json::from_str(&bundle.runtime(&["ps", "-f", "json", "c1"]).ok().stdout).unwrap();
    assert_eq!(all.len(), 2);
    assert!(all.iter().any(|known| *known == pid), "{all:?} {pid}");
    bundle
        .runtime(&["ps", "c1"])
        .ok()
        .says("PID")
        .says("sleep 1000");
    bundle.runtime(&["kill", "--all", "c1", "9"]).ok();
    bundle.wait_until_stopped("c1");
    bundle
        .runtime(&["exec", "c1", "true"])
        .code(255)
        .complains("cannot exec in a stopped container");
    bundle.runtime(&["delete", "c1"]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_paused_container_waits() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "b", "exec sleep 1000");
    bundle.runtime(&["run", "-d", "c1"]).ok();
    bundle
        .runtime(&["resume", "c1"])
        .code(1)
        .complains("container not paused");
    bundle.runtime(&["pause", "c1"]).ok();
    assert_eq!(bundle.status("c1"), "paused");
    bundle
        .runtime(&["exec", "c1", "true"])
        .code(255)
        .complains("cannot exec in a paused container (use --ignore-paused to override)");
    bundle.runtime(&["pause", "c1"]).code(1);
    bundle.runtime(&["resume", "c1"]).ok();
    assert_eq!(bundle.status("c1"), "running");
    bundle.runtime(&["exec", "c1", "true"]).ok();
    bundle.runtime(&["pause", "c1"]).ok();
    bundle.runtime(&["delete", "--force", "c1"]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn limits_change_and_figures_are_told() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "exec sleep 1000");
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 20});
    bundle.write();
    bundle.runtime(&["run", "-d", "c1"]).ok();
    let pids = |bundle: &Bundle<'_>| {
        let out = bundle.runtime(&["events", "--stats", "c1"]).ok();
        let event: Value = serde_json::from_str(&out.stdout).unwrap();
        assert_eq!(event["type"], "stats");
        assert_eq!(event["id"], "c1");
        assert_eq!(event["data"]["pids"]["current"], 1);
        let data = &event["data"];
        assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
        assert!(data["memory"]["swap"]["limit"].is_u64(), "{data}");
        if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
            assert!(
                data["memory"]["kernel"]["usage"].as_u64() > Some(0),
                "{data}"
            );
            let per_cpu = data["cpu"]["usage"]["percpu_kernel"].as_array().unwrap();
            assert_eq!(
                Some(per_cpu.len()),
                data["cpu"]["usage"]["percpu"].as_array().map(Vec::len)
            );
            assert!(
                !data["cpuset"]["cpus"].as_array().unwrap().is_empty(),
                "{data}"
            );
        }
        event["data"]["pids"]["limit"].as_u64().unwrap()
    };
    assert_eq!(pids(&bundle), 20);
    bundle.runtime(&["update", "--pids-limit", "30", "c1"]).ok();
    assert_eq!(pids(&bundle), 30);
    let document = json!({"pids": {"limit": 40}, "memory": {"limit": 0}, "cpu": {"shares": 0}});
    run(
        bundle.command(&["update", "--resources", "-", "c1"]),
        Some(document.to_string().as_bytes()),
    )
    .ok();
    assert_eq!(pids(&bundle), 40);
    bundle
        .runtime(&["update", "--memory", "much", "c1"])
        .code(1)
        .complains("invalid value for memory");
    // All of it or nothing.
    let document = json!({"pids": {"limit": 50}, "cpu": {"cpus": "4000"}});
    run(
        bundle.command(&["update", "--resources", "-", "c1"]),
        Some(document.to_string().as_bytes()),
    )
    .code(1)
    .complains("cpuset.cpus");
    assert_eq!(pids(&bundle), 40);
    bundle.runtime(&["delete", "-f", "c1"]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn processes_that_outlive_the_first_one_are_found() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "sleep 1000 & exit 0");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    bundle.write();
    bundle.runtime(&["run", "--keep", "c1"]).ok();
    assert_eq!(bundle.status("c1"), "stopped");
    host.sh("pgrep -f 'sleep 1000'").ok();
    bundle.runtime(&["kill", "--all", "c1", "KILL"]).ok();
    bundle.runtime(&["delete", "c1"]).ok();
    host.sh("pgrep -f '^sleep 1000'").code(1);
    bundle.assert_nothing_left();
}
