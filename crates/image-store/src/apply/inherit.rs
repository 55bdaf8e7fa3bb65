//! Attributes of directories an archive only implies.
//!
//! An archive may have `usr/bin/tool` without `usr/` and `usr/bin/`. In the layer they have to
//! exist, and overlay shows the upper one's attributes: so they are those of the same directory in
//! the layers below, as containerd does it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{ImageError, printable};
use crate::snapshot::open_dir;

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Longer ones do not exist on the file systems layers live on.
const XATTR_SIZE_MAX: usize = 64 * 1024;

pub(super) fn directories(
    root: &OwnedFd,
    implicit: &[Vec<u8>],
    lower: &[PathBuf],
) -> Result<(), ImageError> {
    if implicit.is_empty() || lower.is_empty() {
        return Ok(());
    }
    let lower = lower
        .iter()
        .map(|path| open_dir(path))
        .collect::<Result<Vec<_>, _>>()?;
    // Children before parents: setting a time in between would change the parent's.
    for path in implicit.iter().rev() {
        inherit(root, path, &lower).map_err(|errno| ImageError::Unpack {
            entry: printable(path),
            operation: "copy attributes",
            source: errno.into(),
        })?;
    }
    Ok(())
}

fn inherit(root: &OwnedFd, path: &[u8], lower: &[OwnedFd]) -> Result<(), Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let open = |dir: &OwnedFd| {
        let path = if path.is_empty() { &b"."[..] } else { path };
        rustix::fs::openat2(dir, path, FLAGS, Mode::empty(), resolve)
    };
    let target = match open(root) {
        Ok(target) => target,
        // A later entry of the archive replaced it.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    for layer in lower {
        let source = match open(layer) {
            Ok(source) => source,
            Err(Errno::NOENT) => continue,
            // Hidden or replaced in between: what is further down is not the same directory.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let stat = rustix::fs::fstat(&source)?;
        rustix::fs::fchown(
            &target,
            Some(Uid::from_raw(stat.st_uid)),
            Some(Gid::from_raw(stat.st_gid)),
        )?;
        rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        copy_xattrs(&source, &target)?;
        let mtime = Timespec {
            tv_sec: stat.st_mtime as i64,
            tv_nsec: stat.st_mtime_nsec as _,
        };
        return rustix::fs::futimens(
            &target,
            &Timestamps {
                last_access: mtime,
                last_modification: mtime,
            },
        );
    }
    Ok(())
}

fn copy_xattrs(source: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let mut names = vec![0_u8; XATTR_SIZE_MAX];
    let length = match rustix::fs::flistxattr(source, names.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        result => result?,
    };
    let mut value = vec![0_u8; XATTR_SIZE_MAX];
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty()
            || name.starts_with(b"trusted.overlay.")
            || name.starts_with(b"user.overlay.")
        {
            continue;
        }
        let length = match rustix::fs::fgetxattr(source, name, value.as_mut_slice()) {
            Err(Errno::NODATA) => continue,
            result => result?,
        };
        match rustix::fs::fsetxattr(target, name, &value[..length], XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => {}
            result => result?,
        }
    }
    Ok(())
}
