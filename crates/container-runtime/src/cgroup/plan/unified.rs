//! The writes for the unified hierarchy.

use std::collections::BTreeMap;

use wharf_oci::runtime::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

use super::{
    Missing, Write, Writes, block_weight, device, hugepages, limit_or_max, number_list, pids, rdma,
    said,
};

/// The quota's period where nobody chose one, microseconds.
const PERIOD_DEFAULT: u64 = 100_000;

/// The writes for the unified hierarchy. Fails with the name of what it cannot do.
///
/// A document may leave out half of a pair (swap without memory, period without quota); an update
/// has to fill it in first.
pub fn unified(resources: &Resources) -> Result<Vec<Write>, String> {
    let mut writes = Writes::new();
    if let Some(limits) = &resources.memory {
        memory(limits, &mut writes)?;
    }
    if let Some(limits) = &resources.cpu {
        cpu(limits, &mut writes)?;
    }
    writes.controller = "pids";
    writes.push_some(
        "pids.max",
        resources.pids.and_then(|limits| limits.limit).map(pids),
    );
    if let Some(limits) = &resources.block_io {
        block_io(limits, &mut writes)?;
    }
    hugepages(&resources.hugepage_limits, "max", &mut writes)?;
    let network = resources.network.as_ref();
    if network.is_some_and(|network| network.class_id.is_some() || !network.priorities.is_empty()) {
        return Err("network class and priority cgroups need cgroup v1".to_owned());
    }
    rdma(resources, &mut writes)?;
    as_they_are(&resources.unified, &mut writes)?;
    Ok(writes.list)
}

fn memory(memory: &Memory, writes: &mut Writes) -> Result<(), String> {
    writes.controller = "memory";
    let refused = [
        (
            said(memory.kernel).is_some_and(|limit| limit > 0),
            "kernel memory limits",
        ),
        (
            said(memory.kernel_tcp).is_some_and(|limit| limit > 0),
            "kernelTCP",
        ),
        (memory.swappiness.is_some(), "swappiness"),
        (memory.disable_oom_killer == Some(true), "disableOOMKiller"),
        (
            memory.use_hierarchy == Some(false),
            "memory accounting without hierarchy",
        ),
    ];
    if let Some((_, what)) = refused.iter().find(|(asked, _)| *asked) {
        return Err(format!(
            "{what}: needs cgroup v1, the unified hierarchy does not offer it"
        ));
    }
    let limit = said(memory.limit);
    // The document counts memory and swap together, the kernel swap alone.
    let swap = match (said(memory.swap), limit) {
        (Some(..0), _) | (None, Some(..0)) => Some(-1),
        (None, _) => None,
        (Some(_), None | Some(..0)) => {
            return Err("a swap limit needs a memory limit".to_owned());
        }
        (Some(swap), Some(limit)) if swap < limit => {
            return Err(format!(
                "memory+swap limit {swap} is below the memory limit {limit}"
            ));
        }
        (Some(swap), Some(limit)) => Some(swap - limit),
    };
    if let Some(swap) = swap {
        // Without the file there is no swap, or none that is counted: none to forbid or to allow.
        let missing = if swap <= 0 {
            Missing::Fine
        } else {
            Missing::Refuse
        };
        writes.add("memory.swap.max", limit_or_max(swap), missing);
    }
    writes.push_some("memory.max", limit.map(limit_or_max));
    writes.push_some("memory.low", said(memory.reservation).map(limit_or_max));
    Ok(())
}

fn cpu(cpu: &Cpu, writes: &mut Writes) -> Result<(), String> {
    if said(cpu.realtime_period).is_some() || said(cpu.realtime_runtime).is_some() {
        return Err("real-time cpu limits need cgroup v1".to_owned());
    }
    writes.controller = "cpu";
    // An idle cgroup has no weight to set.
    writes.push_some("cpu.idle", cpu.idle);
    let shares = said(cpu.shares).filter(|_| cpu.idle != Some(1));
    writes.push_some("cpu.weight", shares.map(weight_of_shares));
    writes.push_early("cpu.max.burst", cpu.burst);
    let (quota, period) = (said(cpu.quota), said(cpu.period));
    if quota.is_some() || period.is_some() {
        let quota = quota.map_or("max".to_owned(), limit_or_max);
        let period = period.unwrap_or(PERIOD_DEFAULT);
        writes.push("cpu.max", format!("{quota} {period}"));
    }
    writes.controller = "cpuset";
    writes.push_some("cpuset.cpus", number_list("cpus", cpu.cpus.as_deref())?);
    writes.push_some("cpuset.mems", number_list("mems", cpu.mems.as_deref())?);
    Ok(())
}

fn block_io(block_io: &BlockIo, writes: &mut Writes) -> Result<(), String> {
    writes.controller = "io";
    let leaf = block_io.weight_device.iter().map(|of| of.leaf_weight);
    if leaf
        .chain([block_io.leaf_weight])
        .any(|weight| said(weight).is_some())
    {
        return Err(
            "leafWeight: needs cgroup v1, the unified hierarchy does not offer it".to_owned(),
        );
    }
    if let Some(weight) = said(block_io.weight) {
        let weight = block_weight(weight)?;
        writes.add("io.bfq.weight", weight, Missing::TryNext);
        writes.push("io.weight", format!("default {}", io_weight(weight)));
    }
    for of in &block_io.weight_device {
        let number = device(of.major, of.minor)?;
        if let Some(weight) = said(of.weight) {
            let weight = block_weight(weight)?;
            writes.add(
                "io.bfq.weight",
                format!("{number} {weight}"),
                Missing::TryNext,
            );
            writes.push("io.weight", format!("{number} {}", io_weight(weight)));
        }
    }
    let mut throttle = |key: &str, devices: &[ThrottleDevice]| {
        for limit in devices {
            let number = device(limit.major, limit.minor)?;
            let rate = match limit.rate {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            writes.push("io.max", format!("{number} {key}={rate}"));
        }
        Ok::<_, String>(())
    };
    throttle("rbps", &block_io.throttle_read_bps_device)?;
    throttle("wbps", &block_io.throttle_write_bps_device)?;
    throttle("riops", &block_io.throttle_read_iops_device)?;
    throttle("wiops", &block_io.throttle_write_iops_device)
}

/// Files of the cgroup itself that are settings; the others move processes or change its shape.
const CORE_SETTINGS: [&str; 3] = [
    "cgroup.max.depth",
    "cgroup.max.descendants",
    "cgroup.pressure",
];

fn as_they_are(files: &BTreeMap<String, String>, writes: &mut Writes) -> Result<(), String> {
    for (file, value) in files {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let controller = file.split('.').next().unwrap_or_default();
        let usable = file.bytes().all(plain)
            && !controller.is_empty()
            && controller.len() < file.len() - 1
            && !file.contains("..");
        if !usable || controller == "cgroup" && !CORE_SETTINGS.contains(&file.as_str()) {
            return Err(format!("`unified` resource {file:?} is not a limit"));
        }
        // Any controller has its files in the one directory.
        writes.controller = "unified";
        // Settings for several devices come one a line, and the kernel takes one a write.
        for line in value.lines().filter(|line| !line.trim().is_empty()) {
            writes.push(file, line);
        }
    }
    Ok(())
}

/// The controllers a container on the unified hierarchy gets: those every container's figures
/// come from, and those its limits need.
pub(in crate::cgroup) fn controllers(resources: &Resources) -> Vec<String> {
    let mut controllers = ["cpu", "memory", "pids", "io"].map(str::to_owned).to_vec();
    let mut add = |controller: &str| {
        if !controllers.iter().any(|known| known == controller) {
            controllers.push(controller.to_owned());
        }
    };
    let cpuset = |cpu: &Cpu| {
        let given = |list: &Option<String>| list.as_ref().is_some_and(|list| !list.is_empty());
        given(&cpu.cpus) || given(&cpu.mems)
    };
    if resources.cpu.as_ref().is_some_and(cpuset) {
        add("cpuset");
    }
    if !resources.hugepage_limits.is_empty() {
        add("hugetlb");
    }
    if !resources.rdma.is_empty() {
        add("rdma");
    }
    for file in resources.unified.keys() {
        match file.split('.').next() {
            Some("cgroup") | None => {}
            Some(controller) => add(controller),
        }
    }
    controllers
}

/// Shares (2 to 262144, default 1024) as weight (1 to 10000, default 100): the three fixed points
/// lie on one quadratic curve in logarithms, which newer runtimes have agreed on.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    10_f64.powf(exponent).ceil() as u64
}

/// A blkio weight (10 to 1000) as an io weight (1 to 10000).
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}
