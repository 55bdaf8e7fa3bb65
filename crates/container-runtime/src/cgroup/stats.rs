//! Reading a cgroup's usage figures.

use std::collections::BTreeMap;
use std::io;

use super::Cgroup;

/// Usage figures; what the kernel does not offer stays 0 or empty. Bytes and nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processors.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices, one entry per device and operation.
    pub block_io: Vec<BlockIoStat>,
    /// Stalls for want of block devices (v2 only).
    pub io_pressure: Option<Pressure>,
}

/// Processor usage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Nanoseconds used in all.
    pub usage_ns: u64,
    /// Nanoseconds used in user mode.
    pub user_ns: u64,
    /// Nanoseconds used in the kernel.
    pub system_ns: u64,
    /// Nanoseconds used per processor (v1 only).
    pub per_cpu_ns: Vec<u64>,
    /// Quota periods that have passed.
    pub periods: u64,
    /// Quota periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds spent waiting for quota.
    pub throttled_ns: u64,
    /// Periods in which saved up quota was used.
    pub bursts: u64,
    /// Nanoseconds of saved up quota used.
    pub burst_ns: u64,
    /// Stalls for want of a processor (v2 only).
    pub pressure: Option<Pressure>,
}

/// Memory usage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Bytes in use, page cache included.
    pub usage: u64,
    /// The most it ever was.
    pub max_usage: u64,
    /// The limit; `u64::MAX` for none.
    pub limit: u64,
    /// How often the limit was hit.
    pub fail_count: u64,
    /// Bytes swapped out, where the kernel counts them.
    pub swap: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
    /// The lines of `memory.stat`.
    pub stat: BTreeMap<String, u64>,
    /// Stalls for want of memory (v2 only).
    pub pressure: Option<Pressure>,
}

/// Pressure stall information: what share of time tasks could not go on.
///
/// Split hierarchies (v1) have none per cgroup; the machine's is no substitute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// At least one task stalled.
    pub some: Stall,
    /// All tasks stalled at once.
    pub full: Stall,
}

/// Half of [`Pressure`]; shares are in hundredths of a percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stall {
    /// Share of the last ten seconds.
    pub avg10: u32,
    /// Share of the last minute.
    pub avg60: u32,
    /// Share of the last five minutes.
    pub avg300: u32,
    /// Microseconds since the beginning.
    pub total_us: u64,
}

/// Number of tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Tasks now.
    pub current: u64,
    /// The limit; 0 for none.
    pub limit: u64,
}

/// A block device figure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIoStat {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// What was done, as the kernel spells it: `Read`, `Write`, `Sync`, … on v1; `read` and `write` for v2.
    pub operation: String,
    /// Bytes.
    pub bytes: u64,
    /// Operations.
    pub operations: u64,
}

impl Cgroup {
    /// Reads usage figures. Fails only when the cgroup is not there.
    pub fn stats(&self) -> io::Result<Stats> {
        if let Some(directory) = self.directories().first() {
            std::fs::metadata(directory)?;
        }
        let read =
            |controller: &str, file: &str| self.read_from(controller, file).unwrap_or_default();
        if self.is_unified() {
            return Ok(unified(&read));
        }
        let mut stats = split(&read);
        if let (Some(beside), Some(directory)) = (&self.beside, self.unified_side()) {
            let read = |_: &str, file: &str| {
                std::fs::read_to_string(directory.join(file)).unwrap_or_default()
            };
            let theirs = unified(&read);
            if beside.has("cpu") {
                stats.cpu = theirs.cpu;
            }
            if beside.has("memory") {
                stats.memory = theirs.memory;
            }
            if beside.has("pids") {
                stats.pids = theirs.pids;
            }
            if beside.has("io") {
                (stats.block_io, stats.io_pressure) = (theirs.block_io, theirs.io_pressure);
            }
        }
        Ok(stats)
    }
}

fn split(read: &dyn Fn(&str, &str) -> String) -> Stats {
    let number = |controller: &str, file: &str| parse_limit(&read(controller, file));
    let throttling = table(&read("cpu", "cpu.stat"));
    let ticks = table(&read("cpuacct", "cpuacct.stat"));
    // USER_HZ is 100 on every Linux, whatever the kernel's own clock.
    let ticks_ns = |name: &str| get(&ticks, name).saturating_mul(10_000_000);
    let usage = number("memory", "memory.usage_in_bytes");
    let with_swap = read("memory", "memory.memsw.usage_in_bytes");
    let with_swap = with_swap.trim();
    Stats {
        cpu: CpuStats {
            usage_ns: number("cpuacct", "cpuacct.usage"),
            user_ns: ticks_ns("user"),
            system_ns: ticks_ns("system"),
            per_cpu_ns: read("cpuacct", "cpuacct.usage_percpu")
                .split_ascii_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect(),
            periods: get(&throttling, "nr_periods"),
            throttled_periods: get(&throttling, "nr_throttled"),
            throttled_ns: get(&throttling, "throttled_time"),
            bursts: get(&throttling, "nr_bursts"),
            burst_ns: get(&throttling, "burst_time"),
            pressure: None,
        },
        memory: MemoryStats {
            usage,
            max_usage: number("memory", "memory.max_usage_in_bytes"),
            limit: limit(&read("memory", "memory.limit_in_bytes")),
            fail_count: number("memory", "memory.failcnt"),
            swap: with_swap
                .parse::<u64>()
                .ok()
                .map(|both| both.saturating_sub(usage)),
            oom_kills: get(&table(&read("memory", "memory.oom_control")), "oom_kill"),
            stat: table(&read("memory", "memory.stat")),
            pressure: None,
        },
        pids: pids(read),
        block_io: split_block_io(
            &read("blkio", "blkio.throttle.io_service_bytes_recursive"),
            &read("blkio", "blkio.throttle.io_serviced_recursive"),
        ),
        io_pressure: None,
    }
}

fn unified(read: &dyn Fn(&str, &str) -> String) -> Stats {
    let number = |file: &str| parse_limit(&read("", file));
    let cpu = table(&read("", "cpu.stat"));
    let micros = |name: &str| get(&cpu, name).saturating_mul(1000);
    let events = table(&read("", "memory.events"));
    Stats {
        cpu: CpuStats {
            usage_ns: micros("usage_usec"),
            user_ns: micros("user_usec"),
            system_ns: micros("system_usec"),
            per_cpu_ns: Vec::new(),
            periods: get(&cpu, "nr_periods"),
            throttled_periods: get(&cpu, "nr_throttled"),
            throttled_ns: micros("throttled_usec"),
            bursts: get(&cpu, "nr_bursts"),
            burst_ns: micros("burst_usec"),
            pressure: pressure(&read("", "cpu.pressure")),
        },
        memory: MemoryStats {
            usage: number("memory.current"),
            max_usage: number("memory.peak"),
            limit: match read("", "memory.max").trim() {
                "" | "max" => u64::MAX,
                text => text.parse().unwrap_or(u64::MAX),
            },
            fail_count: get(&events, "max"),
            swap: read("", "memory.swap.current").trim().parse().ok(),
            oom_kills: get(&events, "oom_kill"),
            stat: table(&read("", "memory.stat")),
            pressure: pressure(&read("", "memory.pressure")),
        },
        pids: pids(read),
        block_io: unified_block_io(&read("", "io.stat")),
        io_pressure: pressure(&read("", "io.pressure")),
    }
}

fn pids(read: &dyn Fn(&str, &str) -> String) -> PidsStats {
    PidsStats {
        current: parse_limit(&read("pids", "pids.current")),
        limit: parse_limit(&read("pids", "pids.max")),
    }
}

/// A number on a line of its own; `max`, nothing and anything else are 0.
pub(super) fn parse_limit(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// A limit: `max`, and v1's largest multiple of a page, are none.
pub(super) fn limit(text: &str) -> u64 {
    match text.trim() {
        "" => 0,
        "max" => u64::MAX,
        text => text
            .parse()
            .ok()
            .filter(|limit| *limit < i64::MAX as u64 - 0xffff)
            .unwrap_or(u64::MAX),
    }
}

/// Lines of a name and a number.
pub(super) fn table(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

pub(super) fn get(table: &BTreeMap<String, u64>, name: &str) -> u64 {
    table.get(name).copied().unwrap_or(0)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=N` and the same for `full`.
fn pressure(text: &str) -> Option<Pressure> {
    let stall = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let value = |key: &str| {
            let mut words = line.split_ascii_whitespace();
            words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        // Two decimals, always.
        let share = |key: &str| value(key)?.replace('.', "").parse().ok();
        Some(Stall {
            avg10: share("avg10")?,
            avg60: share("avg60")?,
            avg300: share("avg300")?,
            total_us: value("total")?.parse().ok()?,
        })
    };
    Some(Pressure {
        some: stall("some ")?,
        // Older kernels have no such line for processors.
        full: stall("full ").unwrap_or_default(),
    })
}

/// Lines `8:0 Read 1234` of bytes and of operations.
fn split_block_io(bytes: &str, operations: &str) -> Vec<BlockIoStat> {
    let mut stats: Vec<BlockIoStat> = Vec::new();
    for (text, is_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(device), Some(operation), Some(value)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let Some((major, minor)) = parse_device(device) else {
                continue;
            };
            let value = value.parse().unwrap_or(0);
            let known = stats.iter().position(|stat| {
                (stat.major, stat.minor) == (major, minor) && stat.operation == operation
            });
            let index = known.unwrap_or_else(|| {
                stats.push(BlockIoStat {
                    major,
                    minor,
                    operation: operation.to_owned(),
                    bytes: 0,
                    operations: 0,
                });
                stats.len() - 1
            });
            if is_bytes {
                stats[index].bytes = value;
            } else {
                stats[index].operations = value;
            }
        }
    }
    stats
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn unified_block_io(text: &str) -> Vec<BlockIoStat> {
    let mut stats = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(parse_device) else {
            continue;
        };
        let values: BTreeMap<&str, u64> = words
            .filter_map(|word| word.split_once('='))
            .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
            .collect();
        for (operation, letter) in [("read", 'r'), ("write", 'w'), ("discard", 'd')] {
            let value = |suffix: &str| values.get(format!("{letter}{suffix}").as_str()).copied();
            if let (Some(bytes), Some(operations)) = (value("bytes"), value("ios")) {
                stats.push(BlockIoStat {
                    major,
                    minor,
                    operation: operation.to_owned(),
                    bytes,
                    operations,
                });
            }
        }
    }
    stats
}

fn parse_device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_files_are_read() {
        let stats = split(&|_, file| {
            match file {
                "cpuacct.usage" => "5000\n",
                "cpuacct.stat" => "user 3\nsystem 4\n",
                "cpuacct.usage_percpu" => "2000 3000 \n",
                "cpu.stat" => "nr_periods 7\nnr_throttled 2\nthrottled_time 99\n",
                "memory.limit_in_bytes" => "9223372036854771712\n",
                "memory.usage_in_bytes" => "4096\n",
                "memory.memsw.usage_in_bytes" => "5000\n",
                "memory.oom_control" => "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                "memory.stat" => "cache 1\nrss 2\n",
                "pids.current" => "3\n",
                "pids.max" => "max\n",
                "blkio.throttle.io_service_bytes_recursive" => {
                    "8:0 Read 10\n8:0 Write 20\nTotal 30\n"
                }
                "blkio.throttle.io_serviced_recursive" => "8:0 Read 1\n",
                _ => "",
            }
            .to_owned()
        });
        assert_eq!(
            (
                stats.cpu.usage_ns,
                stats.cpu.user_ns,
                stats.cpu.per_cpu_ns.len()
            ),
            (5000, 30_000_000, 2)
        );
        assert_eq!((stats.cpu.periods, stats.cpu.throttled_ns), (7, 99));
        assert_eq!(
            (stats.memory.limit, stats.memory.stat["rss"]),
            (u64::MAX, 2)
        );
        assert_eq!((stats.pids.current, stats.pids.limit), (3, 0));
        assert_eq!((stats.memory.swap, stats.memory.oom_kills), (Some(904), 2));
        let read = BlockIoStat {
            major: 8,
            minor: 0,
            operation: "Read".into(),
            bytes: 10,
            operations: 1,
        };
        assert_eq!(stats.block_io[0], read);
    }

    #[test]
    fn unified_files_are_read() {
        let stats = unified(&|_, file| {
            match file {
                "cpu.stat" => "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 1\n",
                "memory.max" => "1048576\n",
                "memory.current" => "4096\n",
                "memory.events" => "low 0\nmax 6\noom_kill 1\n",
                "memory.pressure" => {
                    "some avg10=0.25 avg60=10.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"
                }
                "io.stat" => "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:1\n",
                _ => "",
            }
            .to_owned()
        });
        assert_eq!(
            (
                stats.cpu.usage_ns,
                stats.memory.limit,
                stats.memory.fail_count
            ),
            (5000, 1 << 20, 6)
        );
        assert_eq!(
            stats.memory.pressure,
            Some(Pressure {
                some: Stall {
                    avg10: 25,
                    avg60: 1000,
                    avg300: 0,
                    total_us: 12
                },
                full: Stall {
                    total_us: 3,
                    ..Stall::default()
                }
            })
        );
        assert_eq!(stats.block_io.len(), 3);
        assert_eq!(
            (stats.block_io[1].bytes, stats.block_io[1].operations),
            (2, 4)
        );
    }
}
