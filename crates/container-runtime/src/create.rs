//! The parent's side of starting a container.
//!
//! [`run`] and [`create`] differ only in whether the first process stops once before it becomes
//! the user's program. While the child mounts, the parent makes the cgroups; on the unified
//! hierarchy the child is born in its cgroup instead.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, pidfd_send_signal, waitpid};
use rustix::thread::ThreadNameSpaceType;
use wharf_oci::runtime::{NamespaceKind, Spec};

use crate::birth::{self, Birth};
use crate::cgroup::Cgroup;
use crate::channel::{self, ParentEnd, Report};
use crate::config::{ContainerConfig, NamespaceFd, Stdio};
use crate::error::{Stage, StartError};
use crate::gate::Gate;
use crate::id_map::IdMaps;
use crate::init::{self, Meeting, Waits};
use crate::net_devices;
use crate::prepared::Prepared;
use crate::streams::Shields;
use crate::supervisor::Supervisor;
use crate::supplies::{Foreign, Supplies};
use crate::user_namespace::{self, Mapped};

/// A running container.
#[derive(Debug)]
pub struct Running {
    /// Its first process in the caller's PID namespace; a child of the caller, who reaps it.
    pub pid: Pid,
    /// The same as a descriptor: becomes readable when it ends.
    pub pidfd: OwnedFd,
    /// The terminal's master, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
    /// Keeps its mounts, if they are its own, until this is dropped: taking them down may take
    /// longer than whoever waits for the end of the process should wait.
    pub mounts: Option<OwnedFd>,
    /// Its cgroup, if the document has a `cgroupsPath`.
    pub cgroup: Option<Cgroup>,
    /// The namespaces it does not share with the caller.
    pub namespaces: Namespaces,
}

/// Which namespaces a container does not share with its shim: the ones an exec has to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces {
    pub(crate) kinds: ThreadNameSpaceType,
    /// Whether its root is not that of its mount namespace, which is one of others.
    pub(crate) root_apart: bool,
}

impl Namespaces {
    /// Those of a container that was made from `spec` alone.
    pub fn of(spec: &Spec) -> Self {
        let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
        let mut all = namespaces.fold(ThreadNameSpaceType::empty(), |all, namespace| {
            all | crate::prepared::flag(namespace.kind)
        });
        if !crate::prepared::kernel_has_time_namespaces() {
            all.remove(ThreadNameSpaceType::TIME);
        }
        let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
        let mut own_mounts = namespaces
            .filter(|namespace| namespace.kind == NamespaceKind::Mount)
            .map(|namespace| namespace.path.as_deref().unwrap_or_default());
        Self {
            kinds: all,
            root_apart: own_mounts.next() != Some(""),
        }
    }
}

/// A container that is complete but whose program has not been started.
#[derive(Debug)]
pub struct Created {
    /// What it is like.
    pub container: Running,
    channel: ParentEnd,
}

impl Created {
    /// Starts the user's program.
    pub fn start(self) -> Result<Running, StartError> {
        let Self { container, channel } = self;
        let started = channel.go().and_then(|()| channel.report());
        match started {
            Ok(_) => Ok(container),
            Err(error) => Err(bury(container, error)),
        }
    }
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Creates a container and starts its program, in one go.
///
/// `namespaces` are joined in place of what the document says about their kinds. Descriptors 0 to
/// 2 of the caller must be open (on anything), and it must have one thread only.
pub fn run(
    config: &ContainerConfig,
    namespaces: Vec<NamespaceFd>,
    stdio: Stdio,
) -> Result<Running, StartError> {
    run_telling(config, namespaces, stdio, &mut |_| Ok(()))
}

/// As [`run`]. `born` is told the first process as soon as there is one, before it is anything but
/// a copy of the caller; it fails the start if it fails.
pub fn run_telling(
    config: &ContainerConfig,
    namespaces: Vec<NamespaceFd>,
    stdio: Stdio,
    born: &mut dyn FnMut(Pid) -> Result<(), StartError>,
) -> Result<Running, StartError> {
    begin(config, namespaces, stdio, Waits::NoMore, born).map(|created| created.container)
}

/// Creates a container whose program waits for [`Created::start`]. As [`run`] otherwise.
pub fn create(
    config: &ContainerConfig,
    namespaces: Vec<NamespaceFd>,
    stdio: Stdio,
) -> Result<Created, StartError> {
    begin(config, namespaces, stdio, Waits::ForParent, &mut |_| Ok(()))
}

/// Creates a container whose program waits at `gate`, for however long: the caller may end. `born`
/// as in [`run_telling`], everything else as in [`run`].
pub fn create_behind(
    gate: Gate,
    config: &ContainerConfig,
    namespaces: Vec<NamespaceFd>,
    stdio: Stdio,
    born: &mut dyn FnMut(Pid) -> Result<(), StartError>,
) -> Result<Running, StartError> {
    begin(config, namespaces, stdio, Waits::AtGate(gate), born).map(|created| created.container)
}

fn begin(
    config: &ContainerConfig,
    namespaces: Vec<NamespaceFd>,
    stdio: Stdio,
    waits: Waits,
    told: &mut dyn FnMut(Pid) -> Result<(), StartError>,
) -> Result<Created, StartError> {
    let prepared = Prepared::new(config, namespaces, &stdio)?;
    let cgroup = match &prepared.cgroups_path {
        Some(path) if prepared.systemd_cgroup => Some(Cgroup::of_new_unit(path)?),
        Some(path) => {
            Some(Cgroup::at(path).map_err(|error| crate::launch::io(Stage::Cgroup, &error, path))?)
        }
        None => None,
    };
    cgroup.as_ref().map_or(Ok(()), Cgroup::check_unused)?;
    let born_in = match &cgroup {
        // systemd makes a scope only around a process that exists.
        Some(cgroup) if cgroup.is_unified() && !cgroup.is_unit() => {
            cgroup
                .create(&prepared.resources)
                .inspect_err(|_| discard(cgroup))?;
            cgroup.open_unified()?
        }
        _ => None,
    };
    let outside = if cgroup.is_none() {
        crate::cgroup::Layout::top().ok()
    } else {
        None
    };
    // The shields stay until the program runs: nobody waits for their end then.
    let (streams, _shields) = match stdio {
        Stdio::Streams(streams) => {
            let (streams, shields) = crate::streams::shield_all(streams)?;
            (Some(streams), shields)
        }
        Stdio::Terminal => (None, Shields::default()),
    };
    let (ours, theirs) = channel::pair()?;
    let pending = cgroup.is_some() && born_in.is_none()
        || prepared.new_cgroup_namespace
        || !prepared.net_devices.is_empty()
        || prepared.resctrl.is_some();
    let meeting = Meeting {
        channel: &theirs,
        cgroups: cgroup.as_ref().map(Cgroup::layout).or(outside.as_ref()),
        cgroups_pending: pending,
        waits: &waits,
    };
    // The child takes them out of its own copy of this; ours are closed with it.
    let streams = Mutex::new(streams);
    let cgroup_fd = born_in.as_ref().map(AsFd::as_fd);
    let born = birth::first_process(&prepared, cgroup_fd, (&ours, &theirs), || {
        let Err(error) = init::first_process(&prepared, take(&streams), &meeting);
        theirs.send_error(&error);
        if let Waits::AtGate(gate) = &waits {
            gate.send_error(&error);
        }
        1
    });
    drop(waits);
    let Birth { pid, pidfd, mapped } = match born {
        Ok(born) => born,
        Err(error) => {
            cgroup.as_ref().inspect(|cgroup| discard(cgroup));
            return Err(error);
        }
    };
    let streams = take(&streams);
    drop(theirs);
    let namespaces = namespaces_of(&prepared);
    let container = Running {
        pid,
        terminal: None,
        mounts: own_mounts(&prepared, pid, &pidfd),
        pidfd,
        cgroup,
        namespaces,
    };
    let supervisor = Supervisor::of(&prepared.launch, config.state.as_ref(), Some(pid));
    let maps = mapped.as_ref().map(|(mapped, _)| &mapped.maps);
    let accompanied = told(pid)
        .and_then(|()| delegate(&prepared, container.cgroup.as_ref(), maps))
        .and_then(|()| match mapped {
            Some(mapped) => supply(&prepared, &ours, pid, streams.as_ref(), mapped),
            None => Ok(()),
        })
        .and_then(|()| give_devices(&prepared, &container.pidfd))
        .and_then(|()| {
            drop(streams);
            accompany(
                &prepared,
                &supervisor,
                &ours,
                container.cgroup.as_ref(),
                (pid, &container.pidfd),
                born_in.is_some(),
                pending,
            )
        });
    match accompanied {
        Ok(terminal) => Ok(Created {
            container: Running {
                terminal,
                ..container
            },
            channel: ours,
        }),
        Err(error) => Err(bury(container, error)),
    }
}

/// The mount namespace made for the process, as far as it can be had: it saves time, nothing else.
fn own_mounts(prepared: &Prepared, pid: Pid, pidfd: &OwnedFd) -> Option<OwnedFd> {
    prepared
        .new_namespaces
        .contains(ThreadNameSpaceType::MOUNT)
        .then(|| wharf_sys::namespace::mounts_of(pidfd.as_fd(), pid).ok())?
}

/// What the first process needs of its parent if it has a user namespace of its own.
fn supply(
    prepared: &Prepared,
    channel: &ParentEnd,
    pid: Pid,
    streams: Option<&[OwnedFd; 3]>,
    (mapped, foreign): (Mapped, Foreign),
) -> Result<(), StartError> {
    if let Some(streams) = streams {
        user_namespace::give_streams(streams, &mapped.maps)?;
    }
    user_namespace::raise_limits(pid, &prepared.launch.rlimits);
    Supplies::make(prepared, &mapped, foreign)?.hand_over(channel, &mapped)
}

/// Gives the container's user its cgroup where the container is to make cgroups of its own.
fn delegate(
    prepared: &Prepared,
    cgroup: Option<&Cgroup>,
    maps: Option<&IdMaps>,
) -> Result<(), StartError> {
    let Some(cgroup) = cgroup.filter(|cgroup| cgroup.is_unified() && prepared.manages_cgroups())
    else {
        return Ok(());
    };
    let (uid, gid) = prepared.launch.numbers().unwrap_or((0, 0));
    let owner = match maps {
        Some(maps) => (maps.uid.outside(uid), maps.gid.outside(gid)),
        None => (Some(uid), Some(gid)),
    };
    match owner {
        // It is root's already.
        (Some(0), Some(0)) => Ok(()),
        (Some(uid), Some(gid)) => cgroup.delegate(uid, gid),
        // Setting the identity will say so.
        _ => Ok(()),
    }
}

/// Moves network devices into the container's network namespace.
fn give_devices(prepared: &Prepared, pidfd: &OwnedFd) -> Result<(), StartError> {
    if prepared.net_devices.is_empty() {
        return Ok(());
    }
    let joined = prepared
        .joined
        .iter()
        .find(|namespace| namespace.kind == NamespaceKind::Network);
    let namespace = joined.map_or(pidfd, |namespace| &namespace.fd);
    let namespace = namespace
        .try_clone()
        .map_err(|error| crate::launch::io(Stage::NetDevice, &error, ""))?;
    net_devices::give(&prepared.net_devices, namespace)
}

/// The parent's part after the child's birth: cgroups, the word to go on, the child's reports.
fn accompany(
    prepared: &Prepared,
    supervisor: &Supervisor<'_>,
    channel: &ParentEnd,
    cgroup: Option<&Cgroup>,
    (pid, pidfd): (Pid, &OwnedFd),
    born_in_cgroup: bool,
    pending: bool,
) -> Result<Option<OwnedFd>, StartError> {
    let doors = match cgroup.filter(|_| !born_in_cgroup) {
        Some(cgroup) => {
            cgroup.start_unit(pid, &prepared.resources)?;
            cgroup.create(&prepared.resources)?;
            cgroup.doors()?
        }
        None => Vec::new(),
    };
    if let Some(adjustment) = prepared.launch.oom_score_adj {
        set_oom_score(pid, adjustment)?;
    }
    if let Some(plan) = &prepared.resctrl {
        crate::resctrl::enter(plan, pid)?;
    }
    if pending {
        let doors: Vec<_> = doors.iter().map(AsFd::as_fd).collect();
        channel.go_with(&doors)?;
    }
    let mut terminal = None;
    loop {
        match channel.report()? {
            Report::Terminal(master) => terminal = Some(master),
            report @ (Report::Listener(_) | Report::ListenerNumber(_)) => {
                supervisor.meet(report, pid, pidfd)?;
                channel.go()?;
            }
            Report::Mounted => {
                prepared.hooks.run_outside(pid)?;
                channel.go()?;
            }
            Report::Ready | Report::Closed | Report::Born(_) => return Ok(terminal),
        }
    }
}

/// Sets how readily the kernel kills a process of ours for memory. Done by the parent, who has a
/// `/proc` to trust.
pub(crate) fn set_oom_score(pid: Pid, adjustment: i32) -> Result<(), StartError> {
    let failed = |errno| StartError::new(Stage::OomScore, errno, "");
    let path = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
        // It has ended; its report says why.
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(failed)?,
    };
    match rustix::io::write(file, adjustment.to_string().as_bytes()) {
        Ok(_) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// The namespaces of a container that was prepared like this.
pub(crate) fn namespaces_of(prepared: &Prepared) -> Namespaces {
    Namespaces {
        kinds: to_join(prepared),
        root_apart: prepared.mount_namespace.is_some(),
    }
}

fn to_join(prepared: &Prepared) -> ThreadNameSpaceType {
    let mut namespaces = prepared.new_namespaces;
    for namespace in &prepared.joined {
        namespaces |= crate::prepared::flag(namespace.kind);
    }
    if prepared.new_cgroup_namespace {
        namespaces |= ThreadNameSpaceType::CONTROL_GROUP;
    }
    if prepared.user_namespace.is_some() {
        namespaces |= ThreadNameSpaceType::USER;
    }
    if prepared.time_offsets.is_some() {
        namespaces |= ThreadNameSpaceType::TIME;
    }
    namespaces
}

/// Ends a container that did not start and removes its traces.
fn bury(container: Running, error: StartError) -> StartError {
    let _ = pidfd_send_signal(&container.pidfd, Signal::KILL);
    while let Err(Errno::INTR) = waitpid(Some(container.pid), WaitOptions::empty()) {}
    if let Some(cgroup) = &container.cgroup {
        discard(cgroup);
    }
    error
}

/// Removes a cgroup on the way out of a failure, which is what the caller wants to hear about.
fn discard(cgroup: &Cgroup) {
    let _ = cgroup.remove();
}
