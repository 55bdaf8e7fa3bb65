//! `update`: other limits for a container.

use std::io::Read as _;
use std::process::ExitCode;

use wharf_container_runtime::resctrl;
use wharf_oci::runtime::{BlockIo, IntelRdt, Resources, Status};

use crate::bundle;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::flags::{Flags, option};
use crate::runtime::{Command, Runtime};

pub(super) const COMMAND: Command = Command {
    name: "update",
    words: super::ID,
    count: (1, 1),
    help: "change the limits of a container",
    flags: &[
        option(
            &["resources", "r"],
            "FILE",
            "JSON of the limits; - for standard input",
        ),
        option(&["blkio-weight"], "N", "block device weight, 10 to 1000"),
        option(&["cpu-period"], "USEC", "period of the processor quota"),
        option(
            &["cpu-quota"],
            "USEC",
            "processor time per period; -1 for no limit",
        ),
        option(&["cpu-burst"], "USEC", "unused quota that may be saved up"),
        option(&["cpu-share"], "N", "processor weight"),
        option(&["cpu-rt-period"], "USEC", "period of the real-time quota"),
        option(
            &["cpu-rt-runtime"],
            "USEC",
            "real-time processor time per period",
        ),
        option(&["cpuset-cpus"], "LIST", "processors it may use"),
        option(&["cpuset-mems"], "LIST", "memory nodes it may use"),
        option(
            &["cpu-idle"],
            "N",
            "1 makes it run only when nothing else does",
        ),
        option(&["memory"], "BYTES", "memory limit; -1 for none"),
        option(&["memory-reservation"], "BYTES", "soft memory limit"),
        option(
            &["memory-swap"],
            "BYTES",
            "memory and swap together; -1 for no limit",
        ),
        option(
            &["kernel-memory"],
            "BYTES",
            "kernel memory limit; cgroup v1, where Linux still has it",
        ),
        option(
            &["kernel-memory-tcp"],
            "BYTES",
            "memory limit of TCP buffers; cgroup v1",
        ),
        option(&["pids-limit"], "N", "number of tasks; -1 for no limit"),
        option(
            &["l3-cache-schema"],
            "LINES",
            "share of the processors' cache",
        ),
        option(&["mem-bw-schema"], "LINE", "share of the memory bandwidth"),
    ],
    run,
    failure: 1,
    enters: false,
};

fn run(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    let resources = resources(flags)?;
    let container = Container::open(runtime, &flags.words[0])?;
    if container.status()? == Status::Stopped {
        return Err(Error::NotRunning);
    }
    let cgroup = container
        .cgroup()?
        .ok_or_else(|| Error::WrongState("the container has no cgroup".into()))?;
    cgroup.update(&resources).map_err(Error::Limits)?;
    update_rdt(&container, flags)?;
    Ok(ExitCode::SUCCESS)
}

fn update_rdt(container: &Container, flags: &Flags) -> Result<()> {
    let lines = |name: &str| {
        flags
            .get(name)
            .filter(|lines| !lines.is_empty())
            .map(str::to_owned)
    };
    let (l3, bandwidth) = (lines("l3-cache-schema"), lines("mem-bw-schema"));
    if l3.is_none() && bandwidth.is_none() {
        return Ok(());
    }
    let own = container.spec()?.linux.and_then(|linux| linux.intel_rdt);
    let own = own.ok_or_else(|| {
        Error::WrongState(
            "l3-cache-schema and mem-bw-schema need a container with linux.intelRdt".into(),
        )
    })?;
    let rdt = IntelRdt {
        clos_id: own.clos_id,
        l3_cache_schema: l3,
        mem_bw_schema: bandwidth,
        ..IntelRdt::default()
    };
    resctrl::update(&rdt, &container.record.id).map_err(Error::Limits)
}

fn resources(flags: &Flags) -> Result<Resources> {
    let mut resources = match flags.get("resources") {
        Some("-") => {
            let mut text = Vec::new();
            std::io::stdin()
                .read_to_end(&mut text)
                .map_err(Error::system("standard input"))?;
            bundle::parse(&text)?
        }
        Some(file) => {
            let text = std::fs::read(file).map_err(Error::file("read", file))?;
            bundle::parse(&text)?
        }
        None => Resources::default(),
    };
    forget_zeros(&mut resources);
    if flags.get("resources").is_some() {
        return Ok(resources);
    }
    if let Some(weight) = flags.number("blkio-weight")? {
        resources.block_io = Some(BlockIo {
            weight: Some(weight),
            ..BlockIo::default()
        });
    }
    let cpu = resources.cpu.get_or_insert_default();
    cpu.period = flags.number("cpu-period")?;
    cpu.quota = flags.number("cpu-quota")?;
    cpu.burst = flags.number("cpu-burst")?;
    cpu.shares = flags.number("cpu-share")?;
    cpu.realtime_period = flags.number("cpu-rt-period")?;
    cpu.realtime_runtime = flags.number("cpu-rt-runtime")?;
    cpu.cpus = flags.get("cpuset-cpus").map(str::to_owned);
    cpu.mems = flags.get("cpuset-mems").map(str::to_owned);
    cpu.idle = flags.number("cpu-idle")?;
    let memory = resources.memory.get_or_insert_default();
    memory.limit = bytes(flags, "memory")?;
    memory.reservation = bytes(flags, "memory-reservation")?;
    memory.swap = bytes(flags, "memory-swap")?;
    memory.kernel = bytes(flags, "kernel-memory")?;
    memory.kernel_tcp = bytes(flags, "kernel-memory-tcp")?;
    if let Some(limit) = flags.number("pids-limit")? {
        resources.pids = Some(wharf_oci::runtime::Pids { limit: Some(limit) });
    }
    Ok(resources)
}

/// Docker and containerd send every limit, those that are not to change as zero or empty.
fn forget_zeros(resources: &mut Resources) {
    if let Some(memory) = &mut resources.memory {
        for limit in [
            &mut memory.limit,
            &mut memory.reservation,
            &mut memory.swap,
            &mut memory.kernel,
            &mut memory.kernel_tcp,
        ] {
            *limit = limit.filter(|limit| *limit != 0);
        }
    }
    if let Some(cpu) = &mut resources.cpu {
        cpu.shares = cpu.shares.filter(|value| *value != 0);
        cpu.quota = cpu.quota.filter(|value| *value != 0);
        cpu.period = cpu.period.filter(|value| *value != 0);
        cpu.realtime_period = cpu.realtime_period.filter(|value| *value != 0);
        cpu.realtime_runtime = cpu.realtime_runtime.filter(|value| *value != 0);
        cpu.cpus = cpu.cpus.take().filter(|list| !list.is_empty());
        cpu.mems = cpu.mems.take().filter(|list| !list.is_empty());
    }
    if let Some(block_io) = &mut resources.block_io {
        block_io.weight = block_io.weight.filter(|weight| *weight != 0);
    }
    resources.pids = resources
        .pids
        .filter(|pids| pids.limit.is_some_and(|limit| limit != 0));
}

/// A number of bytes, with a unit if wanted (`64m`).
fn bytes(flags: &Flags, name: &str) -> Result<Option<i64>> {
    flags
        .get(name)
        .map(|text| {
            parse_bytes(text).ok_or_else(|| {
                Error::Usage(format!("invalid value for {name}: invalid size: '{text}'"))
            })
        })
        .transpose()
}

fn parse_bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let text = text.trim_end_matches(['b', 'B']);
    let (number, shift) = match text.chars().last()?.to_ascii_lowercase() {
        'k' => (&text[..text.len() - 1], 10),
        'm' => (&text[..text.len() - 1], 20),
        'g' => (&text[..text.len() - 1], 30),
        't' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: i64 = number.parse().ok().filter(|number| *number >= 0)?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("-1", Some(-1)),
            ("4096", Some(4096)),
            ("64m", Some(64 << 20)),
            ("1gb", Some(1 << 30)),
            ("", None),
            ("-5", None),
            ("x", None),
            ("9999999999t", None),
        ] {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn zeros_change_nothing() {
        let mut resources: Resources = serde_json::from_str(
            r#"{"memory":{"limit":0,"swap":-1},"cpu":{"shares":0,"quota":5,"cpus":""},"pids":{"limit":0}}"#,
        )
        .unwrap();
        forget_zeros(&mut resources);
        let memory = resources.memory.unwrap();
        assert_eq!((memory.limit, memory.swap), (None, Some(-1)));
        let cpu = resources.cpu.unwrap();
        assert_eq!((cpu.shares, cpu.quota, cpu.cpus), (None, Some(5), None));
        assert_eq!(resources.pids, None);
    }
}
