//! The standard streams a container is given: what of them is its own, and what stays the host's.
//!
//! A stream may be the host's null device. Whoever has it could change the mode and the owner of
//! the device for the whole machine (`chmod 0 /dev/stdin`), so a container gets such a device by
//! way of a read-only mount of its own: that stops changes of the node and no reading or writing.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, fstat, major};
use rustix::io::Errno;
use wharf_sys::mount::{AttributeChange, Attributes, change_attributes, clone_tree};

use crate::error::{Stage, StartError};

/// Memory devices: null, zero, full, random and their like.
const MEMORY: u32 = 1;

/// Mounts that streams are shielded by, for as long as nobody should wait for their end: when the
/// last descriptor of one is closed, the kernel waits until nobody can be on the way through it.
#[derive(Debug, Default)]
pub(crate) struct Shields(Vec<(u64, OwnedFd)>);

/// Shields all three.
pub(crate) fn shield_all(streams: [OwnedFd; 3]) -> Result<([OwnedFd; 3], Shields), StartError> {
    let failed = |errno| StartError::new(Stage::Terminal, errno, "standard streams");
    let mut shields = Shields::default();
    let [stdin, stdout, stderr] = streams.map(|stream| shields.shield(stream).map_err(failed));
    Ok(([stdin?, stdout?, stderr?], shields))
}

/// The same stream, through which a memory device of the host can be read and written, and
/// nothing else. Somebody who may not mount gets it as it is: the device is not theirs to change.
pub fn shield(stream: OwnedFd) -> Result<OwnedFd, Errno> {
    Shields::default().shield(stream)
}

impl Shields {
    fn shield(&mut self, stream: OwnedFd) -> Result<OwnedFd, Errno> {
        let status = fstat(&stream)?;
        let device = status.st_rdev;
        if FileType::from_raw_mode(status.st_mode) != FileType::CharacterDevice
            || major(device) != MEMORY
        {
            return Ok(stream);
        }
        let access = rustix::fs::fcntl_getfl(&stream)? & OFlags::RWMODE;
        if let Some((_, tree)) = self.0.iter().find(|(shielded, _)| *shielded == device) {
            return open_through(tree, access);
        }
        let tree = match read_only_copy(stream.as_fd()) {
            // Another mount namespace's.
            Err(Errno::INVAL) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::open(c"/dev/null", flags, Mode::empty()) {
                    Ok(ours) if fstat(&ours)?.st_rdev == device => read_only_copy(ours.as_fd())?,
                    _ => return Ok(stream),
                }
            }
            Err(Errno::PERM) => return Ok(stream),
            other => other?,
        };
        let shielded = open_through(&tree, access)?;
        self.0.push((device, tree));
        Ok(shielded)
    }
}

/// Opens the device that `tree` shows.
fn open_through(tree: &OwnedFd, access: OFlags) -> Result<OwnedFd, Errno> {
    // Through procfs: a descriptor of a file cannot be opened in any other way.
    let path = format!("/proc/self/fd/{}", tree.as_raw_fd());
    rustix::fs::openat(
        CWD,
        path,
        access | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// A detached mount of a single file that nobody can change through it.
pub(crate) fn read_only_copy(file: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let tree = clone_tree(file, c"", false)?;
    let read_only = AttributeChange {
        set: Attributes::READ_ONLY,
        ..AttributeChange::default()
    };
    change_attributes(&tree, c"", false, read_only)?;
    Ok(tree)
}

/// Gives `stream` to `uid`, unless it is a device that others use, too. Terminals are given: their
/// user reopens them.
pub(crate) fn give(
    stream: BorrowedFd<'_>,
    uid: Option<u32>,
    gid: Option<u32>,
) -> Result<(), Errno> {
    let status = fstat(stream)?;
    let shared_device = match FileType::from_raw_mode(status.st_mode) {
        FileType::CharacterDevice => !rustix::termios::isatty(stream),
        FileType::BlockDevice => true,
        _ => false,
    };
    let theirs =
        uid.is_none_or(|uid| status.st_uid == uid) && gid.is_none_or(|gid| status.st_gid == gid);
    if shared_device || theirs {
        return Ok(());
    }
    match rustix::fs::fchown(stream, uid.map(Uid::from_raw), gid.map(Gid::from_raw)) {
        // Files on a read-only or foreign file system keep their owner.
        Err(Errno::INVAL | Errno::PERM | Errno::ROFS | Errno::NOSYS) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{makedev, mknodat};
    use rustix::mount::MountAttrFlags;

    use super::*;

    /// Devices of the test's own: nothing of the machine's is at stake.
    fn node(folder: &OwnedFd, name: &str, device: (u32, u32)) -> Option<OwnedFd> {
        let device = makedev(device.0, device.1);
        let mode = Mode::from_raw_mode(0o666);
        match mknodat(folder, name, FileType::CharacterDevice, mode, device) {
            Ok(()) => Some(
                rustix::fs::openat(folder, name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                    .unwrap(),
            ),
            Err(_) => None,
        }
    }

    fn shelf() -> Option<OwnedFd> {
        let parameters = [("source", Some("devices"))];
        wharf_sys::mount::new_filesystem("tmpfs", &parameters, MountAttrFlags::empty()).ok()
    }

    #[test]
    fn devices_that_others_use_keep_their_owner() {
        let Some(shelf) = shelf() else {
            eprintln!("skipped: mounting needs root");
            return;
        };
        for (name, number) in [("null", 3), ("zero", 5), ("full", 7), ("urandom", 9)] {
            let Some(device) = node(&shelf, name, (1, number)) else {
                eprintln!("skipped: making devices needs root");
                return;
            };
            give(device.as_fd(), Some(1234), Some(1234)).unwrap();
            let status = fstat(&device).unwrap();
            assert_eq!((status.st_uid, status.st_gid), (0, 0), "{name}");
        }
        let (read, _write) = std::io::pipe().unwrap();
        give(read.as_fd(), Some(1234), Some(1234)).unwrap();
        assert_eq!(fstat(&read).unwrap().st_uid, 1234);
    }

    #[test]
    fn a_shielded_device_reads_and_writes_and_cannot_be_changed() {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let null = null.unwrap();
        let before = fstat(&null).unwrap();
        if read_only_copy(null.as_fd()).is_err() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let shielded = shield(null).unwrap();
        assert_eq!(rustix::io::write(&shielded, b"x"), Ok(1));
        assert_eq!(rustix::io::read(&shielded, &mut [0; 4]), Ok(0));
        // What it is: no change, should the shield be missing.
        let owner = (Uid::from_raw(before.st_uid), Gid::from_raw(before.st_gid));
        let mode = Mode::from_raw_mode(before.st_mode & 0o7777);
        assert_eq!(
            rustix::fs::fchown(&shielded, Some(owner.0), Some(owner.1)),
            Err(Errno::ROFS)
        );
        assert_eq!(rustix::fs::fchmod(&shielded, mode), Err(Errno::ROFS));
        let path = format!("/proc/self/fd/{}", shielded.as_raw_fd());
        assert_eq!(rustix::fs::chmod(path, mode), Err(Errno::ROFS));
    }

    #[test]
    fn one_shield_serves_all_streams_of_a_device() {
        let open = |path: &str, access| {
            rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        let null = open("/dev/null", OFlags::RDONLY);
        if read_only_copy(null.as_fd()).is_err() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let streams = [
            null,
            open("/dev/null", OFlags::WRONLY),
            open("/dev/zero", OFlags::RDWR),
        ];
        let (shielded, shields) = shield_all(streams).unwrap();
        assert_eq!(shields.0.len(), 2);
        drop(shields);
        let [stdin, stdout, stderr] = shielded;
        assert_eq!(rustix::io::read(&stdin, &mut [0; 4]), Ok(0));
        assert_eq!(rustix::io::write(&stdin, b"x"), Err(Errno::BADF));
        assert_eq!(rustix::io::write(&stdout, b"x"), Ok(1));
        assert_eq!(rustix::io::read(&stderr, &mut [1; 4]), Ok(4));
        for stream in [stdin, stdout, stderr] {
            let mode = Mode::from_raw_mode(fstat(&stream).unwrap().st_mode & 0o7777);
            assert_eq!(rustix::fs::fchmod(&stream, mode), Err(Errno::ROFS));
        }
    }

    #[test]
    fn other_streams_stay_what_they_are() {
        let (read, _write) = std::io::pipe().unwrap();
        let number = read.as_raw_fd();
        let same = shield(read.into()).unwrap();
        assert_eq!(same.as_raw_fd(), number);
    }
}
