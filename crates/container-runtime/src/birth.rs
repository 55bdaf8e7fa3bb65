//! How the first process is born into its namespaces.
//!
//! Most containers are born by one `clone3`. Further steps are needed where a namespace has to be
//! entered first or prepared in between:
//!
//! ```text
//! joined PID namespace     the parent has its children born there, for the moment of the clone
//! time offsets             the parent makes the time namespace, writes them, clones, returns
//! new user namespace       the parent is in all joined namespaces for the moment of the clone,
//!                          then writes the mapping
//! joined user namespace,   a stage: a child that enters (or makes) it, makes the time namespace,
//! or one with offsets      clones the first process as its own sibling and ends
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, pidfd_send_signal, set_dumpable_behavior, waitpid,
};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, move_into_link_name_space,
    move_into_thread_name_spaces,
};
use wharf_oci::runtime::NamespaceKind;
use wharf_sys::capability::{self, Capabilities};
use wharf_sys::clone::{clone_process, clone_sibling};

use crate::channel::{ChildEnd, ParentEnd, Report};
use crate::config::NamespaceFd;
use crate::error::{Stage, StartError};
use crate::init;
use crate::prepared::{Prepared, flag};
use crate::supplies::Foreign;
use crate::user_namespace::{self, Mapped, UserNamespace};

/// A first process.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    /// Its user namespace if it is not ours, and what was made for it elsewhere.
    pub(crate) mapped: Option<(Mapped, Foreign)>,
}

/// Has the first process born, in `cgroup` if given. `child` is what it does.
pub(crate) fn first_process(
    prepared: &Prepared,
    cgroup: Option<BorrowedFd<'_>>,
    (ours, theirs): (&ParentEnd, &ChildEnd),
    child: impl FnOnce() -> u8 + Send,
) -> Result<Birth, StartError> {
    let mut namespaces = prepared.new_namespaces;
    let Some(user) = &prepared.user_namespace else {
        let born = match &prepared.time_offsets {
            None => in_pid_namespace(joined_pid_namespace(&prepared.joined), || {
                clone_process(namespaces, cgroup, child)
            }),
            Some(offsets) => {
                namespaces.remove(ThreadNameSpaceType::TIME);
                in_new_time_namespace(offsets, || {
                    in_pid_namespace(joined_pid_namespace(&prepared.joined), || {
                        clone_process(namespaces, cgroup, child)
                    })
                })
            }
        };
        return born.map(|(pid, pidfd)| Birth {
            pid,
            pidfd,
            mapped: None,
        });
    };
    let joined: &[NamespaceFd] = if prepared.privileged {
        &prepared.joined
    } else {
        &[]
    };
    in_namespaces(joined, || {
        let foreign = Foreign::make(prepared)?;
        let (pid, pidfd, mapped) = match (user, &prepared.time_offsets) {
            (UserNamespace::New(maps), None) => {
                namespaces |= ThreadNameSpaceType::USER;
                let (pid, pidfd) =
                    clone_process(namespaces, cgroup, child).map_err(user_namespace::not_made)?;
                let mapped = user_namespace::write_maps(pid, maps)
                    .and_then(|()| Mapped::of(pid, maps.clone()))
                    .inspect_err(|_| end(pid, &pidfd))?;
                (pid, pidfd, mapped)
            }
            _ => by_stage(prepared, user, cgroup, (ours, theirs), child)?,
        };
        Ok(Birth {
            pid,
            pidfd,
            mapped: Some((mapped, foreign)),
        })
    })
}

/// Kills and reaps a child of ours.
fn end(pid: Pid, pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    while let Err(Errno::INTR) = waitpid(Some(pid), WaitOptions::empty()) {}
}

/// A birth in two steps.
fn by_stage(
    prepared: &Prepared,
    user: &UserNamespace,
    cgroup: Option<BorrowedFd<'_>>,
    (ours, theirs): (&ParentEnd, &ChildEnd),
    child: impl FnOnce() -> u8 + Send,
) -> Result<(Pid, OwnedFd, Mapped), StartError> {
    let own = match user {
        UserNamespace::New(_) => ThreadNameSpaceType::USER,
        UserNamespace::Joined(..) => ThreadNameSpaceType::empty(),
    };
    let (stage, stage_fd) = clone_process(own, None, || {
        match stage(prepared, user, cgroup, theirs, child) {
            Ok(()) => 0,
            Err(error) => {
                theirs.send_error(&error);
                1
            }
        }
    })
    .map_err(user_namespace::not_made)?;
    let mapped = match user {
        UserNamespace::New(maps) => {
            user_namespace::write_maps(stage, maps).and_then(|()| Mapped::of(stage, maps.clone()))
        }
        UserNamespace::Joined(_, claimed) => arrived(ours).and_then(|()| {
            let maps = user_namespace::maps_of(stage)?;
            if let Some(claimed) = claimed
                && !(claimed.uid.means_the_same_as(&maps.uid)
                    && claimed.gid.means_the_same_as(&maps.gid))
            {
                return Err(StartError::refused(
                    Stage::Config,
                    "the user namespace to be joined has another mapping than the document",
                ));
            }
            Mapped::of(stage, maps)
        }),
    };
    let mapped = mapped
        .and_then(|mapped| ours.go().map(|()| mapped))
        .inspect_err(|_| end(stage, &stage_fd))?;
    let pidfd = after_stage(stage, ours)?;
    Ok((pid_of(&pidfd)?, pidfd, mapped))
}

/// Waits until the stage has come into the namespace it joins.
fn arrived(ours: &ParentEnd) -> Result<(), StartError> {
    match ours.report()? {
        Report::Ready => Ok(()),
        _ => Err(StartError::refused(Stage::Died, "")),
    }
}

/// The stage.
fn stage(
    prepared: &Prepared,
    user: &UserNamespace,
    cgroup: Option<BorrowedFd<'_>>,
    channel: &ChildEnd,
    child: impl FnOnce() -> u8 + Send,
) -> Result<(), StartError> {
    if let UserNamespace::Joined(namespace, _) = user {
        init::join(namespace)?;
        channel.send_ready()?;
    }
    channel.wait()?;
    let mut namespaces = prepared.new_namespaces;
    if let Some(offsets) = &prepared.time_offsets {
        namespaces.remove(ThreadNameSpaceType::TIME);
        make_time_namespace(offsets)?;
    }
    // The namespace's root may be able to look into what comes now.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| StartError::new(Stage::Clone, errno, ""))?;
    if let Some(namespace) = joined_pid_namespace(&prepared.joined).filter(|_| !prepared.privileged)
    {
        enter(namespace, NamespaceKind::Pid)?;
    }
    let (_, pidfd) = clone_sibling(namespaces, cgroup, child)
        .map_err(|errno| StartError::new(Stage::Clone, errno, ""))?;
    channel.send_born(&pidfd)
}

/// Whose child a further process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    /// The caller's.
    Us,
    /// The caller's parent's. The caller must have privileges.
    Ours,
}

/// Has a further process born for the container `container` (a pidfd), of which it shares
/// `namespaces`. Returns what it still has to join.
pub(crate) fn further_process(
    (container, mut namespaces): (&OwnedFd, ThreadNameSpaceType),
    cgroup: Option<BorrowedFd<'_>>,
    parent: Parent,
    (ours, theirs): (&ParentEnd, &ChildEnd),
    child: impl FnOnce(ThreadNameSpaceType) -> u8 + Send,
) -> Result<(Pid, OwnedFd), StartError> {
    let none = ThreadNameSpaceType::empty();
    let shares_pids = namespaces.contains(ThreadNameSpaceType::PROCESS_ID);
    namespaces.remove(ThreadNameSpaceType::PROCESS_ID);
    let shared = shares_pids.then_some(container.as_fd());
    if !namespaces.contains(ThreadNameSpaceType::USER) || is_privileged()? {
        return in_pid_namespace(shared, || match parent {
            Parent::Us => clone_process(none, cgroup, || child(namespaces)),
            Parent::Ours => clone_sibling(none, cgroup, || child(namespaces)),
        });
    }
    if parent == Parent::Ours {
        return Err(StartError::new(Stage::Clone, Errno::PERM, ""));
    }
    // Only in the user namespace we may enter the others, and have children born there.
    let (stage, _) = clone_process(none, None, || {
        let entered = enter(container.as_fd(), NamespaceKind::User)
            .and_then(|()| shared.map_or(Ok(()), |pids| enter(pids, NamespaceKind::Pid)))
            .and_then(|()| {
                namespaces.remove(ThreadNameSpaceType::USER);
                clone_sibling(none, cgroup, || child(namespaces))
                    .map_err(|errno| StartError::new(Stage::Clone, errno, ""))
            })
            .and_then(|(_, pidfd)| theirs.send_born(&pidfd));
        match entered {
            Ok(()) => 0,
            Err(error) => {
                theirs.send_error(&error);
                1
            }
        }
    })
    .map_err(|errno| StartError::new(Stage::Clone, errno, ""))?;
    let pidfd = after_stage(stage, ours)?;
    Ok((pid_of(&pidfd)?, pidfd))
}

/// Whether we may do what a user namespace's root may not.
pub(crate) fn is_privileged() -> Result<bool, StartError> {
    let admin = Capabilities::named("CAP_SYS_ADMIN").unwrap_or_default();
    capability::effective()
        .map(|effective| effective.contains(admin))
        .map_err(|errno| StartError::new(Stage::Namespace, errno, "user"))
}

/// Waits for the end of a stage, and takes over what it has made.
fn after_stage(stage: Pid, ours: &ParentEnd) -> Result<OwnedFd, StartError> {
    let status = loop {
        match waitpid(Some(stage), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            other => {
                break other.map_err(|errno| StartError::new(Stage::Clone, errno, "stage"))?;
            }
        }
    };
    // It has said everything before it ended; killed, it may have left a process that waits for
    // us, and ends when we are gone.
    if status.is_none_or(|(_, status)| status.exit_status().is_none()) {
        return Err(StartError::refused(Stage::Died, ""));
    }
    match ours.report()? {
        Report::Born(pidfd) => Ok(pidfd),
        _ => Err(StartError::refused(Stage::Died, "")),
    }
}

/// The process `pidfd` is a descriptor of, in our PID namespace.
fn pid_of(pidfd: &OwnedFd) -> Result<Pid, StartError> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(&path)
        .map_err(|error| crate::launch::io(Stage::Clone, &error, &path))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .and_then(Pid::from_raw)
        .ok_or_else(|| StartError::refused(Stage::Died, ""))
}

fn joined_pid_namespace(joined: &[NamespaceFd]) -> Option<BorrowedFd<'_>> {
    joined
        .iter()
        .find(|namespace| namespace.kind == NamespaceKind::Pid)
        .map(|namespace| namespace.fd.as_fd())
}

/// Runs `work`, whose child processes are born in `namespace` (a namespace file or a pidfd).
pub(crate) fn in_pid_namespace<T: Send>(
    namespace: Option<BorrowedFd<'_>>,
    work: impl FnOnce() -> Result<T, Errno> + Send,
) -> Result<T, StartError> {
    let clone_failed = |errno| StartError::new(Stage::Clone, errno, "");
    let Some(namespace) = namespace else {
        return work().map_err(clone_failed);
    };
    not_dumpable()?;
    out_and_back(&[NamespaceKind::Pid], || {
        enter(namespace, NamespaceKind::Pid)?;
        work().map_err(clone_failed)
    })
}

/// Runs `work`, which enters namespaces of these kinds, and leaves us where we were.
///
/// Nobody but root gets back into one of the system's namespaces. Threads need not: for others this
/// one waits while another does the work, so that children find everything as if it had been this
/// one's, and is then the only one again.
fn out_and_back<T: Send>(
    kinds: &[NamespaceKind],
    work: impl FnOnce() -> Result<T, StartError> + Send,
) -> Result<T, StartError> {
    if !wharf_sys::namespace::is_initial_user() && !kinds.is_empty() {
        return wharf_sys::namespace::on_disposable_thread(|| {
            if kinds.contains(&NamespaceKind::Mount) {
                // Threads share their root directory until they say otherwise.
                wharf_sys::namespace::unshare(UnshareFlags::FS)
                    .map_err(|errno| namespace_failed(NamespaceKind::Mount, errno))?;
            }
            work()
        })
        .map_err(|error| crate::launch::io(Stage::Clone, &error, "thread"))?;
    }
    let way_back = kinds
        .iter()
        .map(|kind| Own::open(*kind))
        .collect::<Result<Vec<_>, _>>()?;
    let result = work();
    for own in way_back.into_iter().rev() {
        own.enter()?;
    }
    result
}

/// A child is visible in a joined PID namespace from its first moment, with the host's descriptors
/// open and our program in view; it inherits this (CVE-2016-9962).
fn not_dumpable() -> Result<(), StartError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| StartError::new(Stage::Namespace, errno, "pid"))
}

/// Runs `work` in all of `joined`, the user namespace excepted; children are born there.
pub(crate) fn in_namespaces<T: Send>(
    joined: &[NamespaceFd],
    work: impl FnOnce() -> Result<T, StartError> + Send,
) -> Result<T, StartError> {
    let kinds: Vec<NamespaceKind> = joined.iter().map(|namespace| namespace.kind).collect();
    if kinds.contains(&NamespaceKind::Pid) {
        not_dumpable()?;
    }
    out_and_back(&kinds, || {
        for namespace in joined {
            enter(namespace.fd.as_fd(), namespace.kind)?;
        }
        work()
    })
}

/// A namespace of our own, to come back to.
struct Own {
    kind: NamespaceKind,
    fd: OwnedFd,
}

impl Own {
    fn open(kind: NamespaceKind) -> Result<Self, StartError> {
        let file = match kind {
            NamespaceKind::Mount => c"/proc/self/ns/mnt",
            NamespaceKind::Pid => c"/proc/self/ns/pid",
            NamespaceKind::Network => c"/proc/self/ns/net",
            NamespaceKind::Uts => c"/proc/self/ns/uts",
            NamespaceKind::Ipc => c"/proc/self/ns/ipc",
            NamespaceKind::User => c"/proc/self/ns/user",
            NamespaceKind::Cgroup => c"/proc/self/ns/cgroup",
            NamespaceKind::Time => c"/proc/self/ns/time",
        };
        let fd = rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| namespace_failed(kind, errno))?;
        Ok(Self { kind, fd })
    }

    fn enter(self) -> Result<(), StartError> {
        enter(self.fd.as_fd(), self.kind)
    }
}

/// The namespace of this kind that we are in.
pub(crate) fn own_namespace(kind: NamespaceKind) -> Result<OwnedFd, StartError> {
    Own::open(kind).map(|own| own.fd)
}

fn namespace_failed(kind: NamespaceKind, errno: Errno) -> StartError {
    StartError::new(Stage::Namespace, errno, format!("{kind:?}").to_lowercase())
}

/// Enters a namespace given as a namespace file or as a pidfd.
pub(crate) fn enter(namespace: BorrowedFd<'_>, kind: NamespaceKind) -> Result<(), StartError> {
    let link = match kind {
        NamespaceKind::Mount => LinkNameSpaceType::Mount,
        NamespaceKind::Pid => LinkNameSpaceType::ProcessID,
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::User => LinkNameSpaceType::User,
        NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
        NamespaceKind::Time => LinkNameSpaceType::Time,
    };
    let entered = match move_into_link_name_space(namespace, Some(link)) {
        Err(Errno::INVAL) => move_into_thread_name_spaces(namespace, flag(kind)),
        other => other,
    };
    entered.map_err(|errno| namespace_failed(kind, errno))
}

/// Runs `work`, whose child processes are born in a new time namespace with `offsets`.
fn in_new_time_namespace<T>(
    offsets: &str,
    work: impl FnOnce() -> Result<T, StartError>,
) -> Result<T, StartError> {
    let way_back = Own::open(NamespaceKind::Time)?;
    let result = make_time_namespace(offsets).and_then(|()| work());
    way_back.enter()?;
    result
}

/// Makes a time namespace for children: its clocks can be set only until the first process is in
/// it, which rules out being born there.
fn make_time_namespace(offsets: &str) -> Result<(), StartError> {
    let failed = |errno| StartError::new(Stage::Namespace, errno, "time");
    wharf_sys::namespace::unshare(UnshareFlags::from_bits_retain(
        ThreadNameSpaceType::TIME.bits(),
    ))
    .map_err(failed)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file =
        rustix::fs::open(c"/proc/self/timens_offsets", flags, Mode::empty()).map_err(failed)?;
    match rustix::io::write(file, offsets.as_bytes()) {
        Ok(_) => Ok(()),
        Err(Errno::RANGE) => Err(StartError::refused(
            Stage::Config,
            "linux.timeOffsets would make a clock negative or overflow",
        )),
        Err(errno) => Err(failed(errno)),
    }
}
