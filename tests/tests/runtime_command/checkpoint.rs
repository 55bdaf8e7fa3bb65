//! `checkpoint` and `restore`, where the machine has a CRIU that works.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::json;
use wharf_tests::{Bundle, Host, eventually};

/// Counts in memory, and says so where the test can read it: in a file that is open under no name a test removes,
/// or CRIU would miss it.
const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); echo $i > /tmp/new; mv /tmp/new /tmp/count; sleep 0.1; done";

fn with_criu(test: &str, body: impl FnOnce(&Host)) {
    let host = Host::new();
    match wharf_tests::criu::provide(&host) {
        Ok(()) => body(&host),
        Err(reason) => wharf_tests::skip(test, &reason),
    }
}

fn counter<'h>(host: &'h Host) -> Bundle<'h> {
    let mut bundle = Bundle::new(host, "b", COUNTER);
    // On v1, CRIU does not keep one.
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|namespace| namespace["type"] != "cgroup");
    bundle.write();
    bundle
}

fn count(bundle: &Bundle<'_>) -> u32 {
    let text = std::fs::read_to_string(bundle.in_root("tmp/count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn goes_beyond(bundle: &Bundle<'_>, id: &str, limit: u32) {
    let line = format!("until test \"$(cat /tmp/count)\" -gt {limit}; do sleep 0.05; done");
    bundle.runtime(&["exec", id, "sh", "-c", &line]).ok();
}

#[test]
fn a_container_goes_on_where_it_was() {
    with_criu("a_container_goes_on_where_it_was", |host| {
        let bundle = counter(host);
        let images = bundle.join("images").display().to_string();
        bundle.runtime(&["run", "-d", "c1"]).ok();
        goes_beyond(&bundle, "c1", 5);
        // It may go on, after a first round that only wrote memory.
        let first = bundle.join("first").display().to_string();
        let out = bundle.runtime(&["checkpoint", "--pre-dump", "--image-path", &first, "c1"]);
        let mut flags = vec!["checkpoint", "--leave-running", "--image-path", &images];
        if out.stderr.contains("Tracking memory is not available") {
            let reason = "the kernel does not track changed memory";
            wharf_tests::skip("checkpoint --pre-dump", reason);
        } else {
            out.ok();
            flags.extend(["--parent-path", "../first"]);
        }
        assert_eq!(bundle.status("c1"), "running");
        bundle.runtime(&[&flags[..], &["c1"]].concat()).ok();
        assert_eq!(bundle.status("c1"), "running");
        bundle
            .runtime(&["checkpoint", "--image-path", &images, "c1"])
            .ok();
        bundle
            .runtime(&["state", "c1"])
            .code(1)
            .complains("container does not exist");
        bundle.assert_nothing_left();

        let before = count(&bundle);
        std::fs::remove_file(bundle.in_root("tmp/count")).unwrap();
        let pid_file = bundle.join("pid").display().to_string();
        let flags = [
            "restore",
            "--detach",
            "--pid-file",
            &pid_file,
            "--image-path",
            &images,
        ];
        bundle.runtime(&[&flags[..], &["c2"]].concat()).ok();
        let state = bundle.state("c2");
        assert_eq!(state["status"], "running");
        assert_eq!(
            state["pid"].to_string(),
            std::fs::read_to_string(&pid_file).unwrap()
        );
        goes_beyond(&bundle, "c2", before);
        bundle.runtime(&["kill", "c2", "KILL"]).ok();
        bundle.wait_until_stopped("c2");
        bundle.runtime(&["delete", "c2"]).ok();
        bundle.assert_nothing_left();
    });
}

#[test]
fn a_restored_container_may_be_stayed_with() {
    with_criu("a_restored_container_may_be_stayed_with", |host| {
        let mut bundle = counter(host);
        let script =
            "trap 'echo caught; exit 5' TERM; touch /tmp/ready; while :; do sleep 0.1; done";
        bundle.config["process"]["args"] = json!(["sh", "-c", script]);
        bundle.write();
        let mut first = bundle
            .command(&["run", "c1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ours may be a file, which CRIU wants to find as it was.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        host.eventually(&format!(
            "test -e {}",
            bundle.in_root("tmp/ready").display()
        ));
        bundle.runtime(&["checkpoint", "c1"]).ok();
        // Who stayed with it sees its end.
        assert!(!first.wait().unwrap().success());
        let mut command = bundle.command(&["restore", "c1"]);
        let mut again = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ours may be a file, which CRIU wants to find as it was.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("it runs again", || {
            let out = bundle.runtime(&["exec", "c1", "true"]);
            if out.code == 0 {
                Ok(())
            } else {
                Err(out.stderr)
            }
        });
        bundle.runtime(&["kill", "c1", "TERM"]).ok();
        let mut line = String::new();
        BufReader::new(again.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "caught\n");
        assert_eq!(again.wait().unwrap().code(), Some(5));
        bundle.assert_nothing_left();
    });
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "exec sleep 1000");
    let refused = |bundle: &Bundle<'_>, flags: &[&str], words: &str| {
        bundle
            .runtime(&[flags, &["c1"]].concat())
            .code(1)
            .complains(words);
    };
    refused(&bundle, &["checkpoint"], "container does not exist");
    bundle.runtime(&["create", "c1"]).ok();
    refused(
        &bundle,
        &["checkpoint"],
        "cannot checkpoint a container that is created",
    );
    for flag in ["--lazy-pages", "--page-server=1.2.3.4:5", "--status-fd=3"] {
        let name = flag.trim_start_matches('-').split('=').next().unwrap();
        refused(
            &bundle,
            &["checkpoint", flag],
            &format!("{name} is not supported for checkpoints"),
        );
    }
    refused(
        &bundle,
        &["checkpoint", "--empty-ns", "ipc"],
        "cannot be left out, only network",
    );
    bundle.runtime(&["delete", "--force", "c1"]).ok();
    refused(
        &bundle,
        &["restore", "--no-pivot"],
        "no-pivot is not supported for checkpoints",
    );
    refused(
        &bundle,
        &["restore", "--image-path", "/nonexistent"],
        "cannot read the checkpoint",
    );
    bundle.config["process"]["terminal"] = json!(true);
    bundle.write();
    refused(
        &bundle,
        &["restore"],
        "a restored container cannot have a terminal",
    );
    bundle.assert_nothing_left();
}
