//! From `create` to `delete`, and what happens when somebody dies or is in the way meanwhile.

use std::process::Stdio;

use serde_json::{Value, json};
use wharf_tests::waiting::becomes;
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

    let mark = bundle.in_root("tmp/mark");
    becomes(&true, || mark.exists());
    // Whether it could get one.
    bundle.runtime(&["kill", "c1", "0"]).ok();
    bundle.runtime(&["kill", "c1", "KILL"]).ok();
    bundle.wait_until_stopped("c1");
    assert_eq!(bundle.state("c1")["pid"], 0);
    for signal in ["TERM", "0"] {
        bundle
            .runtime(&["kill", "c1", signal])
            .code(1)
            .complains("container not running");
    }
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

#[test]
fn a_container_may_be_in_a_mount_namespace_of_others() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "exec sleep 1000");
    let mounts = |whose: &str| host.sh(&format!("cat /proc/{whose}/mountinfo")).ok().text();
    let before = mounts("1");
    // Without one of its own it is in the caller's; or it is in one given by its path.
    let other = host
        .command("unshare")
        .args(["--mount", "sh", "-c", "echo; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut other = other.unwrap();
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let inside = host.eventually("pgrep -x cat").text();
    let others = mounts(&inside);
    for (id, whose) in [("c1", "1"), ("c2", inside.as_str())] {
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "mount");
        if whose != "1" {
            namespaces.push(json!({"type": "mount", "path": format!("/proc/{whose}/ns/mnt")}));
        }
        bundle.write();
        bundle.runtime(&["run", "-d", id]).ok();
        let pid = bundle.state(id)["pid"].to_string();
        let namespace = |pid: &str| host.sh(&format!("readlink /proc/{pid}/ns/mnt")).ok().text();
        assert_eq!(namespace(&pid), namespace(whose));
        // Its root is its own, whole, and seen by nobody else.
        let look = "readlink /proc/self/ns/mnt; ls /; test -c /dev/null && cat /proc/1/cmdline; \
                    head -c 1 /proc/kcore; echo x > /proc/sys/kernel/hostname || echo protected";
        bundle
            .runtime(&["exec", id, "sh", "-c", look])
            .ok()
            .says(&namespace(whose))
            .says("root")
            .says("sleep")
            .says("protected")
            .never_says("usr");
        assert_eq!(mounts("1"), before);
        assert_eq!(mounts(&inside), others);
        bundle.runtime(&["delete", "--force", id]).ok();
    }
    let user = json!({"type": "user"});
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(user);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.write();
    bundle
        .runtime(&["run", "c3"])
        .code(1)
        .complains("a container with a user namespace needs a new mount namespace");
    drop(other.stdin.take());
    other.wait().unwrap();
    bundle.assert_nothing_left();
}

#[test]
fn what_has_no_effect_is_left_out_with_a_warning() {
    let host = Host::new();
    let script = "grep ' /mnt ' /proc/self/mountinfo; ls -d /mnt/hosts";
    let mut bundle = Bundle::new(&host, "b", script);
    let options = ["bind", "mode=755", "shared", "ro"];
    let mount = json!({"destination": "/mnt", "source": "/etc", "options": options});
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    let label = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811";
    bundle.config["linux"]["mountLabel"] = json!(label);
    bundle.write();
    let out = bundle.runtime(&["run", "c1"]).ok();
    let out = out
        .says("/mnt/hosts")
        .says(" ro,")
        .says(" shared:")
        .complains("mount option \\\"mode=755\\\" has no meaning for a bind mount");
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        out.complains("linux.mountLabel: SELinux is not enabled on this host: ignored");
    }
    bundle.assert_nothing_left();
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
    let lines = std::fs::read_to_string(&file).unwrap();
    let mut record: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
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
    // A file system of its own that is read-only, whatever is written there.
    let kind = host.sh(&format!("stat -f -L -c %T /proc/{pid}/exe")).ok();
    assert_eq!(kind.stdout, "overlayfs\n");
    host.sh(&format!("echo x >> /proc/{pid}/exe"))
        .code(2)
        .complains("Read-only file system");
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
