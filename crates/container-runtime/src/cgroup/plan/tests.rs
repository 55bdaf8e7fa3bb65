//! What the planner writes, and what it refuses.

use proptest::prelude::*;
use wharf_oci::runtime::{
    BlockIo, Cpu, HugepageLimit, Memory, Pids, Resources, ThrottleDevice, WeightDevice,
};

use super::unified::{io_weight, weight_of_shares};
use super::*;

fn resources() -> Resources {
    Resources {
        memory: Some(Memory {
            limit: Some(64 << 20),
            swap: Some(128 << 20),
            reservation: Some(32 << 20),
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: Some(512),
            quota: Some(50_000),
            period: Some(100_000),
            cpus: Some("0".into()),
            ..Cpu::default()
        }),
        pids: Some(Pids { limit: Some(100) }),
        block_io: Some(BlockIo {
            throttle_read_bps_device: vec![ThrottleDevice {
                major: 8,
                minor: 0,
                rate: 1000,
            }],
            ..BlockIo::default()
        }),
        ..Resources::default()
    }
}

fn pairs(writes: &[Write]) -> Vec<(&str, &str)> {
    writes
        .iter()
        .map(|write| (write.file.as_str(), write.value.as_str()))
        .collect()
}

fn with_memory(memory: Memory) -> Resources {
    Resources {
        memory: Some(memory),
        ..Resources::default()
    }
}

fn with_cpu(cpu: Cpu) -> Resources {
    Resources {
        cpu: Some(cpu),
        ..Resources::default()
    }
}

fn with_block_io(block_io: BlockIo) -> Resources {
    Resources {
        block_io: Some(block_io),
        ..Resources::default()
    }
}

#[test]
fn split_hierarchies_take_values_as_they_are() {
    let writes = split(&resources()).unwrap();
    assert_eq!(
        pairs(&writes),
        [
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "134217728"),
            ("memory.soft_limit_in_bytes", "33554432"),
            ("cpu.shares", "512"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpuset.cpus", "0"),
            ("pids.max", "100"),
            ("blkio.throttle.read_bps_device", "8:0 1000"),
        ]
    );
}

#[test]
fn the_unified_hierarchy_takes_converted_values() {
    let writes = unified(&resources()).unwrap();
    assert_eq!(
        pairs(&writes),
        [
            ("memory.swap.max", "67108864"),
            ("memory.max", "67108864"),
            ("memory.low", "33554432"),
            ("cpu.weight", "59"),
            ("cpu.max", "50000 100000"),
            ("cpuset.cpus", "0"),
            ("pids.max", "100"),
            ("io.max", "8:0 rbps=1000"),
        ]
    );
    assert_eq!([2, 1024, 262_144].map(weight_of_shares), [1, 100, 10_000]);
    assert_eq!([10, 1000].map(io_weight), [1, 10_000]);
}

#[test]
fn nothing_asked_nothing_written() {
    assert_eq!(split(&Resources::default()).unwrap(), []);
    assert_eq!(unified(&Resources::default()).unwrap(), []);
    for (limit, value) in [(-1, "max"), (0, "1"), (7, "7")] {
        let pids = Resources {
            pids: Some(Pids { limit: Some(limit) }),
            ..Resources::default()
        };
        assert_eq!(pairs(&split(&pids).unwrap()), [("pids.max", value)]);
        assert_eq!(pairs(&unified(&pids).unwrap()), [("pids.max", value)]);
    }
}

#[test]
fn swap_follows_memory() {
    let memory = |limit, swap| {
        with_memory(Memory {
            limit,
            swap,
            ..Memory::default()
        })
    };
    // Unlimited memory is unlimited swap, unless said otherwise.
    assert_eq!(
        pairs(&split(&memory(Some(-1), None)).unwrap()),
        [
            ("memory.limit_in_bytes", "-1"),
            ("memory.memsw.limit_in_bytes", "-1")
        ]
    );
    assert_eq!(
        pairs(&unified(&memory(Some(-1), None)).unwrap()),
        [("memory.swap.max", "max"), ("memory.max", "max")]
    );
    // No swap at all.
    assert_eq!(
        pairs(&unified(&memory(Some(100), Some(100))).unwrap()),
        [("memory.swap.max", "0"), ("memory.max", "100")]
    );
    assert_eq!(
        pairs(&unified(&memory(Some(100), Some(-1))).unwrap()),
        [("memory.swap.max", "max"), ("memory.max", "100")]
    );
    assert!(unified(&memory(None, Some(100))).is_err());
    for plan in [split, unified] {
        assert!(
            plan(&memory(Some(100), Some(99)))
                .unwrap_err()
                .contains("below")
        );
    }
}

#[test]
fn raised_limits_raise_swap_first() {
    let mut writes = split(&resources()).unwrap();
    order_memory(&mut writes, || Some(1 << 20));
    assert_eq!(writes[0].file, "memory.memsw.limit_in_bytes");
    let mut writes = split(&resources()).unwrap();
    order_memory(&mut writes, || Some(1 << 40));
    assert_eq!(writes[0].file, "memory.limit_in_bytes");
    let unlimited = with_memory(Memory {
        limit: Some(-1),
        ..Memory::default()
    });
    let mut writes = split(&unlimited).unwrap();
    order_memory(&mut writes, || Some(1 << 20));
    assert_eq!(writes[0].file, "memory.memsw.limit_in_bytes");
}

#[test]
fn burst_and_period_may_wait_for_the_quota() {
    let cpu = with_cpu(Cpu {
        period: Some(1000),
        quota: Some(500),
        burst: Some(400),
        ..Cpu::default()
    });
    let split = split(&cpu).unwrap();
    assert!(split[0].may_wait && split[1].may_wait && !split[2].may_wait);
    assert_eq!(split[2].file, "cpu.cfs_quota_us");
    let unified = unified(&cpu).unwrap();
    assert_eq!(
        pairs(&unified),
        [("cpu.max.burst", "400"), ("cpu.max", "500 1000")]
    );
    assert!(unified[0].may_wait);
}

#[test]
fn idle_cgroups_have_no_weight() {
    let cpu = |idle| {
        with_cpu(Cpu {
            idle: Some(idle),
            shares: Some(1024),
            ..Cpu::default()
        })
    };
    assert_eq!(pairs(&split(&cpu(1)).unwrap()), [("cpu.idle", "1")]);
    assert_eq!(
        pairs(&unified(&cpu(0)).unwrap()),
        [("cpu.idle", "0"), ("cpu.weight", "100")]
    );
}

#[test]
fn weights_go_to_the_scheduler_the_kernel_has() {
    let block_io = with_block_io(BlockIo {
        weight: Some(500),
        weight_device: vec![WeightDevice {
            major: 8,
            minor: 16,
            weight: Some(10),
            leaf_weight: None,
        }],
        ..BlockIo::default()
    });
    let unified = unified(&block_io).unwrap();
    assert_eq!(
        pairs(&unified),
        [
            ("io.bfq.weight", "500"),
            ("io.weight", "default 4950"),
            ("io.bfq.weight", "8:16 10"),
            ("io.weight", "8:16 1"),
        ]
    );
    let fallbacks: Vec<Missing> = unified.iter().map(|write| write.missing).collect();
    assert_eq!(fallbacks[0], Missing::TryNext);
    assert_eq!(fallbacks[1], Missing::Refuse);
    assert_eq!(split(&block_io).unwrap()[3].value, "8:16 10");
    let heavy = with_block_io(BlockIo {
        weight: Some(1001),
        ..BlockIo::default()
    });
    assert!(split(&heavy).unwrap_err().contains("1001"));
}

#[test]
fn what_a_version_lacks_is_refused_by_name() {
    let file = |name: &str| Resources {
        unified: [(name.to_owned(), "1\n\n2\n".to_owned())].into(),
        ..Resources::default()
    };
    assert!(
        split(&file("memory.high"))
            .unwrap_err()
            .contains("memory.high")
    );
    assert_eq!(
        pairs(&unified(&file("memory.high")).unwrap()),
        [("memory.high", "1"), ("memory.high", "2")]
    );
    for wrong in [
        "cgroup.procs",
        "cgroup.kill",
        "../x.y",
        "a",
        ".",
        "",
        "x.",
        "a/b.c",
    ] {
        assert!(unified(&file(wrong)).is_err(), "{wrong:?}");
    }
    let pages = |page_size: &str| Resources {
        hugepage_limits: vec![HugepageLimit {
            page_size: page_size.into(),
            limit: 1,
        }],
        ..Resources::default()
    };
    assert!(split(&pages("../x")).is_err() && unified(&pages("2M")).is_err());
    assert_eq!(
        pairs(&unified(&pages("2MB")).unwrap()),
        [("hugetlb.2MB.max", "1"), ("hugetlb.2MB.rsvd.max", "1")]
    );
    for (memory, name) in [
        (
            Memory {
                swappiness: Some(0),
                ..Memory::default()
            },
            "swappiness",
        ),
        (
            Memory {
                kernel_tcp: Some(1),
                ..Memory::default()
            },
            "kernelTCP",
        ),
        (
            Memory {
                disable_oom_killer: Some(true),
                ..Memory::default()
            },
            "disableOOMKiller",
        ),
    ] {
        assert!(unified(&with_memory(memory)).unwrap_err().contains(name));
    }
    let shares = with_cpu(Cpu {
        shares: Some(1),
        ..Cpu::default()
    });
    assert!(split(&shares).unwrap_err().contains("cpu shares"));
}

/// What is written is a setting of a controller, in one line, whatever was asked for.
fn is_well_formed(write: &Write, resources: &Resources) -> bool {
    let own = resources.unified.contains_key(&write.file);
    let file_is_plain = !write.file.contains('/') && write.file.contains('.');
    let of_its_controller = own
        || write.file.starts_with(write.controller)
        || (write.controller == "cpuset" && write.file.starts_with("cpuset."));
    let value = !write.value.is_empty() && !write.value.contains(['\n', '\0']);
    file_is_plain && of_its_controller && (value || own)
}

fn any_number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(-1), Just(0), 0_i64..2000, any::<i64>()]
}

prop_compose! {
    fn any_memory()(
        limit in proptest::option::of(any_number()),
        swap in proptest::option::of(any_number()),
        reservation in proptest::option::of(any_number()),
        swappiness in proptest::option::of(0_u64..200),
    ) -> Memory {
        Memory { limit, swap, reservation, swappiness, ..Memory::default() }
    }
}

prop_compose! {
    fn any_cpu()(
        shares in proptest::option::of(any::<u64>()),
        quota in proptest::option::of(any_number()),
        period in proptest::option::of(any::<u64>()),
        burst in proptest::option::of(any::<u64>()),
        idle in proptest::option::of(any_number()),
        cpus in proptest::option::of("[0-9,-]{0,6}|.{0,6}"),
    ) -> Cpu {
        Cpu { shares, quota, period, burst, idle, cpus, ..Cpu::default() }
    }
}

prop_compose! {
    fn any_block_io()(
        weight in proptest::option::of(any::<u16>()),
        devices in proptest::collection::vec((any_number(), any_number(), any::<u64>()), 0..3),
    ) -> BlockIo {
        let throttle = devices.into_iter().map(|(major, minor, rate)| ThrottleDevice { major, minor, rate });
        BlockIo { weight, throttle_read_bps_device: throttle.collect(), ..BlockIo::default() }
    }
}

proptest! {
    #[test]
    fn any_document_becomes_settings_or_a_refusal(
        memory in proptest::option::of(any_memory()),
        cpu in proptest::option::of(any_cpu()),
        pids in proptest::option::of(any_number()),
        block_io in proptest::option::of(any_block_io()),
        page_size in "[0-9]{0,3}[KMGB]{0,2}|.{0,8}",
        file in "[a-z]{1,8}[.][a-z.]{1,8}|.{0,8}",
        value in ".{0,20}",
        with_files in any::<bool>(),
    ) {
        let resources = Resources {
            memory, cpu, block_io,
            pids: pids.map(|limit| Pids { limit: Some(limit) }),
            hugepage_limits: vec![HugepageLimit { page_size, limit: 1 }],
            unified: if with_files { [(file, value)].into() } else { Default::default() },
            ..Resources::default()
        };
        for plan in [split, unified] {
            for write in plan(&resources).unwrap_or_default() {
                prop_assert!(is_well_formed(&write, &resources), "{write:?}");
            }
        }
        prop_assert!(controllers(&resources).iter().all(|name| !name.contains(char::is_whitespace)
            || with_files));
    }

    #[test]
    fn weights_rise_with_shares(one in 0_u64..300_000, other in 0_u64..300_000) {
        let (less, more) = (one.min(other), one.max(other));
        prop_assert!(weight_of_shares(less) <= weight_of_shares(more));
        prop_assert!((1..=10_000).contains(&weight_of_shares(more)));
    }
}
