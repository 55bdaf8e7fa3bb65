//! Whether a container runs out of memory, and what its cgroup said of it.
//!
//! The figures are taken as soon as there is one more kill, and once more at the end: a cgroup made by systemd goes
//! with its last process, and with it goes what it counted.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use wharf_container_runtime::cgroup::{Cgroup, MemoryAtEnd};
use wharf_container_runtime::kernel_log::{self, Shortage};
use wharf_shim_protocol::{OomRecord, OomScope, OomVictim};

/// Victims written down; a container may lose many more.
const VICTIMS_MAX: usize = 8;

/// What was seen of it.
#[derive(Debug, Default)]
pub(crate) struct Oom {
    notifier: Option<OwnedFd>,
    kills: u64,
    figures: Figures,
    /// When to look again, and how long after the last time that is.
    again: Option<(Instant, Duration)>,
    /// There is nothing more to be seen.
    ended: bool,
}

/// The first pause before another look, and the last.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_LAST: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Figures {
    memory: MemoryAtEnd,
    stalled_us: Option<u64>,
    fully_stalled_us: Option<u64>,
}

impl Oom {
    /// Asks the kernel to tell of it.
    pub(crate) fn watch(&mut self, cgroup: Option<&Cgroup>) {
        self.notifier = cgroup.and_then(|cgroup| cgroup.oom_notifier().ok());
    }

    /// No more.
    pub(crate) fn unwatch(&mut self) {
        self.notifier = None;
    }

    /// Readable, or exceptional, when it is time to look.
    pub(crate) fn notifier(&self) -> Option<BorrowedFd<'_>> {
        self.notifier.as_ref().map(OwnedFd::as_fd)
    }

    /// The notifier is ready: whether the kernel has killed a process. cgroup v1 tells before it kills, and not
    /// again after it: there will have to be another look.
    pub(crate) fn notified(&mut self, cgroup: Option<&Cgroup>) -> bool {
        let more = self.look(cgroup);
        let tells_early = cgroup.is_some_and(|cgroup| !cgroup.is_unified());
        self.again = (!more && tells_early).then(|| (Instant::now() + PAUSE_FIRST, PAUSE_FIRST));
        more
    }

    /// When to look again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.again.map(|(at, _)| at).filter(|_| !self.ended)
    }

    /// Looks again when it is time.
    pub(crate) fn look_when_due(&mut self, cgroup: Option<&Cgroup>) -> bool {
        let now = Instant::now();
        let Some((_, pause)) = self.again.filter(|(at, _)| *at <= now && !self.ended) else {
            return false;
        };
        let more = self.look(cgroup);
        let longer = pause * 4;
        self.again = (!more && longer <= PAUSE_LAST).then(|| (now + longer, longer));
        more
    }

    /// Whether the kernel has killed a process for want of memory since we last looked.
    fn look(&mut self, cgroup: Option<&Cgroup>) -> bool {
        if let Some(notifier) = &self.notifier {
            // v1 counts in an eventfd; v2 has a file that is quiet once it was read from its start.
            let _ = rustix::fs::seek(notifier, rustix::fs::SeekFrom::Start(0));
            let _ = rustix::io::read(notifier, &mut [0_u8; 256]);
        }
        let Some(cgroup) = cgroup else { return false };
        // A cgroup that is gone has nothing to add.
        let Some(kills) = cgroup.oom_kills().ok().filter(|kills| *kills > self.kills) else {
            return false;
        };
        self.kills = kills;
        self.figures = Figures::of(cgroup);
        true
    }

    /// Looks for the last time, at the first process's end: see [`look`](Self::look).
    pub(crate) fn look_at_end(&mut self, cgroup: Option<&Cgroup>, killed: bool) -> bool {
        if self.ended {
            return false;
        }
        self.ended = true;
        let more = self.look(cgroup);
        let Some(cgroup) = cgroup else { return more };
        if self.kills == 0 && killed && cgroup.oom_kills().is_err() {
            // It was faster than we are. The kernel's log may still say so.
            self.kills = u64::from(!kernel_log::oom_kills(cgroup.path()).is_empty());
            return self.kills > 0;
        }
        if self.kills > 0 {
            self.figures.renew(Figures::of(cgroup));
        }
        more
    }

    /// Whether one was killed at any time.
    pub(crate) fn has_killed(&self) -> bool {
        self.kills > 0
    }

    /// All that is known, if one was.
    pub(crate) fn record(&self, cgroup: &Cgroup) -> Option<OomRecord> {
        if self.kills == 0 {
            return None;
        }
        let Figures {
            memory,
            stalled_us,
            fully_stalled_us,
        } = &self.figures;
        let mut logged = kernel_log::oom_kills(cgroup.path());
        // The log remembers a container's earlier runs, whose cgroups had the same path.
        let kills = usize::try_from(self.kills).unwrap_or(usize::MAX);
        logged.drain(..logged.len().saturating_sub(kills.min(VICTIMS_MAX)));
        let scope = match logged.last().map(|kill| &kill.shortage) {
            Some(Shortage::Machine) => Some(OomScope::Host),
            Some(Shortage::Cgroup(short)) if cgroup.contains(short) => Some(OomScope::Container),
            Some(Shortage::Cgroup(_)) => Some(OomScope::Parent),
            // Without the log only the container's own counters are left.
            None => memory
                .own_limit
                .filter(|own| *own)
                .map(|_| OomScope::Container),
        };
        Some(OomRecord {
            kills: self.kills,
            scope,
            victims: logged
                .into_iter()
                .map(|kill| OomVictim {
                    pid: kill.pid,
                    name: kill.name,
                    rss: kill.rss,
                })
                .collect(),
            limit: memory.limit,
            limit_with_swap: memory.limit_with_swap,
            peak: memory.peak,
            limit_hits: memory.limit_hits,
            stalled_us: *stalled_us,
            fully_stalled_us: *fully_stalled_us,
        })
    }
}

impl Figures {
    fn of(cgroup: &Cgroup) -> Self {
        let pressure = cgroup.stats().ok().and_then(|stats| stats.memory.pressure);
        Self {
            memory: cgroup.memory_at_end(),
            stalled_us: pressure.map(|pressure| pressure.some.total_us),
            fully_stalled_us: pressure.map(|pressure| pressure.full.total_us),
        }
    }

    /// Takes newer ones, unless the cgroup was gone by then.
    fn renew(&mut self, newer: Self) {
        if newer.memory.peak.is_some() || newer.memory.limit_hits.is_some() {
            *self = newer;
        }
    }
}
