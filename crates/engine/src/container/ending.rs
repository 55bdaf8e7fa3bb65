//! How runs of a container ended, and in plain words why. Pure.
//!
//! Says what was seen and nothing else: a SIGKILL nobody here asked for and the kernel does not
//! own up to is a SIGKILL from an unknown sender.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_api_types::container::{ContainerExit, ExitOom, ExitOomVictim};
use wharf_api_types::time;
use wharf_shim_protocol::{ExitCause, ExitRecord, OomRecord, OomScope, SignalOrigin};

use super::signal;

/// How many ends are remembered.
const KEPT: usize = 10;

/// One end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When the run began; `None` if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended, or the failure was noticed.
    pub finished_at: Timestamp,
    /// The exit code as Docker shows it.
    pub exit_code: i64,
    /// The signal that ended the first process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it did not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Nobody saw it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen: bool,
    /// What the shim saw.
    #[serde(default)]
    pub cause: Box<ExitCause>,
}

/// What an end comes down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The program ended by itself.
    Exited,
    /// A user stopped, restarted or removed the container.
    Stopped,
    /// A user's signal ended it.
    Killed,
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// The seccomp filter forbade a system call.
    ForbiddenCall,
    /// The program crashed.
    Crashed,
    /// A signal of unknown origin.
    Signalled,
    /// It never ran.
    NotStarted,
    /// Nobody saw the end.
    Unknown,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::OutOfMemory => "oom",
            Self::ForbiddenCall => "seccomp",
            Self::Crashed => "crashed",
            Self::Signalled => "signal",
            Self::NotStarted => "not-started",
            Self::Unknown => "unknown",
        }
    }
}

/// Adds an end to those remembered.
pub(super) fn remember(ends: &mut Vec<End>, end: End) {
    ends.push(end);
    let surplus = ends.len().saturating_sub(KEPT);
    ends.drain(..surplus);
}

impl End {
    /// The end a shim recorded.
    pub(super) fn of_run(exit: &ExitRecord, started_at: Option<Timestamp>, unseen: bool) -> Self {
        let at = |ns: i64| Timestamp::from_nanosecond(i128::from(ns)).ok();
        Self {
            started_at: at(exit.started_at_ns)
                .filter(|_| exit.started_at_ns > 0)
                .or(started_at),
            finished_at: at(exit.finished_at_ns).unwrap_or_else(Timestamp::now),
            exit_code: i64::from(exit.exit_code),
            signal: exit.signal,
            failure: exit
                .start_failure
                .as_ref()
                .map(|failure| failure.message.clone()),
            unseen,
            cause: exit.cause.clone(),
        }
    }

    /// A start that failed.
    pub(super) fn of_failed_start(failure: String, exit_code: i64) -> Self {
        Self {
            started_at: None,
            finished_at: Timestamp::now(),
            exit_code,
            signal: None,
            failure: Some(failure),
            unseen: false,
            cause: Box::default(),
        }
    }

    /// The signal that ended the program, also where the built-in init reports it as a number.
    fn program_signal(&self) -> Option<i32> {
        self.signal.or_else(|| {
            let number = i32::try_from(self.exit_code.checked_sub(128)?).ok()?;
            (self.cause.init && (1..=64).contains(&number)).then_some(number)
        })
    }

    /// What it comes down to.
    pub(super) fn kind(&self) -> Kind {
        if self.failure.is_some() {
            return Kind::NotStarted;
        }
        if self.unseen {
            return Kind::Unknown;
        }
        let requested = self.cause.requested;
        match (self.program_signal(), requested) {
            (Some(signal), Some(asked)) if asked.signal == signal => match asked.origin {
                SignalOrigin::Kill => Kind::Killed,
                _ => Kind::Stopped,
            },
            (Some(signal::KILL), _) if self.cause.oom.is_some() => Kind::OutOfMemory,
            (None, Some(asked)) if asked.origin != SignalOrigin::Kill => Kind::Stopped,
            (Some(SIGSYS), _) => Kind::ForbiddenCall,
            (Some(number), _) if CRASHES.contains(&number) => Kind::Crashed,
            (Some(_), _) => Kind::Signalled,
            (None, _) => Kind::Exited,
        }
    }

    /// The cause in a sentence.
    pub(super) fn summary(&self) -> String {
        let signal = self.program_signal().map(signal::name).unwrap_or_default();
        let code = self.exit_code;
        let mut text = match self.kind() {
            Kind::NotStarted => {
                return format!("it did not start: {}", self.failure.as_deref().unwrap_or(""));
            }
            Kind::Unknown => {
                return "nobody saw it end: unknown. Most often the machine went down, or somebody ended its shim".to_owned();
            }
            Kind::Exited => format!("its program ended by itself with exit code {code}"),
            Kind::Stopped => self.stopped(&signal),
            Kind::Killed => format!("a user killed it with {signal}"),
            Kind::OutOfMemory => self
                .cause
                .oom
                .as_ref()
                .map(out_of_memory)
                .unwrap_or_default(),
            Kind::ForbiddenCall => match self.cause.forbidden_call {
                Some(call) => format!(
                    "the seccomp filter ended it for system call {}",
                    call_name(call.number, call.arch)
                ),
                None => "SIGSYS ended it, which is what a seccomp filter sends for a forbidden system call; which one is unknown".to_owned(),
            },
            Kind::Crashed => format!("its program crashed: {signal}"),
            // Below the built-in init it is a process like any other.
            Kind::Signalled if self.cause.init => format!(
                "{signal} from inside the container or from outside this engine ended it; the sender is unknown"
            ),
            Kind::Signalled => format!("{signal} from outside this engine ended it; the sender is unknown"),
        };
        if self.kind() != Kind::OutOfMemory
            && let Some(oom) = &self.cause.oom
        {
            let (count, was) = match oom.kills {
                1 => ("one process".to_owned(), "was"),
                n => (format!("{n} processes"), "were"),
            };
            text.push_str(&format!(
                "; before that {count} in it {was} killed for want of memory"
            ));
        }
        text
    }

    fn stopped(&self, signal: &str) -> String {
        let Some(asked) = self.cause.requested else {
            return "a user stopped it".to_owned();
        };
        let sent = signal::name(asked.signal);
        match (asked.origin, self.program_signal()) {
            (SignalOrigin::StopTimeout, Some(_)) => format!(
                "a user stopped it; it did not end in the time it had, so it was killed with {sent}"
            ),
            (SignalOrigin::Remove, _) => format!("a user removed it while it ran: {sent}"),
            (SignalOrigin::Restart, Some(_)) => {
                format!("a user restarted it; {signal} ended the last run")
            }
            (SignalOrigin::Restart, None) => format!(
                "a user restarted it; the last run ended with exit code {} after {sent}",
                self.exit_code
            ),
            (_, Some(_)) => format!("a user stopped it; {signal} ended it"),
            (_, None) => format!(
                "a user stopped it; it ended with exit code {} after {sent}",
                self.exit_code
            ),
        }
    }

    /// As the API shows it.
    pub(super) fn to_wire(&self) -> ContainerExit {
        let asked = self.cause.requested;
        ContainerExit {
            kind: self.kind().word().to_owned(),
            summary: self.summary(),
            started_at: self.started_at.map(time::rfc3339_nano),
            finished_at: time::rfc3339_nano(self.finished_at),
            exit_code: self.exit_code,
            signal: self.program_signal().map(signal::name),
            requested_by: asked.map(|asked| origin_word(asked.origin).to_owned()),
            requested_signal: asked.map(|asked| signal::name(asked.signal)),
            oom: self.cause.oom.as_ref().map(oom_to_wire),
            forbidden_system_call: self
                .cause
                .forbidden_call
                .map(|call| call_name(call.number, call.arch)),
        }
    }
}

const SIGSYS: i32 = 31;

/// ILL, TRAP, ABRT, BUS, FPE, SEGV: what programs do to themselves.
const CRASHES: [i32; 6] = [4, 5, 6, 7, 8, 11];

fn origin_word(origin: SignalOrigin) -> &'static str {
    match origin {
        SignalOrigin::Kill => "kill",
        SignalOrigin::Stop => "stop",
        SignalOrigin::StopTimeout => "stop-timeout",
        SignalOrigin::Restart => "restart",
        SignalOrigin::Remove => "remove",
    }
}

fn call_name(number: u32, arch: u32) -> String {
    match wharf_seccomp::call_name(arch, number) {
        Some(name) => name.to_owned(),
        None => format!("number {number} (architecture {arch:#x})"),
    }
}

fn scope_word(scope: Option<OomScope>) -> &'static str {
    match scope {
        Some(OomScope::Container) => "container",
        Some(OomScope::Parent) => "parent",
        Some(OomScope::Host) => "host",
        None => "unknown",
    }
}

fn out_of_memory(oom: &OomRecord) -> String {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let mut text = match (oom.scope, oom.limit) {
        (Some(OomScope::Container), Some(limit)) => format!(
            "the kernel killed it for want of memory: its limit of {} was reached",
            mib(limit)
        ),
        (Some(OomScope::Container), None) => {
            "the kernel killed it for want of memory: a limit of its own was reached".to_owned()
        }
        (Some(OomScope::Parent), _) => {
            "the kernel killed it for want of memory: the limit of a cgroup above it was reached"
                .to_owned()
        }
        (Some(OomScope::Host), _) => {
            "the kernel killed it for want of memory: the whole machine had run out".to_owned()
        }
        (None, limit) => {
            let limit = limit.map_or("it had no limit".to_owned(), |limit| {
                format!("its limit was {}", mib(limit))
            });
            format!(
                "the kernel killed it for want of memory; whether its own limit or the machine's memory was the reason is unknown ({limit})"
            )
        }
    };
    if let Some(peak) = oom.peak {
        text.push_str(&format!(", the most it used was {}", mib(peak)));
    }
    if let Some(victim) = oom.victims.last() {
        text.push_str(&format!(", the victim was `{}`", victim.name));
    }
    text
}

fn oom_to_wire(oom: &OomRecord) -> ExitOom {
    ExitOom {
        kills: oom.kills,
        scope: scope_word(oom.scope).to_owned(),
        victims: oom
            .victims
            .iter()
            .map(|victim| ExitOomVictim {
                pid: victim.pid,
                name: victim.name.clone(),
                rss: victim.rss,
            })
            .collect(),
        limit: oom.limit,
        limit_with_swap: oom.limit_with_swap,
        peak: oom.peak,
        limit_hits: oom.limit_hits,
        stalled_us: oom.stalled_us,
        fully_stalled_us: oom.fully_stalled_us,
    }
}

#[cfg(test)]
mod tests {
    use wharf_shim_protocol::RequestedSignal;

    use super::*;

    fn end(code: i64, signal: Option<i32>, asked: Option<(i32, SignalOrigin)>) -> End {
        let cause = ExitCause {
            requested: asked.map(|(signal, origin)| RequestedSignal {
                signal,
                origin,
                at_ns: 1,
            }),
            ..ExitCause::default()
        };
        End {
            started_at: None,
            finished_at: Timestamp::UNIX_EPOCH,
            exit_code: code,
            signal,
            failure: None,
            unseen: false,
            cause: Box::new(cause),
        }
    }

    fn with_oom(mut end: End, scope: Option<OomScope>) -> End {
        end.cause.oom = Some(OomRecord {
            kills: 1,
            scope,
            limit: Some(32 << 20),
            ..OomRecord::default()
        });
        end
    }

    #[test]
    fn ends_are_told_apart() {
        use SignalOrigin::{Kill, Stop, StopTimeout};
        for (end, kind) in [
            (end(3, None, None), Kind::Exited),
            (end(137, Some(9), None), Kind::Signalled),
            (end(137, Some(9), Some((9, Kill))), Kind::Killed),
            (end(137, Some(9), Some((9, StopTimeout))), Kind::Stopped),
            (end(143, Some(15), Some((15, Stop))), Kind::Stopped),
            (end(0, None, Some((15, Stop))), Kind::Stopped),
            // A signal it took for something else.
            (end(0, None, Some((10, Kill))), Kind::Exited),
            (end(139, Some(11), None), Kind::Crashed),
            (end(159, Some(31), None), Kind::ForbiddenCall),
            (with_oom(end(137, Some(9), None), None), Kind::OutOfMemory),
            (
                with_oom(end(137, Some(9), Some((9, Kill))), None),
                Kind::Killed,
            ),
            (with_oom(end(1, None, None), None), Kind::Exited),
            (End::of_failed_start("no".into(), 127), Kind::NotStarted),
        ] {
            assert_eq!(end.kind(), kind, "{end:?}");
        }
        let mut by_init = end(137, None, None);
        assert_eq!(by_init.kind(), Kind::Exited);
        by_init.cause.init = true;
        assert_eq!(by_init.kind(), Kind::Signalled);
    }

    #[test]
    fn summaries_do_not_guess() {
        let killed = || end(137, Some(9), None);
        assert!(killed().summary().contains("unknown"));
        let own = with_oom(killed(), Some(OomScope::Container)).summary();
        assert!(own.contains("its limit of 32.0 MiB was reached"), "{own}");
        let unsure = with_oom(killed(), None).summary();
        assert!(unsure.contains("unknown"), "{unsure}");
        let earlier = with_oom(end(1, None, None), None).summary();
        assert!(
            earlier.contains("exit code 1; before that one process"),
            "{earlier}"
        );
        let stopped = end(0, None, Some((15, SignalOrigin::Stop))).summary();
        assert!(stopped.contains("exit code 0 after SIGTERM"), "{stopped}");
    }

    #[test]
    fn only_the_last_ends_are_remembered() {
        let mut ends = Vec::new();
        for code in 0..25 {
            remember(&mut ends, end(code, None, None));
        }
        assert_eq!(ends.len(), KEPT);
        assert_eq!(ends.last().map(|end| end.exit_code), Some(24));
    }
}
