//! Making the namespaces: user (with the subordinate ids), mount and network.
//!
//! Nobody but the keeper is in the network namespace of the bridges, so it is mounted on a file in
//! the mount namespace: whoever is there keeps it, and it goes with the last of them. A keeper
//! after one that was killed finds everything again through a daemon or shim that is left.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::event::{PollFd, poll};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space};
use wharf_sys::clone::clone_process;
use wharf_sys::overlay::Overlay;

use crate::prerequisites::{self, Ids};
use crate::subordinate::Range;
use crate::{Missing, Result, RootlessError, lifeline};

/// The namespaces, kept alive by a process in them.
#[derive(Debug)]
pub struct Sandbox {
    /// A process that does nothing but be in them; it dies with the process that made it.
    pub pid: Pid,
    /// The same as a descriptor.
    pub pidfd: OwnedFd,
    /// The user namespace.
    pub user: OwnedFd,
    /// The mount namespace: the host's tree, receiving what the host mounts later.
    pub mount: OwnedFd,
    /// The network namespace of the containers' bridges.
    pub network: OwnedFd,
}

/// What the first look around from inside found.
const FINE: u8 = b'+';
const NO_OVERLAY: u8 = b'o';
const NOT_KEPT: u8 = b'k';

/// The file on which the network namespace is mounted, inside. From outside one reads which mount
/// namespace that is.
pub(crate) fn anchor(exec_root: &Path) -> PathBuf {
    exec_root.join("sandbox")
}

impl Sandbox {
    /// Those of a keeper that was killed, if somebody is still in them.
    pub fn find(exec_root: &Path) -> Option<Self> {
        let made = std::fs::read_to_string(anchor(exec_root)).ok()?;
        let mut holders: Vec<(Pid, bool)> = lifeline::holders(exec_root)
            .into_iter()
            .map(|pid| {
                let mount = std::fs::read_link(namespace_file(pid, "mnt")).unwrap_or_default();
                (pid, mount.as_os_str() == made.as_str())
            })
            .collect();
        // Some shims are in a copy of the mount namespace; it will do where there is nothing else.
        holders.sort_by_key(|(_, original)| !original);
        holders.into_iter().find_map(|(pid, _)| {
            let open = |name| {
                File::open(namespace_file(pid, name))
                    .map(OwnedFd::from)
                    .ok()
            };
            let (user, mount) = (open("user")?, open("mnt")?);
            let network = || {
                let opened = File::open(anchor(exec_root)).map_err(|_| Errno::NOENT)?;
                Ok(OwnedFd::from(opened))
            };
            Self::join(&user, &mount, network).ok()
        })
    }

    /// The same namespaces with another process in them: the last one was killed.
    pub fn pin_again(self) -> Result<Self> {
        Self::join(&self.user, &self.mount, || {
            rustix::io::fcntl_dupfd_cloexec(&self.network, 0)
        })
    }

    /// Puts a process into existing namespaces. `network` is looked up inside.
    fn join(
        user: &OwnedFd,
        mount: &OwnedFd,
        network: impl FnOnce() -> std::result::Result<OwnedFd, Errno>,
    ) -> Result<Self> {
        let (mut found, mut found_in) =
            std::io::pipe().map_err(|error| RootlessError::step("make a pipe", error))?;
        let parent = rustix::process::getpid();
        let child = || {
            let joined = || -> std::result::Result<(), Errno> {
                move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))?;
                move_into_link_name_space(mount.as_fd(), Some(LinkNameSpaceType::Mount))?;
                let network = network()?;
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            };
            // Joining a user namespace takes the death signal back: only now.
            if joined().is_err() || !dies_with(parent) || found_in.write_all(&[FINE]).is_err() {
                return 1;
            }
            drop(found_in);
            stay()
        };
        let (pid, pidfd) = clone_process(ThreadNameSpaceType::empty(), None, child)
            .map_err(|errno| RootlessError::step("make a process", errno))?;
        let mut word = [0];
        found
            .read_exact(&mut word)
            .map_err(|error| RootlessError::step("join the namespaces of before", error))?;
        Self::of(pid, pidfd)
    }

    /// The namespaces of our child.
    fn of(pid: Pid, pidfd: OwnedFd) -> Result<Self> {
        let open = |name: &str| {
            File::open(namespace_file(pid, name))
                .map(OwnedFd::from)
                .map_err(|error| RootlessError::step(format!("open the {name} namespace"), error))
        };
        Ok(Self {
            user: open("user")?,
            mount: open("mnt")?,
            network: open("net")?,
            pid,
            pidfd,
        })
    }

    /// Makes them for the user who runs this, a process with one thread.
    pub fn make(exec_root: &Path) -> Result<Self> {
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        let ids = prerequisites::ids(uid.as_raw())?;
        let newuidmap = prerequisites::id_mapper("newuidmap")?;
        let newgidmap = prerequisites::id_mapper("newgidmap")?;

        let pipes = || std::io::pipe().map_err(|error| RootlessError::step("make a pipe", error));
        let (mapped_in, mut mapped) = pipes()?;
        let (mut found, found_in) = pipes()?;
        let namespaces =
            ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::NETWORK;
        let parent = rustix::process::getpid();
        let anchor = anchor(exec_root);
        let kept = |error| RootlessError::step(format!("write {}", anchor.display()), error);
        std::fs::write(&anchor, "").map_err(kept)?;
        let child = || pinned(parent, &anchor, mapped_in, found_in);
        let (pid, pidfd) = clone_process(namespaces, None, child).map_err(|errno| {
            let refused = matches!(
                errno,
                Errno::PERM | Errno::NOSPC | Errno::USERS | Errno::INVAL
            );
            match prerequisites::namespaces_switched_off().filter(|_| refused) {
                Some(missing) => missing.into(),
                // user_namespaces(7): EPERM for a caller in a chroot.
                None if errno == Errno::PERM => RootlessError::step(
                    "make a user namespace; in a chroot the kernel makes none",
                    errno,
                ),
                None => RootlessError::step("make a user namespace", errno),
            }
        })?;
        // From here on the child ends with us, whatever happens.
        let number = pid.as_raw_nonzero().to_string();
        let Ids { uids, gids } = ids;
        map(&newuidmap, &number, uid.as_raw(), &uids)?;
        map(&newgidmap, &number, gid.as_raw(), &gids)?;
        mapped
            .write_all(&[FINE])
            .map_err(|error| RootlessError::step("tell the new namespaces their ids", error))?;
        let mut word = [0];
        found.read_exact(&mut word).map_err(|error| {
            prerequisites::namespaces_switched_off().map_or_else(
                || RootlessError::step("set up the new namespaces", error),
                RootlessError::from,
            )
        })?;
        match word[0] {
            NO_OVERLAY => return Err(Missing::Overlay.into()),
            NOT_KEPT => {
                return Err(RootlessError::Keeper(
                    "rootless: the network namespace cannot be kept".to_owned(),
                ));
            }
            _ => {}
        }
        let made = std::fs::read_link(namespace_file(pid, "mnt")).map_err(kept)?;
        std::fs::write(&anchor, made.as_os_str().as_bytes()).map_err(kept)?;
        Self::of(pid, pidfd)
    }
}

/// The process in the namespaces: waits for its ids, looks around, and stays.
fn pinned(
    parent: Pid,
    anchor: &Path,
    mut mapped: std::io::PipeReader,
    mut found: std::io::PipeWriter,
) -> u8 {
    if !dies_with(parent) {
        return 1;
    }
    let mut word = [0];
    if mapped.read_exact(&mut word).is_err() {
        return 1;
    }
    let word = if !has_overlay() {
        NO_OVERLAY
    } else if keep_network(anchor).is_err() {
        NOT_KEPT
    } else {
        FINE
    };
    if found.write_all(&[word]).is_err() {
        return 1;
    }
    drop((mapped, found));
    stay()
}

/// Whether this process ends with its parent from now on.
fn dies_with(parent: Pid) -> bool {
    set_parent_process_death_signal(Some(Signal::KILL)).is_ok()
        && rustix::process::getppid() == Some(parent)
}

/// Mounts our network namespace on `anchor`.
fn keep_network(anchor: &Path) -> std::result::Result<(), Errno> {
    let anchor = CString::new(anchor.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    let namespace = wharf_sys::mount::clone_tree(rustix::fs::CWD, c"/proc/self/ns/net", false)?;
    wharf_sys::mount::attach_at(&namespace, &anchor)
}

/// Does nothing but be there.
fn stay() -> u8 {
    loop {
        // Nothing ever comes; the end is the parent's, or a signal.
        let mut nothing: [PollFd<'_>; 0] = [];
        if !matches!(poll(&mut nothing, None), Err(Errno::INTR)) {
            return 1;
        }
    }
}

/// Whether overlay can be mounted here. Tried on a tmpfs that nobody sees; what fails there for
/// another reason is left to the first container, which can say why.
fn has_overlay() -> bool {
    let attributes = MountAttrFlags::empty();
    let Ok(tmpfs) = wharf_sys::mount::new_filesystem("tmpfs", &[], attributes) else {
        return true;
    };
    if wharf_sys::mount::attach_at(&tmpfs, c"/tmp").is_err() {
        return true;
    }
    let top = Path::new("/tmp");
    let folders = ["one", "two", "up", "work"].map(|name| top.join(name));
    if folders
        .iter()
        .any(|folder| std::fs::create_dir(folder).is_err())
    {
        return true;
    }
    let [one, two, upper, work] = folders;
    let options = [wharf_sys::overlay::USER_ATTRIBUTES.to_owned()];
    let overlay = Overlay {
        lower: &[one, two],
        writable: Some((&upper, &work)),
        options: &options,
    };
    let mounted = overlay.mount(attributes);
    let detached = wharf_sys::mount::detach(c"/tmp");
    detached.is_ok()
        && !matches!(
            mounted,
            Err(Errno::PERM | Errno::NODEV | Errno::INVAL | Errno::OPNOTSUPP)
        )
}

/// Maps 0 to the user and 1 and up to the subordinate ids, with the setuid program for it.
fn map(program: &Path, pid: &str, own: u32, ranges: &[Range]) -> Result<()> {
    let output = Command::new(program)
        .args(mapping(pid, own, ranges))
        .output()
        .map_err(|error| RootlessError::step(format!("run {}", program.display()), error))?;
    if output.status.success() {
        return Ok(());
    }
    let program = program.display().to_string();
    let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    // Neither setuid nor with file capabilities: what a copy of a system loses.
    if output.contains("Operation not permitted") {
        return Err(Missing::IdMapperRights { program }.into());
    }
    Err(RootlessError::Program { program, output })
}

fn mapping(pid: &str, own: u32, ranges: &[Range]) -> Vec<OsString> {
    let mut words = vec![
        pid.to_owned(),
        "0".to_owned(),
        own.to_string(),
        "1".to_owned(),
    ];
    let mut inside = 1_u64;
    for range in ranges {
        words.extend([
            inside.to_string(),
            range.first.to_string(),
            range.count.to_string(),
        ]);
        inside += u64::from(range.count);
    }
    words.into_iter().map(OsString::from).collect()
}

/// The file that names a namespace of process `pid`, for programs that take paths.
pub fn namespace_file(pid: Pid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/{name}", pid.as_raw_nonzero()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_one_after_the_other() {
        let range = |first, count| Range { first, count };
        let words = mapping("7", 1000, &[range(100_000, 65_536), range(300_000, 5)]);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        let expected = "7 0 1000 1 1 100000 65536 65537 300000 5";
        assert_eq!(words.join(" "), expected);
    }
}
