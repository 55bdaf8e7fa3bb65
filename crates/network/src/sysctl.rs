//! Kernel settings under /proc/sys/net, in the calling thread's network namespace.
//!
//! A mounted procfs keeps the names of these settings of every namespace that was ever looked at
//! through it, all in the same places: the more containers there are, the longer each look takes.
//! So settings are changed through an instance of procfs made for the occasion, and the one that
//! every start asks for is kept open.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::MountAttrFlags;

/// The settings of the calling thread's network namespace.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The instance's top; without the right to make one, the mounted procfs serves.
    procfs: Option<OwnedFd>,
}

impl Settings {
    pub(crate) fn open() -> Self {
        let made = wharf_sys::mount::new_filesystem("proc", &[], MountAttrFlags::empty());
        Self { procfs: made.ok() }
    }

    /// Writes `/proc/sys/net/<path>` unless it has the value already.
    pub(crate) fn set(&self, path: &str, value: &str) -> io::Result<()> {
        let mut old = String::new();
        self.file(path, OFlags::RDONLY)?.read_to_string(&mut old)?;
        if old.trim() == value {
            return Ok(());
        }
        self.file(path, OFlags::WRONLY)?.write_all(value.as_bytes())
    }

    fn file(&self, path: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC;
        let fd = match &self.procfs {
            Some(top) => openat(top, format!("sys/net/{path}"), flags, Mode::empty()),
            None => openat(CWD, format!("/proc/sys/net/{path}"), flags, Mode::empty()),
        }?;
        Ok(fd.into())
    }
}

/// Reads `/proc/sys/net/<path>`.
pub(crate) fn read(path: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(format!("/proc/sys/net/{path}"))?
        .trim()
        .to_owned())
}

/// Whether a namespace has IPv6, asked as often as one likes.
#[derive(Debug, Clone)]
pub(crate) struct Ipv6Switch(Option<Arc<File>>);

impl Ipv6Switch {
    /// The calling thread's namespace's.
    pub(crate) fn open() -> Self {
        let file = Settings::open().file("ipv6/conf/all/disable_ipv6", OFlags::RDONLY);
        Self(file.ok().map(Arc::new))
    }

    /// Whether the kernel has IPv6 and it is not switched off as a whole.
    pub(crate) fn is_on(&self) -> bool {
        let mut first = [0];
        self.0
            .as_ref()
            .is_some_and(|file| file.read_at(&mut first, 0).is_ok() && first == *b"0")
    }
}
