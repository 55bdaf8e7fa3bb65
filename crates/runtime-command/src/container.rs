//! A container that exists: what is remembered about it, compared with what the kernel says.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use wharf_container_runtime::create::Namespaces;
use wharf_container_runtime::{Cgroup, Running, gate};
use wharf_oci::runtime::{Spec, State, Status};

use crate::bundle;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::store::{Directory, ProcessRecord, Record};

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) directory: Directory,
    pub(crate) record: Record,
    /// Its first process, while that lives.
    process: Option<(Pid, OwnedFd)>,
}

impl Container {
    /// The container `id`.
    pub(crate) fn open(runtime: &Runtime, id: &str) -> Result<Self> {
        let directory = Directory::open(&runtime.root, id)?;
        match directory.read_record()? {
            Some(record) => Self::with(directory, record),
            None => Err(Error::NoContainer),
        }
    }

    /// The container remembered in `directory`.
    pub(crate) fn with(directory: Directory, record: Record) -> Result<Self> {
        let process = match record.process {
            Some(process) => find(process)?,
            None => None,
        };
        Ok(Self {
            directory,
            record,
            process,
        })
    }

    /// Looks again: what was true before the lock was taken may not be so any more.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        self.record = self.directory.read_record()?.ok_or(Error::NoContainer)?;
        self.process = match self.record.process {
            Some(process) => find(process)?,
            None => None,
        };
        Ok(())
    }

    /// Where it is in its life, for those who do not hold its lock.
    pub(crate) fn status(&self) -> Result<Status> {
        // Whoever creates it holds the lock; if nobody does, it was ended over it.
        if self.record.creating && self.directory.is_locked() {
            return Ok(Status::Creating);
        }
        self.status_locked()
    }

    /// Where it is in its life, for whoever holds its lock.
    pub(crate) fn status_locked(&self) -> Result<Status> {
        if self.record.creating {
            return Ok(Status::Stopped);
        }
        Ok(match &self.process {
            Some((_, pidfd)) if !has_ended(pidfd)? => {
                if self.is_paused() {
                    Status::Paused
                } else if gate::is_waiting(&self.directory) {
                    Status::Created
                } else {
                    Status::Running
                }
            }
            _ => Status::Stopped,
        })
    }

    fn is_paused(&self) -> bool {
        // Where there is no freezer nothing is frozen.
        self.cgroup()
            .is_ok_and(|cgroup| cgroup.is_some_and(|cgroup| cgroup.is_paused().unwrap_or(false)))
    }

    /// Its first process, if that lives.
    pub(crate) fn process(&self) -> Option<(Pid, &OwnedFd)> {
        self.process.as_ref().map(|(pid, pidfd)| (*pid, pidfd))
    }

    /// Its cgroup, if it has one.
    pub(crate) fn cgroup(&self) -> Result<Option<Cgroup>> {
        let systemd = self.record.systemd;
        let at = |path| {
            if systemd {
                Cgroup::of_unit(path)
            } else {
                Cgroup::at(path)
            }
        };
        let path = self.record.cgroup.as_deref();
        path.map(at).transpose().map_err(Error::system("cgroup"))
    }

    /// The document it was made from.
    pub(crate) fn spec(&self) -> Result<Spec> {
        bundle::parse(&self.directory.read_config()?)
    }

    /// The container as the runtime library knows it, to run something in it.
    pub(crate) fn running(&self, spec: &Spec) -> Result<Running> {
        let (pid, pidfd) = self.process().ok_or(Error::NotRunning)?;
        let pidfd = pidfd.as_fd().try_clone_to_owned();
        Ok(Running {
            pid,
            pidfd: pidfd.map_err(Error::system("pidfd"))?,
            terminal: None,
            mounts: None,
            cgroup: self.cgroup()?,
            namespaces: Namespaces::of(spec),
        })
    }

    /// What hooks are told.
    pub(crate) fn state(&self, status: Status) -> State {
        let pid = self.process().map(|(pid, _)| pid.as_raw_nonzero().get());
        state_of(&self.record, status, pid)
    }
}

/// What hooks are told about a container.
pub(crate) fn state_of(record: &Record, status: Status, pid: Option<i32>) -> State {
    State {
        oci_version: record.oci_version.clone(),
        id: record.id.clone(),
        status,
        pid,
        bundle: record.bundle.clone(),
        annotations: record.annotations.clone(),
    }
}

/// The process `process` was, if it lives.
pub(crate) fn find(process: ProcessRecord) -> Result<Option<(Pid, OwnedFd)>> {
    let Some(pid) = Pid::from_raw(process.pid) else {
        return Ok(None);
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(Error::system("pidfd_open")(errno)),
    };
    // With the descriptor open the number cannot be reused: now it can be compared.
    Ok((start_time(pid) == Some(process.start_time)).then_some((pid, pidfd)))
}

/// Whether a process has ended, reaped or not.
fn has_ended(pidfd: &OwnedFd) -> Result<bool> {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&at_once))
        .map(|ready| ready > 0)
        .map_err(Error::system("poll"))
}

/// The children of `parent`, those it has reaped excepted.
pub(crate) fn children(parent: Pid) -> Vec<(Pid, OwnedFd)> {
    let number = parent.as_raw_nonzero();
    let list = std::fs::read_to_string(format!("/proc/{number}/task/{number}/children"));
    let pids = list.unwrap_or_default();
    let pids = pids
        .split_ascii_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    pids.filter_map(|pid| {
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // With the descriptor open it is still the one it was, or none.
        let stat = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        let theirs =
            field(&String::from_utf8_lossy(&stat), 1)? == u64::try_from(number.get()).ok()?;
        theirs.then_some((pid, pidfd))
    })
    .collect()
}

/// When `pid` began, in ticks since boot; nothing if it has been reaped.
pub(crate) fn start_time(pid: Pid) -> Option<u64> {
    let text = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    parse_start_time(&String::from_utf8_lossy(&text))
}

fn parse_start_time(stat: &str) -> Option<u64> {
    field(stat, 19)
}

/// The field `index` after the name.
fn field(stat: &str, index: usize) -> Option<u64> {
    // The name in the second field may contain anything, brackets too.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_are_found_after_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        assert_eq!(parse_start_time(stat), Some(4242));
        assert_eq!(parse_start_time(""), None);
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let own = rustix::process::getpid();
        let process = ProcessRecord {
            pid: own.as_raw_nonzero().get(),
            start_time: start_time(own).unwrap(),
        };
        assert!(find(process).unwrap().is_some());
        let reused = ProcessRecord {
            start_time: process.start_time + 1,
            ..process
        };
        assert!(find(reused).unwrap().is_none());
    }
}
