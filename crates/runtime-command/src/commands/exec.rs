//! `exec`: another process in a running container.

use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Pid, Signal};
use wharf_container_runtime::{Cgroup, ExecConfig};
use wharf_oci::runtime::{Capabilities, Process, Spec, Status};

use crate::bundle;
use crate::console::Console;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::flags::{Flags, option, switch};
use crate::foreground::{self, Signals};
use crate::runtime::{Command, Runtime};
use crate::start::{preserved_fds, write_pid_file};
use crate::tolerance;

pub(super) const COMMAND: Command = Command {
    name: "exec",
    words: "<container-id> <command> [command options]  || -p process.json <container-id>",
    count: (1, usize::MAX),
    help: "execute a process in a running container",
    flags: &[
        super::CONSOLE_SOCKET,
        option(&["cwd"], "DIR", "working directory in the container"),
        option(&["env", "e"], "NAME=VALUE", "set an environment variable"),
        switch(&["tty", "t"], "allocate a terminal"),
        option(&["user", "u"], "UID[:GID]", "user and group, by number"),
        option(
            &["additional-gids", "g"],
            "GID",
            "supplementary group, by number",
        ),
        option(
            &["process", "p"],
            "FILE",
            "process.json with everything about the process",
        ),
        switch(&["detach", "d"], "do not wait for the process"),
        super::PID_FILE,
        super::PIDFD_SOCKET,
        option(&["process-label"], "LABEL", "SELinux label of the process"),
        option(&["apparmor"], "PROFILE", "AppArmor profile of the process"),
        switch(&["no-new-privs"], "set no_new_privileges"),
        option(&["cap", "c"], "NAME", "add a capability"),
        super::PRESERVE_FDS,
        option(&["cgroup"], "PATH", "cgroup below the container's"),
        switch(&["ignore-paused"], "do not fail in a paused container"),
    ],
    run,
    failure: 255,
    enters: true,
};

fn run(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    let container = Container::open(runtime, &flags.words[0])?;
    let status = container.status()?;
    match status {
        Status::Running | Status::Created => {}
        Status::Paused if flags.is("ignore-paused") => {}
        Status::Paused => {
            return Err(Error::WrongState(
                "cannot exec in a paused container (use --ignore-paused to override)".into(),
            ));
        }
        Status::Stopped => {
            return Err(Error::WrongState(
                "cannot exec in a stopped container".into(),
            ));
        }
        Status::Creating => {
            return Err(Error::WrongState(
                "cannot exec in a container that is being created".into(),
            ));
        }
    }
    let spec = container.spec()?;
    let preserved = preserved_fds(runtime, flags)?;
    let mut process = process(&spec, flags)?;
    if let Some(sets) = &mut process.capabilities {
        for ignored in tolerance::leave_out_capabilities(sets) {
            runtime.log.warning(&ignored);
        }
    }
    if preserved.listening > 0 {
        process
            .env
            .push(format!("LISTEN_FDS={}", preserved.listening));
        process.env.push("LISTEN_PID=1".to_owned());
    }
    let detached = flags.is("detach");
    let console = Console::plan(process.terminal, detached, flags.get("console-socket"))?;
    process.console_size = process.console_size.or_else(|| console.size());
    let pid_file = flags.get("pid-file").map(bundle::absolute).transpose()?;
    let linux = spec.linux.as_ref();
    let filter = linux.and_then(|linux| linux.seccomp.as_ref());
    let filter = filter.map(wharf_seccomp::compile).transpose();
    let config = ExecConfig {
        process,
        seccomp: filter.map_err(|error| Error::Refused(format!("seccomp: {error}")))?,
        state: Some(container.state(status)),
        preserved_fds: preserved.count,
        keep_keyring: container.record.keep_keyring,
        personality: linux.and_then(|linux| linux.personality.clone()),
        memory_policy: linux.and_then(|linux| linux.memory_policy.clone()),
        ..ExecConfig::default()
    };
    let mut running = container.running(&spec)?;
    if let Some(cgroup) = flags.get("cgroup") {
        running.cgroup = Some(below(&container, cgroup)?);
    }
    let signals = if detached {
        None
    } else {
        Some(Signals::catch()?)
    };
    let mut executed = wharf_container_runtime::exec(&running, &config, console.stdio()?)
        .map_err(Error::start("exec"))?;
    let told = console
        .hand_over(executed.terminal.take())
        .and_then(|master| {
            if let Some(file) = pid_file.as_deref() {
                write_pid_file(file, executed.pid)?;
            }
            if let Some(socket) = flags.get("pidfd-socket") {
                send_pidfd(socket, executed.pid, &executed.pidfd)?;
            }
            Ok(master)
        });
    let master = told.inspect_err(|_| {
        let _ = rustix::process::pidfd_send_signal(&executed.pidfd, Signal::KILL);
    })?;
    match signals {
        None => Ok(ExitCode::SUCCESS),
        Some(signals) => foreground::stay(&signals, executed.pid, &executed.pidfd, master, None)
            .map(ExitCode::from),
    }
}

/// The process of `--process`, or the container's own with what the flags change.
fn process(spec: &Spec, flags: &Flags) -> Result<Process> {
    let mut process = match flags.get("process") {
        Some(file) => {
            let text = std::fs::read(file).map_err(Error::file("read", file))?;
            bundle::parse(&text)?
        }
        None => {
            let args = flags.words[1..].to_vec();
            if args.is_empty() {
                return Err(Error::Usage("exec: no command specified".into()));
            }
            Process {
                args,
                // Whether the container has a terminal says nothing about this process.
                terminal: flags.is("tty"),
                console_size: None,
                ..spec.process.clone().unwrap_or_default()
            }
        }
    };
    if flags.is("tty") {
        process.terminal = true;
    }
    if flags.get("process").is_some() {
        return Ok(process);
    }
    if let Some(cwd) = flags.get("cwd") {
        cwd.clone_into(&mut process.cwd);
    }
    process.env.extend(flags.all("env").map(str::to_owned));
    if let Some(profile) = flags.get("apparmor") {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if let Some(label) = flags.get("process-label") {
        process.selinux_label = Some(label.to_owned());
    }
    process.no_new_privileges |= flags.is("no-new-privs");
    if let Some(user) = flags.get("user") {
        let id = |text: &str| {
            text.parse::<u32>()
                .map_err(|_| Error::Usage(format!("bad user or group id {text:?}")))
        };
        match user.split_once(':') {
            Some((user, group)) => {
                process.user.uid = id(user)?;
                process.user.gid = id(group)?;
            }
            None => process.user.uid = id(user)?,
        }
    }
    for gid in flags.all("additional-gids") {
        let gid = gid
            .parse()
            .map_err(|_| Error::Usage(format!("bad group id {gid:?}")))?;
        process.user.additional_gids.push(gid);
    }
    for name in flags.all("cap") {
        let sets = process
            .capabilities
            .get_or_insert_with(Capabilities::default);
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            if !set.iter().any(|known| known == name) {
                set.push(name.to_owned());
            }
        }
    }
    Ok(process)
}

/// The cgroup `path` below the container's.
fn below(container: &Container, path: &str) -> Result<Cgroup> {
    if path.contains(':') {
        return Err(Error::Refused(
            "--cgroup with a controller is not supported: give a path, which is used in every hierarchy".into(),
        ));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(Error::Refused(format!(
            "bad --cgroup {path:?}: must not lead out of the container's cgroup"
        )));
    }
    let own = container
        .record
        .cgroup
        .as_deref()
        .ok_or_else(|| Error::WrongState("the container has no cgroup".into()))?;
    let path = format!("{own}/{}", path.trim_start_matches('/'));
    Cgroup::at(&path).map_err(Error::system("cgroup"))
}

pub(crate) fn send_pidfd(
    socket: impl AsRef<Path>,
    pid: Pid,
    pidfd: &std::os::fd::OwnedFd,
) -> Result<()> {
    use std::os::fd::AsFd as _;
    let socket = socket.as_ref();
    let failed = || Error::file("pidfd socket", socket);
    let stream = std::os::unix::net::UnixStream::connect(socket).map_err(failed())?;
    let name = format!("pidfd:{}", pid.as_raw_nonzero());
    wharf_sys::scm::send(&stream, name.as_bytes(), &[pidfd.as_fd()])
        .map(drop)
        .map_err(|errno| failed()(errno.into()))
}
