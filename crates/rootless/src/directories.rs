//! Where an ordinary user's engine keeps its things: the XDG base directories.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::{Missing, Result, RootlessError};

/// A user's directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Sockets and what dies with the session: `$XDG_RUNTIME_DIR`.
    pub runtime: PathBuf,
    /// Images, volumes, containers: `$XDG_DATA_HOME/wharf`.
    pub data: PathBuf,
    /// `$XDG_CONFIG_HOME/wharf`.
    pub config: PathBuf,
}

impl Directories {
    /// Those of the user who runs this.
    pub fn find() -> Result<Self> {
        let home = home()?;
        let base = |name: &str, fallback: &str| {
            absolute(name)
                .unwrap_or_else(|| home.join(fallback))
                .join("wharf")
        };
        Ok(Self {
            runtime: runtime()?,
            data: base("XDG_DATA_HOME", ".local/share"),
            config: base("XDG_CONFIG_HOME", ".config"),
        })
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.runtime)
    }

    /// Docker's socket for users without root.
    pub fn docker_socket(&self) -> PathBuf {
        self.runtime.join("docker.sock")
    }

    /// The daemon's process id.
    pub fn pidfile(&self) -> PathBuf {
        self.runtime.join("wharf.pid")
    }

    /// The log of a daemon that nobody watches.
    pub fn log(&self) -> PathBuf {
        self.runtime.join("wharf.log")
    }

    /// Shim sockets, and the keeper's.
    pub fn exec_root(&self) -> PathBuf {
        self.runtime.join("wharf")
    }
}

/// Where the daemon of a user listens whose runtime directory this is.
pub fn socket_in(runtime: &Path) -> PathBuf {
    runtime.join("wharf.sock")
}

fn absolute(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

fn home() -> Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    absolute("HOME")
        .or_else(|| crate::subordinate::account(uid)?.home)
        .ok_or_else(|| Missing::Home.into())
}

/// `$XDG_RUNTIME_DIR` where it is ours, else the place a login would have given us, else one of
/// our own in `/tmp`. Made where missing; never one that somebody else can write to.
pub fn runtime() -> Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    // After `su` the variable still names the other user's directory.
    let usual = [
        absolute("XDG_RUNTIME_DIR"),
        Some(PathBuf::from(format!("/run/user/{uid}"))),
    ];
    if let Some(found) = usual.into_iter().flatten().find(|path| is_ours(path, uid)) {
        return Ok(found);
    }
    let fallback = PathBuf::from(format!("/tmp/wharf-{uid}"));
    let made = std::fs::DirBuilder::new().mode(0o700).create(&fallback);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            let action = format!("make {}, in place of XDG_RUNTIME_DIR", fallback.display());
            return Err(RootlessError::step(action, error));
        }
        _ => {}
    }
    if is_ours(&fallback, uid) {
        Ok(fallback)
    } else {
        Err(Missing::RuntimeDirectory { taken: fallback }.into())
    }
}

/// Whether it is a directory (and no link to one) of `uid`'s that nobody else may write to.
fn is_ours(path: &Path, uid: u32) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_dir() && found.uid() == uid && found.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_a_directory_of_ones_own_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        assert!(is_ours(folder.path(), uid));
        assert!(!is_ours(folder.path(), uid + 1));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(!is_ours(&link, uid));
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!is_ours(folder.path(), uid));
    }
}
