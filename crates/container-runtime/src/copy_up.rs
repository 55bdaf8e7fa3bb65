//! A tmpfs that begins with what it covers (`tmpcopyup`).

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

/// How deep directories are followed.
const DEPTH_MAX: usize = 128;

/// The most extended attributes one file may have, in bytes of their names and of one value.
const ATTRIBUTES_MAX: usize = 64 * 1024;

/// Copies everything in the directory `from` into the empty directory `to`: content, owners,
/// modes, times, extended attributes. The process's umask must be 0.
pub(crate) fn copy(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = rustix::fs::openat(from, c".", flags, Mode::empty())?;
    copy_directory(from.as_fd(), to.as_fd(), DEPTH_MAX)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let status = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(status.st_mode);
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match kind {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                let flags = read | OFlags::DIRECTORY;
                let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
                let copy = rustix::fs::openat(to, name, flags, Mode::empty())?;
                copy_directory(source.as_fd(), copy.as_fd(), depth)?;
                copy_attributes(&source, &copy)?;
            }
            FileType::RegularFile => {
                let source = rustix::fs::openat(from, name, read, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let copy = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
                copy_content(&source, &copy)?;
                copy_attributes(&source, &copy)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, name)?;
            }
            _ => rustix::fs::mknodat(to, name, kind, Mode::empty(), status.st_rdev)?,
        }
        take_over(to, name, kind, &status)?;
    }
    Ok(())
}

/// Gives the copy `name` owner, mode and times of `status`, in the order in which one does not
/// undo another.
fn take_over(
    to: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    kind: FileType,
    status: &Stat,
) -> Result<(), Errno> {
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let owner = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    rustix::fs::chownat(to, name, Some(owner.0), Some(owner.1), nofollow)?;
    if kind != FileType::Symlink {
        let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    #[allow(
        clippy::useless_conversion,
        reason = "the fields' types differ between architectures"
    )]
    let times = Timestamps {
        last_access: time(status.st_atime.into(), status.st_atime_nsec.into()),
        last_modification: time(status.st_mtime.into(), status.st_mtime_nsec.into()),
    };
    rustix::fs::utimensat(to, name, &times, nofollow)
}

fn copy_content(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let duplicate = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).map(File::from);
    match std::io::copy(&mut duplicate(from)?, &mut duplicate(to)?) {
        Ok(_) => Ok(()),
        Err(error) => Err(error
            .raw_os_error()
            .map_or(Errno::IO, Errno::from_raw_os_error)),
    }
}

fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut names = vec![MaybeUninit::uninit(); ATTRIBUTES_MAX];
    let names = match rustix::fs::flistxattr(from, names.as_mut_slice()) {
        Ok((names, _)) => names,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut value = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        // Overlay's own notes are about its layers, not about the file.
        if name.starts_with(b"trusted.") {
            continue;
        }
        if value.is_empty() {
            value = vec![MaybeUninit::uninit(); ATTRIBUTES_MAX];
        }
        let (value, _) = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        match rustix::fs::fsetxattr(to, name, value, XattrFlags::empty()) {
            // Labels are the mount's.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
