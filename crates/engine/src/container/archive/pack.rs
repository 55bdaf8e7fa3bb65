//! From a container's files to a tar stream.

use std::ffi::{CStr, OsStr};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use tar::{Builder, EntryType, Header};
use wharf_sys::rootfs::Rootfs;

use super::owners::Owners;

/// Directories deeper than this are not copied.
const DEPTH_MAX: usize = 512;

/// Writes what is at `path` under the name `name`.
pub(super) fn pack(
    root: &Rootfs,
    path: &Path,
    name: &str,
    owners: &Owners,
    out: impl Write,
) -> io::Result<()> {
    let builder = Builder::new(out);
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let (parent, last) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(last)) => {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            (
                root.open(parent, directory, Mode::empty())?,
                PathBuf::from(last),
            )
        }
        _ => (
            root.open(Path::new("."), directory, Mode::empty())?,
            PathBuf::from("."),
        ),
    };
    let last = std::ffi::CString::new(last.as_os_str().as_bytes())?;
    let mut packer = Packer { builder, owners };
    packer.entry(parent.as_fd(), &last, &PathBuf::from(name), 0)?;
    packer.builder.finish()
}

struct Packer<'a, W: Write> {
    builder: Builder<W>,
    owners: &'a Owners,
}

impl<W: Write> Packer<'_, W> {
    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(io::Error::other("directories are nested too deep"));
        }
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mut header = header(&stat, self.owners);
        let read =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                header.set_entry_type(EntryType::Directory);
                header.set_size(0);
                let shown = path.join("");
                self.builder.append_data(&mut header, &shown, io::empty())?;
                let fd = openat(parent, name, read | OFlags::DIRECTORY, Mode::empty())?;
                for child in Dir::read_from(&fd)? {
                    let child = child?;
                    if matches!(child.file_name().to_bytes(), b"." | b"..") {
                        continue;
                    }
                    let below = path.join(OsStr::from_bytes(child.file_name().to_bytes()));
                    match self.entry(fd.as_fd(), child.file_name(), &below, depth + 1) {
                        // Gone since the directory was read.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        other => other?,
                    }
                }
                Ok(())
            }
            FileType::RegularFile => {
                let fd = openat(parent, name, read, Mode::empty())?;
                let size = u64::try_from(rustix::fs::fstat(&fd)?.st_size).unwrap_or(0);
                header.set_entry_type(EntryType::Regular);
                header.set_size(size);
                // The length is announced: a file that grows is cut, one that shrinks filled up.
                let content = std::fs::File::from(fd)
                    .take(size)
                    .chain(io::repeat(0))
                    .take(size);
                self.builder.append_data(&mut header, path, content)
            }
            FileType::Symlink => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                let target = readlinkat(parent, name, Vec::new())?;
                self.builder
                    .append_link(&mut header, path, OsStr::from_bytes(target.to_bytes()))
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
                header.set_entry_type(match kind {
                    FileType::CharacterDevice => EntryType::Char,
                    FileType::BlockDevice => EntryType::Block,
                    _ => EntryType::Fifo,
                });
                header.set_size(0);
                if kind != FileType::Fifo {
                    header.set_device_major(rustix::fs::major(stat.st_rdev))?;
                    header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
                }
                self.builder.append_data(&mut header, path, io::empty())
            }
            // Sockets have no form in an archive.
            _ => Ok(()),
        }
    }
}

fn header(stat: &Stat, owners: &Owners) -> Header {
    let (uid, gid) = owners.inside(stat.st_uid, stat.st_gid);
    let mut header = Header::new_gnu();
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header
}
