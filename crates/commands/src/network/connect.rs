//! `docker network connect`.

use serde_json::{Map, json};

use crate::cli::Cli;
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::network::driver_option;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] NETWORK CONTAINER",
    short: "Connect a container to a network",
    long: None,
    aliases: &[],
    args: Args::Exact(2),
    flags: &[
        Flag::csv("alias", "Add network-scoped alias for the container"),
        Flag::csv("driver-opt", "driver options for the network"),
        Flag::int(
            "gw-priority",
            "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
        ),
        Flag::string("ip", "IPv4 address (e.g., \"172.30.100.104\")"),
        Flag::string("ip6", "IPv6 address (e.g., \"2001:db8::33\")"),
        Flag::list("link", "Add link to another container"),
        Flag::csv(
            "link-local-ip",
            "Add a link-local address for the container",
        ),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let mut options = Map::new();
    for text in m.list("driver-opt") {
        let (key, value) = driver_option(text).map_err(Failure::new)?;
        options.insert(key, json!(value));
    }
    let mut addresses = Map::new();
    for (key, flag) in [("IPv4Address", "ip"), ("IPv6Address", "ip6")] {
        let text = m.str(flag);
        if !text.is_empty() {
            addresses.insert(key.to_owned(), json!(text));
        }
    }
    let link_local = m.list("link-local-ip");
    if !link_local.is_empty() {
        addresses.insert("LinkLocalIPs".to_owned(), json!(link_local));
    }
    let body = json!({
        "Container": m.args[1],
        "EndpointConfig": {
            "IPAMConfig": addresses,
            "Links": m.list("link"),
            "Aliases": m.list("alias"),
            "DriverOpts": options,
            "GwPriority": m.int("gw-priority").unwrap_or(0),
        },
    });
    let client = cli.client()?;
    cli.block_on(client.post(super::path(&m.args[0], "/connect"), Some(body)))?;
    Ok(())
}
