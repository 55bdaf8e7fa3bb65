//! Our own program where nobody can write to it: executed by way of a read-only overlay of the
//! directory its file is in.
//!
//! ```text
//! /usr/bin          the lower layer, as it is on disk
//! overlay           without a writable layer, so the kernel keeps it read-only: no remount and no
//!                   capability makes it writable; mounted nowhere, so nobody else finds it
//! its file `wharf`  is what is executed: `/proc/PID/exe` leads here, never to the disk
//! ```
//!
//! Unlike a [copy in memory](crate::memfd) it costs nothing per process, as pages are those of the
//! file on disk. Making it needs privileges; for others there is the copy.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstat, open, openat, stat, statfs};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::mount::new_filesystem;

const OWN: &str = "/proc/self/exe";

/// Overlay's mark (`linux/magic.h`).
const OVERLAYFS_SUPER_MAGIC: rustix::fs::FsWord = 0x794c_7630;

/// An overlay without a writable layer wants two others. Of this one nothing is used.
const SECOND_LAYER: &str = "/sys";

/// The file of the program we run, to be executed once more where it cannot be written to.
pub fn own_program() -> io::Result<OwnedFd> {
    let path = std::fs::read_link(OWN)?;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::NOENT.into());
    };
    let directory = open(
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (ours, found) = (
        stat(OWN)?,
        fstat(openat(&directory, name, flags, Mode::empty())?)?,
    );
    if (ours.st_dev, ours.st_ino) != (found.st_dev, found.st_ino) {
        // Replaced since we were started.
        return Err(Errno::STALE.into());
    }
    // By number: short, and free of what separates layers.
    let layers = format!("/proc/self/fd/{}:{SECOND_LAYER}", directory.as_raw_fd());
    let overlay = new_filesystem(
        "overlay",
        &[("source", Some("wharf")), ("lowerdir", Some(&layers))],
        MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV,
    )?;
    Ok(openat(overlay, name, flags, Mode::empty())?)
}

/// Whether this process is such an execution of its program.
pub fn is_unwritable() -> bool {
    // What the kernel calls a program that was executed by descriptor: nobody's command line does
    // that to a file on a disk, and a writable overlay mounted read-only is no overlay of ours.
    let by_descriptor = rustix::param::linux_execfn()
        .to_bytes()
        .starts_with(b"/dev/fd/");
    by_descriptor && is_read_only_overlay(Path::new(OWN))
}

fn is_read_only_overlay(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type == OVERLAYFS_SUPER_MAGIC)
        && rustix::fs::statvfs(path)
            .is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{fstatfs, fstatvfs};

    use super::*;

    #[test]
    fn nobody_can_write_to_it() {
        let program = match own_program() {
            Ok(program) => program,
            Err(error) => {
                eprintln!("skipped: no overlay for us: {error}");
                return;
            }
        };
        assert_eq!(fstatfs(&program).unwrap().f_type, OVERLAYFS_SUPER_MAGIC);
        assert!(
            fstatvfs(&program)
                .unwrap()
                .f_flag
                .contains(StatVfsMountFlags::RDONLY)
        );
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::RDONLY | OFlags::TRUNC] {
            assert_eq!(open(&path, flags, Mode::empty()).unwrap_err(), Errno::ROFS);
        }
        assert_eq!(
            rustix::fs::chmod(&path, Mode::from_raw_mode(0o777)),
            Err(Errno::ROFS)
        );
        // Nor can the mount be made writable: it is no longer anywhere.
        let change = crate::mount::AttributeChange {
            clear: crate::mount::Attributes::READ_ONLY,
            ..Default::default()
        };
        assert_eq!(
            crate::mount::change_attributes(
                rustix::fs::CWD,
                &std::ffi::CString::new(path).unwrap(),
                false,
                change
            ),
            Err(Errno::INVAL)
        );
    }

    #[test]
    fn an_ordinary_program_is_not_taken_for_one() {
        assert!(!is_unwritable());
    }
}
