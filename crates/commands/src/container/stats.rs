//! `docker stats`: a table that is drawn again twice a second, or once with `--no-stream`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value as Json;
use wharf_client::{Body, Client, Method, Query};

use super::ls::short_id;
use crate::cli::{Cli, print, say_error};
use crate::command::{Args, Command, FORMAT_HELP, Flag};
use crate::format::listing::{Format, Row, Shape, field};
use crate::format::units;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] [CONTAINER...]",
    short: "Display a live stream of container(s) resource usage statistics",
    long: None,
    aliases: &["container stats", "stats"],
    args: Args::Any,
    flags: &[
        Flag::bool("all", "Show all containers (default shows just running)").short('a'),
        Flag::string("format", FORMAT_HELP),
        Flag::bool(
            "no-stream",
            "Disable streaming stats and only pull the first result",
        ),
        Flag::bool("no-trunc", "Do not truncate output"),
    ],
    interspersed: true,
    run,
};

static SHAPE: Shape = Shape {
    type_name: "*container.statsContext",
    columns: &[
        "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs",
    ],
    headers: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

/// How often the table is drawn.
const REDRAW: Duration = Duration::from_millis(500);

/// The newest figures of one container.
#[derive(Debug, Clone, Default)]
struct Sample {
    /// As the user named it.
    container: String,
    name: String,
    id: String,
    /// Figures; `None` until there are some.
    figures: Option<Figures>,
    /// The container is gone.
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    cpu_percent: f64,
    memory: f64,
    memory_limit: f64,
    memory_percent: f64,
    net_rx: f64,
    net_tx: f64,
    block_read: f64,
    block_write: f64,
    pids: u64,
}

/// Samples by position, so that the table keeps its order.
type Samples = Arc<Mutex<BTreeMap<usize, Sample>>>;

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let format = match m.str("format") {
        "" => cli.config().text("statsFormat").to_owned(),
        given => given.to_owned(),
    };
    let format = Format::parse(&format)?;
    let client = cli.client()?;
    cli.block_on(async {
        let all = m.args.is_empty();
        let names = if all {
            running(client, m.bool("all")).await?
        } else {
            m.args.clone()
        };
        if m.bool("no-stream") {
            return once(client, m, &format, &names).await;
        }
        live(client, m, &format, names, all).await
    })
}

async fn running(client: &Client, also_stopped: bool) -> Outcome<Vec<String>> {
    let list = client
        .get(format!(
            "/containers/json{}",
            Query::new().flag("all", also_stopped)
        ))
        .await?;
    let ids = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|container| container["Id"].as_str());
    Ok(ids.map(|id| short_id(id, true).to_owned()).collect())
}

async fn once(client: &Client, m: &Matches, format: &Format, names: &[String]) -> Outcome {
    let work = names.iter().map(|name| async move {
        let path = super::path(name, "/stats?stream=0");
        client.get(path).await.map(|stats| sample(name, &stats))
    });
    let mut samples = Vec::new();
    let mut errors = Vec::new();
    for result in join_all(work).await {
        match result {
            Ok(sample) => samples.push(sample),
            Err(error) => errors.push(Failure::from(error)),
        }
    }
    if let Some(failure) = errors.into_iter().next() {
        return Err(failure);
    }
    Ok(print(
        &format.render(&SHAPE, rows(&samples, !m.bool("no-trunc")))?,
    )?)
}

async fn live(
    client: &Client,
    m: &Matches,
    format: &Format,
    names: Vec<String>,
    all: bool,
) -> Outcome {
    let samples = Samples::default();
    let trunc = !m.bool("no-trunc");
    let mut followers = futures_util::stream::FuturesUnordered::new();
    for (at, name) in names.iter().enumerate() {
        followers.push(follow(client, at, name.clone(), Arc::clone(&samples)));
    }
    let mut next = names.len();
    let mut complete = false;
    // With no names every container that starts is shown as well.
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let watch = async {
        if all {
            watch_starts(client, &started).await;
        }
        std::future::pending::<()>().await
    };
    tokio::pin!(watch);
    let mut ticks = tokio::time::interval(REDRAW);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    use futures_util::StreamExt as _;
    loop {
        tokio::select! {
            Some(result) = followers.next(), if !followers.is_empty() => {
                let result: Outcome = result;
                if let Err(failure) = result {
                    if all { say_error(failure.text()) } else { return Err(failure) }
                }
                if followers.is_empty() && !all {
                    return Ok(());
                }
            }
            Some(name) = starts.recv() => {
                followers.push(follow(client, next, name, Arc::clone(&samples)));
                next += 1;
            }
            () = &mut watch => {}
            _ = ticks.tick() => {
                let current: Vec<Sample> = {
                    let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
                    samples.retain(|_, sample| !sample.ended);
                    samples.values().cloned().collect()
                };
                // The first table waits for the first figures of all of its lines.
                complete |= current.iter().all(|sample| sample.figures.is_some());
                if !complete {
                    continue;
                }
                let mut text = String::new();
                if format.is_table() {
                    // Home, the new lines over the old ones, and nothing below them.
                    text.push_str("\x1b[H");
                    for line in format.render(&SHAPE, rows(&current, trunc))?.lines() {
                        text.push_str(line);
                        text.push_str("\x1b[K\n");
                    }
                    text.push_str("\x1b[J");
                } else {
                    text = format.render(&SHAPE, rows(&current, trunc))?;
                }
                print(&text)?;
            }
        }
    }
}

/// Keeps one container's figures new until it is gone.
async fn follow(client: &Client, at: usize, name: String, samples: Samples) -> Outcome {
    let put = |sample: Sample| {
        samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(at, sample)
    };
    put(Sample {
        container: name.clone(),
        name: "--".to_owned(),
        id: name.clone(),
        ..Sample::default()
    });
    let path = super::path(&name, "/stats?stream=1");
    let response = client.request(Method::GET, path, Body::Empty, &[]).await;
    let result = async {
        let mut lines = response?.json_lines();
        while let Some(stats) = lines.next().await? {
            put(sample(&name, &stats));
        }
        Ok(())
    }
    .await;
    put(Sample {
        ended: true,
        ..Sample::default()
    });
    result
}

async fn watch_starts(client: &Client, started: &tokio::sync::mpsc::UnboundedSender<String>) {
    let filters = r#"{"type":{"container":true},"event":{"start":true}}"#;
    let path = format!("/events{}", Query::new().add("filters", filters));
    let Ok(response) = client.request(Method::GET, path, Body::Empty, &[]).await else {
        return;
    };
    let mut lines = response.json_lines();
    while let Ok(Some(event)) = lines.next().await {
        if let Some(id) = event["Actor"]["ID"].as_str() {
            let _ = started.send(short_id(id, true).to_owned());
        }
    }
}

fn sample(container: &str, stats: &Json) -> Sample {
    let text = |key: &str| stats[key].as_str().unwrap_or_default();
    Sample {
        container: container.to_owned(),
        name: text("name").trim_start_matches('/').to_owned(),
        id: text("id").to_owned(),
        figures: Some(figures(stats)),
        ended: false,
    }
}

fn figures(stats: &Json) -> Figures {
    let number = |path: &str| stats.pointer(path).and_then(Json::as_f64).unwrap_or(0.0);
    let cpu =
        number("/cpu_stats/cpu_usage/total_usage") - number("/precpu_stats/cpu_usage/total_usage");
    let system = number("/cpu_stats/system_cpu_usage") - number("/precpu_stats/system_cpu_usage");
    let cpus = match number("/cpu_stats/online_cpus") {
        0.0 => stats
            .pointer("/cpu_stats/cpu_usage/percpu_usage")
            .and_then(Json::as_array)
            .map_or(0.0, |list| u32::try_from(list.len()).map_or(0.0, f64::from)),
        online => online,
    };
    let usage = number("/memory_stats/usage");
    // Page cache that can be dropped at once is not counted; its name depends on the cgroup version.
    let inactive = ["total_inactive_file", "inactive_file"]
        .iter()
        .filter_map(|key| {
            stats
                .pointer(&format!("/memory_stats/stats/{key}"))
                .and_then(Json::as_f64)
        })
        .find(|inactive| *inactive < usage)
        .unwrap_or(0.0);
    let memory = usage - inactive;
    let limit = number("/memory_stats/limit");
    let networks = || {
        stats["networks"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, network)| network)
    };
    let sum = |key: &str| networks().filter_map(|network| network[key].as_f64()).sum();
    let blocks = |op: &str| {
        let list = stats
            .pointer("/blkio_stats/io_service_bytes_recursive")
            .and_then(Json::as_array);
        let of_kind = |entry: &&Json| {
            entry["op"]
                .as_str()
                .is_some_and(|kind| kind.eq_ignore_ascii_case(op))
        };
        list.into_iter()
            .flatten()
            .filter(of_kind)
            .filter_map(|entry| entry["value"].as_f64())
            .sum()
    };
    Figures {
        cpu_percent: if system > 0.0 && cpu > 0.0 {
            cpu / system * cpus * 100.0
        } else {
            0.0
        },
        memory,
        memory_limit: limit,
        memory_percent: if limit > 0.0 {
            memory / limit * 100.0
        } else {
            0.0
        },
        net_rx: sum("rx_bytes"),
        net_tx: sum("tx_bytes"),
        block_read: blocks("read"),
        block_write: blocks("write"),
        pids: stats
            .pointer("/pids_stats/current")
            .and_then(Json::as_u64)
            .unwrap_or(0),
    }
}

fn rows(samples: &[Sample], trunc: bool) -> Vec<Row> {
    samples.iter().map(|sample| row(sample, trunc)).collect()
}

fn row(sample: &Sample, trunc: bool) -> Row {
    let none = "--".to_owned();
    let both = "-- / --".to_owned();
    let [cpu, memory, percent, net, block, pids] = match &sample.figures {
        None => [
            none.clone(),
            both.clone(),
            none.clone(),
            both.clone(),
            both,
            none,
        ],
        Some(f) => [
            format!("{:.2}%", f.cpu_percent),
            format!(
                "{} / {}",
                units::binary_size(f.memory),
                units::binary_size(f.memory_limit)
            ),
            format!("{:.2}%", f.memory_percent),
            format!("{} / {}", units::size(f.net_rx), units::size(f.net_tx)),
            format!(
                "{} / {}",
                units::size(f.block_read),
                units::size(f.block_write)
            ),
            f.pids.to_string(),
        ],
    };
    Row::new(
        &SHAPE,
        vec![
            field("Container", sample.container.as_str()),
            field("Name", sample.name.as_str()),
            field("ID", short_id(&sample.id, trunc)),
            field("CPUPerc", cpu),
            field("MemUsage", memory),
            field("MemPerc", percent),
            field("NetIO", net),
            field("BlockIO", block),
            field("PIDs", pids),
        ],
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_computed_as_docker_does() {
        let stats = json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3000, "limit": 20000, "stats": {"inactive_file": 1000}},
            "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 5}, {"op": "write", "value": 6}]},
            "pids_stats": {"current": 7},
        });
        let f = figures(&stats);
        assert_eq!(
            (f.cpu_percent, f.memory, f.memory_percent),
            (20.0, 2000.0, 10.0)
        );
        assert_eq!(
            (f.net_rx, f.net_tx, f.block_read, f.block_write, f.pids),
            (11.0, 22.0, 5.0, 6.0, 7)
        );
    }
}
