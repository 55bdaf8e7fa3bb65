//! Making files in somebody else's name.
//!
//! In a file system that belongs to a user namespace, or through a mount that maps ids, only ids
//! that are mapped can own files: the host's root usually is not, so it cannot make any.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

/// Runs `work`, in which files made by the calling thread belong to `uid` and `gid`. The rights of
/// the thread stay what they are.
pub fn as_owner<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> Result<T, Errno> {
    let before = capabilities(None)?;
    let restore = Restore {
        dumpable: dumpable_behavior()?,
        uid: set_fsuid(uid),
        gid: set_fsgid(gid),
        capabilities: before,
    };
    // Both calls fail silently; asked with an invalid id they only tell.
    if set_fsuid(u32::MAX) != uid || set_fsgid(u32::MAX) != gid {
        return Err(Errno::PERM);
    }
    // A change away from root took the rights over files.
    set_capabilities(None, before)?;
    let result = work();
    drop(restore);
    Ok(result)
}

/// The thread's identity as it was, also after a panic.
struct Restore {
    /// A change of identity takes the process its ownership of its files in `/proc`.
    dumpable: DumpableBehavior,
    uid: u32,
    gid: u32,
    capabilities: CapabilitySets,
}

impl Drop for Restore {
    fn drop(&mut self) {
        set_fsuid(self.uid);
        set_fsgid(self.gid);
        // They were ours before, and it was so.
        let _ = set_capabilities(None, self.capabilities);
        let _ = set_dumpable_behavior(self.dumpable);
    }
}

fn set_fsuid(uid: u32) -> u32 {
    // SAFETY: plain numbers; the call changes the calling thread alone.
    let before = unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
    before as u32
}

fn set_fsgid(gid: u32) -> u32 {
    // SAFETY: plain numbers; the call changes the calling thread alone.
    let before = unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
    before as u32
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn files_belong_to_somebody_else_and_rights_stay() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let top = std::env::temp_dir().join(format!("wharf-owner-{}", std::process::id()));
        std::fs::create_dir(&top).unwrap();
        let file = top.join("file");
        let before = dumpable_behavior().unwrap();
        // The directory is root's and 0755: without root's rights nothing could be made in it.
        as_owner(4711, 4712, || std::fs::write(&file, "x"))
            .unwrap()
            .unwrap();
        assert_eq!(dumpable_behavior().unwrap(), before);
        let theirs = std::fs::metadata(&file).unwrap();
        assert_eq!((theirs.uid(), theirs.gid()), (4711, 4712));
        let ours = top.join("ours");
        std::fs::write(&ours, "x").unwrap();
        assert_eq!(std::fs::metadata(&ours).unwrap().uid(), 0);
        std::fs::remove_dir_all(top).unwrap();
    }
}
