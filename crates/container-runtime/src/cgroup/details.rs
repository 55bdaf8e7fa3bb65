//! Figures beyond [`Stats`](super::Stats) that `runc events` tells: counters of swap, of the kernel's own memory and of
//! huge pages, times in the kernel per processor, and the processors themselves.

use std::collections::BTreeMap;
use std::io;

use super::Cgroup;
use super::stats::{get, limit, parse_limit, table};

/// What the kernel does not offer stays 0 or empty; so does most of it on v2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Memory and swap together, in bytes.
    pub with_swap: Counter,
    /// The kernel's memory (v1 only).
    pub kernel: Counter,
    /// The kernel's memory for TCP (v1 only).
    pub kernel_tcp: Counter,
    /// Huge pages by their size (`2MB`).
    pub huge_pages: BTreeMap<String, Counter>,
    /// Nanoseconds in the kernel per processor (v1 only).
    pub per_cpu_system_ns: Vec<u64>,
    /// Nanoseconds outside it per processor (v1 only).
    pub per_cpu_user_ns: Vec<u64>,
    /// Where it may run (v1 only).
    pub cpuset: Option<Cpuset>,
}

/// Usage of something that can be limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    /// Now.
    pub usage: u64,
    /// The most it ever was.
    pub max: u64,
    /// The limit; `u64::MAX` for none.
    pub limit: u64,
    /// How often the limit was hit.
    pub fail_count: u64,
}

/// The files of v1's `cpuset` controller (the kernel's `admin-guide/cgroup-v1/cpusets.rst`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpuset {
    /// Processors.
    pub cpus: Vec<u16>,
    /// Memory nodes.
    pub mems: Vec<u16>,
    /// The switches by their names without `cpuset.`.
    pub flags: BTreeMap<&'static str, u64>,
    /// How far the scheduler looks for work; -1 for the system's own range.
    pub sched_relax_domain_level: i64,
}

const LEVEL: &str = "sched_relax_domain_level";

const CPUSET_FLAGS: [&str; 8] = [
    "cpu_exclusive",
    "mem_exclusive",
    "mem_hardwall",
    "memory_migrate",
    "memory_pressure",
    "memory_spread_page",
    "memory_spread_slab",
    "sched_load_balance",
];

impl Cgroup {
    /// Reads them; what is not there is left out.
    pub fn details(&self) -> Details {
        let read =
            |controller: &str, file: &str| self.read_from(controller, file).unwrap_or_default();
        let mut details = if self.is_unified() {
            unified(&read)
        } else {
            split(&read)
        };
        details.huge_pages = self.huge_pages(&read).unwrap_or_default();
        details
    }

    fn huge_pages(
        &self,
        read: &dyn Fn(&str, &str) -> String,
    ) -> io::Result<BTreeMap<String, Counter>> {
        let directory = self
            .hierarchy("hugetlb")
            .ok_or(io::ErrorKind::Unsupported)?;
        let mut pages = BTreeMap::new();
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(size) = name
                .strip_prefix("hugetlb.")
                .and_then(|rest| {
                    rest.strip_suffix(if self.is_unified() {
                        ".current"
                    } else {
                        ".usage_in_bytes"
                    })
                })
                // Reservations are a counter of their own.
                .filter(|size| !size.contains('.'))
            else {
                continue;
            };
            let stem = format!("hugetlb.{size}");
            let counter = if self.is_unified() {
                Counter {
                    usage: parse_limit(&read("hugetlb", &format!("{stem}.current"))),
                    limit: limit(&read("hugetlb", &format!("{stem}.max"))),
                    fail_count: get(&table(&read("hugetlb", &format!("{stem}.events"))), "max"),
                    max: 0,
                }
            } else {
                counter_of("hugetlb", &stem, read)
            };
            pages.insert(size.to_owned(), counter);
        }
        Ok(pages)
    }
}

fn split(read: &dyn Fn(&str, &str) -> String) -> Details {
    let mut details = Details {
        with_swap: counter_of("memory", "memory.memsw", read),
        kernel: counter_of("memory", "memory.kmem", read),
        kernel_tcp: counter_of("memory", "memory.kmem.tcp", read),
        ..Details::default()
    };
    // `cpu user system`, and a line per processor.
    for line in read("cpuacct", "cpuacct.usage_all").lines().skip(1) {
        let mut numbers = line.split_ascii_whitespace().map(parse_limit).skip(1);
        if let (Some(user), Some(system)) = (numbers.next(), numbers.next()) {
            details.per_cpu_user_ns.push(user);
            details.per_cpu_system_ns.push(system);
        }
    }
    let cpus = read("cpuset", "cpuset.cpus");
    if !cpus.is_empty() {
        let number = |name: &str| read("cpuset", &format!("cpuset.{name}"));
        details.cpuset = Some(Cpuset {
            cpus: numbers(&cpus),
            mems: numbers(&number("mems")),
            flags: CPUSET_FLAGS
                .into_iter()
                .map(|name| (name, parse_limit(&number(name))))
                .collect(),
            sched_relax_domain_level: number(LEVEL).trim().parse().unwrap_or_default(),
        });
    }
    details
}

fn unified(read: &dyn Fn(&str, &str) -> String) -> Details {
    let memory = |file: &str| read("memory", file);
    let sum = |swap: &str, own: &str, of: fn(&str) -> u64| {
        let (swap, own) = (memory(swap), memory(own));
        if swap.is_empty() {
            0
        } else {
            of(&swap).saturating_add(of(&own))
        }
    };
    Details {
        with_swap: Counter {
            usage: sum("memory.swap.current", "memory.current", parse_limit),
            limit: sum("memory.swap.max", "memory.max", limit),
            max: 0,
            fail_count: get(&table(&memory("memory.swap.events")), "max"),
        },
        ..Details::default()
    }
}

/// v1's four files of a counter.
fn counter_of(controller: &str, stem: &str, read: &dyn Fn(&str, &str) -> String) -> Counter {
    let number = |file: &str| parse_limit(&read(controller, &format!("{stem}.{file}")));
    Counter {
        usage: number("usage_in_bytes"),
        max: number("max_usage_in_bytes"),
        limit: limit(&read(controller, &format!("{stem}.limit_in_bytes"))),
        fail_count: number("failcnt"),
    }
}

/// `0-2,7`; the kernel's own list, bounded by its number of processors.
fn numbers(text: &str) -> Vec<u16> {
    let ranges = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_files_are_read() {
        let details = split(&|_, file| {
            match file {
                "memory.memsw.usage_in_bytes" => "7\n",
                "memory.memsw.limit_in_bytes" => "9223372036854771712\n",
                "memory.kmem.usage_in_bytes" => "5\n",
                "memory.kmem.tcp.failcnt" => "3\n",
                "cpuacct.usage_all" => "cpu user system\n0 1 2\n1 3 4\n",
                "cpuset.cpus" => "0-1,3\n",
                "cpuset.mems" => "0\n",
                "cpuset.sched_load_balance" => "1\n",
                "cpuset.sched_relax_domain_level" => "-1\n",
                _ => "",
            }
            .to_owned()
        });
        assert_eq!(
            (details.with_swap.usage, details.with_swap.limit),
            (7, u64::MAX)
        );
        assert_eq!(
            (details.kernel.usage, details.kernel_tcp.fail_count),
            (5, 3)
        );
        assert_eq!(
            (details.per_cpu_user_ns, details.per_cpu_system_ns),
            (vec![1, 3], vec![2, 4])
        );
        let cpuset = details.cpuset.unwrap();
        assert_eq!((cpuset.cpus, cpuset.mems), (vec![0, 1, 3], vec![0]));
        assert_eq!(cpuset.flags["sched_load_balance"], 1);
        assert_eq!(cpuset.sched_relax_domain_level, -1);
    }

    #[test]
    fn swap_alone_is_told_together_with_memory() {
        let with = |swap: &'static str| {
            let details = unified(&|_, file| {
                match file {
                    "memory.swap.current" => "1\n",
                    "memory.current" => "2\n",
                    "memory.swap.max" => swap,
                    "memory.max" => "4\n",
                    _ => "",
                }
                .to_owned()
            });
            (details.with_swap.usage, details.with_swap.limit)
        };
        assert_eq!(with("3\n"), (3, 7));
        assert_eq!(with("max\n"), (3, u64::MAX));
    }
}
