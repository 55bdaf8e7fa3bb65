//! The shim program with real containers, driven over its protocol as the daemon does it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops at the first surprise and says why"
)]

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::Duration;

use harness::{Daemon, can_run, cgroup_path, client, interactive, read_until, rest};
use wharf_container_runtime::cgroup::{Cgroup, Layout};
use wharf_oci::runtime::{Memory, NamespaceKind, Resources};
use wharf_shim_protocol::{
    AttachMode, Event, ExitRecord, FailureKind, Reply, Request, ShimRecord, SignalOrigin, StartFd,
    Target, files,
};

#[test]
fn what_is_left_goes_when_the_end_is_booked() {
    if !can_run() {
        return;
    }
    let left = |daemon: &Daemon| {
        let cgroup = Cgroup::at(&cgroup_path(daemon.shim_pid())).unwrap();
        let directory = match cgroup.layout() {
            Layout::Unified { directory } => directory,
            Layout::Split(hierarchies) => &hierarchies[0].directory,
        };
        (
            files::socket(&daemon.run_dir()).exists(),
            directory.exists(),
        )
    };
    let mut daemon = Daemon::new();
    daemon.sh("exec sleep 1000");
    let too_early = daemon.call(Request::Release, &[]).unwrap_err();
    assert_eq!(too_early.kind, FailureKind::Conflict);
    let kill = Request::Signal {
        target: Target::Main,
        signal: 9,
        all: false,
        origin: SignalOrigin::Kill,
    };
    daemon.call(kill, &[]).unwrap();
    daemon.end_told();
    assert_eq!(left(&daemon), (true, true));
    daemon.call(Request::Release, &[]).unwrap();
    assert_eq!(left(&daemon), (false, false));
    daemon.shim_ended();

    // A daemon that dies may not have booked the end: its successor asks for it.
    let mut daemon = Daemon::new();
    daemon.sh("exit 3");
    daemon.end_told();
    daemon.die_and_come_back();
    let (Reply::State(state), _) = daemon.call(Request::State, &[]).unwrap() else {
        panic!("not a state");
    };
    assert_eq!(state.exit.map(|record| record.exit_code), Some(3));
    daemon.call(Request::Release, &[]).unwrap();
    daemon.shim_ended();
}

#[test]
fn output_is_logged_and_the_exit_recorded() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let mut start =
        daemon.start_message(&["sh", "-c", "echo out; echo err >&2; printf rest; exit 7"]);
    start.durable_exit = true;
    let mode = AttachMode {
        stdout: true,
        stderr: true,
        multiplexed: true,
        ..AttachMode::default()
    };
    let (client, theirs) = client();
    start.fds.push(StartFd::Attach(mode));
    let pid = daemon.start(start, &[theirs.as_fd()]).unwrap();
    drop(theirs);
    let record = daemon.exited();
    assert_eq!(
        (
            record.exit_code,
            record.signal,
            record.oom_killed,
            record.pid
        ),
        (7, None, false, pid)
    );
    assert!(0 < record.started_at_ns && record.started_at_ns <= record.finished_at_ns);
    assert_eq!(
        files::read::<ExitRecord>(&daemon.exit_path()).unwrap(),
        Some(record)
    );
    assert_eq!(daemon.next_event(), None);
    daemon.shim_ended();
    assert_eq!(fs::read_dir(daemon.run_dir()).unwrap().count(), 0);
    let mut frames = rest(client);
    let mut streams = [String::new(), String::new()];
    while !frames.is_empty() {
        let (stream, length) = (frames.as_bytes()[0], usize::from(frames.as_bytes()[7]));
        assert_eq!(&frames.as_bytes()[1..7], [0; 6]);
        streams[usize::from(stream) - 1].push_str(&frames[8..8 + length]);
        frames.drain(..8 + length);
    }
    assert_eq!(streams, ["out\nrest".to_owned(), "err\n".to_owned()]);
    let mut lines: Vec<String> = daemon.logged().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["err", "out", "rest"]);
}

#[test]
fn signals_end_a_container() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    daemon.sh("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    wait_for_log(&daemon, "ready");
    daemon
        .call(
            Request::Signal {
                target: Target::Main,
                signal: 15,
                all: false,
                origin: SignalOrigin::Kill,
            },
            &[],
        )
        .unwrap();
    assert_eq!(daemon.exited().exit_code, 5);

    let mut daemon = Daemon::new();
    daemon.sh("sleep 1000");
    let bad = daemon
        .call(
            Request::Signal {
                target: Target::Main,
                signal: 99,
                all: false,
                origin: SignalOrigin::Kill,
            },
            &[],
        )
        .unwrap_err();
    assert_eq!(bad.kind, FailureKind::InvalidParameter);
    daemon
        .call(
            Request::Signal {
                target: Target::Main,
                signal: 9,
                all: true,
                origin: SignalOrigin::Kill,
            },
            &[],
        )
        .unwrap();
    let record = daemon.exited();
    assert_eq!((record.exit_code, record.signal), (137, Some(9)));
}

#[test]
fn a_program_that_is_not_there_is_127() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let failure = daemon
        .start(daemon.start_message(&["nothing-here"]), &[])
        .unwrap_err();
    assert_eq!(
        (failure.kind, failure.exit_code),
        (FailureKind::CommandNotFound, 127)
    );
    assert!(
        failure
            .message
            .contains("executable file not found in $PATH"),
        "{}",
        failure.message
    );
    let record: ExitRecord = files::read(&daemon.exit_path()).unwrap().unwrap();
    assert_eq!(
        (record.exit_code, record.start_failure),
        (127, Some(failure))
    );
    daemon.connection.socket().shutdown(Shutdown::Both).unwrap();
    daemon.shim_ended();
    assert_eq!(fs::read_dir(daemon.run_dir()).unwrap().count(), 0);
}

#[test]
fn a_terminal_echoes_resizes_and_detaches() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let mut start = daemon.start_message(&[
        "sh",
        "-c",
        "stty size; read x; stty size; read y; echo \"<$x>\"; read z; exit 3",
    ]);
    start.open_stdin = true;
    let process = start.spec.process.as_mut().unwrap();
    process.terminal = true;
    process.console_size = Some(wharf_oci::runtime::ConsoleSize {
        height: 24,
        width: 80,
    });
    let mode = AttachMode {
        detach_keys: vec![16, 17],
        token: 42,
        ..interactive()
    };
    let mut client = daemon.start_attached(start, mode.clone());
    read_until(&mut client, "24 80\r\n");
    daemon
        .call(
            Request::Resize {
                target: Target::Main,
                width: 132,
                height: 43,
            },
            &[],
        )
        .unwrap();
    client.write_all(b"word\n").unwrap();
    read_until(&mut client, "43 132\r\n");
    client.write_all(b"\n").unwrap();
    read_until(&mut client, "<word>\r\n");
    client.write_all(&[16]).unwrap();
    client.write_all(&[17]).unwrap();
    assert_eq!(
        daemon.next_event(),
        Some(Event::Detached {
            target: Target::Main,
            token: 42
        })
    );
    rest(client);
    // Another client can come and end it.
    let (mut client, theirs) = harness::client();
    daemon
        .call(
            Request::Attach {
                target: Target::Main,
                mode,
            },
            &[theirs.as_fd()],
        )
        .unwrap();
    client.write_all(b"end\n").unwrap();
    assert_eq!(daemon.exited().exit_code, 3);
    drop(theirs);
    assert!(rest(client).contains("end"));
}

#[test]
fn the_end_of_a_clients_input_is_the_end_of_stdin_if_once() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let mut start = daemon.start_message(&["cat"]);
    (start.open_stdin, start.stdin_once) = (true, true);
    let mut client = daemon.start_attached(start, interactive());
    let text = "typed\n".repeat(100_000);
    let sent = text.clone();
    let mut writer = client.try_clone().unwrap();
    let typing = std::thread::spawn(move || {
        writer.write_all(sent.as_bytes()).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = String::new();
    client.read_to_string(&mut got).unwrap();
    typing.join().unwrap();
    assert!(got == text);
    assert_eq!(daemon.exited().exit_code, 0);
    assert!(daemon.logged() == text);
}

#[test]
fn without_stdin_once_the_input_survives_its_client() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let mut start = daemon.start_message(&["cat"]);
    start.open_stdin = true;
    let mut first = daemon.start_attached(start, interactive());
    first.write_all(b"one\n").unwrap();
    read_until(&mut first, "one\n");
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(first), "");
    let (mut second, theirs) = client();
    daemon
        .call(
            Request::Attach {
                target: Target::Main,
                mode: interactive(),
            },
            &[theirs.as_fd()],
        )
        .unwrap();
    drop(theirs);
    second.write_all(b"two\n").unwrap();
    read_until(&mut second, "two\n");
    daemon
        .call(
            Request::CloseStdin {
                target: Target::Main,
            },
            &[],
        )
        .unwrap();
    assert_eq!(daemon.exited().exit_code, 0);
    assert_eq!(daemon.logged(), "one\ntwo\n");
}

#[test]
fn execs_run_beside_the_main_process() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    daemon.sh("sleep 1000");
    let output = AttachMode {
        stdout: true,
        stderr: true,
        ..AttachMode::default()
    };
    let client = daemon
        .exec(
            "one",
            &["sh", "-c", "echo hello; exit 9"],
            Some(output.clone()),
        )
        .unwrap();
    assert_eq!(rest(client), "hello\n");
    assert_eq!(
        daemon.next_event(),
        Some(Event::ExecExited {
            exec_id: "one".into(),
            exit_code: 9
        })
    );

    let mut client = daemon.exec("two", &["cat"], Some(interactive())).unwrap();
    client.write_all(b"through\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(client), "through\n");
    assert_eq!(
        daemon.next_event(),
        Some(Event::ExecExited {
            exec_id: "two".into(),
            exit_code: 0
        })
    );

    let client = daemon.exec_with(
        "three",
        &["sh", "-c", "stty size; exit 2"],
        Some(output),
        |exec| {
            exec.process.terminal = true;
            exec.process.console_size = Some(wharf_oci::runtime::ConsoleSize {
                height: 10,
                width: 20,
            });
        },
    );
    assert_eq!(rest(client.unwrap()), "10 20\r\n");
    assert_eq!(
        daemon.next_event(),
        Some(Event::ExecExited {
            exec_id: "three".into(),
            exit_code: 2
        })
    );

    let failure = daemon.exec("four", &["nothing-here"], None).unwrap_err();
    assert_eq!(
        (failure.kind, failure.exit_code),
        (FailureKind::CommandNotFound, 127)
    );

    daemon.exec("five", &["sleep", "1000"], None).unwrap();
    let target = Target::Exec("five".into());
    daemon
        .call(
            Request::Signal {
                target: target.clone(),
                signal: 9,
                all: false,
                origin: SignalOrigin::Kill,
            },
            &[],
        )
        .unwrap();
    assert_eq!(
        daemon.next_event(),
        Some(Event::ExecExited {
            exec_id: "five".into(),
            exit_code: 137
        })
    );
    let gone = daemon
        .call(
            Request::Signal {
                target,
                signal: 9,
                all: false,
                origin: SignalOrigin::Kill,
            },
            &[],
        )
        .unwrap_err();
    assert_eq!(gone.kind, FailureKind::NotRunning);

    // What an exec leaves behind does not keep it open.
    let output = AttachMode {
        stdout: true,
        ..AttachMode::default()
    };
    let client = daemon
        .exec("six", &["sh", "-c", "sleep 1000 & echo left"], Some(output))
        .unwrap();
    assert_eq!(rest(client), "left\n");

    // The end of the container is the end of its execs, and is told after theirs.
    daemon.exec("seven", &["sleep", "1000"], None).unwrap();
    daemon
        .call(
            Request::Signal {
                target: Target::Main,
                signal: 9,
                all: false,
                origin: SignalOrigin::Kill,
            },
            &[],
        )
        .unwrap();
    let mut ended = Vec::new();
    loop {
        match daemon.next_event().unwrap() {
            Event::ExecExited { exec_id, .. } => ended.push(exec_id),
            Event::Exited(record) => {
                assert_eq!(record.exit_code, 137);
                break;
            }
            other => panic!("unexpected event {other:?}"),
        }
    }
    assert_eq!(ended.last().map(String::as_str), Some("seven"));
    daemon.call(Request::Release, &[]).unwrap();
    daemon.shim_ended();
}

#[test]
fn a_container_goes_on_without_its_daemon() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let pid =
        daemon.sh("echo before; while [ ! -e /tmp/end ]; do sleep 0.02; done; echo after; exit 4");
    daemon.die_and_come_back();
    let (reply, _) = daemon.call(Request::State, &[]).unwrap();
    let Reply::State(state) = reply else {
        panic!("a state was asked for")
    };
    assert_eq!(
        (state.pid, state.exit.clone(), state.shim_pid),
        (Some(pid), None, daemon.shim_pid())
    );
    let record: ShimRecord =
        harness::eventually(|| files::read(&files::record(&daemon.run_dir())).unwrap());
    assert_eq!(
        (record.pid, record.shim_pid, record.id),
        (pid, daemon.shim_pid(), state.id)
    );
    daemon.exec("left", &["sh", "-c", "exit 6"], None).unwrap();
    daemon.next_event().unwrap();
    // An exec that ended while nobody listened can be asked for.
    daemon.die_and_come_back();
    let (reply, _) = daemon.call(Request::State, &[]).unwrap();
    let Reply::State(state) = reply else {
        panic!("a state was asked for")
    };
    assert_eq!(
        state
            .execs
            .iter()
            .map(|exec| (exec.exec_id.as_str(), exec.exit_code))
            .collect::<Vec<_>>(),
        [("left", Some(6))]
    );
    // The container ends while nobody listens.
    daemon.connection.socket().shutdown(Shutdown::Both).unwrap();
    fs::write(daemon.rootfs().join("tmp/end"), "").unwrap();
    daemon.shim_ended();
    let record: ExitRecord = files::read(&daemon.exit_path()).unwrap().unwrap();
    assert_eq!(record.exit_code, 4);
    assert_eq!(daemon.logged(), "before\nafter\n");
}

#[test]
fn a_shim_without_a_container_goes_with_its_daemon() {
    let mut daemon = Daemon::new();
    daemon.connection.socket().shutdown(Shutdown::Both).unwrap();
    daemon.shim_ended();
}

#[test]
fn held_descriptors_come_back() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let mut start = daemon.start_message(&["sleep", "1000"]);
    let file = fs::File::create(daemon.dir.path().join("held")).unwrap();
    start.fds.push(StartFd::Held("dns".into()));
    daemon.start(start, &[file.as_fd()]).unwrap();
    daemon
        .call(
            Request::Hold {
                name: "more".into(),
            },
            &[file.as_fd()],
        )
        .unwrap();
    daemon.die_and_come_back();
    let (reply, fds) = daemon.call(Request::HeldFds, &[]).unwrap();
    assert_eq!(
        reply,
        Reply::Held {
            names: vec!["dns".into(), "more".into()]
        }
    );
    for fd in fds {
        fs::File::from(fd).write_all(b"x").unwrap();
    }
    assert_eq!(fs::read(daemon.dir.path().join("held")).unwrap(), b"xx");
}

#[test]
fn a_million_lines_arrive_whole() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    daemon.sh("seq 1 1000000");
    assert_eq!(daemon.exited().exit_code, 0);
    let logged = daemon.logged();
    let mut count = 0;
    for (index, line) in logged.lines().enumerate() {
        assert_eq!(line.parse(), Ok(index + 1));
        count += 1;
    }
    assert_eq!(count, 1_000_000);
}

#[test]
fn a_slow_client_holds_the_container_up_and_loses_nothing() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let start = daemon.start_message(&["sh", "-c", "seq 1 1000000; echo done >/tmp/done"]);
    let mode = AttachMode {
        stdout: true,
        ..AttachMode::default()
    };
    let client = daemon.start_attached(start, mode);
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        !daemon.rootfs().join("tmp/done").exists(),
        "7 MB can not be on their way to someone who reads nothing"
    );
    let got = rest(client);
    assert!(got.lines().eq((1..=1_000_000).map(|n| n.to_string())));
    daemon.exited();
    assert!(daemon.logged() == got);
}

#[test]
fn a_client_that_vanishes_does_no_harm() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let start = daemon.start_message(&["sh", "-c", "read x; seq 1 100000"]);
    let mode = AttachMode {
        stdout: true,
        ..AttachMode::default()
    };
    let mut start = start;
    start.open_stdin = true;
    let client = daemon.start_attached(start, mode);
    drop(client);
    assert_eq!(
        daemon.next_event(),
        Some(Event::ClientGone {
            target: Target::Main,
            token: 0
        })
    );
    let (mut other, theirs) = harness::client();
    daemon
        .call(
            Request::Attach {
                target: Target::Main,
                mode: interactive(),
            },
            &[theirs.as_fd()],
        )
        .unwrap();
    drop(theirs);
    other.write_all(b"\n").unwrap();
    assert_eq!(rest(other).lines().count(), 100_000);
    assert_eq!(daemon.exited().exit_code, 0);
}

#[test]
fn an_out_of_memory_kill_is_told() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let mut start = daemon.start_message(&["tail", "/dev/zero"]);
    start.spec.linux.as_mut().unwrap().resources = Some(Resources {
        memory: Some(Memory {
            limit: Some(16 << 20),
            swap: Some(16 << 20),
            ..Memory::default()
        }),
        ..Resources::default()
    });
    daemon.start(start, &[]).unwrap();
    let mut told = false;
    let record = loop {
        match daemon.next_event().unwrap() {
            Event::OomKilled => told = true,
            Event::Exited(record) => break record,
            other => panic!("unexpected event {other:?}"),
        }
    };
    assert_eq!(
        (record.exit_code, record.oom_killed, told),
        (137, true, true)
    );
    let oom = record.cause.oom.unwrap();
    assert_eq!((oom.limit, oom.kills), (Some(16 << 20), 1));
    assert!(oom.peak > Some(8 << 20), "{oom:?}");
    // The kernel's log may be closed to us; if it is not, it names the victim.
    if let Some(victim) = oom.victims.last() {
        assert_eq!(victim.name, "tail");
        assert_eq!(oom.scope, Some(wharf_shim_protocol::OomScope::Container));
    }
}

#[test]
fn an_init_reaps_and_passes_signals_on() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let script = "trap 'exit 6' TERM; echo pid $$; while :; do sleep 0.05; done";
    let mut start = daemon.start_message(&["sh", "-c", script]);
    start.init = true;
    daemon.start(start, &[]).unwrap();
    wait_for_log(&daemon, "pid ");
    assert_ne!(daemon.logged(), "pid 1\n");
    let term = Request::Signal {
        target: Target::Main,
        signal: 15,
        all: false,
        origin: SignalOrigin::Kill,
    };
    daemon.call(term, &[]).unwrap();
    assert_eq!(daemon.exited().exit_code, 6);
}

#[test]
fn what_is_left_in_a_shared_pid_namespace_ends_with_the_container() {
    if !can_run() {
        return;
    }
    let mut daemon = Daemon::new();
    let script = "(echo left; echo >/tmp/told; sleep 1000) & \
        while [ ! -e /tmp/told ]; do sleep 0.02; done; exit 8";
    let mut start = daemon.start_message(&["sh", "-c", script]);
    let linux = start.spec.linux.as_mut().unwrap();
    linux
        .namespaces
        .retain(|namespace| namespace.kind != NamespaceKind::Pid);
    let cgroup = Cgroup::at(linux.cgroups_path.as_deref().unwrap()).unwrap();
    daemon.start(start, &[]).unwrap();
    assert_eq!(daemon.exited().exit_code, 8);
    assert_eq!(daemon.logged(), "left\n");
    assert_eq!(daemon.next_event(), None);
    assert!(cgroup.processes().unwrap_or_default().is_empty());
    daemon.shim_ended();
}

fn wait_for_log(daemon: &Daemon, text: &str) {
    harness::eventually(|| daemon.logged().contains(text).then_some(()));
}
