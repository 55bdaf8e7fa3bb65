//! What the parent makes for a container with a user namespace of its own, whose root may not:
//! its root file system, copies of the host's trees, device nodes, and file systems of namespaces
//! that are not the container's. They travel as detached mounts; the container's first process
//! gives each its place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::thread::ThreadNameSpaceType;
use wharf_sys::mount::{AttributeChange, change_attributes, clone_tree, new_filesystem};
use wharf_sys::overlay::DetachedOverlay;

use crate::channel::{ChildEnd, ParentEnd};
use crate::config::RootFilesystem;
use crate::error::{Stage, StartError};
use crate::mount_plan::{Kind, PlannedMount};
use crate::prepared::{Prepared, c_path};
use crate::user_namespace::{self, Mapped};
use crate::{devices, mounts, sysctl};

/// What the first process gets.
#[derive(Debug, Default)]
pub(crate) struct Supplies {
    pub(crate) root: Option<OwnedFd>,
    /// One place per mount.
    pub(crate) mounts: Vec<Option<OwnedFd>>,
    /// One place per default device, then one per device of the document.
    pub(crate) devices: Vec<Option<OwnedFd>>,
}

/// New instances of file systems that show a namespace: they can only be made by somebody with
/// privileges over it. One place per mount.
#[derive(Debug)]
pub(crate) struct Foreign(Vec<Option<OwnedFd>>);

impl Foreign {
    /// Makes those of namespaces that are not made for the container; the caller is in them. Sets
    /// their kernel parameters, too.
    pub(crate) fn make(prepared: &Prepared) -> Result<Self, StartError> {
        let not_its_own = |kind| !prepared.new_namespaces.contains(kind);
        let make = |mount: &PlannedMount| -> Result<Option<OwnedFd>, StartError> {
            let Kind::New {
                filesystem,
                parameters,
            } = &mount.kind
            else {
                return Ok(None);
            };
            let foreign = match filesystem.as_str() {
                "sysfs" => not_its_own(ThreadNameSpaceType::NETWORK),
                "mqueue" => not_its_own(ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
                // One of a joined PID namespace can only be made inside.
                "proc" => {
                    not_its_own(ThreadNameSpaceType::PROCESS_ID) && !prepared.joins_pid_namespace()
                }
                _ => false,
            };
            if !foreign {
                return Ok(None);
            }
            let list: Vec<_> = parameters
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_deref()))
                .collect();
            match new_filesystem(filesystem, &list, mount.new_attributes()) {
                Ok(new) => Ok(Some(new)),
                // Somebody without privileges leaves it to the child, who may have them.
                Err(Errno::PERM) => Ok(None),
                Err(errno) => Err(mount.error(errno)),
            }
        };
        let made = prepared.mounts.iter().map(make).collect::<Result<_, _>>()?;
        if !prepared.joined_sysctls.is_empty() {
            let proc = wharf_sys::rootfs::Rootfs::at(Path::new("/proc"))
                .map_err(|error| crate::launch::io(Stage::Sysctl, &error, "/proc"))?;
            sysctl::apply(&proc, &prepared.joined_sysctls)?;
        }
        Ok(Self(made))
    }
}

impl Supplies {
    /// Makes everything for a container in the user namespace `mapped`.
    pub(crate) fn make(
        prepared: &Prepared,
        mapped: &Mapped,
        foreign: Foreign,
    ) -> Result<Self, StartError> {
        if !prepared.privileged {
            if !matches!(prepared.rootfs, RootFilesystem::Path(_)) {
                return Err(StartError::refused(
                    Stage::Config,
                    "layers are shown through a user namespace's mapping, which needs privileges",
                ));
            }
            // What somebody without privileges can do, the container's root can do as well.
            let none = |count| std::iter::repeat_with(|| None).take(count).collect();
            return Ok(Self {
                root: None,
                mounts: none(prepared.mounts.len()),
                devices: none(devices::places(&prepared.devices)),
            });
        }
        let mut mounts = mounts::open_sources(
            &prepared.mounts,
            &prepared.id_mappings,
            Some(mapped.namespace.as_fd()),
        )?;
        mounts::shape_all(&prepared.mounts, &mounts)?;
        for (mount, foreign) in mounts.iter_mut().zip(foreign.0) {
            if foreign.is_some() {
                *mount = foreign;
            }
        }
        Ok(Self {
            root: Some(root(
                &prepared.rootfs,
                prepared.root_follows_host(),
                mapped,
            )?),
            mounts,
            devices: devices::supply(&prepared.devices, &mapped.maps)?,
        })
    }

    /// Hands them to the first process, with the IDs it is to set itself up as.
    pub(crate) fn hand_over(&self, channel: &ParentEnd, mapped: &Mapped) -> Result<(), StartError> {
        let all: Vec<Option<BorrowedFd<'_>>> = [&self.root]
            .into_iter()
            .chain(&self.mounts)
            .chain(&self.devices)
            .map(|place| place.as_ref().map(AsFd::as_fd))
            .collect();
        channel.supply(mapped.root(), &all)
    }

    /// Takes them over in the first process, which becomes the root of its user namespace.
    pub(crate) fn take_over(prepared: &Prepared, channel: &ChildEnd) -> Result<Self, StartError> {
        let (mounts, devices) = (prepared.mounts.len(), devices::places(&prepared.devices));
        let ((uid, gid), supplied) = channel.supplies(1 + mounts + devices)?;
        user_namespace::become_root(uid, gid)?;
        let mut supplied = supplied.into_iter();
        let mut supplies = Self {
            root: supplied.next().flatten(),
            mounts: supplied.by_ref().take(mounts).collect(),
            devices: supplied.collect(),
        };
        if !prepared.privileged {
            supplies.mounts = mounts::open_sources(&prepared.mounts, &prepared.id_mappings, None)?;
            mounts::shape_all(&prepared.mounts, &supplies.mounts)?;
        }
        Ok(supplies)
    }
}

/// The container's root as a detached mount. What an image consists of belongs to the host's IDs
/// and is shown to the container through its mapping.
pub(crate) fn root(
    rootfs: &RootFilesystem,
    follows_host: bool,
    mapped: &Mapped,
) -> Result<OwnedFd, StartError> {
    match rootfs {
        RootFilesystem::Path(path) => mounts::copy_root(path, follows_host),
        RootFilesystem::Layer(path) => {
            let tree = mounts::copy_root(path, follows_host)?;
            map_ids(&tree, path, mapped)?;
            Ok(tree)
        }
        RootFilesystem::Overlay {
            lower,
            upper,
            work,
            options,
        } => overlay(lower, (upper, work), options, mapped),
    }
}

fn overlay(
    lower: &[std::path::PathBuf],
    (upper, work): (&Path, &Path),
    options: &[String],
    mapped: &Mapped,
) -> Result<OwnedFd, StartError> {
    let lower: Vec<OwnedFd> = lower
        .iter()
        .map(|layer| mapped_copy(layer, mapped))
        .collect::<Result<_, _>>()?;
    // Overlay wants the two on one mount.
    let above = common_parent(upper, work);
    let writable = mapped_copy(above, mapped)?;
    let within = |path: &Path| {
        let below = path.strip_prefix(above).unwrap_or(path);
        let below = if below.as_os_str().is_empty() {
            Path::new(".")
        } else {
            below
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&writable, below, flags, Mode::empty())
            .map_err(|errno| StartError::new(Stage::Rootfs, errno, path.display().to_string()))
    };
    let overlay = DetachedOverlay {
        lower: &lower,
        writable: &writable,
        upper: &within(upper)?,
        work: &within(work)?,
        options,
    };
    // Overlay makes files as whoever has mounted it, whose ID must be one that the layers' mapping
    // has.
    let root = user_namespace::root_outside(&mapped.maps);
    wharf_sys::process::with_file_system_ids(root, || overlay.mount(above))
        .map_err(|errno| StartError::new(Stage::Rootfs, errno, "overlay"))?
        .map_err(|error| match error.raw_os_error() {
            // Linux 5.19 is the first whose overlay takes layers that map IDs; it says no more.
            Some(errno) if errno == Errno::INVAL.raw_os_error() && kernel_is_before((5, 19)) => {
                StartError::refused(
                    Stage::Rootfs,
                    "overlay: layers of a container in a user namespace need Linux 5.19 or newer",
                )
            }
            _ => crate::launch::io(Stage::Rootfs, &error, "overlay"),
        })
}

fn kernel_is_before(version: (u32, u32)) -> bool {
    let name = rustix::system::uname();
    release(&name.release().to_string_lossy()).is_some_and(|release| release < version)
}

/// The first two numbers of a kernel's release.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The deepest directory that both paths are below.
fn common_parent<'a>(one: &'a Path, other: &Path) -> &'a Path {
    one.ancestors()
        .find(|ancestor| other.starts_with(ancestor))
        .unwrap_or(Path::new("/"))
}

fn mapped_copy(path: &Path, mapped: &Mapped) -> Result<OwnedFd, StartError> {
    let tree = c_path(path)
        .and_then(|path| clone_tree(CWD, &path, false))
        .map_err(|errno| StartError::new(Stage::Rootfs, errno, path.display().to_string()))?;
    map_ids(&tree, path, mapped)?;
    Ok(tree)
}

fn map_ids(tree: &OwnedFd, path: &Path, mapped: &Mapped) -> Result<(), StartError> {
    let change = AttributeChange {
        id_mapping: Some(mapped.namespace.as_fd()),
        ..AttributeChange::default()
    };
    change_attributes(tree, c"", false, change)
        .map_err(|errno| user_namespace::no_mapping(path, errno))
}

/// Attributes of mounts that only serve to carry a device node.
pub(crate) const NODE_CARRIER: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(release("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(release("6.1-rc3"), Some((6, 1)));
        assert!(release("5.9.1") < release("5.19.0"));
        assert_eq!(release("unknown"), None);
    }

    #[test]
    fn common_parents_are_found() {
        let common = |one, other| common_parent(Path::new(one), Path::new(other));
        assert_eq!(common("/a/b/upper", "/a/b/work"), Path::new("/a/b"));
        assert_eq!(common("/a/b", "/a/b/work"), Path::new("/a/b"));
        assert_eq!(common("/a/bc", "/a/b"), Path::new("/a"));
        assert_eq!(common("/a", "/b"), Path::new("/"));
    }
}
