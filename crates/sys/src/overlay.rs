//! Overlay mounts, made without a place: nothing shows up in anybody's mount table until the
//! descriptor is attached, and it is gone when the descriptor is closed.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount, open_tree, unmount,
};

/// The option by which overlay keeps its marks in attributes that any owner of a file may set
/// (`user.overlay.*`), for those who are root in a user namespace only.
pub const USER_ATTRIBUTES: &str = "userxattr";

/// The attribute by which a directory hides what lower layers have there.
pub fn opaque_attribute() -> &'static str {
    if crate::namespace::is_initial_user() {
        "trusted.overlay.opaque"
    } else {
        "user.overlay.opaque"
    }
}

/// The options every overlay of this process's layers needs.
pub fn own_options() -> Vec<String> {
    if crate::namespace::is_initial_user() {
        Vec::new()
    } else {
        vec![USER_ATTRIBUTES.to_owned()]
    }
}

/// The option of a mount whose changes need not reach a disk: nothing waits for one, not even the
/// end of the mount.
pub const VOLATILE: &str = "volatile";

/// Allows another mount with the work directory `work` after a [`VOLATILE`] one, which the kernel
/// refuses lest data be taken for good that a power cut spoilt.
pub fn forget_volatile(work: &Path) -> io::Result<()> {
    // A directory of the kernel's, with a file in it from Linux 5.12 on.
    match std::fs::remove_dir_all(work.join("work/incompat")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What an overlay mount is made of.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a, P> {
    /// Read-only layers, topmost first.
    pub lower: &'a [P],
    /// The writable layer and overlay's scratch directory on the same file system; without them
    /// the mount is read-only and needs two lower layers (one alone is bind-mounted).
    pub writable: Option<(&'a Path, &'a Path)>,
    /// Further options, `name` or `name=value`.
    pub options: &'a [String],
}

/// No overlay option has this name.
const NOBODYS_KEY: &str = "nobody";

/// The longest string `fsconfig(2)` takes, in bytes.
const CONFIG_STRING_MAX: usize = 255;

impl<P: AsRef<Path>> Overlay<'_, P> {
    /// Mounts it nowhere: the result can be attached, or looked into through the descriptor.
    ///
    /// With `attributes` as those of the mount. On kernels without `lowerdir+` (before 6.5) the
    /// caller must be in a mount namespace of its own, see [`mount_detached`].
    pub fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
        if self.lower.is_empty() {
            return Err(Errno::INVAL);
        }
        if self.writable.is_none() && self.lower.len() == 1 {
            let tree = open_tree(
                CWD,
                self.lower[0].as_ref(),
                OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
            )?;
            let read_only = crate::mount::Attributes(u64::from(attributes.bits()))
                .union(crate::mount::Attributes::READ_ONLY);
            let change = crate::mount::AttributeChange {
                set: read_only,
                ..Default::default()
            };
            crate::mount::change_attributes(&tree, c"", false, change)?;
            return Ok(tree);
        }
        match self.configured() {
            Ok(context) => fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes),
            Err(Configure::NoLayerList) => self.mount_by_string(attributes),
            Err(Configure::Failed(errno)) => Err(errno),
        }
    }

    /// A file system context with everything set, created.
    fn configured(&self) -> Result<OwnedFd, Configure> {
        let context = context()?;
        for (index, layer) in self.lower.iter().enumerate() {
            match set_layer(&context, "lowerdir+", layer.as_ref()) {
                // An unknown key is the only reason to refuse the first one with EINVAL that does
                // not also make the string form fail.
                Err(Errno::INVAL) if index == 0 => return Err(Configure::NoLayerList),
                other => other?,
            }
        }
        if let Some((upper, work)) = self.writable {
            set_layer(&context, "upperdir", upper)?;
            set_layer(&context, "workdir", work)?;
        }
        for option in self.options {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(&context, key, value)?,
                None => fsconfig_set_flag(&context, option.as_str())?,
            }
        }
        fsconfig_create(&context)?;
        Ok(context)
    }

    /// The way of older kernels: one option string, mounted somewhere and taken off again.
    /// Layers are named by descriptors, which keeps the string short and free of special
    /// characters.
    fn mount_by_string(&self, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
        let open = |path: &Path| {
            rustix::fs::open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let layers = self
            .lower
            .iter()
            .map(|layer| open(layer.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut data = format!(
            "lowerdir={}",
            layers.iter().map(name).collect::<Vec<_>>().join(":")
        );
        let mut writable = None;
        if let Some((upper, work)) = self.writable {
            let (upper, work) = (open(upper)?, open(work)?);
            data.push_str(&format!(
                ",upperdir={},workdir={}",
                name(&upper),
                name(&work)
            ));
            writable = Some((upper, work));
        }
        for option in self.options {
            data.push(',');
            data.push_str(&quoted(option));
        }
        let data = CString::new(data).map_err(|_| Errno::INVAL)?;
        let place = self.lower[0].as_ref();
        mount(
            "overlay",
            place,
            "overlay",
            MountFlags::empty(),
            data.as_c_str(),
        )?;
        let tree = open_tree(
            CWD,
            place,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        );
        unmount(place, UnmountFlags::DETACH)?;
        drop(writable);
        let tree = tree?;
        let change = crate::mount::AttributeChange {
            set: crate::mount::Attributes(u64::from(attributes.bits())),
            ..Default::default()
        };
        crate::mount::change_attributes(&tree, c"", false, change)?;
        Ok(tree)
    }
}

/// An overlay of layers that are descriptors: of directories that need not be mounted anywhere, as
/// idmapped ones are not.
#[derive(Debug, Clone, Copy)]
pub struct DetachedOverlay<'a> {
    /// Detached mounts, topmost first; what they show are the read-only layers.
    pub lower: &'a [OwnedFd],
    /// A detached mount with the writable layer and overlay's scratch directory.
    pub writable: &'a OwnedFd,
    /// Directories in `writable`.
    pub upper: &'a OwnedFd,
    /// See `upper`.
    pub work: &'a OwnedFd,
    /// Further options, `name` or `name=value`.
    pub options: &'a [String],
}

impl DetachedOverlay<'_> {
    /// Mounts it nowhere. On kernels that do not take detached mounts as layers it is made in a
    /// mount namespace for this purpose, where they lie below the directory `place` of the host.
    pub fn mount(&self, place: &Path) -> io::Result<OwnedFd> {
        let none = MountAttrFlags::empty();
        match self.configured() {
            Ok(context) => Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, none)?),
            Err(Configure::NoLayerList | Configure::Failed(Errno::INVAL)) => {
                crate::namespace::in_private_mount_namespace(|| self.mount_attached(place))?
                    .map_err(Into::into)
            }
            Err(Configure::Failed(errno)) => Err(errno.into()),
        }
    }

    fn configured(&self) -> Result<OwnedFd, Configure> {
        let context = context()?;
        for layer in self.lower {
            match set_layer_fd(&context, "lowerdir+", layer) {
                Err(Errno::INVAL) => return Err(Configure::NoLayerList),
                other => other?,
            }
        }
        set_layer_fd(&context, "upperdir", self.upper)?;
        set_layer_fd(&context, "workdir", self.work)?;
        for option in self.options {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(&context, key, value)?,
                None => fsconfig_set_flag(&context, option.as_str())?,
            }
        }
        fsconfig_create(&context)?;
        Ok(context)
    }

    /// The way of older kernels. The descriptors stay what they are when what they show is
    /// attached.
    fn mount_attached(&self, place: &Path) -> Result<OwnedFd, Errno> {
        let none = MountAttrFlags::empty();
        let shelf = crate::mount::new_filesystem("tmpfs", &[], none)?;
        let at = CString::new(place.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
        crate::mount::attach_at(&shelf, &at)?;
        for (number, layer) in self.lower.iter().chain([self.writable]).enumerate() {
            let name = number.to_string();
            rustix::fs::mkdirat(&shelf, &name, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let target = rustix::fs::openat(&shelf, &name, flags, Mode::empty())?;
            crate::mount::attach(layer, target)?;
        }
        match self.configured() {
            Ok(context) => return fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, none),
            Err(Configure::Failed(errno)) => return Err(errno),
            Err(Configure::NoLayerList) => {}
        }
        let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let lower: Vec<String> = self.lower.iter().map(name).collect();
        let mut data = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            name(self.upper),
            name(self.work)
        );
        for option in self.options {
            data.push(',');
            data.push_str(&quoted(option));
        }
        let data = CString::new(data).map_err(|_| Errno::INVAL)?;
        mount(
            "overlay",
            place,
            "overlay",
            MountFlags::empty(),
            data.as_c_str(),
        )?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, place, flags)
    }
}

/// An overlay mount for a process whose mount namespace must not change, the daemon's: as
/// [`Overlay::mount`], on older kernels with a detour over a thread with a namespace of its own.
pub fn mount_detached<P: AsRef<Path> + Sync>(
    overlay: &Overlay<'_, P>,
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    match overlay.configured() {
        Ok(context) => Ok(fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            attributes,
        )?),
        Err(Configure::Failed(errno)) if overlay.writable.is_some() || overlay.lower.len() != 1 => {
            Err(errno.into())
        }
        Err(_) => crate::namespace::in_private_mount_namespace(|| overlay.mount(attributes))?
            .map_err(Into::into),
    }
}

/// A file system context, on kernels where overlay reads its options one by one.
fn context() -> Result<OwnedFd, Configure> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Before Linux 6.5 keys are collected unread, whatever they are, until the end.
    if fsconfig_set_string(&context, NOBODYS_KEY, "").is_ok() {
        return Err(Configure::NoLayerList);
    }
    Ok(context)
}

/// Why an overlay could not be configured.
enum Configure {
    /// The kernel has no `lowerdir+`.
    NoLayerList,
    Failed(Errno),
}

impl From<Errno> for Configure {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

/// Sets a layer by name, or by descriptor where the name is too long or could be misread.
fn set_layer(context: &OwnedFd, key: &str, path: &Path) -> Result<(), Errno> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= CONFIG_STRING_MAX
        && !bytes.iter().any(|byte| matches!(byte, b':' | b',' | b'\\'))
    {
        return fsconfig_set_string(context, key, path);
    }
    let layer = rustix::fs::open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    set_layer_fd(context, key, &layer)
}

/// A label has commas, which only quotes keep from being the end of the option.
fn quoted(option: &str) -> String {
    match option.split_once('=') {
        Some((key, value)) if value.contains(',') => format!("{key}=\"{value}\""),
        _ => option.to_owned(),
    }
}

fn set_layer_fd(context: &OwnedFd, key: &str, layer: &OwnedFd) -> Result<(), Errno> {
    match fsconfig_set_fd(context, key, layer) {
        // Before Linux 6.13 overlay takes no descriptors, but it takes their names.
        Err(Errno::INVAL) => {
            fsconfig_set_string(context, key, format!("/proc/self/fd/{}", layer.as_raw_fd()))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::path::PathBuf;

    use super::*;
    use crate::rootfs::Rootfs;

    /// Two layers and the directories of a writable one; `None` for those who may not mount.
    fn layers(name: &str) -> Option<(PathBuf, Vec<PathBuf>)> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let top = std::env::temp_dir().join(format!("wharf-overlay-{name}-{}", std::process::id()));
        let layers: Vec<PathBuf> = ["upper:most", "lower"]
            .iter()
            .map(|layer| top.join(layer))
            .collect();
        for directory in layers.iter().chain(&[top.join("up"), top.join("work")]) {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(layers[0].join("both"), "uppermost").unwrap();
        fs::write(layers[1].join("both"), "lower").unwrap();
        fs::write(layers[1].join("one"), "lower").unwrap();
        Some((top, layers))
    }

    fn check(mounted: OwnedFd, top: &Path) {
        let root = Rootfs::new(mounted);
        assert_eq!(root.read_file(Path::new("both"), 20).unwrap(), b"uppermost");
        assert_eq!(root.read_file(Path::new("one"), 20).unwrap(), b"lower");
        root.write_file(Path::new("new"), b"text", Mode::from_raw_mode(0o644))
            .unwrap();
        assert_eq!(fs::read(top.join("up/new")).unwrap(), b"text");
        drop(root);
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !table.contains("wharf-overlay"),
            "nothing is in the mount table"
        );
    }

    #[test]
    fn mounted_without_a_place() {
        let Some((top, lower)) = layers("new") else {
            return;
        };
        let (upper, work) = (top.join("up"), top.join("work"));
        let overlay = Overlay {
            lower: &lower,
            writable: Some((&upper, &work)),
            options: &[],
        };
        check(
            mount_detached(&overlay, MountAttrFlags::empty()).unwrap(),
            &top,
        );
        let read_only = Overlay {
            lower: &lower[..1],
            writable: None,
            options: &[],
        };
        let tree = mount_detached(&read_only, MountAttrFlags::empty()).unwrap();
        let root = Rootfs::new(tree);
        let write = root.write_file(Path::new("new"), b"text", Mode::from_raw_mode(0o644));
        assert_eq!(write.unwrap_err().raw_os_error(), Some(libc::EROFS));
        fs::remove_dir_all(top).unwrap();
    }

    fn detached(path: &Path) -> OwnedFd {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, path, flags).unwrap()
    }

    #[test]
    fn layers_may_be_detached_mounts() {
        let Some((top, layers)) = layers("detached") else {
            return;
        };
        for old in [false, true] {
            let lower: Vec<OwnedFd> = layers.iter().map(|layer| detached(layer)).collect();
            let writable = detached(&top);
            let within = |name: &str| {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(&writable, name, flags, Mode::empty()).unwrap()
            };
            let (upper, work) = (within("up"), within("work"));
            let overlay = DetachedOverlay {
                lower: &lower,
                writable: &writable,
                upper: &upper,
                work: &work,
                options: &[],
            };
            let mounted = if old {
                crate::namespace::in_private_mount_namespace(|| overlay.mount_attached(&top))
                    .unwrap()
                    .unwrap()
            } else {
                overlay.mount(&top).unwrap()
            };
            check(mounted, &top);
            fs::remove_dir_all(top.join("work/work")).unwrap();
            fs::remove_file(top.join("up/new")).unwrap();
        }
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn older_kernels_way_gives_the_same() {
        let Some((top, lower)) = layers("old") else {
            return;
        };
        let (upper, work) = (top.join("up"), top.join("work"));
        let overlay = Overlay {
            lower: &lower,
            writable: Some((&upper, &work)),
            options: &[],
        };
        let mounted = crate::namespace::in_private_mount_namespace(|| {
            overlay.mount_by_string(MountAttrFlags::empty())
        });
        check(mounted.unwrap().unwrap(), &top);
        fs::remove_dir_all(top).unwrap();
    }
}
