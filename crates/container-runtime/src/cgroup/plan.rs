//! From resources to the control files to write. Pure.
//!
//! Split hierarchies take the document's values nearly as they are. The unified one has other
//! units for weights and counts swap apart from memory; the conversions are those every OCI
//! runtime uses, so that the same document means the same everywhere.

use wharf_oci::runtime::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

/// A control file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The controller, by which the hierarchy is found.
    pub controller: &'static str,
    /// The file in the cgroup's directory.
    pub file: String,
    /// What is written.
    pub value: String,
    /// Whether a kernel without that file is fine.
    pub optional: bool,
}

/// Collects writes.
struct Writes {
    controller: &'static str,
    list: Vec<Write>,
}

impl Writes {
    fn push(&mut self, file: &str, value: impl ToString) {
        self.list.push(Write {
            controller: self.controller,
            file: file.to_owned(),
            value: value.to_string(),
            optional: false,
        });
    }

    fn push_some<T: ToString>(&mut self, file: &str, value: Option<T>) {
        if let Some(value) = value {
            self.push(file, value);
        }
    }

    fn push_optional(&mut self, file: &str, value: impl ToString) {
        self.push(file, value);
        if let Some(last) = self.list.last_mut() {
            last.optional = true;
        }
    }
}

/// The writes for split hierarchies. Fails with the name of what they cannot do.
pub(super) fn split(resources: &Resources) -> Result<Vec<Write>, String> {
    let mut writes = Writes {
        controller: "memory",
        list: Vec::new(),
    };
    if let Some(memory) = &resources.memory {
        split_memory(memory, &mut writes)?;
    }
    if let Some(cpu) = &resources.cpu {
        split_cpu(cpu, &mut writes);
    }
    writes.controller = "pids";
    if let Some(pids) = resources.pids {
        writes.push("pids.max", limit_or_max(pids.limit));
    }
    writes.controller = "blkio";
    if let Some(block_io) = &resources.block_io {
        split_block_io(block_io, &mut writes);
    }
    writes.controller = "hugetlb";
    for limit in &resources.hugepage_limits {
        let size = page_size(&limit.page_size)?;
        writes.push(&format!("hugetlb.{size}.limit_in_bytes"), limit.limit);
    }
    if let Some(network) = &resources.network {
        writes.controller = "net_cls";
        writes.push_some("net_cls.classid", network.class_id);
        writes.controller = "net_prio";
        for priority in &network.priorities {
            writes.push(
                "net_prio.ifpriomap",
                format!("{} {}", priority.name, priority.priority),
            );
        }
    }
    rdma(resources, &mut writes);
    if let Some(file) = resources.unified.keys().next() {
        return Err(format!(
            "`unified` resources ({file}) need cgroup v2, which this machine does not use"
        ));
    }
    Ok(writes.list)
}

fn split_memory(memory: &Memory, writes: &mut Writes) -> Result<(), String> {
    check_memory(memory)?;
    // What the kernel charges to nobody unless told so; harmless where it is the only way.
    if memory.use_hierarchy == Some(false) {
        return Err(
            "memory accounting without hierarchy is no longer offered by the kernel".to_owned(),
        );
    }
    writes.push_some(
        "memory.limit_in_bytes",
        memory.limit.filter(|limit| *limit != 0),
    );
    if let Some(swap) = memory.swap.filter(|swap| *swap != 0) {
        // Kernels that do not account swap have no such file; the engine warns about that.
        writes.push_optional("memory.memsw.limit_in_bytes", swap);
    }
    writes.push_some(
        "memory.soft_limit_in_bytes",
        memory.reservation.filter(|limit| *limit != 0),
    );
    writes.push_some(
        "memory.kmem.tcp.limit_in_bytes",
        memory.kernel_tcp.filter(|limit| *limit != 0),
    );
    if let Some(swappiness) = memory.swappiness {
        if swappiness > 100 {
            return Err(format!("memory swappiness {swappiness} is not 0 to 100"));
        }
        writes.push("memory.swappiness", swappiness);
    }
    if memory.disable_oom_killer == Some(true) {
        writes.push("memory.oom_control", 1);
    }
    Ok(())
}

fn check_memory(memory: &Memory) -> Result<(), String> {
    if memory.kernel.is_some_and(|limit| limit > 0) {
        return Err("kernel memory limits are no longer offered by the kernel".to_owned());
    }
    Ok(())
}

/// Orders the two memory limits of an update: memory with swap may never be below memory alone,
/// not even between two writes. `current` is the memory limit in force.
pub(super) fn order_memory(writes: &mut [Write], current: impl FnOnce() -> Option<u64>) {
    let position = |file: &str| writes.iter().position(|write| write.file == file);
    let (Some(limit), Some(swap)) = (
        position("memory.limit_in_bytes"),
        position("memory.memsw.limit_in_bytes"),
    ) else {
        return;
    };
    let wanted = writes[limit]
        .value
        .parse::<i64>()
        .ok()
        .and_then(|limit| u64::try_from(limit).ok());
    let raises = match (wanted, current()) {
        (Some(wanted), Some(current)) => wanted > current,
        // Without a limit now the first write can only lower it.
        _ => writes[limit].value.starts_with('-'),
    };
    if raises && limit < swap {
        writes.swap(limit, swap);
    }
}

fn split_cpu(cpu: &Cpu, writes: &mut Writes) {
    writes.controller = "cpu";
    writes.push_some("cpu.shares", cpu.shares.filter(|shares| *shares != 0));
    // Quota is checked against the period in force, so the period comes first.
    writes.push_some(
        "cpu.cfs_period_us",
        cpu.period.filter(|period| *period != 0),
    );
    writes.push_some("cpu.cfs_quota_us", cpu.quota.filter(|quota| *quota != 0));
    writes.push_some("cpu.cfs_burst_us", cpu.burst);
    writes.push_some(
        "cpu.rt_period_us",
        cpu.realtime_period.filter(|period| *period != 0),
    );
    writes.push_some(
        "cpu.rt_runtime_us",
        cpu.realtime_runtime.filter(|runtime| *runtime != 0),
    );
    writes.push_some("cpu.idle", cpu.idle);
    writes.controller = "cpuset";
    writes.push_some("cpuset.cpus", non_empty(cpu.cpus.as_deref()));
    writes.push_some("cpuset.mems", non_empty(cpu.mems.as_deref()));
}

fn split_block_io(block_io: &BlockIo, writes: &mut Writes) {
    // The scheduler that honours weights names its own files; which one the kernel has is known
    // only by trying.
    if let Some(weight) = block_io.weight.filter(|weight| *weight != 0) {
        writes.push_optional("blkio.bfq.weight", weight);
        writes.push_optional("blkio.weight", weight);
    }
    for device in &block_io.weight_device {
        if let Some(weight) = device.weight {
            let value = format!("{}:{} {weight}", device.major, device.minor);
            writes.push_optional("blkio.bfq.weight_device", value.clone());
            writes.push_optional("blkio.weight_device", value);
        }
    }
    let mut throttle = |file: &str, devices: &[ThrottleDevice]| {
        for device in devices {
            writes.push(
                file,
                format!("{}:{} {}", device.major, device.minor, device.rate),
            );
        }
    };
    throttle(
        "blkio.throttle.read_bps_device",
        &block_io.throttle_read_bps_device,
    );
    throttle(
        "blkio.throttle.write_bps_device",
        &block_io.throttle_write_bps_device,
    );
    throttle(
        "blkio.throttle.read_iops_device",
        &block_io.throttle_read_iops_device,
    );
    throttle(
        "blkio.throttle.write_iops_device",
        &block_io.throttle_write_iops_device,
    );
}

/// The writes for the unified hierarchy. Fails with the name of what it cannot do.
pub(super) fn unified(resources: &Resources) -> Result<Vec<Write>, String> {
    let mut writes = Writes {
        controller: "memory",
        list: Vec::new(),
    };
    if let Some(memory) = &resources.memory {
        unified_memory(memory, &mut writes)?;
    }
    if let Some(cpu) = &resources.cpu {
        unified_cpu(cpu, &mut writes)?;
    }
    writes.controller = "pids";
    if let Some(pids) = resources.pids {
        writes.push("pids.max", limit_or_max(pids.limit));
    }
    writes.controller = "io";
    if let Some(block_io) = &resources.block_io {
        unified_io(block_io, &mut writes);
    }
    writes.controller = "hugetlb";
    for limit in &resources.hugepage_limits {
        let size = page_size(&limit.page_size)?;
        writes.push(&format!("hugetlb.{size}.max"), limit.limit);
    }
    if resources.network.is_some() {
        return Err("network class and priority cgroups need cgroup v1".to_owned());
    }
    rdma(resources, &mut writes);
    for (file, value) in &resources.unified {
        if file.contains('/') || file.starts_with("cgroup.") && file != "cgroup.max.descendants" {
            return Err(format!("`unified` resource {file:?} is not a limit"));
        }
        writes.push(file, value);
    }
    Ok(writes.list)
}

fn unified_memory(memory: &Memory, writes: &mut Writes) -> Result<(), String> {
    check_memory(memory)?;
    if memory.swappiness.is_some()
        || memory.disable_oom_killer == Some(true)
        || memory.kernel_tcp.is_some()
    {
        return Err("swappiness, disableOOMKiller and kernelTCP need cgroup v1".to_owned());
    }
    let limit = memory.limit.filter(|limit| *limit != 0);
    if let Some(swap) = memory.swap.filter(|swap| *swap != 0) {
        // The document counts memory and swap together, the kernel swap alone.
        let value = match (swap, limit) {
            (-1, _) => "max".to_owned(),
            (swap, Some(limit)) if limit > 0 => {
                let swap = swap.checked_sub(limit).filter(|swap| *swap >= 0);
                swap.ok_or("memory+swap limit is below the memory limit")?
                    .to_string()
            }
            _ => return Err("a swap limit needs a memory limit".to_owned()),
        };
        writes.push_optional("memory.swap.max", value);
    }
    writes.push_some(
        "memory.max",
        limit.map(|limit| {
            if limit < 0 {
                "max".to_owned()
            } else {
                limit.to_string()
            }
        }),
    );
    let reservation = memory.reservation.filter(|limit| *limit != 0);
    writes.push_some(
        "memory.low",
        reservation.map(|limit| {
            if limit < 0 {
                "max".to_owned()
            } else {
                limit.to_string()
            }
        }),
    );
    Ok(())
}

fn unified_cpu(cpu: &Cpu, writes: &mut Writes) -> Result<(), String> {
    if cpu.realtime_period.is_some_and(|period| period != 0)
        || cpu.realtime_runtime.is_some_and(|runtime| runtime != 0)
    {
        return Err("real-time cpu limits need cgroup v1".to_owned());
    }
    writes.controller = "cpu";
    // An idle cgroup has no weight to set.
    if cpu.idle == Some(1) {
        writes.push("cpu.idle", 1);
    } else {
        writes.push_some("cpu.idle", cpu.idle);
        writes.push_some(
            "cpu.weight",
            cpu.shares
                .filter(|shares| *shares != 0)
                .map(weight_of_shares),
        );
    }
    if cpu.quota.is_some_and(|quota| quota != 0) || cpu.period.is_some_and(|period| period != 0) {
        let quota = cpu
            .quota
            .filter(|quota| *quota > 0)
            .map_or("max".to_owned(), |quota| quota.to_string());
        let period = cpu.period.filter(|period| *period != 0).unwrap_or(100_000);
        writes.push("cpu.max", format!("{quota} {period}"));
    }
    writes.push_some("cpu.max.burst", cpu.burst);
    writes.controller = "cpuset";
    writes.push_some("cpuset.cpus", non_empty(cpu.cpus.as_deref()));
    writes.push_some("cpuset.mems", non_empty(cpu.mems.as_deref()));
    Ok(())
}

fn unified_io(block_io: &BlockIo, writes: &mut Writes) {
    if let Some(weight) = block_io.weight.filter(|weight| *weight != 0) {
        writes.push_optional("io.bfq.weight", weight);
        writes.push_optional("io.weight", format!("default {}", io_weight(weight)));
    }
    for device in &block_io.weight_device {
        if let Some(weight) = device.weight {
            writes.push_optional(
                "io.bfq.weight",
                format!("{}:{} {weight}", device.major, device.minor),
            );
        }
    }
    let mut throttle = |key: &str, devices: &[ThrottleDevice]| {
        for device in devices {
            let rate = if device.rate == 0 {
                "max".to_owned()
            } else {
                device.rate.to_string()
            };
            writes.push(
                "io.max",
                format!("{}:{} {key}={rate}", device.major, device.minor),
            );
        }
    };
    throttle("rbps", &block_io.throttle_read_bps_device);
    throttle("wbps", &block_io.throttle_write_bps_device);
    throttle("riops", &block_io.throttle_read_iops_device);
    throttle("wiops", &block_io.throttle_write_iops_device);
}

fn rdma(resources: &Resources, writes: &mut Writes) {
    writes.controller = "rdma";
    for (device, limit) in &resources.rdma {
        let mut value = device.clone();
        for (key, number) in [
            ("hca_handle", limit.hca_handles),
            ("hca_object", limit.hca_objects),
        ] {
            if let Some(number) = number {
                value.push_str(&format!(" {key}={number}"));
            }
        }
        writes.push("rdma.max", value);
    }
}

/// The controllers a container on the unified hierarchy gets: those every container's figures
/// come from, and those its limits need.
pub(super) fn unified_controllers(resources: &Resources) -> Vec<&'static str> {
    let mut controllers = vec!["cpu", "memory", "pids", "io"];
    if resources
        .cpu
        .as_ref()
        .is_some_and(|cpu| cpu.cpus.is_some() || cpu.mems.is_some())
    {
        controllers.push("cpuset");
    }
    if !resources.hugepage_limits.is_empty() {
        controllers.push("hugetlb");
    }
    if !resources.rdma.is_empty() {
        controllers.push("rdma");
    }
    for file in resources.unified.keys() {
        for known in ["cpuset", "hugetlb", "rdma", "misc"] {
            if file.starts_with(known) && !controllers.contains(&known) {
                controllers.push(known);
            }
        }
    }
    controllers
}

/// Shares (2 to 262144, default 1024) as weight (1 to 10000, default 100): the three fixed points
/// lie on one quadratic curve in logarithms, which newer runtimes have agreed on.
fn weight_of_shares(shares: u64) -> u64 {
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
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn limit_or_max(limit: i64) -> String {
    if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    }
}

fn non_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// The size of a huge page as it appears in file names.
fn page_size(size: &str) -> Result<&str, String> {
    let digits = size.trim_end_matches(|unit: char| unit.is_ascii_uppercase());
    let valid = !digits.is_empty()
        && digits.bytes().all(|digit| digit.is_ascii_digit())
        && matches!(&size[digits.len()..], "KB" | "MB" | "GB");
    if valid {
        Ok(size)
    } else {
        Err(format!("huge page size {size:?} is not of the form 2MB"))
    }
}

#[cfg(test)]
mod tests {
    use wharf_oci::runtime::{HugepageLimit, Pids};

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
            pids: Some(Pids { limit: 100 }),
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
        let none = Resources {
            pids: Some(Pids { limit: -1 }),
            ..Resources::default()
        };
        assert_eq!(pairs(&split(&none).unwrap()), [("pids.max", "max")]);
    }

    #[test]
    fn raised_limits_raise_swap_first() {
        let mut writes = split(&resources()).unwrap();
        order_memory(&mut writes, || Some(1 << 20));
        assert_eq!(writes[0].file, "memory.memsw.limit_in_bytes");
        let mut writes = split(&resources()).unwrap();
        order_memory(&mut writes, || Some(1 << 40));
        assert_eq!(writes[0].file, "memory.limit_in_bytes");
    }

    #[test]
    fn what_a_version_lacks_is_refused_by_name() {
        let unified_only = Resources {
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            ..Resources::default()
        };
        assert!(split(&unified_only).unwrap_err().contains("memory.high"));
        assert_eq!(
            pairs(&unified(&unified_only).unwrap()),
            [("memory.high", "1")]
        );
        let wrong = |page_size: &str| Resources {
            hugepage_limits: vec![HugepageLimit {
                page_size: page_size.into(),
                limit: 1,
            }],
            ..Resources::default()
        };
        assert!(split(&wrong("../x")).is_err());
        assert!(unified(&wrong("2M")).is_err());
        assert!(unified(&wrong("2MB")).is_ok());
    }
}
