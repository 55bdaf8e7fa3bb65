//! `events`: usage figures as JSON lines, and memory exhaustion as it happens.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use wharf_container_runtime::Cgroup;
use wharf_container_runtime::cgroup::{BlockIoStat, Counter, Cpuset, Details, Stats};
use wharf_oci::runtime::Status;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::flags::{Flags, option, switch};
use crate::runtime::{Command, Runtime};

pub(super) const COMMAND: Command = Command {
    name: "events",
    words: super::ID,
    count: (1, 1),
    help: "show usage figures and memory exhaustion of a container",
    flags: &[
        option(
            &["interval"],
            "DURATION",
            "time between figures (default: 5s)",
        ),
        switch(&["stats"], "show figures once and exit"),
    ],
    run,
    failure: 1,
    enters: false,
};

fn run(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    let interval = duration(flags.get("interval").unwrap_or("5s"))
        .filter(|interval| !interval.is_zero())
        .ok_or_else(|| Error::Usage("duration interval must be greater than 0".into()))?;
    let container = Container::open(runtime, &flags.words[0])?;
    if container.status()? == Status::Stopped {
        return Err(Error::WrongState(format!(
            "container with id {} is not running",
            container.record.id
        )));
    }
    let cgroup = container
        .cgroup()?
        .ok_or_else(|| Error::WrongState("the container has no cgroup".into()))?;
    if flags.is("stats") {
        print_stats(&container, &cgroup)?;
        return Ok(ExitCode::SUCCESS);
    }
    follow(&container, &cgroup, interval)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints until the container ends.
fn follow(container: &Container, cgroup: &Cgroup, interval: Duration) -> Result<()> {
    let Some((_, pidfd)) = container.process() else {
        return Ok(());
    };
    // Where the kernel does not tell, nothing is told.
    let oom = cgroup.oom_notifier().ok();
    let mut kills = cgroup.oom_kills().unwrap_or(0);
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            print_stats(container, cgroup)?;
            next += interval;
            continue;
        }
        let left =
            Timespec::try_from(left).map_err(|_| Error::Usage("interval is too long".into()))?;
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
        if let Some(oom) = &oom {
            fds.push(PollFd::new(oom, PollFlags::IN | PollFlags::PRI));
        }
        match poll(&mut fds, Some(&left)) {
            Err(Errno::INTR) => continue,
            other => other.map_err(Error::system("poll"))?,
        };
        let ended = !fds[0].revents().is_empty();
        let exhausted = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        if exhausted {
            if let Some(oom) = &oom {
                // Only the fact that there is something counts.
                let _ = rustix::io::read(oom, &mut [0_u8; 4096]);
            }
            let now = cgroup.oom_kills().unwrap_or(kills);
            if now > kills {
                kills = now;
                print_event("oom", container, None)?;
            }
        }
        if ended {
            return Ok(());
        }
    }
}

fn print_stats(container: &Container, cgroup: &Cgroup) -> Result<()> {
    let stats = cgroup.stats().map_err(Error::system("statistics"))?;
    print_event("stats", container, Some(render(&stats, &cgroup.details())))
}

fn print_event(kind: &str, container: &Container, data: Option<Value>) -> Result<()> {
    let mut event = json!({"type": kind, "id": container.record.id});
    if let Some(data) = data {
        event["data"] = data;
    }
    crate::print(&format!("{event}\n"))
}

/// In runc's form.
fn render(stats: &Stats, details: &Details) -> Value {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    let get = |names: &[&str]| {
        let found = names.iter().find_map(|name| memory.stat.get(*name));
        found.copied().unwrap_or(0)
    };
    let entries = |figure: fn(&BlockIoStat) -> u64| -> Vec<Value> {
        stats
            .block_io
            .iter()
            .map(|entry| {
                json!({"major": entry.major, "minor": entry.minor, "op": entry.operation, "value": figure(entry)})
            })
            .collect()
    };
    let mut usage = json!({"total": cpu.usage_ns, "kernel": cpu.system_ns, "user": cpu.user_ns});
    for (name, figures) in [
        ("percpu", &cpu.per_cpu_ns),
        ("percpu_kernel", &details.per_cpu_system_ns),
        ("percpu_user", &details.per_cpu_user_ns),
    ] {
        if !figures.is_empty() {
            usage[name] = json!(figures);
        }
    }
    let huge_pages: BTreeMap<&str, Value> = details
        .huge_pages
        .iter()
        .map(|(size, counter)| {
            let Counter {
                usage,
                max,
                fail_count,
                ..
            } = counter;
            (
                size.as_str(),
                json!({"usage": usage, "max": max, "failcnt": fail_count}),
            )
        })
        .collect();
    let raw: BTreeMap<&str, u64> = memory
        .stat
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    json!({
        "cpu": {
            "usage": usage,
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_ns,
            },
        },
        "cpuset": details.cpuset.as_ref().map_or_else(|| json!({}), cpuset),
        "memory": {
            "cache": get(&["cache", "file"]),
            "usage": {
                "limit": memory.limit,
                "usage": memory.usage,
                "max": memory.max_usage,
                "failcnt": memory.fail_count,
            },
            "swap": counter(details.with_swap),
            "kernel": counter(details.kernel),
            "kernelTCP": counter(details.kernel_tcp),
            "raw": raw,
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit},
        "blkio": {
            "ioServiceBytesRecursive": entries(|entry| entry.bytes),
            "ioServicedRecursive": entries(|entry| entry.operations),
        },
        "hugetlb": huge_pages,
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn counter(counter: Counter) -> Value {
    json!({
        "limit": counter.limit,
        "usage": counter.usage,
        "max": counter.max,
        "failcnt": counter.fail_count,
    })
}

fn cpuset(cpuset: &Cpuset) -> Value {
    let mut value = json!({
        "cpus": cpuset.cpus,
        "mems": cpuset.mems,
        "sched_relax_domain_level": cpuset.sched_relax_domain_level,
    });
    for (name, flag) in &cpuset.flags {
        value[*name] = json!(flag);
    }
    value
}

/// A duration as Go writes it, with one unit: `5s`, `100ms`, `2m`.
fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        for wrong in ["", "5", "s", "5x", "-1s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
