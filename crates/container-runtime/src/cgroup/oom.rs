//! Noticing that a container ran out of memory.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};

use super::{Cgroup, write};

/// Memory at the end of a container some of whose processes were killed for it; bytes. `None` for
/// no limit and for what the kernel does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryAtEnd {
    /// The limit.
    pub limit: Option<u64>,
    /// The limit of memory and swap together.
    pub limit_with_swap: Option<u64>,
    /// The most that was ever in use.
    pub peak: Option<u64>,
    /// How often the limit was hit.
    pub limit_hits: Option<u64>,
    /// Whether the cgroup's own limit was what had run out, where its counters tell.
    pub own_limit: Option<bool>,
}

impl Cgroup {
    /// Limits and peaks, to be read after the end and before the removal.
    pub fn memory_at_end(&self) -> MemoryAtEnd {
        let number = |file: &str| -> Option<u64> {
            let number = self.read_from("memory", file).ok()?.trim().parse().ok()?;
            // No limit is the largest multiple of a page.
            Some(number).filter(|number| *number < i64::MAX as u64 - 0xffff)
        };
        if self.is_unified() {
            let events = self
                .read_from("memory", "memory.events")
                .unwrap_or_default();
            let event = |name: &str| {
                let line = events.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|count| count.trim().parse::<u64>().ok())
            };
            let limit = number("memory.max");
            let swap = number("memory.swap.max");
            return MemoryAtEnd {
                limit,
                limit_with_swap: limit.and_then(|limit| limit.checked_add(swap?)),
                peak: number("memory.peak"),
                limit_hits: event("max "),
                own_limit: event("oom ").map(|times| times > 0),
            };
        }
        let (limit, peak) = (
            number("memory.limit_in_bytes"),
            number("memory.max_usage_in_bytes"),
        );
        MemoryAtEnd {
            limit,
            limit_with_swap: number("memory.memsw.limit_in_bytes"),
            peak,
            limit_hits: number("memory.failcnt"),
            // Never near the limit: that can not be what was missing. At the limit proves nothing.
            own_limit: match (limit, peak) {
                (None, _) => Some(false),
                (Some(limit), Some(peak)) if peak < limit / 2 => Some(false),
                _ => None,
            },
        }
    }

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
