//! Another process in a running container.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, pidfd_send_signal, waitpid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use wharf_sys::rootfs::Rootfs;
use wharf_sys::terminal;

use crate::affinity::{self, Affinity};
use crate::birth::{self, Parent};
use crate::cgroup::Cgroup;
use crate::channel::{self, ChildEnd, ParentEnd, Report};
use crate::config::{ExecConfig, Stdio};
use crate::create::{Running, set_oom_score};
use crate::error::{Stage, StartError};
use crate::init;
use crate::launch::{Extras, Launch};
use crate::prepared;
use crate::streams::Shields;
use crate::supervisor::Supervisor;
use crate::user_namespace;

/// A process started in a running container.
#[derive(Debug)]
pub struct Executed {
    /// The process in the caller's PID namespace; a child of the caller, who reaps it.
    pub pid: Pid,
    /// The same as a descriptor.
    pub pidfd: OwnedFd,
    /// The terminal's master, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
}

/// Starts a process in `container`: in all its namespaces, its root and its cgroup. The caller
/// must have one thread only.
pub fn exec(
    container: &Running,
    config: &ExecConfig,
    stdio: Stdio,
) -> Result<Executed, StartError> {
    start(container, config, stdio, Parent::Us).map_err(|failed| {
        if let Some(dead) = failed.dead {
            while let Err(Errno::INTR) = waitpid(Some(dead), WaitOptions::empty()) {}
        }
        failed.error
    })
}

/// Why a process did not come to run its program.
#[derive(Debug)]
pub struct NotExecuted {
    /// What failed.
    pub error: StartError,
    /// The process, which has ended or is about to, for whoever has to reap it.
    pub dead: Option<Pid>,
}

/// As [`exec`], but the process is a child of the caller's parent, who reaps it. Not for callers
/// without privileges.
pub fn exec_for_parent(
    container: &Running,
    config: &ExecConfig,
    stdio: Stdio,
) -> Result<Executed, NotExecuted> {
    start(container, config, stdio, Parent::Ours)
}

fn start(
    container: &Running,
    config: &ExecConfig,
    stdio: Stdio,
    parent: Parent,
) -> Result<Executed, NotExecuted> {
    let mut dead = None;
    born(container, config, stdio, parent, &mut dead).map_err(|error| NotExecuted { error, dead })
}

fn born(
    container: &Running,
    config: &ExecConfig,
    stdio: Stdio,
    parent: Parent,
    dead: &mut Option<Pid>,
) -> Result<Executed, StartError> {
    // The shields stay until the program runs: nobody waits for their end then.
    let (streams, _shields) = match stdio {
        Stdio::Streams(streams) => {
            let (streams, shields) = crate::streams::shield_all(streams)?;
            (Some(streams), shields)
        }
        Stdio::Terminal => (None, Shields::default()),
    };
    if config.process.terminal != streams.is_none() {
        return Err(StartError::refused(
            Stage::Config,
            "`process.terminal` and the standard streams disagree",
        ));
    }
    let user_namespace = container
        .namespaces
        .kinds
        .contains(ThreadNameSpaceType::USER);
    let launch = Launch::prepare(
        &config.process,
        &Extras {
            user: config.user.as_deref(),
            group_add: &config.group_add,
            seccomp: config.seccomp.as_ref(),
            document_seccomp: None,
            reaper: false,
            user_namespace,
            absent: false,
            makes_cwd: false,
            preserved_fds: config.preserved_fds,
        },
    )?;
    let maps = if user_namespace {
        Some(user_namespace::maps_of(container.pid).map_err(not_running)?)
    } else {
        None
    };
    if let (Some(maps), Some(streams)) = (&maps, &streams) {
        user_namespace::give_streams(streams, maps)?;
    }
    let affinity = affinity::plan(config.process.exec_cpu_affinity.as_ref())?;
    let by_systemd = container
        .cgroup
        .as_ref()
        .filter(|cgroup| cgroup.is_out_of_reach());
    let born_in = match &container.cgroup {
        // Whoever is born in the cgroup was never outside of it.
        Some(cgroup) if affinity.initial.is_none() && by_systemd.is_none() => {
            cgroup.open_unified()?
        }
        _ => None,
    };
    let doors = match &container.cgroup {
        Some(cgroup) if born_in.is_none() && by_systemd.is_none() => cgroup.doors()?,
        _ => Vec::new(),
    };
    let (ours, theirs) = channel::pair()?;
    let namespaces = container.namespaces.kinds;
    let apart = container.namespaces.root_apart;
    let apart = apart.then(|| root_of(container)).transpose()?;
    let born = birth::further_process(
        (&container.pidfd, namespaces),
        born_in.as_ref().map(AsFd::as_fd),
        parent,
        (&ours, &theirs),
        |namespaces| {
            let root = maps
                .as_ref()
                .map(|maps| (maps.uid.first(), maps.gid.first()));
            let container = (&container.pidfd, namespaces, root);
            let place = (&doors[..], &affinity, apart.as_ref());
            let waits = launch.oom_score_adj.is_some() || by_systemd.is_some();
            let Err(error) =
                joining_process(container, config, &launch, streams, (&theirs, waits), place);
            theirs.send_error(&error);
            1
        },
    );
    drop(theirs);
    let (pid, pidfd) = born.map_err(not_running)?;
    let supervisor = Supervisor::of(&launch, config.state.as_ref(), None);
    match accompany(&launch, &supervisor, &ours, (pid, &pidfd), by_systemd) {
        Ok(terminal) => Ok(Executed {
            pid,
            pidfd,
            terminal,
        }),
        Err(error) => {
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            *dead = Some(pid);
            Err(not_running(error))
        }
    }
}

fn accompany(
    launch: &Launch,
    supervisor: &Supervisor<'_>,
    channel: &ParentEnd,
    (pid, pidfd): (Pid, &OwnedFd),
    by_systemd: Option<&Cgroup>,
) -> Result<Option<OwnedFd>, StartError> {
    if let Some(cgroup) = by_systemd {
        cgroup.attach(pid)?;
    }
    if let Some(adjustment) = launch.oom_score_adj {
        set_oom_score(pid, adjustment)?;
    }
    if by_systemd.is_some() || launch.oom_score_adj.is_some() {
        channel.go()?;
    }
    let mut terminal = None;
    loop {
        match channel.report()? {
            Report::Terminal(master) => terminal = Some(master),
            report @ (Report::Listener(_) | Report::ListenerNumber(_)) => {
                supervisor.meet(report, pid, pidfd)?;
                channel.go()?;
            }
            Report::Mounted | Report::Ready | Report::Closed | Report::Born(_) => {
                return Ok(terminal);
            }
        }
    }
}

/// The child: joins the container and becomes the program.
fn joining_process(
    (container, namespaces, root): (&OwnedFd, ThreadNameSpaceType, Option<(u32, u32)>),
    config: &ExecConfig,
    launch: &Launch,
    streams: Option<[OwnedFd; 3]>,
    (channel, waits): (&ChildEnd, bool),
    (doors, affinity, apart): (&[OwnedFd], &Affinity, Option<&OwnedFd>),
) -> Result<Infallible, StartError> {
    let clone_failed = |errno| StartError::new(Stage::Clone, errno, "");
    // Before the container can see this process: it still has the host's descriptors open.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(clone_failed)?;
    rustix::process::setsid().map_err(clone_failed)?;
    if !config.keep_keyring {
        wharf_sys::process::join_new_session_keyring().map_err(clone_failed)?;
    }
    if waits {
        // The parent has a `/proc` to trust, and can talk to systemd.
        channel.wait()?;
    }
    if let Some(initial) = &affinity.initial {
        initial.apply()?;
    }
    crate::cgroup::enter(doors)?;
    if let Some(last) = &affinity.last {
        last.apply()?;
    }
    launch.open_labels()?;
    if !namespaces.is_empty() {
        // With the mount namespace come its root and working directory.
        move_into_thread_name_spaces(container.as_fd(), namespaces)
            .map_err(|errno| StartError::new(Stage::Namespace, errno, ""))?;
    }
    if let Some(root) = apart {
        init::change_root(root)?;
    }
    if let Some((uid, gid)) = root {
        user_namespace::become_root(uid, gid)?;
    }
    if let Some(wanted) = &config.personality {
        prepared::set_personality(prepared::personality(wanted)?)?;
    }
    if let Some(policy) = &config.memory_policy {
        crate::memory_policy::plan(policy)?.apply()?;
    }
    rustix::process::umask(Mode::empty());
    let has_terminal = streams.is_none();
    let streams = match streams {
        Some(streams) => streams,
        None => open_terminal(launch, channel)?,
    };
    launch.program(streams, has_terminal, channel, None, || Ok(()))
}

/// The root of a container that shares its mount namespace with others.
fn root_of(container: &Running) -> Result<OwnedFd, StartError> {
    let path = format!("/proc/{}/root", container.pid.as_raw_nonzero());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty());
    // What we have opened was the container's if it lives still: its number was not given away.
    if ended(&container.pidfd) {
        return Err(StartError::refused(Stage::NotRunning, ""));
    }
    root.map_err(|errno| StartError::new(Stage::Namespace, errno, path))
}

fn ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    !matches!(poll(&mut fds, Some(&now)), Ok(0))
}

fn open_terminal(launch: &Launch, channel: &ChildEnd) -> Result<[OwnedFd; 3], StartError> {
    let failed = |errno| StartError::new(Stage::Terminal, errno, "");
    let root = Rootfs::at(Path::new("/"))
        .map_err(|error| crate::launch::io(Stage::Terminal, &error, "/"))?;
    let pair = init::open_terminal(&root)?;
    if let Some((columns, rows)) = launch.terminal_size {
        terminal::resize(&pair.master, columns, rows).map_err(failed)?;
    }
    channel.send_terminal(&pair.master)?;
    init::three_times(pair.slave).map_err(failed)
}

/// What it means when namespaces are gone: their container has ended meanwhile.
fn not_running(error: StartError) -> StartError {
    let gone = [Errno::SRCH, Errno::NOMEM, Errno::NODEV].map(Errno::raw_os_error);
    match error.stage {
        Stage::Namespace | Stage::Clone | Stage::Cgroup if gone.contains(&error.errno) => {
            StartError::refused(Stage::NotRunning, "")
        }
        _ => error,
    }
}
