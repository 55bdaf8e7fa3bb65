//! Gathering why the container ended, while its cgroup is still there.

use rustix::process::Signal;
use wharf_container_runtime::cgroup::Cgroup;
use wharf_container_runtime::kernel_log::{self, Shortage};
use wharf_shim_protocol::{
    ExitCause, ForbiddenCall, OomRecord, OomScope, OomVictim, RequestedSignal,
};

use crate::process::Status;

/// Victims written down; a container may lose many more.
const VICTIMS_MAX: usize = 8;

/// What is known about the end of the process `pid` of the container.
pub(crate) fn gather(
    pid: i32,
    status: Status,
    init: bool,
    requested: Option<RequestedSignal>,
    cgroup: Option<&Cgroup>,
    oom_kills: u64,
) -> ExitCause {
    let system_call = status.signal == Some(Signal::SYS.as_raw());
    ExitCause {
        requested,
        oom: cgroup
            .filter(|_| oom_kills > 0)
            .map(|cgroup| oom(cgroup, oom_kills)),
        init,
        forbidden_call: system_call
            .then(|| kernel_log::forbidden_call(pid))
            .flatten()
            .map(|call| ForbiddenCall {
                number: call.number,
                arch: call.arch,
            }),
    }
}

fn oom(cgroup: &Cgroup, kills: u64) -> OomRecord {
    let memory = cgroup.memory_at_end();
    let pressure = cgroup.stats().ok().and_then(|stats| stats.memory.pressure);
    let mut logged = kernel_log::oom_kills(cgroup.path());
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
    logged.drain(..logged.len().saturating_sub(VICTIMS_MAX));
    OomRecord {
        kills,
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
        stalled_us: pressure.map(|pressure| pressure.some.total_us),
        fully_stalled_us: pressure.map(|pressure| pressure.full.total_us),
    }
}
