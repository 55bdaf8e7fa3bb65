//! Filters: what they refuse, and what they leave to a supervisor.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use wharf_container_runtime::{ExecConfig, Stage};
use wharf_oci::runtime::{Seccomp, SeccompAction, State, Status, SyscallRule};
use wharf_sys::seccomp::{Answer, answer, next_question};

use crate::Test;
use crate::sandbox::{Prepared, Sandbox, end, finish, pipes};

pub(crate) const TESTS: &[Test] = &[
    ("default_filter_blocks_unshare", filter),
    ("document_filter_is_compiled", document_filter),
    ("every_action_does_what_it_says", actions),
    ("supervisor_decides_about_calls", supervisor),
    (
        "supervisor_is_met_before_anything_can_wait_for_it",
        supervisor_of_everything,
    ),
    ("supervisor_of_an_exec_decides", supervisor_of_exec),
    ("missing_supervisor_fails_the_start", missing_supervisor),
];

fn filter(sandbox: &Sandbox) {
    let outcome = sandbox.shell("grep ^Seccomp: /proc/self/status; unshare -U true; echo $?");
    assert_eq!(outcome.stdout, "Seccomp:\t2\n1\n");
    assert!(
        outcome.stderr.contains("Operation not permitted"),
        "{outcome:?}"
    );
}

/// A filter that allows everything but `names`.
pub(crate) fn all_but(names: &[&str], action: SeccompAction, errno: Option<u32>) -> Seccomp {
    Seccomp {
        default_action: SeccompAction::Allow,
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        syscalls: vec![SyscallRule {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            action,
            errno_ret: errno,
            args: Vec::new(),
        }],
    }
}

fn document_filter(sandbox: &Sandbox) {
    let mut container = sandbox.container(&[
        "sh",
        "-c",
        "echo x >/f; chmod 600 /f || chown 1 /f; echo $?",
    ]);
    container.config.seccomp = None;
    let names = ["chmod", "fchmodat", "fchmodat2", "no_such_call"];
    container.linux().seccomp = Some(all_but(&names, SeccompAction::Errno, Some(28)));
    let outcome = container.run();
    assert_eq!(outcome.stdout, "0\n");
    assert!(
        outcome.stderr.contains("No space left on device"),
        "{outcome:?}"
    );
}

fn actions(sandbox: &Sandbox) {
    use SeccompAction as A;
    const SIGSYS: i32 = 31;
    for (action, code) in [
        (A::Kill, 128 + SIGSYS),
        (A::KillThread, 128 + SIGSYS),
        (A::KillProcess, 128 + SIGSYS),
        (A::Trap, 128 + SIGSYS),
        // Without a tracer such a call does not exist.
        (A::Trace, 1),
        (A::Errno, 1),
        (A::Log, 0),
        (A::Allow, 0),
    ] {
        let mut container = sandbox.container(&["mkdir", "/made"]);
        container.config.seccomp = None;
        container.linux().seccomp = Some(all_but(&["mkdir", "mkdirat"], action, None));
        let outcome = container.run();
        assert_eq!(outcome.code, code, "{action:?} {outcome:?}");
        container.linux().seccomp.as_mut().unwrap().flags = vec![
            "SECCOMP_FILTER_FLAG_TSYNC".into(),
            "SECCOMP_FILTER_FLAG_LOG".into(),
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW".into(),
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into(),
        ];
        std::fs::remove_dir(container.upper.join("made")).ok();
        assert_eq!(container.run().code, code, "{action:?} with flags");
    }
}

/// Makes `container`'s filter leave `names` to whoever listens at `path`.
pub(crate) fn supervise(container: &mut Prepared, names: &[&str], path: &Path) {
    container.config.seccomp = None;
    let mut filter = all_but(names, SeccompAction::Notify, None);
    filter.listener_path = Some(path.display().to_string());
    filter.listener_metadata = Some("for the test".into());
    container.linux().seccomp = Some(filter);
}

/// Takes what the runtime sends to the next supervisor: the document and the listener.
pub(crate) fn accept(socket: &UnixListener) -> (serde_json::Value, OwnedFd) {
    let (connection, _) = socket.accept().unwrap();
    let mut text = Vec::new();
    let mut listener = None;
    loop {
        let mut buffer = [0; 4096];
        let (count, mut fds) = wharf_sys::scm::receive(&connection, &mut buffer).unwrap();
        if count == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..count]);
        listener = listener.or(fds.pop());
    }
    (serde_json::from_slice(&text).unwrap(), listener.unwrap())
}

fn supervisor(sandbox: &Sandbox) {
    for no_new_privileges in [false, true] {
        let path = sandbox.directory("agent").join("socket");
        let socket = UnixListener::bind(&path).unwrap();
        let script = "mkdir /one; mkdir /two; mkdir /three; ls -d /one /two /three";
        let mut container = sandbox.container(&["sh", "-c", script]);
        supervise(&mut container, &["mkdir", "mkdirat"], &path);
        container.process().no_new_privileges = no_new_privileges;
        container.config.state = Some(State {
            oci_version: "1.3.0".into(),
            id: "box".into(),
            status: Status::Stopped,
            pid: None,
            bundle: "/bundle".into(),
            annotations: [("key".to_owned(), "value".to_owned())].into(),
        });
        let (running, output) = container.start();
        let (document, listener) = accept(&socket);
        let pid = running.pid.as_raw_nonzero().get();
        assert_eq!(
            document,
            serde_json::json!({
                "ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": pid, "metadata": "for the test",
                "state": {"ociVersion": "1.3.0", "id": "box", "status": "creating", "pid": pid,
                    "bundle": "/bundle", "annotations": {"key": "value"}},
            })
        );
        for decision in [
            Answer::Continue,
            Answer::Fail(Errno::XDEV),
            Answer::Return(0),
        ] {
            let question = next_question(&listener).unwrap();
            answer(&listener, question.id, decision).unwrap();
        }
        let outcome = finish(running, output);
        assert_eq!(outcome.stdout, "/one\n", "{outcome:?}");
        assert!(
            outcome.stderr.contains("'/two': Invalid cross-device link"),
            "{outcome:?}"
        );
        assert!(
            outcome.stderr.contains("/three: No such file"),
            "{outcome:?}"
        );
    }
}

/// A supervisor in a process of its own that lets everything pass, up to its end.
fn agreeing(socket: &UnixListener) -> rustix::process::Pid {
    crate::sandbox::fork(|| {
        let (_, listener) = accept(socket);
        // Before Linux 6.11 nobody who waits for a question is told that there is no one left to ask.
        while is_asked(&listener)
            && let Ok(question) = next_question(&listener)
        {
            let _ = answer(&listener, question.id, Answer::Continue);
        }
        0
    })
}

/// Whether a question has come, or else everybody who could ask has ended.
fn is_asked(listener: &OwnedFd) -> bool {
    let mut events = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut events, None).is_ok() && events[0].revents().contains(PollFlags::IN)
}

fn supervisor_of_everything(sandbox: &Sandbox) {
    for no_new_privileges in [false, true] {
        let path = sandbox.directory("agent").join("socket");
        let socket = UnixListener::bind(&path).unwrap();
        // What the runtime itself still needs, the message that hands the listener over included.
        let names = [
            "sendmsg",
            "recvmsg",
            "read",
            "close",
            "execve",
            "setresuid",
            "capset",
            "prctl",
        ];
        let mut container = sandbox.container(&["echo", "fine"]);
        supervise(&mut container, &names, &path);
        container.process().no_new_privileges = no_new_privileges;
        let agent = agreeing(&socket);
        let outcome = container.run();
        assert_eq!(outcome.stdout, "fine\n", "{outcome:?}");
        assert_eq!(crate::sandbox::reap(agent), 0);
    }
}

fn supervisor_of_exec(sandbox: &Sandbox) {
    let (running, _output) = sandbox.container(&["sleep", "1000"]).start();
    let path = sandbox.directory("agent").join("socket");
    let socket = UnixListener::bind(&path).unwrap();
    let mut model = sandbox.container(&["mkdir", "/new"]);
    supervise(&mut model, &["mkdir", "mkdirat"], &path);
    let document = model.linux().seccomp.clone().unwrap();
    let config = ExecConfig {
        process: model.process().clone(),
        seccomp: Some(wharf_seccomp::compile(&document).unwrap()),
        state: Some(State {
            oci_version: "1.3.0".into(),
            id: "box".into(),
            status: Status::Running,
            pid: Some(running.pid.as_raw_nonzero().get()),
            bundle: "/bundle".into(),
            annotations: Default::default(),
        }),
        ..ExecConfig::default()
    };
    let (stdio, _output) = pipes();
    let executed = wharf_container_runtime::exec(&running, &config, stdio).unwrap();
    let (document, listener) = accept(&socket);
    assert_eq!(document["pid"], executed.pid.as_raw_nonzero().get());
    assert_eq!(document["state"]["status"], "running");
    let question = next_question(&listener).unwrap();
    answer(&listener, question.id, Answer::Fail(Errno::NOSPC)).unwrap();
    assert_eq!(crate::sandbox::reap(executed.pid), 1);
    end(running);
}

fn missing_supervisor(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["true"]);
    let nobody = sandbox.path().join("nobody");
    supervise(&mut container, &["mkdir"], &nobody);
    let error = container.error();
    assert_eq!(
        (error.stage, error.errno),
        (Stage::Seccomp, Errno::NOENT.raw_os_error()),
        "{error}"
    );
    container.linux().seccomp.as_mut().unwrap().listener_path = None;
    container
        .linux()
        .seccomp
        .as_mut()
        .unwrap()
        .listener_metadata = None;
    assert_eq!(
        container.error().to_string(),
        "seccomp: SCMP_ACT_NOTIFY needs a listenerPath"
    );
}
