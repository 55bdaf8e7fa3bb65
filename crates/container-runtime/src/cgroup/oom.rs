//! Noticing that a container ran out of memory.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};

use super::{Cgroup, write};

impl Cgroup {
    /// How many processes the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> io::Result<u64> {
        let file = if self.is_unified() {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = self.read_from("memory", file)?;
        Ok(text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0))
    }

    /// A descriptor that becomes ready when the cgroup runs out of memory: readable (an eventfd,
    /// to be read) on v1, exceptional (`EPOLLPRI`, the events file itself) on v2. On v1 it also
    /// becomes ready when the cgroup is removed; compare [`oom_kills`](Self::oom_kills).
    pub fn oom_notifier(&self) -> io::Result<OwnedFd> {
        let directory = self.hierarchy("memory").ok_or(io::ErrorKind::Unsupported)?;
        let open = |file: &str| {
            rustix::fs::open(
                directory.join(file),
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        if self.is_unified() {
            return Ok(open("memory.events")?);
        }
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let control = open("memory.oom_control")?;
        let registration = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        write(&directory.join("cgroup.event_control"), &registration)?;
        Ok(event)
    }
}
