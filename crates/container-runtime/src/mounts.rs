//! Making the container's mounts, inside its mount namespace, before `pivot_root`.
//!
//! A source is always opened before anything of the container's is looked at, and a destination
//! is always a descriptor found under the container's root: nothing the container has put there
//! (symbolic links, other mounts) can turn a mount into one on the host.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use wharf_sys::mount::{
    AttributeChange, Attributes, Parameter, Propagation, attach, change_attributes, clone_tree,
    new_filesystem,
};
use wharf_sys::rootfs::Rootfs;

use crate::cgroup::Layout;
use crate::copy_up;
use crate::error::{Stage, StartError};
use crate::mount_plan::{Kind, PlannedMount};
use crate::prepared::c_path;
use crate::user_namespace::{self, Mappings};

/// Mode of directories made as mount points.
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// Mounts of ours that later steps use through their descriptors.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// The procfs at `/proc`.
    pub(crate) proc: Option<OwnedFd>,
    /// The tmpfs at `/dev`.
    pub(crate) dev: Option<OwnedFd>,
    /// The devpts at `/dev/pts`.
    pub(crate) pts: Option<OwnedFd>,
    /// Whether the tmpfs at `/dev` came with the default devices.
    pub(crate) dev_is_complete: bool,
    /// Whether `/dev` is a directory of the host: its nodes are not ours to make.
    pub(crate) dev_is_bound: bool,
}

/// Copies of the host's trees that will be bind-mounted, not yet with their attributes; one per
/// mount that is a bind. IDs are mapped by `mappings`, or as in the container's `user_namespace`.
pub(crate) fn open_sources(
    mounts: &[PlannedMount],
    mappings: &Mappings,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<Vec<Option<OwnedFd>>, StartError> {
    let open = |mount: &PlannedMount| {
        let Kind::Bind { source, recursive } = &mount.kind else {
            return Ok(None);
        };
        let tree = clone_tree(CWD, source, *recursive).map_err(|errno| mount.error(errno))?;
        if let Some(idmap) = &mount.id_map {
            let namespace = match &idmap.maps {
                Some(maps) => mappings.get(maps).map(AsFd::as_fd),
                None => user_namespace,
            };
            let change = AttributeChange {
                id_mapping: Some(namespace.ok_or_else(|| mount.error(Errno::PERM))?),
                ..AttributeChange::default()
            };
            change_attributes(&tree, c"", idmap.recursive, change)
                .map_err(|errno| user_namespace::no_mapping(Path::new(&mount.source), errno))?;
        }
        Ok(Some(tree))
    };
    mounts.iter().map(open).collect()
}

/// Copies of binds' sources as they are mounted.
pub(crate) fn shape_all(
    mounts: &[PlannedMount],
    trees: &[Option<OwnedFd>],
) -> Result<(), StartError> {
    for (mount, tree) in mounts.iter().zip(trees) {
        if let (Kind::Bind { .. }, Some(tree)) = (&mount.kind, tree) {
            shape_bind(mount, tree).map_err(|errno| mount.error(errno))?;
        }
    }
    Ok(())
}

/// A copy of `tree`, a bind's source, that is as young as can be, as it is mounted.
pub(crate) fn renew(mount: &PlannedMount, tree: OwnedFd) -> Result<OwnedFd, StartError> {
    // Before Linux 6.15 there are no copies of what is mounted nowhere.
    let tree = clone_tree(&tree, c"", true).unwrap_or(tree);
    shape_bind(mount, &tree).map_err(|errno| mount.error(errno))?;
    Ok(tree)
}

/// A copy of the tree at `path`, a container's root. Nothing travels from it to the host; from
/// the host something does if `slave`.
pub(crate) fn copy_root(path: &Path, slave: bool) -> Result<OwnedFd, StartError> {
    let failed = |errno| StartError::new(Stage::Rootfs, errno, path.display().to_string());
    let tree = c_path(path)
        .and_then(|path| clone_tree(CWD, &path, true))
        .map_err(failed)?;
    let change = AttributeChange {
        propagation: Some(if slave {
            Propagation::Slave
        } else {
            Propagation::Private
        }),
        ..AttributeChange::default()
    };
    change_attributes(&tree, c"", true, change).map_err(failed)?;
    Ok(tree)
}

/// Makes one mount. `tree` is its source if it is a bind, or what it consists of if it was made for
/// us.
pub(crate) fn make(
    root: &Rootfs,
    mount: &PlannedMount,
    tree: Option<OwnedFd>,
    cgroups: Option<&Layout>,
    made: &mut Made,
) -> Result<(), StartError> {
    match (&mount.kind, tree) {
        (
            Kind::New {
                filesystem,
                parameters,
            },
            given,
        ) => make_new(root, mount, (filesystem, parameters), given, made),
        (Kind::Bind { .. }, Some(tree)) => {
            if mount.destination == Path::new("/dev") {
                made.dev_is_bound = true;
            }
            bind(root, mount, &tree)
        }
        (Kind::Remount, _) => remount(root, mount).map_err(|errno| mount.error(errno)),
        (Kind::Bind { .. }, None) => Err(mount.error(Errno::NOENT)),
        (Kind::Cgroup, _) => match cgroups {
            Some(layout) => make_cgroups(root, mount, layout),
            // A host without cgroups has nothing to show.
            None => Ok(()),
        },
    }
}

fn make_new(
    root: &Rootfs,
    mount: &PlannedMount,
    (filesystem, parameters): (&str, &[(String, Option<String>)]),
    given: Option<OwnedFd>,
    made: &mut Made,
) -> Result<(), StartError> {
    let failed = |errno| mount.error(errno);
    let destination = mount.destination.as_path();
    // Others go by what is mounted here; a link would lead them elsewhere (CVE-2019-19921).
    let target = if matches!(filesystem, "proc" | "sysfs") {
        directory_without_links(root, destination)
    } else {
        match root.open(destination, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => root.create_dir_all(destination, DIRECTORY),
            other => other,
        }
    };
    let target = target.map_err(failed)?;
    check_proc(mount, &target, filesystem == "proc")?;
    let mut list: Vec<(&str, Option<&str>)> = parameters
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_deref()))
        .collect();
    let mode;
    if filesystem == "tmpfs"
        && destination != Path::new("/dev")
        && !list.iter().any(|(key, _)| *key == "mode")
    {
        // A tmpfs without a mode takes that of the directory it covers.
        let status = rustix::fs::fstat(&target).map_err(failed)?;
        mode = format!("{:o}", status.st_mode & 0o7777);
        list.push(("mode", Some(&mode)));
    }
    let new = match given {
        Some(new) => new,
        None => new_or_substitute(filesystem, &mut list, mount).map_err(failed)?,
    };
    if mount.copy_up {
        copy_up::copy(&target, &new).map_err(failed)?;
        let rest = AttributeChange {
            set: mount.set.union(mount.set_recursively),
            ..AttributeChange::default()
        };
        change_attributes(&new, c"", false, rest).map_err(failed)?;
    }
    attach(&new, &target).map_err(failed)?;
    if let Some(label) = &mount.label {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&new, c".", flags, Mode::empty())
            .and_then(|top| {
                let value = label.as_bytes();
                rustix::fs::fsetxattr(top, c"security.selinux", value, XattrFlags::empty())
            })
            .map_err(failed)?;
    }
    if let Some((propagation, _)) = mount
        .propagation
        .filter(|(propagation, _)| *propagation != Propagation::Private)
    {
        change_attributes(
            &new,
            c"",
            false,
            AttributeChange {
                propagation: Some(propagation),
                ..Default::default()
            },
        )
        .map_err(failed)?;
    }
    let slot = match (filesystem, destination.to_str()) {
        ("proc", Some("/proc")) => &mut made.proc,
        ("tmpfs", Some("/dev")) => &mut made.dev,
        ("devpts", Some("/dev/pts")) => &mut made.pts,
        _ => return Ok(()),
    };
    *slot = Some(new);
    Ok(())
}

/// A new file system, or the next best thing where the kernel refuses one to the root of a user
/// namespace.
fn new_or_substitute(
    filesystem: &str,
    parameters: &mut Vec<Parameter<'_>>,
    mount: &PlannedMount,
) -> Result<OwnedFd, Errno> {
    match new_filesystem(filesystem, parameters, mount.new_attributes()) {
        // The group of terminals has no ID in the container.
        Err(Errno::INVAL)
            if filesystem == "devpts" && parameters.iter().any(|(key, _)| *key == "gid") =>
        {
            parameters.retain(|(key, _)| *key != "gid");
            new_filesystem(filesystem, parameters, mount.new_attributes())
        }
        // One shows the devices of a network namespace, to those with privileges over it. For
        // others the host's can be shown, on which only the host's root may change anything.
        Err(Errno::PERM) if filesystem == "sysfs" => {
            let tree = clone_tree(CWD, c"/sys", true)?;
            let change = AttributeChange {
                set: mount.set.union(mount.set_recursively),
                propagation: Some(Propagation::Private),
                ..AttributeChange::default()
            };
            change_attributes(&tree, c"", true, change)?;
            Ok(tree)
        }
        other => other,
    }
}

fn directory_without_links(root: &Rootfs, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match root.open_without_links(path, flags) {
        Err(Errno::NOENT) => {
            root.create_dir_all(path, DIRECTORY)?;
            root.open_without_links(path, flags)
        }
        other => other,
    }
}

fn bind(root: &Rootfs, mount: &PlannedMount, tree: &OwnedFd) -> Result<(), StartError> {
    let failed = |errno| mount.error(errno);
    let status = rustix::fs::fstat(tree).map_err(failed)?;
    let destination = mount.destination.as_path();
    let target = if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        root.create_dir_all(destination, DIRECTORY)
    } else {
        root.create_file(destination, Mode::from_raw_mode(0o644))
    };
    let target = target.map_err(failed)?;
    check_proc(mount, &target, is_procfs(tree).map_err(failed)?)?;
    attach(tree, target).map_err(failed)
}

/// Gives the mount that is at the destination other attributes.
fn remount(root: &Rootfs, mount: &PlannedMount) -> Result<(), Errno> {
    let target = root.open_without_links(&mount.destination, OFlags::PATH)?;
    shape(mount, &target, mount.propagation)
}

/// Files of procfs that may be replaced (by LXCFS and its like); everything else there is what
/// other protections rely on.
const REPLACEABLE: [&str; 12] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/fs/binfmt_misc",
];

/// Refuses mounts that would replace what other protections rely on: whatever is not procfs at
/// `/proc` (CVE-2019-16884), and most of what is in it, by whatever path it is reached
/// (CVE-2025-52881).
fn check_proc(mount: &PlannedMount, target: &OwnedFd, with_procfs: bool) -> Result<(), StartError> {
    let refuse = |what: &str| {
        let message = format!("{:?} cannot be mounted because {what}", mount.destination);
        Err(StartError::refused(Stage::Config, message))
    };
    if mount.destination == Path::new("/proc") {
        return if with_procfs {
            Ok(())
        } else {
            refuse("it is not of type proc")
        };
    }
    let is_replaceable = REPLACEABLE
        .iter()
        .any(|path| mount.destination == Path::new(path));
    if !is_replaceable && is_procfs(target).map_err(|errno| mount.error(errno))? {
        return refuse("it is inside /proc");
    }
    Ok(())
}

fn is_procfs(place: &OwnedFd) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatfs(place)?.f_type == PROC_SUPER_MAGIC)
}

/// Gives the copied tree the attributes and the propagation asked for.
fn shape_bind(mount: &PlannedMount, tree: &OwnedFd) -> Result<(), Errno> {
    let (propagation, recursive) = match mount.propagation {
        Some((propagation, true)) => (Some(propagation), true),
        // Shared with the host as far as the host shares it: the copy is so already.
        Some((Propagation::Shared, false)) => (Some(Propagation::Shared), false),
        Some((propagation, false)) => {
            // Only the topmost mount is as asked; the ones below must not leak to the host.
            let slaves = AttributeChange {
                propagation: Some(Propagation::Slave),
                ..Default::default()
            };
            change_attributes(tree, c"", true, slaves)?;
            (Some(propagation), false)
        }
        None => (Some(Propagation::Slave), true),
    };
    shape(
        mount,
        tree,
        propagation.map(|propagation| (propagation, recursive)),
    )
}

/// Changes the attributes of `tree`, and of the mounts below it, as `mount` says.
fn shape(
    mount: &PlannedMount,
    tree: &OwnedFd,
    propagation: Option<(Propagation, bool)>,
) -> Result<(), Errno> {
    let (propagation, recursive) = match propagation {
        Some((propagation, recursive)) => (Some(propagation), recursive),
        None => (None, false),
    };
    let recursive_change = AttributeChange {
        set: mount.set_recursively,
        clear: access_time_cleared(mount.set_recursively, mount.clear_recursively),
        propagation: if recursive { propagation } else { None },
        ..Default::default()
    };
    let top_change = AttributeChange {
        set: mount.set,
        clear: access_time_cleared(mount.set, mount.clear),
        propagation: if recursive { None } else { propagation },
        ..Default::default()
    };
    for (change, recursive) in [(recursive_change, true), (top_change, false)] {
        if !change.set.is_empty() || !change.clear.is_empty() || change.propagation.is_some() {
            change_attributes(tree, c"", recursive, change)?;
        }
    }
    Ok(())
}

/// The kernel wants all access time bits cleared when one is set.
fn access_time_cleared(set: Attributes, clear: Attributes) -> Attributes {
    if set.0 & Attributes::ACCESS_TIME.0 != 0 {
        clear.union(Attributes::ACCESS_TIME)
    } else {
        clear
    }
}

/// Shows the container its cgroups: on v2 the hierarchy itself, on v1 a tmpfs with the
/// container's own directory of each hierarchy.
fn make_cgroups(root: &Rootfs, mount: &PlannedMount, layout: &Layout) -> Result<(), StartError> {
    let failed = |errno| mount.error(errno);
    let target = directory_without_links(root, &mount.destination).map_err(failed)?;
    check_proc(mount, &target, false)?;
    show_cgroups(&target, mount, layout).map_err(failed)
}

fn show_cgroups(target: &OwnedFd, mount: &PlannedMount, layout: &Layout) -> Result<(), Errno> {
    let set = mount.set.union(mount.set_recursively);
    match layout {
        Layout::Unified { .. } => {
            let parameters = [("source", Some("cgroup"))];
            let tree = match new_filesystem("cgroup2", &parameters, set.for_new_mount()) {
                // Not with a user namespace but the host's cgroup namespace.
                Err(Errno::PERM) => {
                    let tree = clone_tree(CWD, c"/sys/fs/cgroup", true)?;
                    let change = AttributeChange {
                        set,
                        propagation: Some(Propagation::Private),
                        ..AttributeChange::default()
                    };
                    change_attributes(&tree, c"", true, change)?;
                    tree
                }
                other => other?,
            };
            attach(tree, target)
        }
        Layout::Split(hierarchies) => {
            let parameters = [("source", Some("tmpfs")), ("mode", Some("755"))];
            let top = new_filesystem("tmpfs", &parameters, rustix::mount::MountAttrFlags::empty())?;
            attach(&top, target)?;
            for hierarchy in hierarchies {
                let tree = clone_tree(CWD, &c_path(&hierarchy.directory)?, false)?;
                let name = hierarchy.name.as_str();
                rustix::fs::mkdirat(&top, name, DIRECTORY)?;
                // By name: nobody but us has seen this tmpfs yet.
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                move_mount(tree, c"", &top, name, flags)?;
                // `cpu,cpuacct` is also to be found as `cpu` and as `cpuacct`.
                if hierarchy.name.contains(',') {
                    for controller in hierarchy.name.split(',') {
                        rustix::fs::symlinkat(hierarchy.name.as_str(), &top, controller)?;
                    }
                }
            }
            let change = AttributeChange {
                set,
                propagation: Some(Propagation::Private),
                ..AttributeChange::default()
            };
            change_attributes(top.as_fd(), c"", true, change)
        }
    }
}
