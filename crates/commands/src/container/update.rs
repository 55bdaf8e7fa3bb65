//! `docker update`.

use serde_json::{Map, Value, json};

use super::options::{check_cpus, check_swap, nano_cpus};
use crate::cli::{Cli, println, say_error};
use crate::command::{Args, Command, Flag};
use crate::format::inspect::finish;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::{restart, size};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Update configuration of one or more containers",
    long: None,
    aliases: &["container update", "update"],
    args: Args::Min(1),
    flags: &[
        Flag::uint16(
            "blkio-weight",
            "Block IO (relative weight), between 10 and 1000, or 0 to disable",
        )
        .default("0"),
        Flag::int(
            "cpu-period",
            "Limit CPU CFS (Completely Fair Scheduler) period",
        ),
        Flag::int(
            "cpu-quota",
            "Limit CPU CFS (Completely Fair Scheduler) quota",
        ),
        Flag::int(
            "cpu-rt-period",
            "Limit the CPU real-time period in microseconds",
        ),
        Flag::int(
            "cpu-rt-runtime",
            "Limit the CPU real-time runtime in microseconds",
        ),
        Flag::int("cpu-shares", "CPU shares (relative weight)").short('c'),
        Flag::custom("cpus", "decimal", "Number of CPUs").check(check_cpus),
        Flag::string("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
        Flag::string("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
        Flag::bytes("memory", "Memory limit").short('m'),
        Flag::bytes("memory-reservation", "Memory soft limit"),
        Flag::custom(
            "memory-swap",
            "bytes",
            "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
        )
        .check(check_swap),
        Flag::int(
            "pids-limit",
            "Tune container pids limit (set -1 for unlimited)",
        ),
        Flag::string("restart", "Restart policy to apply when a container exits"),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let mut body = Map::new();
    for (key, flag) in [
        ("BlkioWeight", "blkio-weight"),
        ("CpuPeriod", "cpu-period"),
        ("CpuQuota", "cpu-quota"),
        ("CpuRealtimePeriod", "cpu-rt-period"),
        ("CpuRealtimeRuntime", "cpu-rt-runtime"),
        ("CpuShares", "cpu-shares"),
        ("PidsLimit", "pids-limit"),
    ] {
        if let Some(value) = m.int(flag) {
            body.insert(key.to_owned(), json!(value));
        }
    }
    for (key, flag) in [
        ("Memory", "memory"),
        ("MemoryReservation", "memory-reservation"),
    ] {
        if let Some(value) = m.bytes(flag) {
            body.insert(key.to_owned(), json!(value));
        }
    }
    if let Some(text) = m.last("memory-swap") {
        body.insert(
            "MemorySwap".to_owned(),
            json!(size::parse_swap(text).map_err(Failure::new)?),
        );
    }
    if let Some(text) = m.last("cpus") {
        body.insert(
            "NanoCpus".to_owned(),
            json!(nano_cpus(text).map_err(Failure::new)?),
        );
    }
    for (key, flag) in [("CpusetCpus", "cpuset-cpus"), ("CpusetMems", "cpuset-mems")] {
        if let Some(text) = m.last(flag) {
            body.insert(key.to_owned(), json!(text));
        }
    }
    if let Some(policy) = restart::parse(m.str("restart")).map_err(Failure::new)? {
        body.insert("RestartPolicy".to_owned(), policy);
    }
    if body.is_empty() {
        return Err(Failure::new(
            "you must provide one or more flags when using this command",
        ));
    }
    let client = cli.client()?;
    cli.block_on(async {
        let mut errors = Vec::new();
        for name in &m.args {
            match client
                .post(
                    super::path(name, "/update"),
                    Some(Value::Object(body.clone())),
                )
                .await
            {
                Err(error) => errors.push(error.into()),
                Ok(answer) => {
                    println(name)?;
                    let warnings = answer["Warnings"].as_array().into_iter().flatten();
                    warnings.filter_map(Value::as_str).for_each(say_error);
                }
            }
        }
        finish(errors)
    })
}
