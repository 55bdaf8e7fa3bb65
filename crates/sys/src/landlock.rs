//! Landlock: a process gives up file systems, TCP and abstract sockets but for what it names.
//!
//! A domain is for ever, and inherited: by children, and by what they execute. See
//! `Documentation/userspace-api/landlock.rst` of the kernel.

use std::mem;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::checked;

/// What may be done below a directory, or with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u64);

impl Rights {
    /// Writing a file that is there.
    pub const WRITE: Self = Self(1 << 1);
    /// Reading a file.
    pub const READ: Self = Self(1 << 2);
    /// Listing a directory.
    pub const LIST: Self = Self(1 << 3);
    /// Taking files out of a directory.
    pub const REMOVE: Self = Self(1 << 5);
    /// Making regular files, also by renaming them within a directory.
    pub const MAKE: Self = Self(1 << 8);
    /// Shortening a file (since version 3).
    pub const TRUNCATE: Self = Self(1 << 14);

    /// Either.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const VERSION: libc::c_uint = 1;
/// `LANDLOCK_RULE_PATH_BENEATH`.
const PATH_BENEATH: libc::c_int = 1;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`.
const ABSTRACT_SOCKETS: u64 = 1;
/// `LANDLOCK_ACCESS_NET_BIND_TCP` and `LANDLOCK_ACCESS_NET_CONNECT_TCP`.
const TCP: u64 = 3;

/// The kernel's `struct landlock_ruleset_attr`, which has grown.
#[repr(C)]
struct RulesetAttributes {
    files: u64,
    network: u64,
    scopes: u64,
}

/// The kernel's `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// The version of Landlock this kernel has; an error where it has none, or has it switched off.
pub fn version() -> Result<u32, Errno> {
    // SAFETY: with this flag the kernel wants no attributes and answers with a number.
    let version = checked(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttributes>(),
            0_usize,
            VERSION,
        )
    })?;
    u32::try_from(version).map_err(|_| Errno::NOSYS)
}

/// A domain in the making: denied is everything the kernel can deny, but for what is allowed here.
/// Signals are not denied.
#[derive(Debug)]
pub struct Domain {
    rules: OwnedFd,
    files: u64,
}

impl Domain {
    /// One that allows nothing.
    pub fn new() -> Result<Self, Errno> {
        let version = version()?;
        // One right for each bit the version knows: 13, then renaming, truncation and devices.
        let files = (1_u64
            << match version {
                0 | 1 => 13,
                2 => 14,
                3 | 4 => 15,
                _ => 16,
            })
            - 1;
        let attributes = RulesetAttributes {
            files,
            network: if version >= 4 { TCP } else { 0 },
            scopes: if version >= 6 { ABSTRACT_SOCKETS } else { 0 },
        };
        let size: usize = match version {
            0..4 => 8,
            4 | 5 => 16,
            _ => mem::size_of::<RulesetAttributes>(),
        };
        // SAFETY: `attributes` is at least `size` bytes long and outlives the call.
        let number = checked(unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attributes,
                size,
                0,
            )
        })?;
        let number = RawFd::try_from(number).map_err(|_| Errno::BADF)?;
        // SAFETY: the kernel has just opened this descriptor for us.
        let rules = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Self { rules, files })
    }

    /// Allows `rights` with `place` and, for a directory, whatever is below. `place` may be opened
    /// with `O_PATH`.
    pub fn allow(&self, place: impl AsFd, rights: Rights) -> Result<(), Errno> {
        let rule = PathBeneath {
            allowed: rights.0 & self.files,
            parent: place.as_fd().as_raw_fd(),
        };
        // SAFETY: `rule` is what this type of rule is described by and outlives the call.
        checked(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.rules.as_raw_fd(),
                PATH_BENEATH,
                &raw const rule,
                0,
            )
        })?;
        Ok(())
    }

    /// Enters it, with the calling thread. Needs no-new-privileges or `CAP_SYS_ADMIN`.
    pub fn enter(self) -> Result<(), Errno> {
        // SAFETY: no memory is passed.
        checked(unsafe {
            libc::syscall(libc::SYS_landlock_restrict_self, self.rules.as_raw_fd(), 0)
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind::PermissionDenied;

    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    #[test]
    fn only_what_is_allowed_is_left() {
        if let Err(errno) = version() {
            let reason = format!("no Landlock here: {errno}");
            return wharf_tests::skip("only_what_is_allowed_is_left", &reason);
        }
        let (open, closed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(closed.path().join("file"), "content").unwrap();
        let child = crate::clone::fork(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            let domain = Domain::new().unwrap();
            let rights = Rights::READ
                .and(Rights::WRITE)
                .and(Rights::MAKE)
                .and(Rights::TRUNCATE);
            domain
                .allow(fs::File::open(open.path()).unwrap(), rights)
                .unwrap();
            domain.enter().unwrap();
            let refused = |result: std::io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), PermissionDenied);
            };
            fs::write(open.path().join("file"), "a").unwrap();
            fs::write(open.path().join("file"), "b").unwrap();
            fs::rename(open.path().join("file"), open.path().join("other")).unwrap_err();
            refused(fs::remove_file(open.path().join("file")));
            refused(fs::write(closed.path().join("new"), ""));
            refused(fs::read(closed.path().join("file")).map(drop));
            refused(fs::read_dir(open.path()).map(drop));
            refused(std::net::TcpListener::bind(("127.0.0.1", 0)).map(drop));
            0
        })
        .unwrap();
        let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }
}
