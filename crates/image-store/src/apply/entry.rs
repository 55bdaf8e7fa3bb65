//! Creating what one archive entry describes.

use std::collections::HashMap;
use std::io::BufRead;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::Applied;
use super::tree::{Cleared, Tree, TreeError, clean, set_opaque, split, system};
use crate::archive::{Entry, EntryKind, TarReader, Time};
use crate::error::{EntryProblem, ImageError, printable};
use crate::sparse::Sparse;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Names AUFS kept for itself: the opaque mark and bookkeeping that means nothing here.
const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";

const BLOCK_BYTES: u64 = 4096;

/// Unpacks entries one after the other.
#[derive(Debug)]
pub(super) struct Applier<'a> {
    root: &'a OwnedFd,
    tree: Tree<'a>,
    /// Directories get their time at the end: every file made in them changes it.
    directory_times: HashMap<Vec<u8>, Timestamps>,
    root_is_explicit: bool,
    applied: Applied,
}

impl<'a> Applier<'a> {
    pub(super) fn new(root: &'a OwnedFd) -> Self {
        Self {
            root,
            tree: Tree::new(root),
            directory_times: HashMap::new(),
            root_is_explicit: false,
            applied: Applied {
                disk_bytes: BLOCK_BYTES,
                ..Applied::default()
            },
        }
    }

    pub(super) fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), ImageError> {
        self.applied.entries += 1;
        let path = clean(&entry.path).map_err(|problem| entry.problem(problem))?;
        let (parent_path, name) = split(&path);
        if name.is_empty() {
            return self.root(entry);
        }
        let explain = |error| explain(entry, error);
        let parent = self.tree.directory(parent_path).map_err(explain)?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            return self
                .whiteout(&parent, parent_path, name, hidden)
                .map_err(explain);
        }
        match entry.kind {
            EntryKind::Directory => self.directory(entry, &parent, &path, name).map_err(explain),
            EntryKind::File => self.file(entry, &parent, name, reader),
            EntryKind::HardLink => self.hard_link(entry, &parent, name).map_err(explain),
            EntryKind::Symlink => self.symlink(entry, &parent, name).map_err(explain),
            // The kernel takes any such device for a whiteout: it is treated as the one it is.
            EntryKind::CharDevice if entry.device == (0, 0) => {
                self.hide(&parent, name).map_err(explain)
            }
            EntryKind::Fifo | EntryKind::CharDevice | EntryKind::BlockDevice => {
                self.node(entry, &parent, name).map_err(explain)
            }
        }
    }

    /// Sets the directories' times and returns what was done.
    pub(super) fn finish(mut self) -> Result<Applied, ImageError> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (path, times) in &self.directory_times {
            let failed = |operation| {
                move |errno: Errno| ImageError::Unpack {
                    entry: printable(path),
                    operation,
                    source: errno.into(),
                }
            };
            let path = if path.is_empty() { &b"."[..] } else { path };
            match rustix::fs::openat2(self.root, path, flags, Mode::empty(), resolve) {
                Ok(fd) => rustix::fs::futimens(&fd, times).map_err(failed("set times"))?,
                // A later entry of the archive replaced it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(failed("open directory")(errno)),
            }
        }
        self.applied.implicit = self.tree.into_implicit();
        if !self.root_is_explicit {
            self.applied.implicit.insert(0, Vec::new());
        }
        Ok(self.applied)
    }

    fn root(&mut self, entry: &Entry) -> Result<(), ImageError> {
        if entry.kind != EntryKind::Directory {
            let empty = entry.path.iter().all(|byte| *byte == b'/') && entry.path.is_empty();
            let problem = if empty {
                EntryProblem::EmptyPath
            } else {
                EntryProblem::RootNotDirectory
            };
            return Err(entry.problem(problem));
        }
        self.root_is_explicit = true;
        attributes(self.root, entry).map_err(|error| explain(entry, error))?;
        self.directory_times.insert(Vec::new(), times(entry));
        Ok(())
    }

    fn whiteout(
        &mut self,
        parent: &OwnedFd,
        parent_path: &[u8],
        name: &[u8],
        hidden: &[u8],
    ) -> Result<(), TreeError> {
        if name == OPAQUE_MARK {
            if parent_path.is_empty() {
                self.applied.opaque = true;
                return Ok(());
            }
            return set_opaque(parent).map_err(system("setxattr"));
        }
        if name.starts_with(WHITEOUT_META_PREFIX) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(EntryProblem::BadWhiteout.into());
        }
        self.hide(parent, hidden)
    }

    /// Hides what lower layers have under a name. What this layer has there stays, but a directory
    /// no longer shows what is below it.
    fn hide(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<(), TreeError> {
        match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(parent, name, flags, Mode::empty()) {
                    Ok(directory) => set_opaque(&directory).map_err(system("setxattr")),
                    Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                    Err(errno) => Err(TreeError::System("open directory", errno)),
                }
            }
            Err(errno) => Err(TreeError::System("mknod", errno)),
        }
    }

    fn directory(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        path: &[u8],
        name: &[u8],
    ) -> Result<(), TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o700);
        let fd = match rustix::fs::mkdirat(parent, name, mode) {
            Ok(()) => {
                self.applied.disk_bytes += BLOCK_BYTES;
                rustix::fs::openat(parent, name, flags, Mode::empty())
                    .map_err(system("open directory"))?
            }
            Err(Errno::EXIST) => match rustix::fs::openat(parent, name, flags, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let cleared = self.tree.clear(parent, name)?;
                    rustix::fs::mkdirat(parent, name, mode).map_err(system("mkdir"))?;
                    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())
                        .map_err(system("open directory"))?;
                    if cleared == Cleared::Whiteout {
                        set_opaque(&fd).map_err(system("setxattr"))?;
                    }
                    fd
                }
                Err(errno) => return Err(TreeError::System("open directory", errno)),
            },
            Err(errno) => return Err(TreeError::System("mkdir", errno)),
        };
        attributes(&fd, entry)?;
        self.tree.is_explicit(&fd)?;
        self.directory_times.insert(path.to_vec(), times(entry));
        self.tree.remember(path, fd);
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
        reader: &mut TarReader<R>,
    ) -> Result<(), ImageError> {
        let explain = |error| explain(entry, error);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600));
        let file = match create() {
            Err(Errno::EXIST) => {
                self.tree.clear(parent, name).map_err(explain)?;
                create()
            }
            result => result,
        }
        .map_err(system("create file"))
        .map_err(explain)?;
        match &entry.sparse {
            None => write_body(
                reader,
                u64::MAX,
                |bytes| rustix::io::write(&file, bytes),
                entry,
            )?,
            Some(sparse) => write_pieces(reader, &file, sparse, entry)?,
        }
        attributes(&file, entry).map_err(explain)?;
        rustix::fs::futimens(&file, &times(entry))
            .map_err(system("set times"))
            .map_err(explain)?;
        self.applied.disk_bytes += entry.size.div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), TreeError> {
        let missing = || TreeError::Refused(EntryProblem::LinkTarget(printable(&entry.link)));
        let target = clean(&entry.link).map_err(|_| missing())?;
        let (target_parent_path, target_name) = split(&target);
        if target_name.is_empty() {
            return Err(missing());
        }
        let target_parent: Rc<OwnedFd> = match self.tree.existing(target_parent_path) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing()),
            Err(errno) => return Err(TreeError::System("open directory", errno)),
        };
        let link =
            || rustix::fs::linkat(&*target_parent, target_name, parent, name, AtFlags::empty());
        let result = match link() {
            Err(Errno::EXIST) => {
                let stat =
                    |dir: &OwnedFd, name| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
                let (old, new) = (stat(parent, name), stat(&target_parent, target_name));
                if let (Ok(old), Ok(new)) = (old, new)
                    && (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino)
                {
                    return Ok(());
                }
                self.tree.clear(parent, name)?;
                link()
            }
            result => result,
        };
        match result {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(missing()),
            Err(errno) => Err(TreeError::System("link", errno)),
        }
    }

    fn symlink(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), TreeError> {
        if entry.link.is_empty() {
            return Err(EntryProblem::EmptyLink.into());
        }
        let make = || rustix::fs::symlinkat(entry.link.as_slice(), parent, name);
        match make() {
            Err(Errno::EXIST) => {
                self.tree.clear(parent, name)?;
                make()
            }
            result => result,
        }
        .map_err(system("symlink"))?;
        self.unopened(entry, parent, name)
    }

    fn node(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), TreeError> {
        let kind = match entry.kind {
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let make = || rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device);
        let made = match make() {
            Err(Errno::EXIST) => {
                self.tree.clear(parent, name)?;
                make()
            }
            result => result,
        };
        match made {
            // Nobody but the host's root makes devices. The rest of the image is good without them,
            // as in other engines: a container gets its devices from its start, not its image.
            Err(Errno::PERM)
                if kind != FileType::Fifo && !wharf_sys::namespace::is_initial_user() =>
            {
                return Ok(());
            }
            made => made.map_err(system("mknod"))?,
        }
        self.unopened(entry, parent, name)
    }

    /// Attributes of what can not or must not be opened, set through the parent's descriptor. It
    /// was made a moment ago and nobody else writes here, so the name still is the same thing.
    fn unopened(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), TreeError> {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(
            parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(system("chown"))?;
        if entry.kind != EntryKind::Symlink {
            rustix::fs::chmodat(
                parent,
                name,
                Mode::from_raw_mode(entry.mode),
                AtFlags::empty(),
            )
            .map_err(system("chmod"))?;
        }
        for (key, value) in kept_xattrs(entry) {
            // There is no call that sets an attribute relative to a descriptor without following.
            let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            tolerate_unsupported(rustix::fs::lsetxattr(
                path.as_slice(),
                key,
                value,
                XattrFlags::empty(),
            ))?;
        }
        rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system("set times"))
    }
}

/// Writes at most `length` bytes of the current body.
fn write_body<R: BufRead>(
    reader: &mut TarReader<R>,
    mut length: u64,
    mut write: impl FnMut(&[u8]) -> Result<usize, Errno>,
    entry: &Entry,
) -> Result<(), ImageError> {
    while length > 0 {
        let piece = reader.body()?;
        let piece =
            &piece[..usize::try_from(length).map_or(piece.len(), |length| length.min(piece.len()))];
        if piece.is_empty() {
            break;
        }
        let written = rustix::io::retry_on_intr(|| write(piece))
            .map_err(system("write"))
            .map_err(|error| explain(entry, error))?;
        reader.consume(written);
        length -= written as u64;
    }
    Ok(())
}

/// Writes the pieces of a sparse file where they belong and leaves holes between them.
fn write_pieces<R: BufRead>(
    reader: &mut TarReader<R>,
    file: &OwnedFd,
    sparse: &Sparse,
    entry: &Entry,
) -> Result<(), ImageError> {
    rustix::fs::ftruncate(file, sparse.size)
        .map_err(system("truncate"))
        .map_err(|error| explain(entry, error))?;
    for (offset, length) in &sparse.pieces {
        let mut position = *offset;
        let write = |bytes: &[u8]| {
            let written = rustix::io::pwrite(file, bytes, position)?;
            position += written as u64;
            Ok(written)
        };
        write_body(reader, *length, write, entry)?;
    }
    Ok(())
}

/// Owner, mode and extended attributes of an open file or directory, in the order that keeps them.
fn attributes(fd: &OwnedFd, entry: &Entry) -> Result<(), TreeError> {
    // Also for 0:0: in a set-group-id directory a new file has the directory's group.
    rustix::fs::fchown(
        fd,
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
    .map_err(system("chown"))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(system("chmod"))?;
    for (key, value) in kept_xattrs(entry) {
        tolerate_unsupported(rustix::fs::fsetxattr(fd, key, value, XattrFlags::empty()))?;
    }
    Ok(())
}

/// The attributes an archive may set.
fn kept_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry
        .xattrs
        .iter()
        .filter(|(key, _)| {
            !key.starts_with(b"trusted.overlay.") && !key.starts_with(b"user.overlay.")
        })
        .map(|(key, value)| (key.as_slice(), value.as_slice()))
}

/// A file system without some kind of attribute does not make the image unusable (as in Docker).
fn tolerate_unsupported(result: Result<(), Errno>) -> Result<(), TreeError> {
    match result {
        Err(Errno::OPNOTSUPP) => Ok(()),
        result => result.map_err(system("setxattr")),
    }
}

fn times(entry: &Entry) -> Timestamps {
    let timespec = |time: Time| Timespec {
        tv_sec: time.secs,
        tv_nsec: time.nanos.into(),
    };
    Timestamps {
        last_access: timespec(entry.atime.unwrap_or(entry.mtime)),
        last_modification: timespec(entry.mtime),
    }
}

fn explain(entry: &Entry, error: TreeError) -> ImageError {
    match error {
        TreeError::Refused(problem) => entry.problem(problem),
        // The kernel's word for an id that does not exist in our user namespace.
        TreeError::System("chown", Errno::INVAL) if !wharf_sys::namespace::is_initial_user() => {
            ImageError::NoSuchId {
                entry: printable(&entry.path),
                uid: entry.uid,
                gid: entry.gid,
            }
        }
        TreeError::System(operation, errno) => ImageError::Unpack {
            entry: printable(&entry.path),
            operation,
            source: errno.into(),
        },
    }
}
