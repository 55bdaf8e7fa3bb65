//! `docker port`.

use serde_json::{Map, Value};

use crate::cli::{Cli, print};
use crate::command::{Args, Command};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    short: "List port mappings or a specific mapping for the container",
    long: None,
    aliases: &["container port", "port"],
    args: Args::Range(1, 2),
    flags: &[],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let name = &m.args[0];
    super::check_name(name)?;
    let client = cli.client()?;
    let container = cli.block_on(client.get(super::path(name, "/json")))?;
    let empty = Map::new();
    let ports = container["NetworkSettings"]["Ports"]
        .as_object()
        .unwrap_or(&empty);
    let lines = match m.args.get(1) {
        None => all(ports),
        Some(port) => {
            let wanted = if port.contains('/') {
                port.clone()
            } else {
                format!("{port}/tcp")
            };
            match ports
                .get(&wanted)
                .map(addresses)
                .filter(|found| !found.is_empty())
            {
                Some(found) => found,
                None => {
                    return Err(Failure::new(format!(
                        "Error: No public port '{port}' published for {name}"
                    )));
                }
            }
        }
    };
    let text: String = lines
        .iter()
        .flat_map(|line| [line.as_str(), "\n"])
        .collect();
    Ok(print(&text)?)
}

/// Every published port, by number.
fn all(ports: &Map<String, Value>) -> Vec<String> {
    let mut keyed: Vec<(u32, &str, Vec<String>)> = ports
        .iter()
        .map(|(port, bindings)| {
            let number = port
                .split('/')
                .next()
                .and_then(|number| number.parse().ok())
                .unwrap_or(0);
            (number, port.as_str(), addresses(bindings))
        })
        .collect();
    keyed.sort();
    keyed
        .into_iter()
        .flat_map(|(_, port, found)| found.into_iter().map(move |to| format!("{port} -> {to}")))
        .collect()
}

fn addresses(bindings: &Value) -> Vec<String> {
    let bindings = bindings.as_array().into_iter().flatten();
    let text = |binding: &Value, key: &str| binding[key].as_str().unwrap_or_default().to_owned();
    bindings
        .map(|binding| {
            let address = text(binding, "HostIp");
            let port = text(binding, "HostPort");
            if address.contains(':') {
                format!("[{address}]:{port}")
            } else {
                format!("{address}:{port}")
            }
        })
        .collect()
}
