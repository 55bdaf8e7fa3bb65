//! Making the namespaces: user (with the subordinate ids), mount and network.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::event::{PollFd, poll};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use rustix::thread::ThreadNameSpaceType;
use wharf_sys::clone::clone_process;
use wharf_sys::overlay::Overlay;

use crate::prerequisites::{self, Ids};
use crate::subordinate::Range;
use crate::{Missing, Result, RootlessError};

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

impl Sandbox {
    /// Makes them for the user who runs this, a process with one thread.
    pub fn make() -> Result<Self> {
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
        let child = || pinned(parent, mapped_in, found_in);
        let (pid, pidfd) = clone_process(namespaces, None, child).map_err(|errno| {
            let refused = matches!(
                errno,
                Errno::PERM | Errno::NOSPC | Errno::USERS | Errno::INVAL
            );
            match prerequisites::namespaces_switched_off().filter(|_| refused) {
                Some(missing) => missing.into(),
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
        if word[0] == NO_OVERLAY {
            return Err(Missing::Overlay.into());
        }
        let open = |name: &str| {
            std::fs::File::open(format!("/proc/{number}/ns/{name}"))
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
}

/// The process in the namespaces: waits for its ids, looks around, and stays.
fn pinned(parent: Pid, mut mapped: std::io::PipeReader, mut found: std::io::PipeWriter) -> u8 {
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err()
        || rustix::process::getppid() != Some(parent)
    {
        return 1;
    }
    let mut word = [0];
    if mapped.read_exact(&mut word).is_err() {
        return 1;
    }
    let word = if has_overlay() { FINE } else { NO_OVERLAY };
    if found.write_all(&[word]).is_err() {
        return 1;
    }
    drop((mapped, found));
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
    Err(RootlessError::Program {
        program: program.display().to_string(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
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
