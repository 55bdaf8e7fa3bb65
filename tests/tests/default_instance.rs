//! The daemon nobody set up: started by the first command, found by every client, ended in order.

use wharf_tests::waiting::{becomes, eventually};
use wharf_tests::{Host, docker_client, run, skip, wharf_binary};

/// A client command without any setting, as a newcomer types it.
fn plain(host: &Host, program: &std::path::Path, arguments: &[&str]) -> wharf_tests::Output {
    let mut command = host.command(program);
    command.args(arguments);
    run(command, None)
}

#[test]
fn the_first_command_starts_the_daemon() {
    let host = Host::new();
    let wharf = wharf_binary();
    plain(&host, &wharf, &["ps", "-q"]).ok().is("");
    let pid = host.sh("cat /run/wharf.pid").ok().text();
    // The second command finds it.
    plain(&host, &wharf, &["network", "ls", "--format", "{{.Name}}"])
        .ok()
        .is("bridge\nhost\nnone");
    assert_eq!(host.sh("cat /run/wharf.pid").ok().text(), pid);
    let option = "{{index .Options \"com.docker.network.bridge.name\"}}";
    plain(
        &host,
        &wharf,
        &["network", "inspect", "bridge", "--format", option],
    )
    .ok()
    .is("docker0");
    // Under the name `docker` it answers as `docker`.
    let docker = host.join("docker");
    std::os::unix::fs::symlink(&wharf, &docker).unwrap();
    plain(&host, &docker, &["run", "--help"])
        .ok()
        .says("Usage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]");
    plain(&host, &docker, &["nonsense"])
        .code(1)
        .complains("docker: unknown command: docker nonsense");
    // A second daemon on the same roots is told who has them and changes nothing.
    plain(&host, &wharf, &["daemon"]).code(1).complains(&pid);
    host.sh(&format!("kill -TERM {pid}")).ok();
    host.eventually(&format!("! test -e /proc/{pid}"));
    host.sh("ls /run").ok().never_says("wharf.pid");
}

#[test]
fn other_clients_find_the_default_sockets() {
    let Some(docker) = docker_client() else {
        return skip(
            "other_clients_find_the_default_sockets",
            "no docker client 28.x on this machine",
        );
    };
    let host = Host::new();
    plain(&host, &wharf_binary(), &["version"])
        .ok()
        .says("Server:");
    plain(
        &host,
        &docker,
        &["version", "--format", "{{.Server.APIVersion}}"],
    )
    .ok()
    .is("1.55");
    // Where another engine has Docker's socket, it is left alone.
    let other = Host::new();
    other
        .sh("python3 -c 'import os, socket, time; s = socket.socket(socket.AF_UNIX); s.bind(\"/run/new\"); s.listen(); \
             os.rename(\"/run/new\", \"/run/docker.sock\"); time.sleep(1000)' > /dev/null 2>&1 &")
        .ok();
    // It has that name once somebody listens.
    other.eventually("test -S /run/docker.sock");
    let before = other.sh("stat -c %i /run/docker.sock").ok().text();
    plain(&other, &wharf_binary(), &["version"])
        .ok()
        .says("Server:");
    assert_eq!(other.sh("stat -c %i /run/docker.sock").ok().text(), before);
}

#[test]
fn sockets_come_from_systemd_too() {
    let host = Host::new();
    // What systemd does: a listening socket as descriptor 3, and two variables about it.
    let script = "import os, socket\n\
        s = socket.socket(socket.AF_UNIX)\n\
        s.bind('/run/new.sock'); s.listen(); os.rename('/run/new.sock', '/run/activated.sock')\n\
        os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n\
        os.environ['LISTEN_FDS'] = '1'\n\
        os.environ['LISTEN_PID'] = str(os.getpid())\n\
        os.execv(os.environ['WHARF'], ['wharf', 'daemon', '--host', 'fd://', '--pidfile', '/run/activated.pid'])\n";
    let mut python = host.command("/usr/bin/python3");
    python.arg("-c").arg(script).env("WHARF", wharf_binary());
    let mut daemon = python.stderr(std::process::Stdio::null()).spawn().unwrap();
    host.eventually("test -S /run/activated.sock");
    // The connection waits in the socket until the daemon is there: no retry is needed.
    let mut client = host.command(wharf_binary());
    client.args(["-H", "unix:///run/activated.sock", "version"]);
    run(client, None).ok().says("Server:");
    host.sh("kill -TERM $(cat /run/activated.pid)").ok();
    assert!(daemon.wait().unwrap().success());
    // The socket is systemd's, so it stays.
    host.sh("test -S /run/activated.sock").ok();
}

#[test]
fn a_reload_takes_over_what_can_change() {
    let host = Host::new();
    let config = host.join("daemon.json");
    std::fs::write(
        &config,
        "{\"labels\": [\"stage=one\"], \"default-shm-size\": \"32m\"}",
    )
    .unwrap();
    let daemon =
        wharf_tests::Daemon::start_with(&host, &["--config-file", &config.display().to_string()]);
    daemon
        .wharf(&["info", "--format", "{{.Labels}}"])
        .ok()
        .is("[stage=one]");
    std::fs::write(
        &config,
        "{\"labels\": [\"stage=two\"], \"default-shm-size\": \"48m\"}",
    )
    .unwrap();
    host.sh(&format!(
        "kill -HUP $(cat {})",
        host.join("engine/wharf.pid").display()
    ))
    .ok();
    let label = || {
        daemon
            .wharf(&["info", "--format", "{{.Labels}}"])
            .ok()
            .text()
    };
    becomes(&"[stage=two]".to_owned(), label);
    // What waits for a restart is named.
    eventually("the log names it", || {
        let log = daemon.log();
        if log.contains("default-shm-size") {
            Ok(())
        } else {
            Err(log)
        }
    });
}
