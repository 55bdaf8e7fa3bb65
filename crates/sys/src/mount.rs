//! The descriptor-based mount calls: a mount is a descriptor first and gets its place afterwards,
//! so no path of a container is ever resolved twice.

use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree, unmount,
};

use crate::checked;

/// One parameter of a file system.
pub type Parameter<'a> = (&'a str, Option<&'a str>);

/// Makes a new file system of type `kind`, mounted nowhere yet. Parameters without a value are
/// flags.
pub fn new_filesystem(
    kind: &str,
    parameters: &[Parameter<'_>],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in parameters {
        match value {
            Some(value) => fsconfig_set_string(&context, *key, *value)?,
            None => fsconfig_set_flag(&context, *key)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A copy of the mount (with everything mounted below it if `recursive`) that shows `path`,
/// relative to `directory`; with an empty path, of `directory` itself. It is mounted nowhere yet:
/// the descriptor-based form of a bind mount.
pub fn clone_tree(directory: impl AsFd, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(directory, path, flags)
}

/// Puts `mount` on the file or directory `target`.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// Puts `mount` on the path `target`, in the process's own view.
pub fn attach_at(mount: impl AsFd, target: &CStr) -> Result<(), Errno> {
    move_mount(
        mount,
        c"",
        rustix::fs::CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

/// Detaches whatever is mounted at `target`; it goes when it is no longer used.
pub fn detach(target: &CStr) -> Result<(), Errno> {
    unmount(target, UnmountFlags::DETACH)
}

/// Makes the private mount `copy` a member of the peer group of `original`, a mount of the same
/// file system that may be in another namespace. (Linux 5.15)
pub fn join_peer_group(original: impl AsFd, copy: impl AsFd) -> Result<(), Errno> {
    /// `MOVE_MOUNT_SET_GROUP`.
    const SET_GROUP: u32 = 0x100;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
        | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH
        | MoveMountFlags::from_bits_retain(SET_GROUP);
    move_mount(original, c"", copy, c"", flags)
}

/// How mounts and unmounts below a mount travel to its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Both ways.
    Shared,
    /// From the original only.
    Slave,
    /// Not at all, and no copies can be made.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A change to the attributes of a mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttributeChange<'a> {
    /// Attributes to set.
    pub set: Attributes,
    /// Attributes to clear.
    pub clear: Attributes,
    /// The new propagation.
    pub propagation: Option<Propagation>,
    /// A user namespace whose ID mapping the mount gets.
    pub id_mapping: Option<BorrowedFd<'a>>,
}

/// Mount attributes as bits of `MOUNT_ATTR_*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes(pub u64);

impl Attributes {
    /// Read-only.
    pub const READ_ONLY: Self = Self(0x1);
    /// Set-user-ID bits and file capabilities are not honoured.
    pub const NO_SUID: Self = Self(0x2);
    /// Device nodes cannot be opened.
    pub const NO_DEVICES: Self = Self(0x4);
    /// Programs cannot be executed.
    pub const NO_EXEC: Self = Self(0x8);
    /// All bits that say how access times are kept; must be cleared when one is set.
    pub const ACCESS_TIME: Self = Self(0x70);
    /// Access times are not kept.
    pub const NO_ACCESS_TIME: Self = Self(0x10);
    /// Access times are always kept.
    pub const STRICT_ACCESS_TIME: Self = Self(0x20);
    /// Access times of directories are not kept.
    pub const NO_DIRECTORY_ACCESS_TIME: Self = Self(0x80);
    /// Symbolic links are not followed.
    pub const NO_SYMLINKS: Self = Self(0x0020_0000);
    /// The mount maps IDs; set through [`AttributeChange::id_mapping`].
    const ID_MAPPED: Self = Self(0x0010_0000);

    /// Both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no bit is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As flags for a mount made by [`new_filesystem`].
    pub fn for_new_mount(self) -> MountAttrFlags {
        MountAttrFlags::from_bits_retain(u32::try_from(self.0).unwrap_or(0))
    }
}

/// Changes the attributes of the mount at `path` relative to `directory` (an empty path means
/// `directory` itself), and of all mounts below it if `recursive`. All or nothing.
pub fn change_attributes(
    directory: impl AsFd,
    path: &CStr,
    recursive: bool,
    change: AttributeChange<'_>,
) -> Result<(), Errno> {
    let mut argument = MountAttr {
        attr_set: change.set.0,
        attr_clr: change.clear.0,
        propagation: change.propagation.map_or(0, Propagation::bits),
        userns_fd: 0,
    };
    if let Some(namespace) = change.id_mapping {
        argument.attr_set |= Attributes::ID_MAPPED.0;
        argument.userns_fd = u64::try_from(namespace.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    let mut flags = 0;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a C string, the argument a `struct mount_attr` of the size given.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const argument,
            mem::size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// The kernel's `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}
