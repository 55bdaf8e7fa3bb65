//! Pausing a container and signalling all of it.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::{Cgroup, write};

/// How often a freezing cgroup is looked at, a millisecond apart at first.
const TRIES: u32 = 500;

impl Cgroup {
    /// Freezes every process; returns when all are.
    pub fn pause(&self) -> io::Result<()> {
        if self.is_unified() {
            self.write_to("freezer", "cgroup.freeze", "1")?;
            self.wait_until("cgroup.events", |text| {
                text.lines().any(|line| line == "frozen 1")
            })
        } else {
            self.write_to("freezer", "freezer.state", "FROZEN")?;
            self.wait_until("freezer.state", |text| text.trim() == "FROZEN")
        }
        .inspect_err(|_| {
            let _ = self.resume();
        })
    }

    /// Lets them go on.
    pub fn resume(&self) -> io::Result<()> {
        if self.is_unified() {
            self.write_to("freezer", "cgroup.freeze", "0")
        } else {
            self.write_to("freezer", "freezer.state", "THAWED")
        }
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> io::Result<bool> {
        let (file, frozen) = if self.is_unified() {
            ("cgroup.freeze", "1")
        } else {
            ("freezer.state", "FROZEN")
        };
        Ok(self.read_from("freezer", file)?.trim() == frozen)
    }

    /// The directory that does this, where there is one.
    pub fn freezer(&self) -> Option<&Path> {
        self.hierarchy("freezer")
    }

    /// Signals every process in it, children's included. Frozen ones get it when they are
    /// resumed, except that killing resumes them.
    pub fn signal_all(&self, signal: Signal) -> io::Result<()> {
        let kill = signal == Signal::KILL;
        if kill && self.is_unified() {
            match self.write_to("freezer", "cgroup.kill", "1") {
                // Before Linux 5.14 it has to be done one by one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
        // A process that forks between the list and the signal is found by the next round.
        let mut signalled = Vec::new();
        for _ in 0..100 {
            let new: Vec<i32> = self
                .processes()?
                .into_iter()
                .filter(|pid| !signalled.contains(pid))
                .collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                if let Some(pid) = Pid::from_raw(pid) {
                    match rustix::process::kill_process(pid, signal) {
                        Ok(()) | Err(Errno::SRCH) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                signalled.push(pid);
            }
        }
        if kill && self.is_paused().unwrap_or(false) {
            self.resume()?;
        }
        Ok(())
    }

    fn wait_until(&self, file: &str, done: impl Fn(&str) -> bool) -> io::Result<()> {
        for attempt in 0..TRIES {
            if done(&self.read_from("freezer", file)?) {
                return Ok(());
            }
            // Neither version of the freezer tells when it is through in a way that can be waited
            // for on both.
            std::thread::sleep(Duration::from_millis(u64::from(attempt / 50 + 1)));
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    pub(super) fn read_from(&self, controller: &str, file: &str) -> io::Result<String> {
        let directory = self
            .hierarchy(controller)
            .ok_or(io::ErrorKind::Unsupported)?;
        std::fs::read_to_string(directory.join(file))
    }

    fn write_to(&self, controller: &str, file: &str, value: &str) -> io::Result<()> {
        let directory = self
            .hierarchy(controller)
            .ok_or(io::ErrorKind::Unsupported)?;
        Ok(write(&directory.join(file), value)?)
    }
}
