//! The container's first process, from its birth to its program.
//!
//! This runs in the child of `clone3`, in the namespaces made for the container, still with the
//! host's files in view. Nothing here is undone on failure: the process reports and exits, and
//! with its namespaces everything it made is gone.
//!
//! ```text
//! host's tree        sources of binds copied, "/" cut off from the host's propagation
//! container's root   mounted, put over "/"
//! inside that root   mounts, devices, terminal, sysctls, masked and read-only paths
//! pivot_root         the host's tree is gone (in a mount namespace of others: chroot)
//! launch             user, directory, capabilities, filter, program
//! ```

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags};
use rustix::process::DumpableBehavior;
use rustix::thread::UnshareFlags;
use wharf_oci::runtime::NamespaceKind;
use wharf_sys::mount::{
    AttributeChange, Attributes, Propagation, attach, attach_at, change_attributes, clone_tree,
    new_filesystem,
};
use wharf_sys::overlay::Overlay;
use wharf_sys::rootfs::Rootfs;
use wharf_sys::terminal;

use crate::birth;
use crate::cgroup::Layout;
use crate::channel::ChildEnd;
use crate::config::{NamespaceFd, RootFilesystem};
use crate::error::{Stage, StartError};
use crate::gate::Gate;
use crate::hooks::HookKind;
use crate::mounts::{self, Made};
use crate::prepared::{self, Prepared};
use crate::supplies::Supplies;
use crate::{devices, protect, sysctl};

/// How the first process meets its parent.
pub(crate) struct Meeting<'a> {
    pub(crate) channel: &'a ChildEnd,
    /// Where the container's cgroups are, if it has any.
    pub(crate) cgroups: Option<&'a Layout>,
    /// Whether we enter them, once the parent has made them.
    pub(crate) cgroups_pending: bool,
    /// Whether the program waits for a word of its own.
    pub(crate) waits: &'a Waits,
}

/// What the program waits for when everything else is done.
#[derive(Debug)]
pub(crate) enum Waits {
    NoMore,
    /// A word of the parent's, which stays.
    ForParent,
    /// A word of anybody's.
    AtGate(Gate),
}

/// Becomes the container's program. `streams` are its standard streams unless it has a terminal.
pub(crate) fn first_process(
    prepared: &Prepared,
    streams: Option<[OwnedFd; 3]>,
    meeting: &Meeting<'_>,
) -> Result<Infallible, StartError> {
    let supplies = match &prepared.user_namespace {
        Some(_) => Some(Supplies::take_over(prepared, meeting.channel)?),
        None => None,
    };
    rustix::process::umask(Mode::empty());
    let clone_failed = |errno| StartError::new(Stage::Clone, errno, "");
    rustix::process::setsid().map_err(clone_failed)?;
    if !prepared.keep_keyring {
        wharf_sys::process::join_new_session_keyring().map_err(clone_failed)?;
    }
    // Processes already in a joined PID namespace could otherwise look into this one, which has
    // the host's descriptors open (CVE-2016-9962).
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(clone_failed)?;
    prepared.launch.open_labels()?;
    for namespace in prepared.joined.iter().filter(|_| !prepared.privileged) {
        join(namespace)?;
    }
    let mut parent = Parent {
        meeting,
        waited: !meeting.cgroups_pending,
    };

    let mut made = Made::default();
    let supplies = match supplies {
        Some(supplies) => supplies,
        None => {
            let mut sources = mounts::open_sources(&prepared.mounts, &prepared.id_mappings, None)?;
            if !prepared.listed_in_order {
                mounts::shape_all(&prepared.mounts, &sources)?;
            }
            if let Some(dev) = &prepared.dev {
                made.dev_is_complete = dev.give(&prepared.mounts, &mut sources)?;
            }
            Supplies {
                mounts: sources,
                ..Supplies::default()
            }
        }
    };
    let null = protect::host_null_device()?;
    let root = enter_root(prepared, supplies.root)?;
    make_mounts(prepared, &root, supplies.mounts, &mut parent, &mut made)?;
    let mut nodes = supplies.devices.into_iter();
    let terminal = make_devices(prepared, &root, &made, &mut nodes, streams.is_none())?;
    if !prepared.net_devices.is_empty() {
        // Kernel parameters may be about them.
        parent.wait_for_cgroups(prepared)?;
    }
    set_sysctls(prepared, &made)?;
    protect::make_readonly(&root, &prepared.readonly_paths)?;
    let label = prepared.mount_label.as_deref();
    protect::mask(&root, &prepared.masked_paths, &null, label)?;
    run_creation_hooks(prepared, &mut parent)?;
    leave_host(prepared, &root)?;

    let hostname_failed = |errno| StartError::new(Stage::Hostname, errno, "");
    if let Some(hostname) = &prepared.hostname {
        rustix::system::sethostname(hostname.as_bytes()).map_err(hostname_failed)?;
    }
    if let Some(domainname) = &prepared.domainname {
        rustix::system::setdomainname(domainname.as_bytes()).map_err(hostname_failed)?;
    }
    if let Some(persona) = prepared.personality {
        prepared::set_personality(persona)?;
    }
    if let Some(policy) = &prepared.memory_policy {
        policy.apply()?;
    }
    parent.wait_for_cgroups(prepared)?;
    drop((root, made, null));

    let has_terminal = terminal.is_some();
    let streams = match (streams, terminal) {
        (Some(streams), _) => streams,
        (None, Some(terminal)) => {
            meeting.channel.send_terminal(&terminal.master)?;
            three_times(terminal.slave)
                .map_err(|errno| StartError::new(Stage::Terminal, errno, ""))?
        }
        (None, None) => return Err(StartError::refused(Stage::Terminal, "no streams")),
    };
    let channel = meeting.channel;
    let gate = match meeting.waits {
        Waits::AtGate(gate) => Some(gate),
        Waits::NoMore | Waits::ForParent => None,
    };
    prepared
        .launch
        .program(streams, has_terminal, channel, gate, || {
            match meeting.waits {
                Waits::NoMore => {}
                Waits::ForParent => {
                    meeting.channel.send_ready()?;
                    meeting.channel.wait()?;
                }
                Waits::AtGate(gate) => {
                    meeting.channel.send_ready()?;
                    gate.wait()?;
                }
            }
            prepared.hooks.run_inside(HookKind::StartContainer)
        })
}

/// Lets the parent run its hooks, then runs our own that see both trees.
fn run_creation_hooks(prepared: &Prepared, parent: &mut Parent<'_>) -> Result<(), StartError> {
    if !prepared.hooks.any_before_pivot() {
        return Ok(());
    }
    parent.wait_for_cgroups(prepared)?;
    if prepared.hooks.any_outside() {
        parent.meeting.channel.send_mounted()?;
        parent.meeting.channel.wait()?;
    }
    prepared.hooks.run_inside(HookKind::CreateContainer)
}

/// The parent's part of the work, waited for as late as possible.
struct Parent<'a> {
    meeting: &'a Meeting<'a>,
    waited: bool,
}

impl Parent<'_> {
    fn wait_for_cgroups(&mut self, prepared: &Prepared) -> Result<(), StartError> {
        if self.waited {
            return Ok(());
        }
        self.waited = true;
        let doors = self.meeting.channel.wait()?;
        crate::cgroup::enter(&doors)?;
        if prepared.new_cgroup_namespace {
            // Only now: the namespace's root is the cgroup its maker is in.
            wharf_sys::namespace::unshare(UnshareFlags::NEWCGROUP)
                .map_err(|errno| StartError::new(Stage::Namespace, errno, "cgroup"))?;
        }
        Ok(())
    }
}

/// Joins a namespace given as a namespace file or as a pidfd.
pub(crate) fn join(namespace: &NamespaceFd) -> Result<(), StartError> {
    if namespace.kind == NamespaceKind::Pid {
        // The parent was in it when it made this process.
        return Ok(());
    }
    birth::enter(namespace.fd.as_fd(), namespace.kind)
}

/// Mounts the container's root, cuts the host's tree off from propagation, and puts the root over
/// it. The process's working directory is the root afterwards.
fn enter_root(prepared: &Prepared, supplied: Option<OwnedFd>) -> Result<Rootfs, StartError> {
    let failed = |errno| StartError::new(Stage::Rootfs, errno, "");
    let supplied = match (&prepared.root, supplied) {
        (Some(root), None) => Some(rustix::io::fcntl_dupfd_cloexec(root, 3).map_err(failed)?),
        (_, supplied) => supplied,
    };
    let made = match (&prepared.rootfs, supplied) {
        (_, Some(tree)) => Some(tree),
        (RootFilesystem::Path(path) | RootFilesystem::Layer(path), None) => {
            Some(mounts::copy_root(path, prepared.root_follows_host())?)
        }
        (RootFilesystem::Overlay { .. }, None) => None,
    };
    // Copies that stay shared with the host have been taken; from here on nothing may travel.
    let private = AttributeChange {
        propagation: Some(Propagation::Private),
        ..AttributeChange::default()
    };
    change_attributes(CWD, c"/", true, private).map_err(failed)?;
    let tree = match (&prepared.rootfs, made) {
        (_, Some(tree)) => tree,
        (
            RootFilesystem::Overlay {
                lower,
                upper,
                work,
                options,
            },
            None,
        ) => {
            let overlay = Overlay {
                lower,
                writable: Some((upper, work)),
                options,
            };
            overlay
                .mount(MountAttrFlags::empty())
                .map_err(|errno| StartError::new(Stage::Rootfs, errno, "overlay"))?
        }
        (RootFilesystem::Path(_) | RootFilesystem::Layer(_), None) => {
            return Err(failed(Errno::NOENT));
        }
    };
    match place_of(prepared) {
        Some(place) => attach(&tree, place),
        None => attach_at(&tree, c"/"),
    }
    .map_err(failed)?;
    rustix::process::fchdir(&tree).map_err(failed)?;
    Ok(Rootfs::new(tree))
}

/// Where hooks look for the root, if there are any that see the host's tree with it. In a user
/// namespace the way there may be barred, for them as for us.
fn place_of(prepared: &Prepared) -> Option<OwnedFd> {
    let (RootFilesystem::Path(path) | RootFilesystem::Layer(path)) = &prepared.rootfs else {
        return None;
    };
    if !prepared.hooks.any_before_pivot() {
        return None;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

fn make_mounts(
    prepared: &Prepared,
    root: &Rootfs,
    sources: Vec<Option<OwnedFd>>,
    parent: &mut Parent<'_>,
    made: &mut Made,
) -> Result<(), StartError> {
    use crate::mount_plan::Kind;
    let cgroups = parent.meeting.cgroups;
    let mut deferred = None;
    let in_order = prepared.listed_in_order && prepared.user_namespace.is_none();
    for (index, (mount, mut source)) in prepared.mounts.iter().zip(sources).enumerate() {
        if in_order && matches!(mount.kind, Kind::Bind { .. }) {
            source = source.map(|tree| mounts::renew(mount, tree)).transpose()?;
        }
        if mount.kind == Kind::Cgroup {
            let later = &prepared.mounts[index + 1..];
            if deferred.is_none()
                && !later
                    .iter()
                    .any(|other| other.destination.starts_with(&mount.destination))
            {
                // The parent is still making the cgroups: no need to wait before the rest.
                deferred = Some(mount);
                continue;
            }
            parent.wait_for_cgroups(prepared)?;
        }
        mounts::make(root, mount, source, cgroups, made)?;
    }
    if let Some(mount) = deferred {
        parent.wait_for_cgroups(prepared)?;
        mounts::make(root, mount, None, cgroups, made)?;
    }
    Ok(())
}

/// Makes the device nodes and, if asked for, the terminal.
fn make_devices(
    prepared: &Prepared,
    root: &Rootfs,
    made: &Made,
    nodes: &mut impl Iterator<Item = Option<OwnedFd>>,
    wants_terminal: bool,
) -> Result<Option<terminal::Terminal>, StartError> {
    let found;
    let dev = match &made.dev {
        Some(dev) => dev,
        None => {
            found = root
                .create_dir_all(Path::new("/dev"), Mode::from_raw_mode(0o755))
                .map_err(|errno| StartError::new(Stage::Device, errno, "/dev"))?;
            &found
        }
    };
    if !made.dev_is_bound {
        if !made.dev_is_complete {
            devices::create_defaults(dev, nodes)?;
        }
        if let Some(proc) = &made.proc {
            devices::link_core(dev, proc)?;
        }
        devices::create_planned(root, &prepared.devices, nodes)?;
    }
    if !wants_terminal {
        return Ok(None);
    }
    let failed = |errno| StartError::new(Stage::Terminal, errno, "");
    let terminal = match &made.pts {
        Some(pts) => terminal::open(pts, c"ptmx").map_err(failed)?,
        None => open_terminal(root)?,
    };
    if let Some((columns, rows)) = prepared.launch.terminal_size {
        terminal::resize(&terminal.master, columns, rows).map_err(failed)?;
    }
    // The container's console is its terminal.
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::openat(
        dev,
        c"console",
        flags | OFlags::EXCL | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    ) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let console = rustix::fs::openat(dev, c"console", flags, Mode::empty()).map_err(failed)?;
    let status = rustix::fs::fstat(&console).map_err(failed)?;
    // What is there may be of the image's making: nothing is put on a link, or by way of one
    // (CVE-2025-52565, CVE-2026-88264).
    if !matches!(
        FileType::from_raw_mode(status.st_mode),
        FileType::RegularFile | FileType::CharacterDevice
    ) {
        return Err(StartError::new(
            Stage::Terminal,
            Errno::LOOP,
            "/dev/console",
        ));
    }
    let slave = clone_tree(&terminal.slave, c"", false).map_err(failed)?;
    attach(slave, console).map_err(failed)?;
    Ok(Some(terminal))
}

/// Opens a terminal of whatever devpts is at `/dev/pts` of `root`, if it is one.
pub(crate) fn open_terminal(root: &Rootfs) -> Result<terminal::Terminal, StartError> {
    const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;
    let failed = |errno| StartError::new(Stage::Terminal, errno, "/dev/pts");
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let pts = root
        .open_without_links(Path::new("/dev/pts"), flags)
        .map_err(failed)?;
    // A terminal of anything else could be watched, or be no terminal at all (CVE-2025-52565).
    if rustix::fs::fstatfs(&pts).map_err(failed)?.f_type != DEVPTS_SUPER_MAGIC {
        return Err(failed(Errno::NODEV));
    }
    terminal::open(pts, c"ptmx").map_err(failed)
}

fn set_sysctls(prepared: &Prepared, made: &Made) -> Result<(), StartError> {
    if prepared.sysctls.is_empty() {
        return Ok(());
    }
    let failed = |errno| StartError::new(Stage::Sysctl, errno, "");
    let proc = match &made.proc {
        Some(proc) => rustix::io::fcntl_dupfd_cloexec(proc, 3).map_err(failed)?,
        None => match new_filesystem("proc", &[], MountAttrFlags::empty()) {
            // Not of processes that are not ours alone. The host's, which absolute paths still lead
            // to, shows our own network's parameters as well.
            Err(Errno::PERM) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(c"/proc", flags, Mode::empty()).map_err(failed)?
            }
            other => other.map_err(failed)?,
        },
    };
    sysctl::apply(&Rootfs::new(proc), &prepared.sysctls)
}

/// Makes the container's root the only tree there is.
fn leave_host(prepared: &Prepared, root: &Rootfs) -> Result<(), StartError> {
    if let Some(namespace) = &prepared.mount_namespace {
        return leave_for(namespace, prepared, root);
    }
    let failed = |errno| StartError::new(Stage::Rootfs, errno, "pivot_root");
    if prepared.no_pivot {
        // Over everything, so that ".." leads nowhere else from here.
        if prepared.hooks.any_before_pivot() {
            attach_at(root, c"/").map_err(failed)?;
        }
        rustix::process::fchdir(root).map_err(failed)?;
        rustix::process::chroot(c".").map_err(failed)?;
    } else {
        rustix::process::pivot_root(c".", c".").map_err(failed)?;
        // The host's tree now lies over the new root at ".".
        rustix::mount::unmount(c".", UnmountFlags::DETACH).map_err(failed)?;
    }
    rustix::process::chdir(c"/").map_err(failed)?;
    shape_root(prepared, root)
}

/// Leaves our mount namespace for that of others, with a copy of the container's root as the root:
/// those others do not see it, and it goes with the last process that has it.
fn leave_for(namespace: &OwnedFd, prepared: &Prepared, root: &Rootfs) -> Result<(), StartError> {
    let failed = |errno| StartError::new(Stage::Rootfs, errno, "chroot");
    let tree = clone_tree(root, c"", true).map_err(failed)?;
    shape_root(prepared, &tree)?;
    birth::enter(namespace.as_fd(), NamespaceKind::Mount)?;
    change_root(&tree)
}

/// Makes `root` the root, and the working directory.
pub(crate) fn change_root(root: &OwnedFd) -> Result<(), StartError> {
    rustix::process::fchdir(root)
        .and_then(|()| rustix::process::chroot(c"."))
        .map_err(|errno| StartError::new(Stage::Rootfs, errno, "chroot"))
}

/// Gives the root its propagation and attributes.
fn shape_root(prepared: &Prepared, root: &impl AsFd) -> Result<(), StartError> {
    let failed = |errno| StartError::new(Stage::Rootfs, errno, "/");
    let mut change = AttributeChange::default();
    if prepared.root_readonly {
        change.set = Attributes::READ_ONLY;
    }
    if let Some((propagation, everywhere)) = prepared.root_propagation {
        let propagation = AttributeChange {
            propagation: Some(propagation),
            ..AttributeChange::default()
        };
        change_attributes(root, c"", everywhere, propagation).map_err(failed)?;
    }
    if !change.set.is_empty() {
        change_attributes(root, c"", false, change).map_err(failed)?;
    }
    Ok(())
}

/// One terminal as all three streams.
pub(crate) fn three_times(slave: OwnedFd) -> Result<[OwnedFd; 3], Errno> {
    let copy = || rustix::io::fcntl_dupfd_cloexec(&slave, 3);
    Ok([copy()?, copy()?, slave])
}
