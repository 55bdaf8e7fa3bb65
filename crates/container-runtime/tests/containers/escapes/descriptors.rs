//! The host's descriptors, as ways out of the container.
//!
//! * CVE-2016-9962: a process that joins a container (an exec, or the first process of a container
//!   that shares another one's PID namespace) is visible there while it still has the host's files
//!   open. A container could look at it through `/proc/PID/fd` and open those.
//!   Guard: the joining process is not dumpable (`exec.rs`, `init.rs`, `create.rs`).
//! * CVE-2024-21626: `/proc/self/fd/7/../..` as working directory or program, in the image or on
//!   the command line, leads to the host if the runtime has a directory of the host open there.
//!   Guards: descriptors are closed before either is looked up, and the directory entered has to
//!   be below the container's root (`launch.rs`).
//! * The shim's and the cgroups' descriptors must not reach the program either.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use wharf_container_runtime::{ExecConfig, NamespaceFd, Stage, StartError};
use wharf_oci::runtime::NamespaceKind;
use wharf_sys::seccomp::{Answer, answer, next_question};

use crate::Test;
use crate::sandbox::{Outcome, Prepared, Sandbox, end, finish, pipes, reap};
use crate::seccomp::{accept, supervise};

use super::bind;

pub(crate) const TESTS: &[Test] = &[
    (
        "cve_2016_9962_joining_exec_hides_its_descriptors",
        joining_exec,
    ),
    (
        "cve_2016_9962_container_in_a_shared_pid_namespace_hides_its_descriptors",
        joining_container,
    ),
    (
        "cve_2024_21626_working_directory_cannot_be_the_hosts",
        working_directory,
    ),
    ("cve_2024_21626_program_cannot_be_the_hosts", program),
    ("no_descriptor_is_inherited", nothing_inherited),
];

/// A container that, once told to, tries to see what every process but itself has open.
struct Spy {
    container: Prepared,
    /// Shared with it.
    volume: PathBuf,
}

impl Spy {
    fn new(sandbox: &Sandbox) -> Self {
        let volume = sandbox.directory("volume");
        for name in ["go", "done"] {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, volume.join(name), kind, mode, 0).unwrap();
        }
        let script = "echo ready; read word </v/go; \
                      for p in /proc/[0-9]*; do test $p = /proc/1 || \
                      for f in $p/exe $p/cwd $p/fd/*; do readlink $f; done; done; \
                      echo done >/v/done; read word </v/go";
        let mut container = sandbox.container(&["sh", "-c", script]);
        container.config.spec.mounts.push(bind(&volume, "/v"));
        Self { container, volume }
    }

    fn go_on(volume: &Path) {
        File::options()
            .write(true)
            .open(volume.join("go"))
            .and_then(|mut file| file.write_all(b"go\n"))
            .unwrap();
    }

    /// Tells it to look, and waits until it has.
    fn look(volume: &Path) {
        Self::go_on(volume);
        assert_eq!(
            std::fs::read_to_string(volume.join("done")).unwrap(),
            "done\n"
        );
    }
}

/// The supervisor of a process that is about to execute its program: has `spy` look at it, then
/// lets it go.
fn hold_and_look(socket: &UnixListener, volume: &Path) -> rustix::process::Pid {
    crate::sandbox::fork(|| {
        let (_, listener) = accept(socket);
        let question = next_question(&listener).unwrap();
        Spy::look(volume);
        answer(&listener, question.id, Answer::Continue).unwrap();
        0
    })
}

fn joining_exec(sandbox: &Sandbox) {
    let spy = Spy::new(sandbox);
    let (running, output) = spy.container.start();
    let socket_path = sandbox.directory("agent").join("socket");
    let socket = UnixListener::bind(&socket_path).unwrap();
    let mut model = sandbox.container(&["true"]);
    supervise(&mut model, &["execve"], &socket_path);
    let filter = wharf_seccomp::compile(model.linux().seccomp.as_ref().unwrap()).unwrap();
    let config = ExecConfig {
        process: model.process().clone(),
        seccomp: Some(filter),
        ..ExecConfig::default()
    };
    let agent = hold_and_look(&socket, &spy.volume);
    let (stdio, _output) = pipes();
    let executed = wharf_container_runtime::exec(&running, &config, stdio).unwrap();
    assert_eq!((reap(executed.pid), reap(agent)), (0, 0));
    Spy::go_on(&spy.volume);
    let outcome = finish(running, output);
    assert_eq!(outcome.stdout, "ready\n", "{outcome:?}");
}

fn joining_container(sandbox: &Sandbox) {
    let spy = Spy::new(sandbox);
    let (running, output) = spy.container.start();
    let socket_path = sandbox.directory("agent").join("socket");
    let socket = UnixListener::bind(&socket_path).unwrap();
    let mut victim = sandbox.container(&["true"]);
    supervise(&mut victim, &["execve"], &socket_path);
    let shared = NamespaceFd {
        kind: NamespaceKind::Pid,
        fd: running.pidfd.try_clone().unwrap(),
    };
    let agent = hold_and_look(&socket, &spy.volume);
    let (stdio, victims_output) = pipes();
    let victim = wharf_container_runtime::run(&victim.config, vec![shared], stdio).unwrap();
    assert_eq!(finish(victim, victims_output).code, 0);
    assert_eq!(reap(agent), 0);
    Spy::go_on(&spy.volume);
    let outcome = finish(running, output);
    assert_eq!(outcome.stdout, "ready\n", "{outcome:?}");
}

/// A directory of the host with a program in it, open in this process and not close-on-exec, as a
/// leak in whoever uses the library would be.
struct Leak {
    directory: OwnedFd,
}

impl Leak {
    fn new(sandbox: &Sandbox) -> Self {
        let directory = sandbox.directory("leak");
        std::fs::copy("/bin/busybox", directory.join("echo")).unwrap();
        let directory = OwnedFd::from(File::open(directory).unwrap());
        rustix::io::fcntl_setfd(&directory, rustix::io::FdFlags::empty()).unwrap();
        Self { directory }
    }

    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.directory.as_raw_fd())
    }
}

/// Runs `arguments` in `directory`: as a container's program, then as an exec in another one.
fn both_ways(
    sandbox: &Sandbox,
    arguments: &[&str],
    directory: &str,
) -> [Result<Outcome, StartError>; 2] {
    let mut container = sandbox.container(arguments);
    container.process().cwd = directory.into();
    let as_container = container.try_run();
    let (running, _output) = sandbox.container(&["sleep", "1000"]).start();
    let config = ExecConfig {
        process: container.process().clone(),
        ..ExecConfig::default()
    };
    let (stdio, [mut out, _]) = pipes();
    let as_exec = wharf_container_runtime::exec(&running, &config, stdio).map(|executed| {
        let mut stdout = String::new();
        std::io::Read::read_to_string(&mut out, &mut stdout).unwrap();
        Outcome {
            code: reap(executed.pid),
            stdout,
            stderr: String::new(),
        }
    });
    end(running);
    [as_container, as_exec]
}

fn working_directory(sandbox: &Sandbox) {
    let leak = Leak::new(sandbox);
    for directory in [leak.path(), format!("{}/..", leak.path())] {
        for result in both_ways(sandbox, &["ls"], &directory) {
            let error = result.unwrap_err();
            assert_eq!(error.stage, Stage::WorkingDirectory, "{error}");
        }
    }
    // Any number that happens to be open in there may only be the container's own.
    for number in 3..16 {
        for result in both_ways(sandbox, &["pwd"], &format!("/proc/self/fd/{number}")) {
            match result {
                Ok(outcome) => assert_eq!(outcome.stdout, "/\n"),
                Err(error) => assert_eq!(error.stage, Stage::WorkingDirectory, "{error}"),
            }
        }
    }
}

fn program(sandbox: &Sandbox) {
    let leak = Leak::new(sandbox);
    let host_program = format!("{}/echo", leak.path());
    for result in both_ways(sandbox, &[&host_program, "the host's program runs"], "/") {
        let error = result.unwrap_err();
        assert_eq!(error.stage, Stage::ProgramMissing, "{error}");
    }
}

fn nothing_inherited(sandbox: &Sandbox) {
    let _leak = Leak::new(sandbox);
    for result in both_ways(sandbox, &["sh", "-c", "ls /proc/self/fd | xargs"], "/") {
        // The fourth is the directory being listed.
        assert_eq!(result.unwrap().stdout, "0 1 2 3\n");
    }
}
