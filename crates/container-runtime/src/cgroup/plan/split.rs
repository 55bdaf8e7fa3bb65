//! The writes for split hierarchies.

use wharf_oci::runtime::{BlockIo, Cpu, Memory, Network, Resources, ThrottleDevice};

use super::{
    Missing, Write, Writes, block_weight, device, hugepages, name, number_list, pids, rdma, said,
};

const LIMIT: &str = "memory.limit_in_bytes";
const LIMIT_WITH_SWAP: &str = "memory.memsw.limit_in_bytes";

/// What the kernel does not silently change.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// The writes for split hierarchies. Fails with the name of what they cannot do.
pub fn split(resources: &Resources) -> Result<Vec<Write>, String> {
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
    hugepages(&resources.hugepage_limits, "limit_in_bytes", &mut writes)?;
    if let Some(settings) = &resources.network {
        network(settings, &mut writes)?;
    }
    rdma(resources, &mut writes)?;
    if let Some(file) = resources.unified.keys().next() {
        return Err(format!(
            "`unified` resources ({file}) need cgroup v2, which this machine does not use"
        ));
    }
    Ok(writes.list)
}

fn memory(memory: &Memory, writes: &mut Writes) -> Result<(), String> {
    writes.controller = "memory";
    if said(memory.kernel).is_some_and(|limit| limit > 0) {
        return Err("kernel memory limits are no longer offered by the kernel".to_owned());
    }
    if memory.use_hierarchy == Some(false) {
        return Err(
            "memory accounting without hierarchy is no longer offered by the kernel".to_owned(),
        );
    }
    let limit = said(memory.limit);
    writes.push_some(LIMIT, limit);
    match (said(memory.swap), limit) {
        // Memory with swap can not be less than memory: whoever lifts one lifts the other.
        (Some(..0), _) | (None, Some(..0)) => writes.add(LIMIT_WITH_SWAP, -1, Missing::Fine),
        (Some(swap), Some(limit)) if swap < limit => {
            return Err(format!(
                "memory+swap limit {swap} is below the memory limit {limit}"
            ));
        }
        (Some(swap), _) => writes.push(LIMIT_WITH_SWAP, swap),
        (None, _) => {}
    }
    writes.push_some("memory.soft_limit_in_bytes", said(memory.reservation));
    writes.push_some("memory.kmem.tcp.limit_in_bytes", said(memory.kernel_tcp));
    if let Some(swappiness) = memory.swappiness {
        if swappiness > 100 {
            return Err(format!("memory swappiness {swappiness} is not 0 to 100"));
        }
        writes.push("memory.swappiness", swappiness);
    }
    match memory.disable_oom_killer {
        Some(true) => writes.push("memory.oom_control", 1),
        Some(false) => writes.add("memory.oom_control", 0, Missing::Fine),
        None => {}
    }
    Ok(())
}

/// Orders the two memory limits of an update: memory with swap may never be below memory alone,
/// not even between two writes. `current` is the memory limit in force.
pub(in crate::cgroup) fn order_memory(writes: &mut [Write], current: impl FnOnce() -> Option<u64>) {
    let position = |file: &str| writes.iter().position(|write| write.file == file);
    let (Some(limit), Some(swap)) = (position(LIMIT), position(LIMIT_WITH_SWAP)) else {
        return;
    };
    let wanted: Option<u64> = writes[limit].value.parse().ok();
    let raises = match (wanted, current()) {
        (Some(wanted), Some(current)) => wanted > current,
        // Without a limit now the first write can only lower it.
        (Some(_), None) => false,
        (None, _) => true,
    };
    if raises && limit < swap {
        writes.swap(limit, swap);
    }
}

fn cpu(cpu: &Cpu, writes: &mut Writes) -> Result<(), String> {
    writes.controller = "cpu";
    let shares = said(cpu.shares);
    if let Some(shares) = shares.filter(|shares| !SHARES.contains(shares)) {
        return Err(format!(
            "cpu shares {shares} are not {} to {}",
            SHARES.start(),
            SHARES.end()
        ));
    }
    // Being made idle takes the weight away, being made ordinary again gives the default one.
    writes.push_some("cpu.idle", cpu.idle);
    writes.push_some("cpu.shares", shares.filter(|_| cpu.idle != Some(1)));
    // Each is checked against the others in force; which order is right depends on those.
    writes.push_early("cpu.cfs_period_us", said(cpu.period));
    writes.push_early("cpu.cfs_burst_us", cpu.burst);
    writes.push_some("cpu.cfs_quota_us", said(cpu.quota));
    writes.push_early("cpu.rt_period_us", said(cpu.realtime_period));
    writes.push_some("cpu.rt_runtime_us", said(cpu.realtime_runtime));
    writes.controller = "cpuset";
    writes.push_some("cpuset.cpus", number_list("cpus", cpu.cpus.as_deref())?);
    writes.push_some("cpuset.mems", number_list("mems", cpu.mems.as_deref())?);
    Ok(())
}

fn block_io(block_io: &BlockIo, writes: &mut Writes) -> Result<(), String> {
    writes.controller = "blkio";
    // The scheduler that honours weights names its own files; which one the kernel has is known
    // only by trying.
    if let Some(weight) = said(block_io.weight) {
        let weight = block_weight(weight)?;
        writes.add("blkio.bfq.weight", weight, Missing::TryNext);
        writes.push("blkio.weight", weight);
    }
    if let Some(weight) = said(block_io.leaf_weight) {
        writes.push("blkio.leaf_weight", block_weight(weight)?);
    }
    for of in &block_io.weight_device {
        let number = device(of.major, of.minor)?;
        if let Some(weight) = said(of.weight) {
            let value = format!("{number} {}", block_weight(weight)?);
            writes.add("blkio.bfq.weight_device", &value, Missing::TryNext);
            writes.push("blkio.weight_device", value);
        }
        if let Some(weight) = said(of.leaf_weight) {
            writes.push(
                "blkio.leaf_weight_device",
                format!("{number} {}", block_weight(weight)?),
            );
        }
    }
    let mut throttle = |file: &str, devices: &[ThrottleDevice]| {
        for limit in devices {
            let number = device(limit.major, limit.minor)?;
            writes.push(file, format!("{number} {}", limit.rate));
        }
        Ok::<_, String>(())
    };
    throttle(
        "blkio.throttle.read_bps_device",
        &block_io.throttle_read_bps_device,
    )?;
    throttle(
        "blkio.throttle.write_bps_device",
        &block_io.throttle_write_bps_device,
    )?;
    throttle(
        "blkio.throttle.read_iops_device",
        &block_io.throttle_read_iops_device,
    )?;
    throttle(
        "blkio.throttle.write_iops_device",
        &block_io.throttle_write_iops_device,
    )
}

fn network(network: &Network, writes: &mut Writes) -> Result<(), String> {
    writes.controller = "net_cls";
    writes.push_some("net_cls.classid", network.class_id);
    writes.controller = "net_prio";
    for priority in &network.priorities {
        let interface = name("network interface", &priority.name)?;
        writes.push(
            "net_prio.ifpriomap",
            format!("{interface} {}", priority.priority),
        );
    }
    Ok(())
}
