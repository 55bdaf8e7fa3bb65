//! A start or exec message to the runtime library: what it needs, and our ends of the streams.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use wharf_container_runtime::{
    ContainerConfig, DevAhead, ExecConfig, NamespaceFd, NotExecuted, RootFilesystem, Running,
    Stage, StartError, Stdio,
};
use wharf_fault::{Fault, Kind};
use wharf_oci::runtime::{State, Status, VERSION};
use wharf_seccomp::Program;
use wharf_shim_protocol::{ExecStart, Failure, FailureKind, Rootfs, Start, Target};

use crate::process::{Process, Streams, set_nonblocking};

/// What is there of a container before it starts.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Its root, mounted and attached nowhere.
    pub(crate) root: Option<OwnedFd>,
    pub(crate) dev: Option<DevAhead>,
}

/// Starts the container of a start message. Takes what it needs out of the message.
pub(crate) fn container(
    start: &mut Start,
    namespaces: Vec<NamespaceFd>,
    ahead: Ahead,
) -> Result<(Running, Process), Failure> {
    let terminal = start
        .spec
        .process
        .as_ref()
        .is_some_and(|process| process.terminal);
    let seccomp = seccomp(start.seccomp_bpf.take())?;
    let config = ContainerConfig {
        state: Some(State {
            oci_version: start.spec.oci_version.clone(),
            id: start.id.clone(),
            status: Status::Creating,
            pid: None,
            bundle: start.run_dir.clone(),
            annotations: start.spec.annotations.clone(),
        })
        .filter(|_| has_listener(seccomp.as_ref())),
        spec: std::mem::take(&mut *start.spec),
        rootfs: rootfs(start.rootfs.clone()),
        root: ahead.root.map(Arc::new),
        dev: ahead.dev.map(Arc::new),
        user: start.user.take(),
        group_add: std::mem::take(&mut start.group_add),
        seccomp,
        init: start.init,
        systemd_cgroup: start.systemd_cgroup,
        ..ContainerConfig::default()
    };
    let (stdio, mut streams) =
        stdio(terminal, start.open_stdin).map_err(|error| no_streams(&error))?;
    let mut running = wharf_container_runtime::run(&config, namespaces, stdio)
        .map_err(|error| failure(&error, error.docker_create_message()))?;
    if let Some(master) = running.terminal.take() {
        streams = terminal_streams(master, start.open_stdin).map_err(|error| no_streams(&error))?;
    }
    let pidfd = running
        .pidfd
        .try_clone()
        .map_err(|error| no_streams(&error))?;
    let process = Process::new(Target::Main, running.pid, pidfd, streams, start.stdin_once);
    Ok((running, process))
}

/// Whether somebody will ask what container this is.
fn has_listener(filter: Option<&Program>) -> bool {
    filter.is_some_and(|filter| filter.listener.is_some())
}

/// Starts another process in the container with the ID `id` and the run directory `run_dir`.
pub(crate) fn exec(
    container: &Running,
    exec: ExecStart,
    names: (&str, &Path),
) -> Result<Process, Failure> {
    let target = Target::Exec(exec.exec_id.clone());
    let launched = executed(container, exec, names, Parent::Us).map_err(|(failure, _)| failure)?;
    // The end of the client's input is always the end of an exec's.
    Ok(Process::new(
        target,
        launched.pid,
        launched.pidfd,
        launched.streams,
        true,
    ))
}

/// Whose child a new process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    /// Ours.
    Us,
    /// Our parent's.
    Ours,
}

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) streams: Streams,
}

/// Starts it; on failure there may be a process that our parent has to reap.
pub(crate) fn executed(
    container: &Running,
    exec: ExecStart,
    (id, run_dir): (&str, &Path),
    parent: Parent,
) -> Result<Launched, (Failure, Option<Pid>)> {
    let nobody = |failure| (failure, None);
    let terminal = exec.process.terminal;
    let seccomp = seccomp(exec.seccomp_bpf).map_err(nobody)?;
    let config = ExecConfig {
        state: has_listener(seccomp.as_ref()).then(|| State {
            oci_version: VERSION.to_owned(),
            id: id.to_owned(),
            status: Status::Running,
            pid: Some(container.pid.as_raw_nonzero().get()),
            bundle: run_dir.to_owned(),
            annotations: BTreeMap::new(),
        }),
        process: exec.process,
        user: exec.user,
        group_add: exec.group_add,
        seccomp,
        ..ExecConfig::default()
    };
    let (stdio, mut streams) =
        stdio(terminal, exec.open_stdin).map_err(|error| nobody(no_streams(&error)))?;
    let executed = match parent {
        Parent::Us => wharf_container_runtime::exec(container, &config, stdio)
            .map_err(|error| NotExecuted { error, dead: None }),
        Parent::Ours => wharf_container_runtime::exec_for_parent(container, &config, stdio),
    }
    .map_err(|NotExecuted { error, dead }| (failure(&error, error.docker_exec_message()), dead))?;
    if let Some(master) = executed.terminal {
        streams = terminal_streams(master, exec.open_stdin)
            .map_err(|error| (no_streams(&error), Some(executed.pid)))?;
    }
    Ok(Launched {
        pid: executed.pid,
        pidfd: executed.pidfd,
        streams,
    })
}

pub(crate) fn rootfs(rootfs: Rootfs) -> RootFilesystem {
    match rootfs {
        Rootfs::Directory { path } => RootFilesystem::Layer(path),
        Rootfs::Overlay {
            lower,
            upper,
            work,
            options,
        } => RootFilesystem::Overlay {
            lower,
            upper,
            work,
            options,
        },
    }
}

fn seccomp(encoded: Option<String>) -> Result<Option<Program>, Failure> {
    let Some(encoded) = encoded else {
        return Ok(None);
    };
    let bytes = STANDARD.decode(encoded).map_err(|error| {
        Failure::new(
            FailureKind::InvalidParameter,
            format!("seccomp filter is not base64: {error}"),
        )
    })?;
    let program = Program::from_bytes(&bytes)
        .map_err(|error| Failure::new(FailureKind::InvalidParameter, error.to_string()))?;
    Ok(Some(program))
}

/// The process's ends and ours. With a terminal ours come later.
pub(crate) fn stdio(terminal: bool, open_stdin: bool) -> io::Result<(Stdio, Streams)> {
    if terminal {
        return Ok((Stdio::Terminal, Streams::default()));
    }
    let (stdin, ours) = if open_stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&write)?;
        (read, Some(write))
    } else {
        (
            rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
            None,
        )
    };
    let (our_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (our_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&our_stdout)?;
    set_nonblocking(&our_stderr)?;
    let streams = Streams {
        stdin: ours,
        stdout: Some(our_stdout),
        stderr: Some(our_stderr),
        terminal: None,
    };
    Ok((Stdio::Streams([stdin, stdout, stderr]), streams))
}

pub(crate) fn terminal_streams(master: OwnedFd, open_stdin: bool) -> io::Result<Streams> {
    set_nonblocking(&master)?;
    let stdin = if open_stdin {
        Some(master.try_clone()?)
    } else {
        None
    };
    Ok(Streams {
        stdin,
        stdout: Some(master.try_clone()?),
        stderr: None,
        terminal: Some(master),
    })
}

pub(crate) fn no_streams(error: &io::Error) -> Failure {
    Failure::new(
        FailureKind::System,
        format!("cannot make standard streams: {error}"),
    )
}

fn failure(error: &StartError, message: String) -> Failure {
    let kind = match error.stage {
        Stage::ProgramNotInPath | Stage::ProgramMissing => FailureKind::CommandNotFound,
        Stage::ProgramNotExecutable => FailureKind::CommandNotExecutable,
        Stage::NotRunning => FailureKind::NotRunning,
        _ if error.kind() == Kind::InvalidParameter => FailureKind::InvalidParameter,
        _ => FailureKind::System,
    };
    Failure {
        kind,
        message,
        exit_code: error.exit_code(),
    }
}
