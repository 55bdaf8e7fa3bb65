//! From `create` to `delete`, and what happens when somebody dies or is in the way meanwhile.

use std::process::Stdio;

use serde_json::{Value, json};
use wharf_tests::{Bundle, Host, run};

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "b", "echo started > /tmp/mark; exec sleep 1000");
    let pid_file = bundle.join("pid");
    bundle
        .runtime(&[
            "create",
            "--pid-file",
            &pid_file.display().to_string(),
            "c1",
        ])
        .ok();
    let state = bundle.state("c1");
    assert_eq!(state["status"], "created");
    assert_eq!(state["ociVersion"], bundle.config["ociVersion"]);
    assert_eq!(state["id"], "c1");
    assert_eq!(
        state["bundle"],
        json!(bundle.join("").components().as_path())
    );
    assert_eq!(state["rootfs"], json!(bundle.join("rootfs")));
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    assert!(!bundle.in_root("tmp/mark").exists());
    bundle
        .runtime(&["create", "c1"])
        .code(1)
        .complains("container with given ID already exists");
    bundle
        .runtime(&["delete", "c1"])
        .code(1)
        .complains("cannot delete container c1 that is not stopped: created");

    bundle.runtime(&["start", "c1"]).ok();
    assert_eq!(bundle.status("c1"), "running");
    bundle
        .runtime(&["start", "c1"])
        .code(1)
        .complains("cannot start an already running container");
    bundle
        .runtime(&["list"])
        .ok()
        .says("c1          ")
        .says("running");
    bundle.runtime(&["list", "-q"]).ok().is("c1");
    let list: Vec<Value> =
        serde_json::from_str(&bundle.runtime(&["list", "--format", "json"]).ok().stdout).unwrap();
    assert_eq!(list[0]["status"], "running");
    bundle
        .runtime(&["delete", "c1"])
        .code(1)
        .complains("that is not stopped: running");

    bundle.runtime(&["kill", "c1", "KILL"]).ok();
    wait_until_stopped(&bundle, "c1");
    assert_eq!(bundle.state("c1")["pid"], 0);
    assert!(bundle.in_root("tmp/mark").exists());
    bundle
        .runtime(&["kill", "c1"])
        .code(1)
        .complains("container not running");
    bundle
        .runtime(&["start", "c1"])
        .code(1)
        .complains("cannot start a container that has stopped");
    bundle.runtime(&["delete", "c1"]).ok();
    bundle
        .runtime(&["state", "c1"])
        .code(1)
        .complains("container does not exist");
    bundle.assert_nothing_left();
}

/// Waits for the end of a container's processes, by its cgroup.
fn wait_until_stopped(bundle: &Bundle<'_>, id: &str) {
    while bundle.status(id) != "stopped" {}
}

#[test]
fn run_in_the_foreground_is_like_the_program() {
    let host = Host::new();
    let mut bundle = Bundle::new(
        &host,
        "b",
        "read -r line; echo \"got $line\"; echo e >&2; exit 7",
    );
    run(bundle.command(&["run", "c1"]), Some(b"some input\n"))
        .code(7)
        .says("got some input")
        .complains("e");
    bundle.assert_nothing_left();

    // PID 1 of a PID namespace is spared by its own signals: one level below.
    bundle.config["process"]["args"] = json!(["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"]);
    bundle.write();
    bundle.runtime(&["run", "c2"]).code(143);

    bundle.runtime(&["run", "--keep", "c3"]).code(143);
    assert_eq!(bundle.status("c3"), "stopped");
    bundle.runtime(&["delete", "c3"]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn signals_reach_the_program_in_the_foreground() {
    let host = Host::new();
    let script = "trap 'echo caught; exit 5' TERM; echo ready > /tmp/fifo; while :; do sleep 1000 & wait; done";
    let bundle = Bundle::new(&host, "b", script);
    let fifo = bundle.in_root("tmp/fifo");
    run(mkfifo(&fifo), None).ok();
    let child = bundle
        .command(&["run", "c1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(std::fs::read_to_string(&fifo).unwrap(), "ready\n");
    host.sh("pkill -TERM --exact wharf-runtime").ok();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(5));
    assert_eq!(out.stdout, b"caught\n");
    bundle.assert_nothing_left();
}

fn mkfifo(path: &std::path::Path) -> std::process::Command {
    let mut command = std::process::Command::new("mkfifo");
    command.args(["-m", "666"]).arg(path);
    command
}

#[test]
fn detached_containers_go_on_without_us() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "b", "exec sleep 1000");
    bundle.runtime(&["run", "-d", "c1"]).ok();
    assert_eq!(bundle.status("c1"), "running");
    bundle.runtime(&["delete", "--force", "c1"]).ok();
    bundle.runtime(&["delete", "--force", "c1"]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn what_is_wrong_is_said_in_the_log_and_on_standard_error() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "true");
    bundle.config["process"]["args"] = json!(["nonexistent-program"]);
    bundle.write();
    let log = bundle.join("log.json").display().to_string();
    bundle
        .runtime(&["--log", &log, "--log-format", "json", "create", "c1"])
        .code(1)
        .complains("executable file not found in $PATH");
    let text = std::fs::read_to_string(&log).unwrap();
    let entry: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(entry["level"], "error");
    assert_eq!(
        entry["msg"],
        "create failed: unable to start container process: exec: \"nonexistent-program\": executable file not found in $PATH"
    );
    assert!(entry["time"].as_str().unwrap().ends_with('Z'));
    bundle.assert_nothing_left();

    bundle.config["process"]["args"] = json!(["/nonexistent"]);
    bundle.write();
    bundle
        .runtime(&["run", "c1"])
        .code(1)
        .complains("exec: \"/nonexistent\": stat /nonexistent: no such file or directory");
    bundle
        .runtime(&["create", "a/b"])
        .code(1)
        .complains("invalid container ID format");
    bundle
        .runtime(&["create"])
        .code(1)
        .complains("requires exactly 1 argument");
    bundle
        .runtime(&["create", "--nonsense", "c1"])
        .code(1)
        .complains("flag provided but not defined: -nonsense");
    bundle
        .runtime(&["create", "--bundle", "/nonexistent", "c1"])
        .code(1)
        .complains("no such file or directory");
    for (pointer, value, message) in [
        ("/ociVersion", json!("2.0.0"), "unsupported ociVersion"),
        ("/root/path", json!("missing"), "no such file or directory"),
        ("/process/cwd", json!("relative"), "not absolute"),
    ] {
        let mut config = bundle.config.clone();
        *config.pointer_mut(pointer).unwrap() = value;
        std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        bundle.runtime(&["create", "c1"]).code(1).complains(message);
    }
    std::fs::remove_file(bundle.join("config.json")).unwrap();
    bundle
        .runtime(&["create", "c1"])
        .code(1)
        .complains("JSON specification file config.json not found");
    bundle.runtime(&["checkpoint", "c1"]).code(1);
    bundle.assert_nothing_left();
}

#[test]
fn one_of_many_creates_of_an_id_wins() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "b", "exec sleep 1000");
    let started: Vec<_> = (0..8)
        .map(|_| {
            bundle
                .command(&["create", "c1"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let won = started
        .into_iter()
        .map(|mut child| child.wait().unwrap())
        .filter(std::process::ExitStatus::success)
        .count();
    assert_eq!(won, 1);
    assert_eq!(bundle.status("c1"), "created");
    bundle.runtime(&["delete", "-f", "c1"]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_killed_create_leaves_nothing_that_delete_does_not_remove() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "exec sleep 1000");
    let fifo = bundle.join("fifo");
    run(mkfifo(&fifo), None).ok();
    let hook = format!("echo here > {}; exec sleep 1000", fifo.display());
    bundle.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    bundle.write();
    let mut child = bundle
        .command(&["create", "c1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(std::fs::read_to_string(&fifo).unwrap(), "here\n");
    assert_eq!(bundle.status("c1"), "creating");
    bundle
        .runtime(&["start", "c1"])
        .code(1)
        .complains("cannot start a container that is being created");
    // Its first process has that name too, so far.
    host.sh("pkill -9 --oldest --exact wharf-runtime").ok();
    child.wait().unwrap();
    assert_eq!(bundle.status("c1"), "stopped");
    bundle.runtime(&["delete", "--force", "c1"]).ok();
    // The hook is nobody's any more.
    host.sh("pkill -9 --exact --full 'sleep 1000'").ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_reused_process_number_is_another_process() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "b", "exec sleep 1000");
    bundle.runtime(&["run", "-d", "c1"]).ok();
    let file = bundle.state_root().join("c1/state.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let real = record.clone();
    record["process"]["startTime"] = json!(1);
    std::fs::write(&file, record.to_string()).unwrap();
    assert_eq!(bundle.status("c1"), "stopped");
    std::fs::write(&file, real.to_string()).unwrap();
    assert_eq!(bundle.status("c1"), "running");
    bundle.runtime(&["delete", "-f", "c1"]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn the_program_is_not_to_be_found_on_disk_by_the_container() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "b", "exec sleep 1000");
    bundle.runtime(&["create", "c1"]).ok();
    let pid = bundle.state("c1")["pid"].to_string();
    let exe = host.sh(&format!("readlink /proc/{pid}/exe")).ok();
    assert!(
        exe.stdout.starts_with("/memfd:wharf-runtime"),
        "{}",
        exe.stdout
    );
    host.sh(&format!("echo x >> /proc/{pid}/exe")).code(2);
    bundle.runtime(&["delete", "-f", "c1"]).ok();
}

#[test]
fn callers_find_what_they_ask_for() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "b", "true");
    bundle
        .runtime(&["--version"])
        .ok()
        .says("wharf-runtime version ")
        .says("\ncommit: ")
        .says("\nspec: 1.");
    let link = bundle.join("runc");
    std::os::unix::fs::symlink(wharf_tests::wharf_binary(), &link).unwrap();
    let mut command = host.command(&link);
    command.arg("--version");
    run(command, None).ok().says("runc version ");
    bundle
        .runtime(&["--help"])
        .ok()
        .says("COMMANDS:")
        .says("   create ");
    bundle
        .runtime(&["create", "--help"])
        .ok()
        .says("--console-socket PATH");
    let features: Value = serde_json::from_str(&bundle.runtime(&["features"]).ok().stdout).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["hooks"].as_array().unwrap().len(), 6);
    bundle
        .runtime(&["spec"])
        .code(1)
        .complains("file config.json exists");
}

#[test]
fn a_root_on_a_ramdisk_is_entered_without_pivoting() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "b", "ls /; cat /proc/self/mounts | head -n 1");
    bundle
        .runtime(&["run", "--no-pivot", "c1"])
        .ok()
        .says("bin\ndev\netc\nproc\nroot\nsys\ntmp\n");
    bundle.assert_nothing_left();
}
