//! Any resources become well-formed writes to known control files, or a refusal.

#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use wharf_container_runtime::cgroup::plan::{self, Write};
use wharf_oci::runtime::{
    BlockIo, Cpu, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma, Resources,
    ThrottleDevice, WeightDevice,
};

/// The controllers a file can belong to; the first part of its name.
const CONTROLLERS: [&str; 12] = [
    "memory", "cpu", "cpuset", "pids", "blkio", "io", "hugetlb", "net_cls", "net_prio", "rdma",
    "misc", "unified",
];

fuzz_target!(|data: &[u8]| {
    let Ok(resources) = resources(&mut Unstructured::new(data)) else {
        return;
    };
    for (name, plan) in [
        ("split", plan::split as fn(&Resources) -> std::result::Result<Vec<Write>, String>),
        ("unified", plan::unified),
    ] {
        match plan(&resources) {
            Ok(writes) => writes.iter().for_each(|write| check(write, &resources)),
            Err(what) => assert!(!what.is_empty(), "{name} refuses without saying what"),
        }
    }
});

fn check(write: &Write, resources: &Resources) {
    let Write { controller, file, value, .. } = write;
    assert!(CONTROLLERS.contains(controller), "{write:?}");
    assert!(!file.contains('/') && !file.contains('\0') && !file.contains(".."), "{write:?}");
    let (first, rest) = file.split_once('.').expect("a controller's file");
    assert!(!first.is_empty() && !rest.is_empty(), "{write:?}");
    if *controller == "unified" {
        assert!(resources.unified.contains_key(file), "{write:?}");
        assert!(first != "cgroup" || !["procs", "threads", "kill", "type", "subtree_control", "freeze"].contains(&rest));
    } else {
        assert_eq!(first, *controller, "{write:?}");
        assert!(!value.is_empty() && value.is_ascii() || *controller == "rdma" || *controller == "net_prio", "{write:?}");
    }
    assert!(!value.contains('\n'), "{write:?}");
}

fn resources(u: &mut Unstructured<'_>) -> Result<Resources> {
    let mut resources = Resources::default();
    if u.arbitrary()? {
        resources.memory = Some(Memory {
            limit: u.arbitrary()?,
            reservation: u.arbitrary()?,
            swap: u.arbitrary()?,
            kernel: u.arbitrary()?,
            kernel_tcp: u.arbitrary()?,
            swappiness: u.arbitrary()?,
            disable_oom_killer: u.arbitrary()?,
            use_hierarchy: u.arbitrary()?,
            check_before_update: u.arbitrary()?,
        });
    }
    if u.arbitrary()? {
        resources.cpu = Some(Cpu {
            shares: u.arbitrary()?,
            quota: u.arbitrary()?,
            burst: u.arbitrary()?,
            period: u.arbitrary()?,
            realtime_runtime: u.arbitrary()?,
            realtime_period: u.arbitrary()?,
            cpus: u.arbitrary()?,
            mems: u.arbitrary()?,
            idle: u.arbitrary()?,
        });
    }
    if u.arbitrary()? {
        resources.pids = Some(Pids { limit: u.arbitrary()? });
    }
    if u.arbitrary()? {
        let throttle = |u: &mut Unstructured<'_>| -> Result<Vec<ThrottleDevice>> {
            let count = u.int_in_range(0..=3)?;
            (0..count)
                .map(|_| Ok(ThrottleDevice { major: u.arbitrary()?, minor: u.arbitrary()?, rate: u.arbitrary()? }))
                .collect()
        };
        let mut block_io = BlockIo {
            weight: u.arbitrary()?,
            leaf_weight: u.arbitrary()?,
            throttle_read_bps_device: throttle(u)?,
            throttle_write_bps_device: throttle(u)?,
            throttle_read_iops_device: throttle(u)?,
            throttle_write_iops_device: throttle(u)?,
            ..BlockIo::default()
        };
        for _ in 0..u.int_in_range(0..=2)? {
            block_io.weight_device.push(WeightDevice {
                major: u.arbitrary()?,
                minor: u.arbitrary()?,
                weight: u.arbitrary()?,
                leaf_weight: u.arbitrary()?,
            });
        }
        resources.block_io = Some(block_io);
    }
    for _ in 0..u.int_in_range(0..=2)? {
        resources.hugepage_limits.push(HugepageLimit { page_size: u.arbitrary()?, limit: u.arbitrary()? });
    }
    if u.arbitrary()? {
        resources.network = Some(Network {
            class_id: u.arbitrary()?,
            priorities: vec![InterfacePriority { name: u.arbitrary()?, priority: u.arbitrary()? }],
        });
    }
    if u.arbitrary()? {
        let limit = Rdma { hca_handles: u.arbitrary()?, hca_objects: u.arbitrary()? };
        resources.rdma.insert(u.arbitrary()?, limit);
    }
    for _ in 0..u.int_in_range(0..=2)? {
        let file: String = match u.int_in_range(0..=3)? {
            0 => u.arbitrary()?,
            1 => format!("memory.{}", u.arbitrary::<String>()?),
            2 => format!("cgroup.{}", u.arbitrary::<String>()?),
            _ => u.choose(&["memory.high", "io.max", "cgroup.procs", "misc.max"])?.to_string(),
        };
        resources.unified.insert(file, u.arbitrary()?);
    }
    Ok(resources)
}
