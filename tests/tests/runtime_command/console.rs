//! Terminals, descriptors and sockets that travel between caller and container.

use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;
use wharf_tests::waiting::PATIENCE;
use wharf_tests::{Bundle, Host, run};

/// Takes one connection and the descriptor that comes over it.
fn receive(listener: &UnixListener) -> OwnedFd {
    let (socket, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 4096];
    let message = recvmsg(
        &socket,
        &mut [IoSliceMut::new(&mut name)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    assert!(message.bytes > 0, "the descriptor comes with its name");
    control
        .drain()
        .find_map(|ancillary| match ancillary {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .expect("a descriptor was sent")
}

#[test]
fn the_console_socket_gets_the_terminal() {
    let host = Host::new();
    let script =
        "[ -t 0 ] && [ -t 1 ] && stty size && read -r line && echo \"got $line\"; exec sleep 1000";
    let mut bundle = Bundle::new(&host, "b", script);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({"height": 31, "width": 97});
    bundle.write();
    bundle
        .runtime(&["create", "c1"])
        .code(1)
        .complains("cannot allocate tty if the runtime will detach without setting console socket");
    let path = bundle.join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let path = path.display().to_string();
    bundle
        .runtime(&["create", "--console-socket", &path, "c1"])
        .ok();
    let mut master = std::fs::File::from(receive(&listener));
    bundle.runtime(&["start", "c1"]).ok();
    let mut seen = String::new();
    read_until(&mut master, &mut seen, "31 97");
    master.write_all(b"hello\n").unwrap();
    read_until(&mut master, &mut seen, "got hello");

    bundle
        .runtime(&[
            "exec",
            "-t",
            "-d",
            "--console-socket",
            &path,
            "c1",
            "sh",
            "-c",
            "tty; exec sleep 1000",
        ])
        .ok();
    let mut master = std::fs::File::from(receive(&listener));
    read_until(&mut master, &mut String::new(), "/dev/pts/1");
    bundle.runtime(&["delete", "-f", "c1"]).ok();
    bundle.assert_nothing_left();
}

fn read_until(from: &mut std::fs::File, seen: &mut String, wanted: &str) {
    let mut chunk = [0; 256];
    while !seen.contains(wanted) {
        let count = from.read(&mut chunk).unwrap();
        assert!(count > 0, "{wanted:?} was not said: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
}

#[test]
fn a_terminal_is_passed_through_in_the_foreground() {
    let host = Host::new();
    let mut bundle = Bundle::new(
        &host,
        "b",
        "stty size; read -r line; echo \"<$line>\"; exit 3",
    );
    bundle.config["process"]["terminal"] = json!(true);
    bundle.write();
    // `script` gives the runtime a terminal of its own to take over.
    let line = format!(
        "cd {} && script -q -e -c 'stty rows 33 cols 99; {} runtime --root {} run c1; echo after $?; stty -a' /dev/null",
        bundle.join("").display(),
        wharf_tests::wharf_binary().display(),
        bundle.state_root().display()
    );
    let mut command = host.command("sh");
    command.args(["-c", &line]);
    let out = run(command, Some(b"typed\n")).ok();
    out.clone().says("33 99").says("<typed>").says("after 3");
    // Ours is as it was before.
    assert!(out.stdout.contains(" icanon"), "{}", out.stdout);
    bundle.assert_nothing_left();
}

#[test]
fn descriptors_are_preserved_as_asked() {
    let host = Host::new();
    let mut bundle = Bundle::new(
        &host,
        "b",
        "ls /proc/self/fd; cat <&3; echo $LISTEN_FDS $LISTEN_PID",
    );
    let file = bundle.join("file");
    std::fs::write(&file, "from three\n").unwrap();
    let start = format!(
        "cd {} && exec 3<{} 4>/dev/null && ",
        bundle.join("").display(),
        file.display()
    );
    let runtime = format!(
        " {} runtime --root {} run",
        wharf_tests::wharf_binary().display(),
        bundle.state_root().display()
    );
    let line = |how: &str| format!("{start}{how}{runtime}");
    host.sh(&format!("{} --preserve-fds 1 c1", line("")))
        .ok()
        // Of `ls` itself: its directory is the last one.
        .is("0\n1\n2\n3\n4\nfrom three");
    host.sh(&format!("{} c2 2>/dev/null", line("")))
        .code(0)
        .never_says("from three");
    host.sh(&format!("{} --preserve-fds 9 c3", line("")))
        .code(1)
        .complains("descriptor 5 is not open");
    // Sockets of a service manager's, meant for the process that becomes the runtime.
    let activated = line("export LISTEN_FDS=1 LISTEN_PID=$$; exec");
    host.sh(&format!("{activated} c4"))
        .ok()
        .says("from three\n1 1");

    bundle.config["process"]["args"] = json!(["sh", "-c", "exec sleep 1000"]);
    bundle.write();
    bundle.runtime(&["run", "-d", "c5"]).ok();
    let exec = line("").replace(
        "/state run",
        "/state exec --preserve-fds 1 c5 cat /proc/self/fd/3",
    );
    host.sh(&exec).ok().is("from three");
    bundle.runtime(&["delete", "-f", "c5"]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_service_manager_hears_when_the_program_is_ready() {
    let host = Host::new();
    let script = "echo $NOTIFY_SOCKET; ls -d $NOTIFY_SOCKET; \
                  read -r x < /tmp/go; exec sleep 1000";
    let bundle = Bundle::new(&host, "b", script);
    let go = bundle.in_root("tmp/go");
    let mut mkfifo = std::process::Command::new("mkfifo");
    mkfifo.arg(&go);
    run(mkfifo, None).ok();
    let path = bundle.join("manager.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = bundle.command(&["run", "-d", "c1"]);
    command.env("NOTIFY_SOCKET", &path);
    let child = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Waits for the program, which has no sd_notify of its own: what it would say.
    std::fs::write(&go, "go\n").unwrap();
    let ours = UnixDatagram::unbound().unwrap();
    let socket = bundle.state_root().join("c1/notify/notify.sock");
    ours.send_to(b"STATUS=starting\n", &socket).unwrap();
    ours.send_to(b"STATUS=up\nREADY=1\n", &socket).unwrap();
    let mut message = [0; 4096];
    let count = manager.recv(&mut message).unwrap();
    let text = String::from_utf8_lossy(&message[..count]).into_owned();
    let pid = bundle.state("c1")["pid"].to_string();
    assert_eq!(text, format!("READY=1\nMAINPID={pid}\n"));
    let count = manager.recv(&mut message).unwrap();
    assert_eq!(&message[..count], b"BARRIER=1");
    drop(manager);
    let status = child.wait_with_output().unwrap().status;
    assert!(status.success());
    bundle.runtime(&["delete", "-f", "c1"]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn the_pidfd_socket_gets_the_first_process() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "b", "exec sleep 1000");
    let path = bundle.join("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let path = path.display().to_string();
    bundle
        .runtime(&["create", "--pidfd-socket", &path, "c1"])
        .ok();
    let pidfd = receive(&listener);
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
    bundle.wait_until_stopped("c1");
    bundle.runtime(&["delete", "c1"]).ok();
    bundle.assert_nothing_left();
}
