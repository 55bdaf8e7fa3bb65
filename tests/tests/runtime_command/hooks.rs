//! Hooks of every kind: order, namespaces, what they are told, and what their failure does.

use serde_json::{Value, json};
use wharf_tests::{Bundle, Host};

/// A hook that adds a line to `file`: its kind, the state's status and process ID, and `$extra`.
fn noting(kind: &str, file: &str, extra: &str) -> Value {
    let script = format!(
        "read -r state; status=${{state#*\\\"status\\\":\\\"}}; pid=${{state#*\\\"pid\\\":}}; \
         echo {kind} ${{status%%\\\"*}} ${{pid%%,*}} {extra} >> {file}"
    );
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]})
}

fn lines(bundle: &Bundle<'_>, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(bundle.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn hooks_run_in_order_and_in_their_namespaces() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "exec sleep 1000");
    let file = bundle.join("notes").display().to_string();
    let mount_namespace = "$(readlink /proc/self/ns/mnt)";
    let rootfs = bundle.join("rootfs").display().to_string();
    bundle.config["hooks"] = json!({
        "prestart": [noting("prestart", &file, mount_namespace)],
        "createRuntime": [noting("createRuntime", &file, mount_namespace)],
        // Still sees the host's tree, and the container's mounts where the document says.
        "createContainer": [noting("createContainer", &file,
            &format!("$(stat -c %t:%T {rootfs}/dev/null)"))],
        // The container's root and PID namespace.
        "startContainer": [noting("startContainer", "/tmp/notes", "$(cat /proc/1/comm | wc -l)")],
        "poststart": [noting("poststart", &file, mount_namespace)],
        "poststop": [noting("poststop", &file, "")],
    });
    bundle.write();
    bundle.runtime(&["create", "c1"]).ok();
    let pid = bundle.state("c1")["pid"].to_string();
    let own = host.sh("readlink /proc/self/ns/mnt").text();
    let created = lines(&bundle, "notes");
    assert_eq!(
        created,
        [
            format!("prestart created {pid} {own}"),
            format!("createRuntime creating {pid} {own}"),
            "createContainer creating 1 1:3".to_owned(),
        ]
    );
    assert!(lines(&bundle, "rootfs/tmp/notes").is_empty());
    bundle.runtime(&["start", "c1"]).ok();
    assert_eq!(
        lines(&bundle, "rootfs/tmp/notes"),
        ["startContainer created 1 1"]
    );
    assert_eq!(
        lines(&bundle, "notes")[3..],
        [format!("poststart running {pid} {own}")]
    );
    bundle.runtime(&["delete", "-f", "c1"]).ok();
    let notes = lines(&bundle, "notes");
    assert!(notes[4].starts_with("poststop stopped"), "{notes:?}");
    assert_eq!(notes.len(), 5);
    bundle.assert_nothing_left();
}

#[test]
fn run_runs_them_all() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "true");
    let file = bundle.join("notes").display().to_string();
    let mut hooks = json!({"startContainer": [noting("startContainer", "/tmp/notes", "")]});
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ] {
        hooks[kind] = json!([noting(kind, &file, "")]);
    }
    bundle.config["hooks"] = hooks;
    bundle.write();
    bundle.runtime(&["run", "c1"]).ok();
    let kinds: Vec<String> = lines(&bundle, "notes")
        .iter()
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    assert_eq!(
        kinds,
        [
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop"
        ]
    );
    assert_eq!(lines(&bundle, "rootfs/tmp/notes").len(), 1);
    bundle.assert_nothing_left();
}

fn failing() -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no good >&2; exit 3"]})
}

#[test]
fn a_failed_creation_hook_fails_the_create() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "touch /tmp/ran");
    let file = bundle.join("notes").display().to_string();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        bundle.config["hooks"] = json!({
            kind: [failing(), noting("second", &file, "")],
            "poststop": [noting("poststop", &file, "")],
        });
        bundle.write();
        bundle
            .runtime(&["create", "c1"])
            .code(1)
            .complains(&format!(
                "error running hook {kind} #0 (/bin/sh): exit status 3, output: no good"
            ));
        let notes = lines(&bundle, "notes");
        assert!(
            notes.len() == 1 && notes[0].starts_with("poststop stopped"),
            "{notes:?}"
        );
        std::fs::remove_file(&file).unwrap();
        bundle.assert_nothing_left();
    }
    assert!(!bundle.in_root("tmp/ran").exists());
}

#[test]
fn a_failed_start_hook_stops_the_container() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "touch /tmp/ran");
    bundle.config["hooks"] = json!({"startContainer": [failing()]});
    bundle.write();
    bundle.runtime(&["create", "c1"]).ok();
    bundle
        .runtime(&["start", "c1"])
        .code(1)
        .complains("error running hook startContainer #0 (/bin/sh): exit status 3");
    bundle.wait_until_stopped("c1");
    bundle.runtime(&["delete", "c1"]).ok();
    assert!(!bundle.in_root("tmp/ran").exists());
    bundle.assert_nothing_left();
}

#[test]
fn later_hooks_only_warn() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "echo output");
    bundle.config["ociVersion"] = "1.2.0".into();
    bundle.config["hooks"] = json!({"poststart": [failing()], "poststop": [failing()]});
    bundle.write();
    bundle
        .runtime(&["run", "c1"])
        .ok()
        .says("output")
        .complains("level=warning msg=\"error running hook poststart #0")
        .complains("level=warning msg=\"error running hook poststop #0");
    bundle.assert_nothing_left();
}

/// Since version 1.3 of the specification.
#[test]
fn a_failing_poststart_hook_is_the_containers_end() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "exec sleep 1000");
    let file = bundle.join("notes").display().to_string();
    bundle.config["ociVersion"] = "1.3.0".into();
    bundle.config["hooks"] = json!({
        "poststart": [failing(), noting("poststart", &file, "")],
        "poststop": [noting("poststop", &file, "")],
    });
    bundle.write();
    let failure = "error running hook poststart #0 (/bin/sh): exit status 3";
    let ended = |bundle: &Bundle<'_>| {
        bundle.assert_nothing_left();
        let notes = lines(bundle, "notes");
        assert!(
            notes.len() == 1 && notes[0].starts_with("poststop"),
            "{notes:?}"
        );
        std::fs::remove_file(&file).unwrap();
    };
    bundle.runtime(&["create", "c1"]).ok();
    bundle.runtime(&["start", "c1"]).code(1).complains(failure);
    ended(&bundle);
    for how in [&["run", "-d", "c1"][..], &["run", "c1"]] {
        bundle.runtime(how).code(1).complains(failure);
        ended(&bundle);
    }
}

#[test]
fn a_hook_that_hangs_is_killed() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "true");
    bundle.config["hooks"] = json!({"createRuntime": [
        {"path": "/bin/sh", "args": ["sh", "-c", "exec sleep 1000"], "timeout": 1},
    ]});
    bundle.write();
    bundle
        .runtime(&["run", "c1"])
        .code(1)
        .complains("did not end within 1 seconds");
    bundle.assert_nothing_left();
}

#[test]
fn deletion_by_force_ends_a_hook_that_hangs() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "true");
    let fifo = bundle.join("fifo").display().to_string();
    host.sh(&format!("mkfifo {fifo}")).ok();
    let file = bundle.join("notes").display().to_string();
    let script = format!("echo > {fifo}; exec sleep 1000");
    bundle.config["hooks"] = json!({
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}, noting("second", &file, "")],
        "poststop": [noting("poststop", &file, "")],
    });
    bundle.write();
    let mut creating = bundle.command(&["create", "c1"]).spawn().unwrap();
    assert_eq!(std::fs::read_to_string(&fifo).unwrap(), "\n");
    assert_eq!(bundle.status("c1"), "creating");
    bundle.runtime(&["delete", "--force", "c1"]).ok();
    assert_eq!(creating.wait().unwrap().code(), Some(1));
    let notes = lines(&bundle, "notes");
    assert!(
        notes.len() == 1 && notes[0].starts_with("poststop"),
        "{notes:?}"
    );
    bundle.assert_nothing_left();
}
