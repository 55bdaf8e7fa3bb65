//! The lifeline: a pipe with a name, whose writing end daemon and shims hold and nobody ever writes
//! to. Its end tells a keeper that nobody is left.
//!
//! The name is for the next keeper: one that was killed leaves the pipe to those who hold it, and
//! they are in the namespaces that are to be kept on.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::Pid;

/// Where it is.
pub(crate) fn path(exec_root: &Path) -> PathBuf {
    exec_root.join("lifeline")
}

/// The keeper's end; the pipe is made where there is none.
pub(crate) fn open(exec_root: &Path) -> io::Result<OwnedFd> {
    let path = path(exec_root);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.file_type().is_fifo() => {}
        Ok(_) => std::fs::remove_file(&path)?,
        Err(_) => {}
    }
    match rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0) {
        Err(rustix::io::Errno::EXIST) => {}
        other => other?,
    }
    // Not blocking: nobody need have the other end yet.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(&path, flags, Mode::empty())?)
}

/// The other end, for a daemon to hold and to give to shims.
pub(crate) fn other_end(exec_root: &Path) -> io::Result<OwnedFd> {
    Ok(File::options().write(true).open(path(exec_root))?.into())
}

/// The processes that hold the other end of a pipe whose keeper has gone. Processes of ours only,
/// and only those we may look into.
pub(crate) fn holders(exec_root: &Path) -> Vec<Pid> {
    let Ok(pipe) = std::fs::metadata(path(exec_root)) else {
        return Vec::new();
    };
    let own = rustix::process::getpid();
    let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| *pid != own && holds(*pid, &pipe))
        .collect()
}

fn holds(pid: Pid, pipe: &Metadata) -> bool {
    let folder = format!("/proc/{}/fd", pid.as_raw_nonzero());
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .any(|file| (file.dev(), file.ino()) == (pipe.dev(), pipe.ino()))
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn ended(end: &OwnedFd) -> bool {
        let mut watched = [PollFd::new(end, PollFlags::IN)];
        poll(&mut watched, Some(&Timespec::default())).unwrap();
        watched[0].revents().contains(PollFlags::HUP)
    }

    #[test]
    fn a_second_keeper_sees_those_who_hold_the_pipe_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).unwrap();
        assert!(!ended(&first));
        let held = other_end(folder.path()).unwrap();
        let mut holder = std::process::Command::new("sleep")
            .arg("1000")
            .stdout(File::from(held))
            .spawn()
            .unwrap();
        drop(first);
        let pid = Pid::from_child(&holder);
        assert_eq!(holders(folder.path()), [pid]);
        let second = open(folder.path()).unwrap();
        drop(other_end(folder.path()).unwrap());
        assert!(!ended(&second));
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(ended(&second));
        assert_eq!(holders(folder.path()), []);
    }
}
