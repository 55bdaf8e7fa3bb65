//! Paths inside a container's root file system.
//!
//! The root belongs to the container, which may have put symbolic links anywhere and may be
//! changing them right now. So no path inside it is ever joined to a host path: the kernel
//! resolves it under the root's descriptor (`openat2` with `RESOLVE_IN_ROOT`: absolute links and
//! `..` stay inside, magic links are refused).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

/// A root file system, by a descriptor of its top directory.
#[derive(Debug)]
pub struct Rootfs {
    top: OwnedFd,
}

/// How many links to nothing are followed.
const LINKS_MAX: usize = 40;

/// How often a resolution that raced with a rename is tried again.
const TRIES: usize = 128;

impl Rootfs {
    /// The root whose top directory `top` is a descriptor of (`O_PATH` will do; also of a mount
    /// that is attached nowhere).
    pub fn new(top: OwnedFd) -> Self {
        Self { top }
    }

    /// The root at `path` on the host.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            top: rustix::fs::open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?,
        })
    }

    /// Opens `path` inside the root; symbolic links are followed as the container would.
    pub fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        self.open_with(
            path,
            flags,
            mode,
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// Opens `path` inside the root if no part of it is a symbolic link (`ELOOP` otherwise).
    pub fn open_without_links(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.open_with(
            path,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
        )
    }

    /// Opens `path` if it leads there through no symbolic link and no further mount (`ELOOP` and
    /// `EXDEV` otherwise).
    pub fn open_in_mount(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.open_with(
            path,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
        )
    }

    fn open_with(
        &self,
        path: &Path,
        flags: OFlags,
        mode: Mode,
        resolve: ResolveFlags,
    ) -> Result<OwnedFd, Errno> {
        let mut tries = TRIES;
        loop {
            // A rename or mount going on anywhere makes the kernel unsure about `..`: EAGAIN.
            match openat2(&self.top, path, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN) if tries > 0 => tries -= 1,
                other => return other,
            }
        }
    }

    /// A descriptor that names `path` without opening it (`O_PATH`).
    pub fn locate(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::PATH, Mode::empty())
    }

    /// The type of what is at `path`, links followed.
    pub fn file_type(&self, path: &Path) -> Result<FileType, Errno> {
        let status = rustix::fs::fstat(self.locate(path)?)?;
        Ok(FileType::from_raw_mode(status.st_mode))
    }

    /// The directory `path`, made with `mode` where it is missing, parents included. Links on the
    /// way are followed inside the root, also where they lead to what does not exist yet.
    pub fn create_dir_all(&self, path: &Path, mode: Mode) -> Result<OwnedFd, Errno> {
        self.create_dirs(path, mode, LINKS_MAX)
    }

    fn create_dirs(&self, path: &Path, mode: Mode, links: usize) -> Result<OwnedFd, Errno> {
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(non_empty(path), directory, Mode::empty()) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let mut reached = PathBuf::new();
        let mut parent = self.locate(Path::new("."))?;
        let mut components = path.components();
        while let Some(component) = components.next() {
            let name = match component {
                Component::Normal(name) => name,
                // Resolved by the kernel: what is reached may be a link.
                Component::ParentDir => OsStr::new(".."),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            };
            let here = reached.clone();
            reached.push(name);
            parent = match self.open(&reached, directory, Mode::empty()) {
                Err(Errno::NOENT) => match mkdirat(&parent, name, mode) {
                    Ok(()) => self.open(&reached, directory, Mode::empty())?,
                    Err(Errno::EXIST) => {
                        // A link to nothing, or somebody was faster; then it is found this time.
                        let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                        let path = here
                            .join(read_link(&parent, name)?)
                            .join(components.as_path());
                        return self.create_dirs(&path, mode, links);
                    }
                    Err(errno) => return Err(errno),
                },
                other => other?,
            };
        }
        Ok(parent)
    }

    /// The directory that holds the last component of `path` (made where missing), and that
    /// component.
    pub fn parent_of<'p>(&self, path: &'p Path, mode: Mode) -> Result<(OwnedFd, &'p Path), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = self.create_dir_all(path.parent().unwrap_or(Path::new("/")), mode)?;
        Ok((parent, Path::new(name)))
    }

    /// What is at `path`, or a new empty file there, parents included: something to mount a file
    /// on. Returns an `O_PATH` descriptor.
    pub fn create_file(&self, path: &Path, mode: Mode) -> Result<OwnedFd, Errno> {
        self.create_file_through(path, mode, LINKS_MAX)
    }

    fn create_file_through(&self, path: &Path, mode: Mode, links: usize) -> Result<OwnedFd, Errno> {
        match self.locate(path) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (parent, name) = self.parent_of(path, Mode::from_raw_mode(0o755))?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&parent, name, flags, mode) {
            Ok(_) => self.locate(path),
            Err(Errno::EXIST) => {
                let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                let target = read_link(&parent, name.as_os_str())?;
                let here = path.parent().unwrap_or(Path::new("/"));
                self.create_file_through(&here.join(target), mode, links)
            }
            Err(errno) => Err(errno),
        }
    }

    /// The content of the regular file `path`, at most `limit` bytes (`EFBIG` beyond).
    pub fn read_file(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        // Not blocking: the container may have put a FIFO there.
        let fd = self.open(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            Mode::empty(),
        )?;
        read_regular(fd, limit)
    }

    /// Replaces the regular file `path` (or makes it, parents included) with `content`.
    pub fn write_file(&self, path: &Path, content: &[u8], mode: Mode) -> io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match self.open(path, flags, mode) {
            Err(Errno::NOENT) => {
                self.create_dir_all(
                    path.parent().unwrap_or(Path::new("/")),
                    Mode::from_raw_mode(0o755),
                )?;
                self.open(path, flags, mode)?
            }
            other => other?,
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        File::from(fd).write_all(content)
    }

    /// The device and inode numbers of `path`, links followed.
    pub fn identity(&self, path: &Path) -> Result<(u64, u64), Errno> {
        let status = statat(self.locate(path)?, "", AtFlags::EMPTY_PATH)?;
        Ok((status.st_dev, status.st_ino))
    }
}

impl AsFd for Rootfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }
}

/// The content of `fd` if it is a regular file of at most `limit` bytes.
pub fn read_regular(fd: OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
    let status = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    let mut content = Vec::with_capacity(usize::try_from(status.st_size).unwrap_or(0).min(limit));
    File::from(fd)
        .take(limit as u64 + 1)
        .read_to_end(&mut content)?;
    if content.len() > limit {
        return Err(Errno::FBIG.into());
    }
    Ok(content)
}

/// Where the link `name` leads; its own name if it is no link (any more), to be tried again.
fn read_link(parent: &OwnedFd, name: &OsStr) -> Result<PathBuf, Errno> {
    match readlinkat(parent, name, Vec::new()) {
        Ok(target) => Ok(PathBuf::from(OsStr::from_bytes(target.to_bytes()))),
        Err(Errno::INVAL) => Ok(PathBuf::from(name)),
        Err(errno) => Err(errno),
    }
}

fn non_empty(path: &Path) -> &Path {
    if path.as_os_str().as_bytes().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempdir::Dir, Rootfs) {
        let dir = tempdir::Dir::new();
        let root = Rootfs::at(dir.path()).unwrap();
        (dir, root)
    }

    /// A directory removed with the test; the crate has no dependency for that.
    mod tempdir {
        use std::path::{Path, PathBuf};
        use std::sync::atomic::{AtomicU32, Ordering};

        pub(super) struct Dir(PathBuf);

        impl Dir {
            pub(super) fn new() -> Self {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let path = std::env::temp_dir()
                    .join(format!("wharf-rootfs-{}-{number}", std::process::id()));
                std::fs::create_dir(&path).unwrap();
                Self(path)
            }

            pub(super) fn path(&self) -> &Path {
                &self.0
            }
        }

        impl Drop for Dir {
            fn drop(&mut self) {
                let _ = std::fs::remove_dir_all(&self.0);
            }
        }
    }

    #[test]
    fn links_stay_inside() {
        let (dir, root) = root();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", dir.path().join("absolute")).unwrap();
        symlink("../../../../etc/passwd", dir.path().join("relative")).unwrap();
        for path in ["absolute", "/relative", "../../etc/passwd", "etc/passwd"] {
            assert_eq!(
                root.read_file(Path::new(path), 100).unwrap(),
                b"inside",
                "{path}"
            );
        }
        assert_eq!(
            root.open_without_links(Path::new("absolute"), OFlags::RDONLY)
                .unwrap_err(),
            Errno::LOOP
        );
    }

    #[test]
    fn directories_are_made_inside() {
        let (dir, root) = root();
        symlink("/elsewhere", dir.path().join("link")).unwrap();
        std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
        root.create_dir_all(Path::new("/link/a/../b/c"), Mode::from_raw_mode(0o755))
            .unwrap();
        assert!(dir.path().join("elsewhere/b/c").is_dir());
        root.create_file(Path::new("/link/x/file"), Mode::from_raw_mode(0o644))
            .unwrap();
        assert!(dir.path().join("elsewhere/x/file").is_file());
        assert_eq!(
            root.create_dir_all(Path::new("/elsewhere/x/file/y"), Mode::from_raw_mode(0o755))
                .unwrap_err(),
            Errno::NOTDIR
        );
    }

    #[test]
    fn links_to_nothing_are_followed_inside() {
        let (dir, root) = root();
        let mode = Mode::from_raw_mode(0o755);
        symlink("/made/there", dir.path().join("absolute")).unwrap();
        symlink("../../../up", dir.path().join("relative")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        root.create_dir_all(Path::new("/absolute/below"), mode)
            .unwrap();
        assert!(dir.path().join("made/there/below").is_dir());
        root.create_file(Path::new("/relative"), mode).unwrap();
        assert!(dir.path().join("up").is_file());
        assert_eq!(
            root.create_dir_all(Path::new("/loop/x"), mode).unwrap_err(),
            Errno::LOOP
        );
        assert_eq!(
            root.create_file(Path::new("/loop"), mode).unwrap_err(),
            Errno::LOOP
        );
    }

    #[test]
    fn only_bounded_regular_files_are_read() {
        let (dir, root) = root();
        std::fs::write(dir.path().join("big"), [0; 11]).unwrap();
        assert!(root.read_file(Path::new("big"), 10).is_err());
        assert!(root.read_file(Path::new("/"), 10).is_err());
        root.write_file(Path::new("/new/file"), b"text", Mode::from_raw_mode(0o600))
            .unwrap();
        assert_eq!(root.read_file(Path::new("new/file"), 10).unwrap(), b"text");
    }
}
