//! The directory a layer is unpacked into: finding and making parent directories.
//!
//! A path is looked up once per directory, by the kernel, with the layer's root as the only root
//! (`RESOLVE_IN_ROOT`): absolute symbolic links and `..` end inside the layer. What lies in the last
//! component is only touched through the parent's descriptor and never followed.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
use rustix::io::Errno;

use crate::error::EntryProblem;
use crate::snapshot::remove_tree;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
/// Descriptors kept open; archives name the files of a directory one after the other.
const CACHE_MAX: usize = 128;
/// As the kernel's own bound.
const LINKS_MAX: u32 = 40;

/// Why a parent directory is not to be had.
#[derive(Debug)]
pub(crate) enum TreeError {
    Refused(EntryProblem),
    System(&'static str, Errno),
}

impl From<EntryProblem> for TreeError {
    fn from(problem: EntryProblem) -> Self {
        Self::Refused(problem)
    }
}

pub(crate) fn system(operation: &'static str) -> impl FnOnce(Errno) -> TreeError {
    move |errno| TreeError::System(operation, errno)
}

/// What was in the way of a new entry and is gone now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cleared {
    /// A mark that hides something below: a directory in its place has to hide it, too.
    Whiteout,
    Other,
}

/// The layer's root and the directories used last.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    root: &'a OwnedFd,
    cache: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Directories made because an entry needed them, by inode: path from the root.
    implicit: HashMap<u64, Vec<u8>>,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(root: &'a OwnedFd) -> Self {
        Self {
            root,
            cache: HashMap::new(),
            implicit: HashMap::new(),
        }
    }

    /// The directory at `path` (relative, clean, empty for the root), made where it is missing.
    pub(crate) fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, TreeError> {
        if let Some(fd) = self.cache.get(path) {
            return Ok(Rc::clone(fd));
        }
        let fd = match self.open(path) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => self.make_directories(path)?,
            Err(Errno::NOTDIR) => self.make_directories(path)?,
            Err(Errno::LOOP) => return Err(EntryProblem::LinkLoop.into()),
            Err(errno) => return Err(TreeError::System("open directory", errno)),
        };
        Ok(self.remember(path, fd))
    }

    /// The same for a directory that has to be there.
    pub(crate) fn existing(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if let Some(fd) = self.cache.get(path) {
            return Ok(Rc::clone(fd));
        }
        let fd = self.open(path)?;
        Ok(self.remember(path, fd))
    }

    pub(crate) fn remember(&mut self, path: &[u8], fd: OwnedFd) -> Rc<OwnedFd> {
        if self.cache.len() >= CACHE_MAX {
            self.cache.clear();
        }
        let fd = Rc::new(fd);
        self.cache.insert(path.to_vec(), Rc::clone(&fd));
        fd
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { &b"."[..] } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(self.root, path, DIRECTORY, Mode::empty(), resolve)
    }

    /// Opens or makes one directory after the other, following symbolic links as the kernel would
    /// but with directories made where a link leads nowhere yet.
    fn make_directories(&mut self, path: &[u8]) -> Result<OwnedFd, TreeError> {
        let mut todo: VecDeque<Vec<u8>> = components(path);
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut current = self.open(b"").map_err(system("open directory"))?;
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                done.pop();
                current = self
                    .open(&done.join(&b'/'))
                    .map_err(system("open directory"))?;
                continue;
            }
            let flags = DIRECTORY | OFlags::NOFOLLOW;
            match rustix::fs::openat(&current, &name, flags, Mode::empty()) {
                Ok(next) => {
                    done.push(name);
                    current = next;
                    continue;
                }
                Err(Errno::NOENT) => {
                    current = self.make_directory(&current, &name, &mut done)?;
                    continue;
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(TreeError::System("open directory", errno)),
            }
            let stat = rustix::fs::statat(&current, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(system("stat"))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(EntryProblem::LinkLoop.into());
                    }
                    let target = rustix::fs::readlinkat(&current, &name, Vec::new())
                        .map_err(system("readlink"))?;
                    if target.as_bytes().starts_with(b"/") {
                        done.clear();
                        current = self.open(b"").map_err(system("open directory"))?;
                    }
                    for component in components(target.as_bytes()).into_iter().rev() {
                        todo.push_front(component);
                    }
                }
                // The archive hides a directory of a lower layer and then puts files into it.
                _ if is_whiteout(&stat) => {
                    rustix::fs::unlinkat(&current, &name, AtFlags::empty())
                        .map_err(system("unlink"))?;
                    current = self.make_directory(&current, &name, &mut done)?;
                    set_opaque(&current).map_err(system("setxattr"))?;
                }
                _ => return Err(EntryProblem::ParentNotDirectory.into()),
            }
        }
        Ok(current)
    }

    fn make_directory(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        done: &mut Vec<Vec<u8>>,
    ) -> Result<OwnedFd, TreeError> {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(system("mkdir"))?;
        let fd = rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .map_err(system("open directory"))?;
        // The process' umask may have taken bits away.
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(system("chmod"))?;
        let stat = rustix::fs::fstat(&fd).map_err(system("stat"))?;
        done.push(name.to_vec());
        self.implicit.insert(stat.st_ino, done.join(&b'/'));
        Ok(fd)
    }

    /// The archive has an entry of its own for this directory.
    pub(crate) fn is_explicit(&mut self, directory: &OwnedFd) -> Result<(), TreeError> {
        if !self.implicit.is_empty() {
            let stat = rustix::fs::fstat(directory).map_err(system("stat"))?;
            self.implicit.remove(&stat.st_ino);
        }
        Ok(())
    }

    /// The directories without an entry of their own, parents before children.
    pub(crate) fn into_implicit(self) -> Vec<Vec<u8>> {
        let mut paths: Vec<Vec<u8>> = self.implicit.into_values().collect();
        paths.sort();
        paths
    }

    /// Removes what is in the way of a new entry, whatever it is.
    pub(crate) fn clear(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<Cleared, TreeError> {
        let stat =
            rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(system("stat"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            // Descriptors kept under the old path would lead to what is removed.
            FileType::Directory | FileType::Symlink => self.cache.clear(),
            _ => {}
        }
        remove_tree(None, parent, name, 0).map_err(|error| {
            TreeError::System("remove", Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        Ok(if is_whiteout(&stat) {
            Cleared::Whiteout
        } else {
            Cleared::Other
        })
    }
}

/// Overlay's mark for a removed file: a character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes a directory hide everything of that name in lower layers.
pub(crate) fn set_opaque(directory: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fsetxattr(
        directory,
        wharf_sys::overlay::opaque_attribute(),
        b"y",
        XattrFlags::empty(),
    )
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// A path as an archive has it, relative to the root and without `.`, `..` and double slashes.
/// Absolute paths begin at the layer's root; what leads above it is refused.
pub(crate) fn clean(path: &[u8]) -> Result<Vec<u8>, EntryProblem> {
    let mut cleaned: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                cleaned.pop().ok_or(EntryProblem::PathOutside)?;
            }
            name => cleaned.push(name),
        }
    }
    Ok(cleaned.join(&b'/'))
}

/// Parent and last component of a clean path; both empty for the root.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_cleaned_lexically() {
        for (path, cleaned) in [
            ("./a//b/", "a/b"),
            ("/etc/x", "etc/x"),
            ("a/../b", "b"),
            ("./", ""),
            ("a/./b/..", "a"),
        ] {
            assert_eq!(
                clean(path.as_bytes()).unwrap(),
                cleaned.as_bytes(),
                "{path}"
            );
        }
        for bad in ["..", "../a", "a/../../b", "/..", "./../x"] {
            assert_eq!(
                clean(bad.as_bytes()),
                Err(EntryProblem::PathOutside),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn clean_paths_stay_inside(path in "[a./]{0,30}") {
            if let Ok(cleaned) = clean(path.as_bytes()) {
                prop_assert!(!cleaned.starts_with(b"/"));
                prop_assert!(cleaned.split(|b| *b == b'/').all(|name| name != b".." && name != b"."));
            }
        }
    }
}
