//! Where containers are remembered: a directory each below the root of this runtime's state.
//!
//! ```text
//! ROOT/ID/           made by create: its existence is what makes an ID taken
//!   lock             locked by whoever changes the container, released by the kernel if it dies
//!   state.json       what is known about it: a line of JSON each time that changes, the last counts
//!   config.json      the document it was made from
//!   exec.fifo, …     how it waits for start (container-runtime's `gate`)
//!   notify/          the socket its program tells its readiness to, if somebody wants to know
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, fcntl_lock, mkdirat, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id;

const LOCK: &str = "lock";
const STATE: &str = "state.json";
const CONFIG: &str = "config.json";

/// Files of ours in a container's directory.
const FILES: [&str; 3] = [STATE, CONFIG, LOCK];

/// A container's directory.
#[derive(Debug)]
pub(crate) struct Directory {
    root: OwnedFd,
    fd: OwnedFd,
    path: PathBuf,
    id: String,
}

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    /// Whether its creation is not finished.
    #[serde(default)]
    pub(crate) creating: bool,
    /// Who creates it.
    #[serde(default)]
    pub(crate) creator: Option<ProcessRecord>,
    /// Its first process.
    #[serde(default)]
    pub(crate) process: Option<ProcessRecord>,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// RFC 3339.
    pub(crate) created: String,
    /// Who created it.
    #[serde(default)]
    pub(crate) owner: String,
    /// Its cgroup, from the hierarchy's root.
    #[serde(default)]
    pub(crate) cgroup: Option<String>,
    /// Whether systemd looks after it.
    #[serde(default)]
    pub(crate) systemd: bool,
    /// Whether its processes keep the caller's session keyring.
    #[serde(default)]
    pub(crate) keep_keyring: bool,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A process that is not mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessRecord {
    pub(crate) pid: i32,
    /// When it began, in the kernel's ticks since it booted.
    pub(crate) start_time: u64,
}

impl ProcessRecord {
    /// Ourselves.
    pub(crate) fn of_self() -> Self {
        let pid = rustix::process::getpid();
        Self {
            pid: pid.as_raw_nonzero().get(),
            start_time: crate::container::start_time(pid).unwrap_or(0),
        }
    }
}

/// The lock of a container, as long as this lives. It belongs to the process: children do not
/// inherit it, and no second descriptor of the file may be closed meanwhile.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "open as long as it is held")] File);

impl Directory {
    /// Makes the directory of a new container, and locks it.
    pub(crate) fn create(root: &Path, id: &str) -> Result<(Self, Lock)> {
        id::check(id)?;
        let root_fd = match open_directory(rustix::fs::CWD, root) {
            Err(Errno::NOENT) => {
                make_all(root).map_err(Error::file("create state directory", root))?;
                open_directory(rustix::fs::CWD, root)
            }
            other => other,
        };
        let root_fd =
            root_fd.map_err(|errno| Error::file("open state directory", root)(errno.into()))?;
        let path = root.join(id);
        let failed = |errno: Errno| Error::file("create state directory", &path)(errno.into());
        // Until it is locked it looks abandoned, and may be removed as such.
        for _ in 0..16 {
            match mkdirat(&root_fd, id, Mode::RWXU | Mode::XGRP | Mode::XOTH) {
                Err(Errno::EXIST) => return Err(Error::Exists),
                other => other.map_err(failed)?,
            }
            let Ok(fd) = open_directory(&root_fd, id) else {
                continue;
            };
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let Ok(file) = openat(&fd, LOCK, flags, Mode::RUSR | Mode::WUSR) else {
                continue;
            };
            fcntl_lock(&file, FlockOperation::LockExclusive).map_err(failed)?;
            let directory = Self {
                root: root_fd,
                fd,
                path,
                id: id.to_owned(),
            };
            return Ok((directory, Lock(file.into())));
        }
        Err(failed(Errno::BUSY))
    }

    /// The directory of an existing container.
    pub(crate) fn open(root: &Path, id: &str) -> Result<Self> {
        id::check(id)?;
        let path = root.join(id);
        let open = || {
            let root = open_directory(rustix::fs::CWD, root)?;
            let fd = open_directory(&root, id)?;
            Ok((root, fd))
        };
        match open() {
            Ok((root, fd)) => Ok(Self {
                root,
                fd,
                path,
                id: id.to_owned(),
            }),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(Error::NoContainer),
            Err(errno) => Err(Error::file("open state directory", path)(errno.into())),
        }
    }

    /// The IDs of all containers below `root`.
    pub(crate) fn list(root: &Path) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(Error::file("read state directory", root))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::file("read state directory", root))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Ok(name) = entry.file_name().into_string()
            {
                ids.push(name);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for whoever is changing the container, and keeps others from it. The container may be
    /// gone afterwards.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let failed = |errno: Errno| Error::file("lock container", &self.path)(errno.into());
        let file = self.open_lock().map_err(failed)?;
        loop {
            match fcntl_lock(&file, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                other => break other.map_err(failed)?,
            }
        }
        // Removed while we waited; there may be a new one of that name.
        if rustix::fs::fstat(&file).map_err(failed)?.st_nlink == 0 {
            return Err(Error::NoContainer);
        }
        Ok(Lock(file.into()))
    }

    /// Whether somebody else has it locked.
    pub(crate) fn is_locked(&self) -> bool {
        match self.open_lock() {
            Ok(file) => matches!(
                fcntl_lock(&file, FlockOperation::NonBlockingLockShared),
                Err(Errno::AGAIN | Errno::ACCESS)
            ),
            Err(_) => false,
        }
    }

    fn open_lock(&self) -> Result<OwnedFd, Errno> {
        // Made where a create was ended before it did so.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(&self.fd, LOCK, flags, Mode::RUSR | Mode::WUSR)
    }

    /// What is remembered; nothing if its create was ended before it began.
    pub(crate) fn read_record(&self) -> Result<Option<Record>> {
        let text = self.read(STATE)?.unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n').rev();
        let mut failure = None;
        for line in lines.filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(record) => return Ok(Some(record)),
                // Whoever wrote it was ended over it, or still writes.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) if !error.is_eof() => Err(Error::json("state.json")(error)),
            _ => Ok(None),
        }
    }

    /// Remembers `record` in place of what was remembered before. A file is not replaced by
    /// another: some file systems start writing it to the disk then, which takes longer than all
    /// else that is done with it.
    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(Error::json("state.json"))?;
        // In front: what follows half a line is whole.
        line.insert(0, b'\n');
        self.write(STATE, OFlags::APPEND, &line)
    }

    /// The document the container was made from.
    pub(crate) fn read_config(&self) -> Result<Vec<u8>> {
        self.read(CONFIG)?.ok_or(Error::NoConfig)
    }

    pub(crate) fn write_config(&self, text: &[u8]) -> Result<()> {
        self.write(CONFIG, OFlags::TRUNC, text)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let failed = Error::file("read state", self.path.join(name));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut text = Vec::new();
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd).read_to_end(&mut text).map_err(failed)?,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        Ok(Some(text))
    }

    fn write(&self, name: &str, how: OFlags, text: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | how;
        openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(io::Error::from)
            .and_then(|fd| File::from(fd).write_all(text))
            .map_err(Error::file("write state", self.path.join(name)))
    }

    /// Forgets the container. Its lock must be held.
    pub(crate) fn remove(&self) -> Result<()> {
        let failed = |errno: Errno| Error::file("remove state", &self.path)(errno.into());
        wharf_container_runtime::gate::remove(&self.fd).map_err(failed)?;
        crate::notify::remove_socket(self.fd.as_fd()).map_err(failed)?;
        // The lock last: until then nobody takes the directory for one that is being made.
        for name in FILES {
            match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        match rustix::fs::unlinkat(&self.root, self.id.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_directory(parent: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(parent, path, flags, Mode::empty())
}

fn make_all(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        Record {
            oci_version: "1.3.0".into(),
            id: id.into(),
            creating: true,
            creator: None,
            process: None,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-01-01T00:00:00Z".into(),
            owner: String::new(),
            cgroup: None,
            systemd: false,
            keep_keyring: false,
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn a_container_is_remembered_until_it_is_removed() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("a/b");
        let (directory, lock) = Directory::create(&root, "c1").unwrap();
        assert!(matches!(Directory::create(&root, "c1"), Err(Error::Exists)));
        assert!(directory.read_record().unwrap().is_none());
        directory.write_record(&record("c1")).unwrap();
        drop(lock);
        let again = Directory::open(&root, "c1").unwrap();
        assert_eq!(again.read_record().unwrap().unwrap().id, "c1");
        assert_eq!(Directory::list(&root).unwrap(), ["c1"]);
        let _lock = again.lock().unwrap();
        again.remove().unwrap();
        assert!(matches!(
            Directory::open(&root, "c1"),
            Err(Error::NoContainer)
        ));
        assert!(Directory::list(&root).unwrap().is_empty());
    }

    #[test]
    fn the_last_whole_line_is_what_is_remembered() {
        let top = tempfile::tempdir().unwrap();
        let (directory, _lock) = Directory::create(top.path(), "c").unwrap();
        let remembered = || directory.read_record().unwrap().map(|record| record.id);
        let append = |text: &[u8]| directory.write(STATE, OFlags::APPEND, text).unwrap();
        append(b"");
        assert_eq!(remembered(), None);
        append(b"\n{\"ociVersion\":\"1");
        assert_eq!(remembered(), None);
        directory.write_record(&record("first")).unwrap();
        directory.write_record(&record("second")).unwrap();
        assert_eq!(remembered().unwrap(), "second");
        append(b"\n{\"ociVersion\":\"1.3.0\",\"id\":\"th");
        assert_eq!(remembered().unwrap(), "second");
        directory.write_record(&record("fourth")).unwrap();
        assert_eq!(remembered().unwrap(), "fourth");
    }

    #[test]
    fn a_removed_container_cannot_be_locked() {
        let top = tempfile::tempdir().unwrap();
        let (first, _lock) = Directory::create(top.path(), "c").unwrap();
        let second = Directory::open(top.path(), "c").unwrap();
        first.remove().unwrap();
        assert!(second.lock().is_err());
    }

    #[test]
    fn nothing_is_a_list_of_nothing() {
        assert!(
            Directory::list(Path::new("/nonexistent/x"))
                .unwrap()
                .is_empty()
        );
    }
}
