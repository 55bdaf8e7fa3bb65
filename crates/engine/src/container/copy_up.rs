//! Filling a new volume with what the image has at the place it is mounted on.
//!
//! The image is looked into through a detached overlay mount; every path goes through descriptors,
//! never through a joined path, so a link in the image leads nowhere outside.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, fchmod,
    fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, linkat, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use wharf_sys::overlay::{Overlay, mount_detached};
use wharf_sys::rootfs::Rootfs;

/// Directories deeper than this are not copied: nobody has them but an attacker.
const DEPTH_MAX: usize = 256;

/// Copies `place` of the image made of `layers` (topmost first) into the directory `volume`, if
/// the volume is empty and the image has a directory there. Owner and mode of the directory itself
/// are taken over too.
pub(super) fn fill(layers: &[PathBuf], place: &str, volume: &Path) -> io::Result<()> {
    let target = rustix::fs::open(
        volume,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if layers.is_empty() || !is_empty(target.as_fd())? {
        return Ok(());
    }
    let overlay = Overlay {
        lower: layers,
        writable: None,
        options: &wharf_sys::overlay::own_options(),
    };
    let root = Rootfs::new(mount_detached(
        &overlay,
        rustix::mount::MountAttrFlags::empty(),
    )?);
    let source = match root.open(
        Path::new(place),
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    ) {
        Ok(source) => source,
        // A file, or nothing: there is nothing to copy.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let mut links = HashMap::new();
    copy_directory(
        source.as_fd(),
        target.as_fd(),
        target.as_fd(),
        Path::new(""),
        &mut links,
        0,
    )?;
    copy_attributes(source.as_fd(), target.as_fd(), &fstat(&source)?)
}

fn is_empty(directory: BorrowedFd<'_>) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !is_dot(entry.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// First path of each file that has several, below the volume.
type Links = HashMap<(u64, u64), PathBuf>;

fn copy_directory(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    path: &Path,
    links: &mut Links,
    depth: usize,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("directories are nested too deep"));
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dot(name) {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let here = path.join(Path::new(
            <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name.to_bytes()),
        ));
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let first = links.get(&(stat.st_dev, stat.st_ino));
            if let Some(first) = first {
                linkat(top, first, to, name, AtFlags::empty())?;
                continue;
            }
            links.insert((stat.st_dev, stat.st_ino), here.clone());
        }
        copy_entry(from, to, name, &stat, kind, top, &here, links, depth)?;
    }
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "both sides of a copy and where it is in the tree"
)]
fn copy_entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    kind: FileType,
    top: BorrowedFd<'_>,
    here: &Path,
    links: &mut Links,
    depth: usize,
) -> io::Result<()> {
    let private = Mode::from_raw_mode(0o700);
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match kind {
        FileType::Directory => {
            mkdirat(to, name, private)?;
            let source = openat(from, name, read | OFlags::DIRECTORY, Mode::empty())?;
            let target = openat(to, name, read | OFlags::DIRECTORY, Mode::empty())?;
            copy_directory(source.as_fd(), target.as_fd(), top, here, links, depth + 1)?;
            copy_attributes(source.as_fd(), target.as_fd(), stat)
        }
        FileType::RegularFile => {
            let source = openat(from, name, read, Mode::empty())?;
            let write =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = openat(to, name, write, private)?;
            copy_bytes(&source, &target)?;
            copy_attributes(source.as_fd(), target.as_fd(), stat)
        }
        FileType::Symlink => {
            let link: CString = readlinkat(from, name, Vec::new())?;
            symlinkat(&link, to, name)?;
            own_node(to, name, stat, false)
        }
        _ => {
            mknodat(
                to,
                name,
                kind,
                Mode::from_raw_mode(stat.st_mode & 0o7777),
                stat.st_rdev,
            )?;
            own_node(to, name, stat, true)
        }
    }
}

fn copy_bytes(source: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let mut source = std::fs::File::from(source.try_clone()?);
    let mut target = std::fs::File::from(target.try_clone()?);
    // The standard library lets the kernel copy.
    io::copy(&mut source, &mut target).map(drop)
}

fn own_node(
    directory: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    with_mode: bool,
) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(
        directory,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if with_mode {
        // The name was made by us in a directory nobody else sees yet.
        rustix::fs::chmodat(
            directory,
            name,
            Mode::from_raw_mode(stat.st_mode & 0o7777),
            AtFlags::empty(),
        )?;
    }
    utimensat(directory, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanos| Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    }
}

fn copy_attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    fchown(
        target,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    // After the owner: changing that clears the set-id bits.
    fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut names = vec![0_u8; 64 * 1024];
    let length = match flistxattr(source, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        // Overlay's own bookkeeping is no content.
        if [&b"trusted.overlay."[..], b"user.overlay."]
            .iter()
            .any(|own| name.to_bytes().starts_with(own))
        {
            continue;
        }
        let mut value = vec![0_u8; 64 * 1024];
        let length = fgetxattr(source, name, &mut value[..])?;
        match fsetxattr(target, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    futimens(target, &times(stat))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn trees_are_copied_with_what_belongs_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let (layer, volume) = (folder.path().join("layer"), folder.path().join("volume"));
        std::fs::create_dir_all(layer.join("data/sub")).unwrap();
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(layer.join("data/sub/file"), "content").unwrap();
        std::fs::hard_link(layer.join("data/sub/file"), layer.join("data/twin")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", layer.join("data/link")).unwrap();
        std::fs::set_permissions(layer.join("data"), std::fs::Permissions::from_mode(0o1777))
            .unwrap();
        if !rustix::process::geteuid().is_root() {
            return wharf_tests::skip(
                "trees_are_copied_with_what_belongs_to_them",
                "mounting needs root",
            );
        }
        fill(std::slice::from_ref(&layer), "/data", &volume).unwrap();
        assert_eq!(
            std::fs::read_to_string(volume.join("sub/file")).unwrap(),
            "content"
        );
        assert_eq!(
            std::fs::metadata(volume.join("twin")).unwrap().ino(),
            std::fs::metadata(volume.join("sub/file")).unwrap().ino()
        );
        assert_eq!(
            std::fs::read_link(volume.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert_eq!(std::fs::metadata(&volume).unwrap().mode() & 0o7777, 0o1777);
        // A volume with content stays as it is.
        std::fs::write(layer.join("data/new"), "x").unwrap();
        fill(&[layer], "/data", &volume).unwrap();
        assert!(!volume.join("new").exists());
    }
}
