//! The kernel, safely: every system call Wharf needs that neither the standard library nor
//! `rustix` offers as a safe function.
//!
//! This is the only crate with `unsafe` code. One file per concept; each block says which
//! precondition it relies on and why it holds. What `rustix` already wraps safely is used from
//! there and not wrapped again.
//!
//! - starting processes: [`clone`] (fork-like, into namespaces and cgroups), [`spawn`] (vfork-like,
//!   out of a threaded process), [`exec`], [`signal`], [`process`]
//! - file systems: [`mount`] (the descriptor-based mount calls), [`overlay`], [`rootfs`] (paths
//!   inside a container's root), [`file_owner`], [`memfd`]
//! - confinement: [`capability`], [`seccomp`], [`landlock`], [`device_filter`], [`namespace`],
//!   [`user_namespace`]
//! - descriptors: [`fd`], [`scm`], [`socket`], [`terminal`]
//! - our own program and its memory: [`unwritable`], [`malloc`], [`program_pages`]

#![allow(unsafe_code, reason = "this crate is the one place for it")]

pub mod capability;
pub mod clone;
pub mod device_filter;
pub mod exec;
pub mod fd;
pub mod file_owner;
pub mod landlock;
pub mod malloc;
pub mod memfd;
pub mod mount;
pub mod namespace;
pub mod netns;
pub mod overlay;
pub mod process;
pub mod program_file;
pub mod program_pages;
pub mod rootfs;
pub mod scm;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod terminal;
pub mod unwritable;
pub mod user_namespace;

/// The kernel's error number of the last failed call of this thread.
fn last_error() -> rustix::io::Errno {
    let number = std::io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO);
    rustix::io::Errno::from_raw_os_error(number)
}

/// A raw system call's result: the value, or the error number.
fn checked(result: libc::c_long) -> Result<libc::c_long, rustix::io::Errno> {
    if result < 0 {
        Err(last_error())
    } else {
        Ok(result)
    }
}
