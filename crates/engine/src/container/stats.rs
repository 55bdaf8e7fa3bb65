//! Resource usage, once or every second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wharf_api_types::stats::{
    BlkioEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, ExtraStats, MemoryStats,
    NetworkStats, PidsStats, Pressure, PressureStats, Stall, ThrottlingData,
};
use wharf_api_types::time;
use wharf_container_runtime::cgroup::{self, Cgroup, Stats};
use wharf_fault::{Error, Result};

use super::live::Container;
use crate::Engine;

/// Time between two samples of a stream.
const INTERVAL: Duration = Duration::from_secs(1);

/// Samples of one container.
#[derive(Debug)]
pub struct StatsStream {
    engine: Engine,
    container: Arc<Container>,
    last: Option<ContainerStats>,
    /// When the next sample is due.
    due: Option<tokio::time::Instant>,
}

impl Engine {
    /// Begins to watch a container's usage.
    pub fn container_stats(&self, reference: &str) -> Result<StatsStream> {
        let container = self.containers.find(reference)?;
        Ok(StatsStream {
            engine: self.clone(),
            container,
            last: None,
            due: None,
        })
    }

    fn sample(&self, container: &Container) -> Result<ContainerStats> {
        let (name, cgroup_path, pid, own_network) = {
            let cell = container.read();
            let run = cell.run.as_ref().map(|run| run.kept.cgroup_path.clone());
            let mode = &cell.record.host_config.network_mode;
            (
                cell.record.slash_name(),
                run,
                cell.record.state.pid,
                mode != "host",
            )
        };
        let mut stats = ContainerStats {
            id: container.id.to_string(),
            name,
            os_type: "linux".to_owned(),
            read: time::now(),
            preread: time::ZERO.to_owned(),
            ..ContainerStats::default()
        };
        let Some(cgroup_path) = cgroup_path else {
            // Docker: a stopped container has a sample full of zeros.
            stats.read = time::ZERO.to_owned();
            return Ok(stats);
        };
        if own_network && pid > 0 {
            stats.networks = interfaces(pid);
        }
        if cgroup_path.is_empty() {
            // Nobody counts; Docker's answer then, too.
            return Ok(stats);
        }
        let cgroup = Cgroup::at(&cgroup_path).map_err(|source| {
            Error::system("cannot open the container's cgroup").caused_by(source)
        })?;
        let unified = cgroup.is_unified();
        let usage = cgroup.stats().map_err(|source| {
            Error::system("cannot read the container's cgroup").caused_by(source)
        })?;
        fill(
            &mut stats,
            &usage,
            unified,
            self.containers.host.memory_bytes,
        );
        stats.cpu_stats.system_cpu_usage = system_cpu_ns();
        stats.cpu_stats.online_cpus = self.containers.host.limits.cpu_count;
        Ok(stats)
    }
}

impl StatsStream {
    /// One sample at once, without the figures of an earlier one.
    pub fn one_shot(&mut self) -> Result<ContainerStats> {
        self.engine.sample(&self.container)
    }

    /// One sample with the figures of a second ago (`stream=false`).
    pub async fn once(&mut self) -> Result<ContainerStats> {
        let first = self.engine.sample(&self.container)?;
        if self.container.read().run.is_none() {
            return Ok(first);
        }
        self.last = Some(first);
        tokio::time::sleep(INTERVAL).await;
        self.next_sample()
    }

    /// The next sample; the first comes at once, later ones every second. `None` when the
    /// container is gone.
    pub async fn next(&mut self) -> Result<Option<ContainerStats>> {
        if let Some(due) = self.due {
            tokio::time::sleep_until(due).await;
        }
        let from = self.due.unwrap_or_else(tokio::time::Instant::now);
        self.due = Some(from + INTERVAL);
        if self.container.read().gone {
            return Ok(None);
        }
        match self.next_sample() {
            Ok(sample) => Ok(Some(sample)),
            // It ended between the look and the reading.
            Err(_) if self.container.read().run.is_none() => {
                self.engine.sample(&self.container).map(Some)
            }
            Err(error) => Err(error),
        }
    }

    fn next_sample(&mut self) -> Result<ContainerStats> {
        let mut sample = self.engine.sample(&self.container)?;
        if let Some(last) = self.last.take() {
            sample.precpu_stats = last.cpu_stats;
            sample.preread = last.read;
        }
        self.last = Some(sample.clone());
        Ok(sample)
    }
}

fn fill(stats: &mut ContainerStats, usage: &Stats, unified: bool, host_memory: u64) {
    let cpu = &usage.cpu;
    stats.cpu_stats = CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cpu.usage_ns,
            percpu_usage: (!cpu.per_cpu_ns.is_empty()).then(|| cpu.per_cpu_ns.clone()),
            usage_in_kernelmode: cpu.system_ns,
            usage_in_usermode: cpu.user_ns,
        },
        throttling_data: ThrottlingData {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled_ns,
        },
        ..CpuStats::default()
    };
    let memory = &usage.memory;
    stats.memory_stats = MemoryStats {
        usage: memory.usage,
        max_usage: if unified { 0 } else { memory.max_usage },
        stats: Some(memory.stat.clone()),
        failcnt: if unified { 0 } else { memory.fail_count },
        // Without a limit the machine's memory is one.
        limit: if memory.limit == 0 || memory.limit > host_memory {
            host_memory
        } else {
            memory.limit
        },
    };
    stats.pids_stats = PidsStats {
        current: usage.pids.current,
        // Docker leaves "no limit" out with cgroup v1.
        limit: if usage.pids.limit == 0 && unified {
            u64::MAX
        } else {
            usage.pids.limit
        },
    };
    stats.blkio_stats = block_io(usage, unified);
    stats.extra_stats = Some(Box::new(extra(usage)));
}

fn extra(usage: &Stats) -> ExtraStats {
    let (cpu, memory) = (&usage.cpu, &usage.memory);
    let inactive = ["total_inactive_file", "inactive_file"]
        .iter()
        .find_map(|name| memory.stat.get(*name));
    let pressure = PressureStats {
        cpu: cpu.pressure.map(pressure),
        memory: memory.pressure.map(pressure),
        io: usage.io_pressure.map(pressure),
    };
    ExtraStats {
        memory_working_set: memory.usage.saturating_sub(*inactive.unwrap_or(&0)),
        memory_swap: memory.swap,
        memory_limit_hits: memory.fail_count,
        oom_kills: memory.oom_kills,
        cpu_bursts: cpu.bursts,
        cpu_burst_time: cpu.burst_ns,
        pressure: (pressure != PressureStats::default()).then_some(pressure),
    }
}

fn pressure(pressure: cgroup::Pressure) -> Pressure {
    let stall = |stall: cgroup::Stall| Stall {
        avg10: f64::from(stall.avg10) / 100.0,
        avg60: f64::from(stall.avg60) / 100.0,
        avg300: f64::from(stall.avg300) / 100.0,
        total: stall.total_us,
    };
    Pressure {
        some: stall(pressure.some),
        full: stall(pressure.full),
    }
}

fn block_io(usage: &Stats, unified: bool) -> BlkioStats {
    let entries = |value: fn(&wharf_container_runtime::cgroup::BlockIoStat) -> u64| {
        let list: Vec<BlkioEntry> = usage
            .block_io
            .iter()
            .map(|stat| BlkioEntry {
                major: stat.major,
                minor: stat.minor,
                op: stat.operation.clone(),
                value: value(stat),
            })
            .collect();
        // Docker prints null where the kernel told nothing.
        (!list.is_empty()).then_some(list)
    };
    let empty = || if unified { None } else { Some(Vec::new()) };
    BlkioStats {
        io_service_bytes_recursive: entries(|stat| stat.bytes).or_else(empty),
        io_serviced_recursive: if unified {
            None
        } else {
            entries(|stat| stat.operations).or_else(empty)
        },
        io_queue_recursive: empty(),
        io_service_time_recursive: empty(),
        io_wait_time_recursive: empty(),
        io_merged_recursive: empty(),
        io_time_recursive: empty(),
        sectors_recursive: empty(),
    }
}

/// CPU time of the whole machine in nanoseconds, as Docker counts it.
fn system_cpu_ns() -> u64 {
    const NANOSECONDS: u64 = 1_000_000_000;
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: u64 = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        // user nice system idle iowait irq softirq; steal and guest are not counted.
        .take(7)
        .filter_map(|text| text.parse::<u64>().ok())
        .sum();
    ticks * (NANOSECONDS / ticks_per_second)
}

/// The interfaces of a process's network namespace, loopback left out.
fn interfaces(pid: i32) -> Option<BTreeMap<String, NetworkStats>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    let map = parse_interfaces(&text);
    (!map.is_empty()).then_some(map)
}

fn parse_interfaces(text: &str) -> BTreeMap<String, NetworkStats> {
    let interface = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let numbers: Vec<u64> = rest
            .split_whitespace()
            .filter_map(|text| text.parse().ok())
            .collect();
        let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = numbers[..]
        else {
            return None;
        };
        let name = name.trim();
        (name != "lo").then(|| {
            let stats = NetworkStats {
                rx_bytes,
                rx_packets,
                rx_errors,
                rx_dropped,
                tx_bytes,
                tx_packets,
                tx_errors,
                tx_dropped,
            };
            (name.to_owned(), stats)
        })
    };
    text.lines().filter_map(interface).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let map = parse_interfaces(text);
        assert_eq!(map.len(), 1);
        let eth0 = &map["eth0"];
        assert_eq!((eth0.rx_bytes, eth0.tx_bytes, eth0.tx_dropped), (1, 9, 12));
    }

    #[test]
    fn without_a_limit_the_machine_is_the_limit() {
        let mut stats = ContainerStats::default();
        let mut usage = Stats::default();
        usage.memory.limit = u64::MAX;
        fill(&mut stats, &usage, true, 1000);
        assert_eq!(stats.memory_stats.limit, 1000);
        assert_eq!(stats.blkio_stats.io_service_bytes_recursive, None);
        assert_eq!(stats.pids_stats.limit, u64::MAX);
        fill(&mut stats, &usage, false, 1000);
        assert_eq!(stats.pids_stats.limit, 0);
    }

    #[test]
    fn cache_that_can_go_is_no_working_set() {
        let mut usage = Stats::default();
        usage.memory.usage = 5000;
        usage.memory.stat = [("inactive_file".to_owned(), 2000)].into();
        usage.cpu.pressure = Some(cgroup::Pressure {
            some: cgroup::Stall {
                avg10: 1234,
                ..cgroup::Stall::default()
            },
            ..cgroup::Pressure::default()
        });
        let extra = extra(&usage);
        assert_eq!(extra.memory_working_set, 3000);
        let pressure = extra.pressure.unwrap();
        assert_eq!(
            (pressure.cpu.unwrap().some.avg10, pressure.io),
            (12.34, None)
        );
    }
}
