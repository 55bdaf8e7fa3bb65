//! Directories of the overlay snapshotter: unpacked layers, containers' own layers, the trash.
//!
//! A layer is unpacked below `unpacking/` and appears under `layers/<chain-id>` by one rename,
//! complete. Removal is one rename into `trash/`, which is emptied later. Names are chosen here and
//! never come from an archive.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use wharf_ids::{Digest, hex_id};
use wharf_sys::overlay::{Overlay, mount_detached};

use crate::content::read_dir;
use crate::error::ImageError;

/// The directories of a data root.
#[derive(Debug)]
pub(crate) struct Snapshots {
    layers: PathBuf,
    containers: PathBuf,
    unpacking: PathBuf,
    trash: PathBuf,
    /// The lowest layer of every container, see [`Snapshots::mount_points`].
    mount_points: PathBuf,
    /// Directories for the next container: on some file systems making them is slow.
    ready: Mutex<Option<PathBuf>>,
    /// Layers that were removed: what was put together before may lack one of them.
    removed_layers: AtomicU64,
    /// Something was written that no flush covers yet.
    dirty: AtomicBool,
    overlay_works: OnceLock<()>,
    /// A thread that empties the trash is about to begin.
    emptying_soon: AtomicBool,
    /// Held while the trash is emptied: two who delete the same tree only disturb each other.
    emptying: Mutex<()>,
}

impl Snapshots {
    pub(crate) fn open(data_root: &Path) -> Result<Self, ImageError> {
        let snapshots = Self {
            layers: data_root.join("layers"),
            containers: data_root.join("containers-rw"),
            unpacking: data_root.join("unpacking"),
            trash: data_root.join("trash"),
            mount_points: data_root.join("mount-points"),
            ready: Mutex::default(),
            removed_layers: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            overlay_works: OnceLock::new(),
            emptying_soon: AtomicBool::new(false),
            emptying: Mutex::new(()),
        };
        for dir in [
            &snapshots.layers,
            &snapshots.containers,
            &snapshots.unpacking,
            &snapshots.trash,
        ] {
            std::fs::create_dir_all(dir).map_err(ImageError::io("create", dir))?;
            // What is inside carries set-user-id programs of foreign origin: nobody but root may
            // get there.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(dir, mode).map_err(ImageError::io("set the mode of", dir))?;
        }
        make_mount_points(&snapshots.mount_points)
            .map_err(ImageError::io("create", &snapshots.mount_points))?;
        spread_over_disk(&snapshots.unpacking);
        for name in read_dir(&snapshots.unpacking)? {
            snapshots.discard(&snapshots.unpacking.join(name))?;
        }
        Ok(snapshots)
    }

    /// Whether the kernel makes overlay mounts with these directories; asked once.
    pub(crate) fn check_overlay(&self) -> Result<(), ImageError> {
        if self.overlay_works.get().is_some() {
            return Ok(());
        }
        let path = self.unpacking.join(hex_id());
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| path.join(name));
        for dir in [&lower, &upper, &work] {
            std::fs::create_dir_all(dir).map_err(ImageError::io("create", dir))?;
        }
        let overlay = Overlay {
            lower: &[&lower],
            writable: Some((&upper, &work)),
            options: &wharf_sys::overlay::own_options(),
        };
        let mounted = mount_detached(&overlay, MountAttrFlags::empty());
        self.discard(&path)?;
        match mounted {
            Ok(_) => {
                // Somebody else may have asked at the same time.
                let _ = self.overlay_works.set(());
                Ok(())
            }
            Err(source) => Err(ImageError::OverlayUnsupported {
                path: self.containers.clone(),
                source,
            }),
        }
    }

    /// A new directory to unpack a layer into; its `fs` is what becomes the layer.
    pub(crate) fn begin_layer(self: &Arc<Self>) -> Result<Staging, ImageError> {
        let path = self.unpacking.join(hex_id());
        let fs = path.join("fs");
        std::fs::create_dir_all(&fs).map_err(ImageError::io("create", &fs))?;
        let root = rustix::fs::open(
            &fs,
            OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )
        .map_err(|errno| ImageError::io("open", &fs)(errno.into()))?;
        rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755))
            .map_err(|errno| ImageError::io("set the mode of", &fs)(errno.into()))?;
        Ok(Staging {
            snapshots: Arc::clone(self),
            path,
            root,
        })
    }

    /// The lower directory of an unpacked layer.
    pub(crate) fn layer(&self, chain_id: &Digest) -> PathBuf {
        self.layers.join(chain_id.hex()).join("fs")
    }

    pub(crate) fn list_layers(&self) -> Result<Vec<Digest>, ImageError> {
        Ok(read_dir(&self.layers)?
            .iter()
            .filter_map(|name| format!("sha256:{name}").parse().ok())
            .collect())
    }

    pub(crate) fn remove_layer(&self, chain_id: &Digest) -> Result<(), ImageError> {
        self.removed_layers.fetch_add(1, Ordering::AcqRel);
        self.discard(&self.layers.join(chain_id.hex())).map(drop)
    }

    /// How often a layer was removed.
    pub(crate) fn removed_layers(&self) -> u64 {
        self.removed_layers.load(Ordering::Acquire)
    }

    /// Where a container's own layer is or will be.
    pub(crate) fn container(&self, id: &str) -> PathBuf {
        self.containers.join(id)
    }

    /// A layer with nothing but the places every container has something mounted on: without it
    /// they would be made in each container's own.
    pub(crate) fn mount_points(&self) -> &Path {
        &self.mount_points
    }

    /// Makes the directories of the next container. Those nobody has taken by the next start of
    /// the store are removed as an orphan's are.
    pub(crate) fn make_ready(&self) -> io::Result<()> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_none() {
            let path = self.containers.join(format!("ready-{}", hex_id()));
            self.make_directories(&path)?;
            *ready = Some(path);
        }
        Ok(())
    }

    /// Makes the directory `path` with `upper` and `work` in it, or gives it those that are ready.
    pub(crate) fn make_container(&self, path: &Path) -> io::Result<()> {
        let ready = self
            .ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(ready) = ready {
            match std::fs::rename(ready, path) {
                // Somebody has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
        self.make_directories(path)
    }

    /// Makes the directory `path` with `upper` and `work` in it.
    pub(crate) fn make_directories(&self, path: &Path) -> io::Result<()> {
        for dir in [path, &path.join("upper"), &path.join("work")] {
            rustix::fs::mkdir(dir, Mode::from_raw_mode(0o700))?;
        }
        Ok(())
    }

    pub(crate) fn list_containers(&self) -> Result<Vec<String>, ImageError> {
        read_dir(&self.containers)
    }

    /// Moves a directory into the trash; `false` when there is none.
    pub(crate) fn discard(&self, path: &Path) -> Result<bool, ImageError> {
        match std::fs::rename(path, self.trash.join(hex_id())) {
            Ok(()) => Ok(true),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ImageError::io("remove", path)(source)),
        }
    }

    /// Something was written that has to be durable before a record names it.
    pub(crate) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Release);
    }

    /// Makes everything written so far durable: one flush of the file system instead of one for
    /// each file.
    pub(crate) fn sync(&self) -> Result<(), ImageError> {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let dir = open_dir(&self.layers)?;
        rustix::fs::syncfs(&dir)
            .map_err(|errno| ImageError::io("flush", &self.layers)(errno.into()))
    }

    /// Deletes what is in the trash, on a thread of its own.
    pub(crate) fn empty_trash_later(self: &Arc<Self>) {
        if self.emptying_soon.swap(true, Ordering::AcqRel) {
            return;
        }
        let snapshots = Arc::clone(self);
        let empty = move || {
            snapshots.emptying_soon.store(false, Ordering::Release);
            if let Err(error) = snapshots.empty_trash() {
                tracing::warn!(error = wharf_fault::chain(&error), "cannot empty the trash");
            }
        };
        if let Err(error) = std::thread::Builder::new()
            .name("empty-trash".to_owned())
            .spawn(empty)
        {
            self.emptying_soon.store(false, Ordering::Release);
            tracing::warn!(%error, "cannot start a thread to empty the trash");
        }
    }

    pub(crate) fn empty_trash(&self) -> Result<(), ImageError> {
        let _emptying = self
            .emptying
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let trash = open_dir(&self.trash)?;
        // Deep trees are cut into pieces that land in the trash themselves: go on until it is
        // empty, or until nothing more can be removed.
        loop {
            let names = read_dir(&self.trash)?;
            if names.is_empty() {
                return Ok(());
            }
            let mut failure = None;
            let mut any_removed = false;
            for name in names {
                match remove_tree(Some(&trash), &trash, name.as_bytes(), 0) {
                    Ok(()) => any_removed = true,
                    Err(error) => failure = Some(error),
                }
            }
            if let (false, Some(source)) = (any_removed, failure) {
                return Err(ImageError::io("empty", &self.trash)(source));
            }
        }
    }
}

/// Makes what is not there yet. `/.dockerenv` is no mount point: programs look for it to learn
/// that they are in a container.
fn make_mount_points(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o755);
    for directory in ["dev", "etc", "proc", "sys"] {
        builder.create(path.join(directory))?;
    }
    for (file, mode) in [
        (".dockerenv", 0o755),
        ("etc/hostname", 0o644),
        ("etc/hosts", 0o644),
        ("etc/resolv.conf", 0o644),
    ] {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        options.open(path.join(file))?;
    }
    Ok(())
}

/// A layer being unpacked. Dropped without [`Staging::publish`] it goes to the trash.
#[derive(Debug)]
pub(crate) struct Staging {
    snapshots: Arc<Snapshots>,
    path: PathBuf,
    /// The layer's root directory.
    pub(crate) root: OwnedFd,
}

impl Staging {
    /// Gives the layer its name. Where another one was faster, theirs stays.
    pub(crate) fn publish(self, chain_id: &Digest) -> Result<(), ImageError> {
        let target = self.snapshots.layers.join(chain_id.hex());
        match std::fs::rename(&self.path, &target) {
            Err(source)
                if matches!(
                    source.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                Ok(())
            }
            result => result.map_err(ImageError::io("create", &target)),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        match self.snapshots.discard(&self.path) {
            Ok(true) => self.snapshots.empty_trash_later(),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(
                    error = wharf_fault::chain(&error),
                    "cannot remove an unfinished layer"
                );
            }
        }
    }
}

/// Asks ext4 to put each new directory in here into a part of the disk of its own.
///
/// Otherwise a layer's inodes land where those of an image just removed were, and ext4 skips every
/// inode deleted within the last minute one by one: unpacking after a removal takes five times as
/// long. Other file systems do not know the flag and need no help.
fn spread_over_disk(dir: &Path) {
    let spread = open_dir(dir).ok().and_then(|fd| {
        let flags = rustix::fs::ioctl_getflags(&fd).ok()?;
        rustix::fs::ioctl_setflags(&fd, flags | IFlags::TOPDIR).ok()
    });
    if spread.is_none() {
        tracing::debug!(dir = %dir.display(), "the file system has no flag to spread directories");
    }
}

pub(crate) fn open_dir(path: &Path) -> Result<OwnedFd, ImageError> {
    rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| ImageError::io("open", path)(errno.into()))
}

/// Removes `name` and all below it without following symbolic links. `flat`, if given, is a directory
/// on the same file system that takes what is too deep to hold a descriptor for each level.
pub(crate) fn remove_tree(
    flat: Option<&OwnedFd>,
    parent: &OwnedFd,
    name: &[u8],
    depth: u32,
) -> io::Result<()> {
    const DEPTH_MAX: u32 = 64;
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(Errno::PERM) => {
            // A container with the right to do so may have made its files immutable.
            clear_immutable(parent, name);
            match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::ISDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(errno) => return Err(errno.into()),
    }
    if depth == DEPTH_MAX
        && let Some(flat) = flat
    {
        return Ok(rustix::fs::renameat(parent, name, flat, hex_id())?);
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if rustix::fs::ioctl_getflags(&dir).is_ok_and(|flags| flags.intersects(IMMUTABLE)) {
        clear_immutable(parent, name);
    }
    let mut entries = Dir::read_from(dir.as_fd())?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child == b"." || child == b".." {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            remove_tree(flat, &dir, child, depth + 1)?;
        } else {
            match rustix::fs::unlinkat(&dir, child, AtFlags::empty()) {
                Err(Errno::PERM) => remove_tree(flat, &dir, child, depth + 1)?,
                result => result?,
            }
        }
    }
    drop(entries);
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Flags of a file that keep it from being removed.
const IMMUTABLE: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

/// Takes these flags away; whether it worked shows in the next attempt to remove.
fn clear_immutable(parent: &OwnedFd, name: &[u8]) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let cleared = rustix::fs::openat(parent, name, flags, Mode::empty()).and_then(|fd| {
        let flags = rustix::fs::ioctl_getflags(&fd)?;
        rustix::fs::ioctl_setflags(&fd, flags - IMMUTABLE)
    });
    if let Err(error) = cleared {
        tracing::debug!(%error, "cannot clear a file's flags");
    }
}

/// Bytes on disk of everything below a directory; files with several links count once.
pub(crate) fn disk_bytes(dir: &OwnedFd) -> io::Result<u64> {
    let mut linked = std::collections::HashSet::new();
    let mut bytes = 0;
    // Directories are opened relative to their parent, one at a time: the list holds their
    // descriptors only along one path.
    let mut open = vec![Dir::read_from(dir)?];
    loop {
        let depth = open.len();
        let Some(current) = open.last_mut() else {
            break;
        };
        let Some(entry) = current.read() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let fd = current.fd()?;
        let stat = match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // A running container goes on changing its files.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            bytes += 512 * u64::try_from(stat.st_blocks).unwrap_or(0);
            if depth < 512 {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(fd, name, flags, Mode::empty()) {
                    Ok(child) => open.push(Dir::new(child)?),
                    Err(Errno::NOENT | Errno::NOTDIR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        } else if stat.st_nlink == 1 || linked.insert((stat.st_dev, stat.st_ino)) {
            bytes += 512 * u64::try_from(stat.st_blocks).unwrap_or(0);
        }
    }
    Ok(bytes)
}
