//! Limits and devices: memory, processors, block devices, ulimits.

use serde_json::{Value, json};

use super::fail;
use super::object::Object;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::{blkio, device, size, ulimit};

pub(super) fn resources(m: &Matches, host: &mut Object) -> Outcome {
    let swappiness = m.int("memory-swappiness").unwrap_or(-1);
    if swappiness != -1 {
        if !(0..=100).contains(&swappiness) {
            return fail(format!(
                "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
            ));
        }
        host.put("MemorySwappiness", json!(swappiness));
    }
    for (key, flag) in [
        ("Memory", "memory"),
        ("MemoryReservation", "memory-reservation"),
        ("KernelMemory", "kernel-memory"),
        ("ShmSize", "shm-size"),
    ] {
        host.number(key, m.bytes(flag).unwrap_or(0));
    }
    if let Some(swap) = m
        .last("memory-swap")
        .and_then(|text| size::parse_swap(text).ok())
    {
        host.number("MemorySwap", swap);
    }
    for (key, flag) in [
        ("CpuShares", "cpu-shares"),
        ("CpuPeriod", "cpu-period"),
        ("CpuQuota", "cpu-quota"),
        ("CpuRealtimePeriod", "cpu-rt-period"),
        ("CpuRealtimeRuntime", "cpu-rt-runtime"),
        ("PidsLimit", "pids-limit"),
        ("BlkioWeight", "blkio-weight"),
        ("OomScoreAdj", "oom-score-adj"),
    ] {
        host.number(key, m.int(flag).unwrap_or(0));
    }
    if let Some(nano) = m.last("cpus").and_then(|text| nano_cpus(text).ok()) {
        host.number("NanoCpus", nano);
    }
    for (key, flag) in [
        ("CpusetCpus", "cpuset-cpus"),
        ("CpusetMems", "cpuset-mems"),
        ("CgroupParent", "cgroup-parent"),
    ] {
        host.text(key, m.str(flag));
    }
    host.flag("OomKillDisable", m.bool("oom-kill-disable"));
    type Parse = fn(&str) -> Result<Value, String>;
    let tables: [(&str, &str, Parse); 5] = [
        ("BlkioWeightDevice", "blkio-weight-device", blkio::weight),
        ("BlkioDeviceReadBps", "device-read-bps", blkio::bytes),
        ("BlkioDeviceWriteBps", "device-write-bps", blkio::bytes),
        ("BlkioDeviceReadIOps", "device-read-iops", blkio::operations),
        (
            "BlkioDeviceWriteIOps",
            "device-write-iops",
            blkio::operations,
        ),
    ];
    for (key, flag, parse) in tables {
        let values: Result<Vec<Value>, String> = m.list(flag).into_iter().map(parse).collect();
        host.values(key, values.map_err(Failure::new)?);
    }
    // The last limit of a name wins.
    let mut limits = std::collections::BTreeMap::new();
    for text in m.list("ulimit") {
        let limit = ulimit::parse(text).map_err(Failure::new)?;
        limits.insert(limit.name.clone(), limit);
    }
    host.values(
        "Ulimits",
        limits
            .into_values()
            .map(|l| json!({"Name": l.name, "Hard": l.hard, "Soft": l.soft}))
            .collect(),
    );
    let mut nodes = Vec::new();
    let mut cdi = Vec::new();
    for text in m.list("device") {
        match device::parse(text).map_err(Failure::new)? {
            device::Device::Node(node) => nodes.push(node),
            device::Device::Cdi(name) => cdi.push(name),
        }
    }
    host.values("Devices", nodes);
    if !cdi.is_empty() {
        host.put(
            "DeviceRequests",
            json!([{"Driver": "cdi", "DeviceIDs": cdi}]),
        );
    }
    host.texts("DeviceCgroupRules", m, "device-cgroup-rule");
    Ok(())
}

/// `--cpus` in billionths; Go reads it as a rational number, so `1/2` is fine.
pub(in crate::container) fn nano_cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let number = |part: &str| {
        part.parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())
            .ok_or_else(bad)
    };
    let value = match text.split_once('/') {
        Some((a, b)) => number(a)? / number(b)?,
        None => number(text)?,
    };
    let nano = value * 1e9;
    if !nano.is_finite() || nano.abs() >= 9e18 {
        return Err(bad());
    }
    if (nano - nano.round()).abs() > 1e-3 {
        return Err("value is too precise".to_owned());
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the range was checked above"
    )]
    Ok(nano.round() as i64)
}
