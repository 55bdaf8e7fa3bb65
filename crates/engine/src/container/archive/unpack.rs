//! From a tar stream to files of a container, safe against both sides: the archive is foreign, and
//! the container may be changing its directories meanwhile.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown,
    linkat, mkdirat, mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};
use wharf_fault::{Error, Kind, Result};
use wharf_sys::rootfs::Rootfs;

use super::ExtractOptions;
use super::owners::Owners;

/// Entries of one archive.
const ENTRIES_MAX: usize = 10_000_000;

/// Directories get their times and modes last: writing into them would change both.
struct Late {
    path: PathBuf,
    mode: u32,
    mtime: u64,
}

/// Who gets the files.
struct Whose<'a> {
    /// One for all, instead of whom the archive says.
    owner: Option<(u32, u32)>,
    owners: &'a Owners,
}

/// Unpacks below `target`.
pub(super) fn unpack(
    root: &Rootfs,
    target: &Path,
    archive: impl Read + Send,
    options: ExtractOptions,
    owner: Option<(u32, u32)>,
    owners: &Owners,
) -> Result<()> {
    let invalid = |source: io::Error| Error::invalid("invalid archive").caused_by(source);
    let mut input = BufReader::with_capacity(256 * 1024, archive);
    let start = input.fill_buf().map_err(invalid)?;
    let plain: Box<dyn Read> = match start {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(input)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err(compressed("zstd")),
        [b'B', b'Z', b'h', ..] => return Err(compressed("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => return Err(compressed("xz")),
        _ => Box::new(input),
    };
    let mut archive = Archive::new(plain);
    let mut late = Vec::new();
    let whose = Whose { owner, owners };
    for (number, entry) in archive.entries().map_err(invalid)?.enumerate() {
        if number >= ENTRIES_MAX {
            return Err(Error::invalid("invalid archive: too many entries"));
        }
        let mut entry = entry.map_err(invalid)?;
        let name = entry.path_bytes().into_owned();
        let inside = inside(&name).ok_or_else(|| {
            Error::invalid(format!(
                "invalid archive: entry {:?} leads outside",
                String::from_utf8_lossy(&name)
            ))
        })?;
        one(
            root, target, &inside, &mut entry, options, &whose, &mut late,
        )?;
    }
    for directory in late.into_iter().rev() {
        if let Ok(fd) = root.open(
            &directory.path,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        ) {
            // Gone or replaced meanwhile: then there is nothing to finish.
            let _ = fchmod(&fd, Mode::from_raw_mode(directory.mode));
            let _ = rustix::fs::futimens(&fd, &times(directory.mtime));
        }
    }
    Ok(())
}

fn compressed(how: &str) -> Error {
    Error::not_implemented(format!(
        "archives compressed with {how} are not supported here by this version of Wharf"
    ))
}

/// The entry's path without leading slashes and dots; `None` when it climbs.
fn inside(name: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

fn one(
    root: &Rootfs,
    target: &Path,
    inside: &Path,
    entry: &mut Entry<'_, impl Read>,
    options: ExtractOptions,
    whose: &Whose<'_>,
    late: &mut Vec<Late>,
) -> Result<()> {
    let shown = inside.display().to_string();
    let failed = |error: io::Error| match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ROFS) => Error::new(Kind::Forbidden, "mounted volume is marked read-only"),
        _ => Error::system(format!("cannot extract {shown}")).caused_by(error),
    };
    let header = entry.header();
    let kind = header.entry_type();
    let bad = |source: io::Error| {
        Error::invalid(format!("invalid archive: entry {shown}")).caused_by(source)
    };
    let mode = header.mode().map_err(bad)? & 0o7777;
    let mtime = header.mtime().unwrap_or(0);
    let number = |value: u64| u32::try_from(value).unwrap_or(0);
    let (uid, gid) = match whose.owner {
        Some(owner) => owner,
        None => (
            number(header.uid().map_err(bad)?),
            number(header.gid().map_err(bad)?),
        ),
    };
    let (uid, gid) = whose.owners.outside(uid, gid).map_err(|id| {
        // Docker's words.
        Error::invalid(format!("Container ID {id} cannot be mapped to a host ID"))
    })?;
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let path = target.join(inside);
    if inside.as_os_str().is_empty() {
        // The top exists and keeps its owner.
        return Ok(());
    }
    let (parent, name) = root
        .parent_of(&path, Mode::from_raw_mode(0o755))
        .map_err(|errno| failed(errno.into()))?;
    make_room(&parent, name, kind, options, &shown)?;
    let step = |errno: Errno| failed(errno.into());
    match kind {
        EntryType::Directory => {
            match mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(step(errno)),
            }
            let fd = openat(
                &parent,
                name,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(step)?;
            fchown(&fd, uid, gid).map_err(step)?;
            fchmod(&fd, Mode::from_raw_mode(mode)).map_err(step)?;
            late.push(Late { path, mode, mtime });
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map_err(step)?;
            let mut file = std::fs::File::from(fd);
            io::copy(entry, &mut file).map_err(failed)?;
            fchown(&file, uid, gid).map_err(step)?;
            // After the owner, which clears the set-id bits.
            fchmod(&file, Mode::from_raw_mode(mode)).map_err(step)?;
            rustix::fs::futimens(&file, &times(mtime)).map_err(step)?;
        }
        EntryType::Symlink => {
            let link = entry
                .link_name_bytes()
                .map(std::borrow::Cow::into_owned)
                .unwrap_or_default();
            symlinkat(Path::new(OsStr::from_bytes(&link)), &parent, name).map_err(step)?;
            chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(step)?;
            let _ = utimensat(&parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW);
        }
        EntryType::Link => {
            let link = entry
                .link_name_bytes()
                .map(std::borrow::Cow::into_owned)
                .unwrap_or_default();
            let inside = super::unpack::inside(&link).ok_or_else(|| {
                Error::invalid(format!("invalid archive: the link {shown} leads outside"))
            })?;
            let first = root
                .open(
                    &target.join(inside),
                    OFlags::PATH | OFlags::NOFOLLOW,
                    Mode::empty(),
                )
                .map_err(step)?;
            linkat(first.as_fd(), "", &parent, name, AtFlags::EMPTY_PATH).map_err(step)?;
        }
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            let number = |value: io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
            let device = rustix::fs::makedev(
                number(entry.header().device_major()),
                number(entry.header().device_minor()),
            );
            let file_type = match kind {
                EntryType::Char => FileType::CharacterDevice,
                EntryType::Block => FileType::BlockDevice,
                _ => FileType::Fifo,
            };
            mknodat(&parent, name, file_type, Mode::from_raw_mode(mode), device).map_err(step)?;
            chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(step)?;
        }
        // Headers that describe others were read already; the rest has no meaning for files.
        _ => {}
    }
    Ok(())
}

/// Takes away what is where a new entry goes, as far as that is allowed.
fn make_room(
    parent: &OwnedFd,
    name: &Path,
    kind: EntryType,
    options: ExtractOptions,
    shown: &str,
) -> Result<()> {
    let failed = |errno: Errno| {
        Error::system(format!("cannot replace {shown}")).caused_by(io::Error::from(errno))
    };
    let there = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    };
    match (there == FileType::Directory, kind == EntryType::Directory) {
        (true, true) => Ok(()),
        (true, false) if options.no_overwrite_dir_non_dir => Err(Error::invalid(format!(
            "cannot overwrite directory \"{shown}\" with non-directory \"{shown}\""
        ))),
        (false, true) if options.no_overwrite_dir_non_dir => Err(Error::invalid(format!(
            "cannot overwrite non-directory \"{shown}\" with directory \"{shown}\""
        ))),
        (true, false) => unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(failed),
        (false, _) => unlinkat(parent, name, AtFlags::empty()).map_err(failed),
    }
}

fn times(seconds: u64) -> Timestamps {
    let time = Timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(0),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack_into(folder: &Path, build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Result<()> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        let bytes = builder.into_inner().unwrap();
        let root = Rootfs::at(folder).unwrap();
        unpack(
            &root,
            Path::new("./in"),
            io::Cursor::new(bytes),
            ExtractOptions::default(),
            None,
            &Owners::AsTheyAre,
        )
    }

    fn file(builder: &mut tar::Builder<Vec<u8>>, path: &str, content: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o640);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        // Written raw: the library refuses to make hostile names.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }

    fn link(builder: &mut tar::Builder<Vec<u8>>, path: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(0);
        builder.append_link(&mut header, path, target).unwrap();
    }

    #[test]
    fn files_arrive_and_nothing_leaves_the_root() {
        if !rustix::process::geteuid().is_root() {
            return wharf_tests::skip(
                "files_arrive_and_nothing_leaves_the_root",
                "owners need root",
            );
        }
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("in")).unwrap();
        unpack_into(&root, |tar| file(tar, "sub/a", "one")).unwrap();
        assert_eq!(
            std::fs::read_to_string(root.join("in/sub/a")).unwrap(),
            "one"
        );
        assert!(unpack_into(&root, |tar| file(tar, "../b", "two")).is_err());
        // A link that points outside is followed inside the root only.
        unpack_into(&root, |tar| {
            link(tar, "up", "../../../../../..");
            file(tar, "up/c", "three");
        })
        .unwrap();
        assert_eq!(std::fs::read_to_string(root.join("c")).unwrap(), "three");
        assert!(!outside.path().join("c").exists());
        // A file that is a link is replaced, not written through.
        std::fs::write(outside.path().join("victim"), "safe").unwrap();
        unpack_into(&root, |tar| {
            link(tar, "d", outside.path().join("victim").to_str().unwrap());
            file(tar, "d", "four");
        })
        .unwrap();
        assert_eq!(
            std::fs::read_to_string(outside.path().join("victim")).unwrap(),
            "safe"
        );
        assert_eq!(std::fs::read_to_string(root.join("in/d")).unwrap(), "four");
    }

    #[test]
    fn garbage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        let root = Rootfs::at(folder.path()).unwrap();
        let garbage = io::Cursor::new(vec![7_u8; 4096]);
        assert!(
            unpack(
                &root,
                Path::new("./in"),
                garbage,
                ExtractOptions::default(),
                None,
                &Owners::AsTheyAre,
            )
            .is_err()
        );
    }
}
