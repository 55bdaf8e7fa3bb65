//! `docker network ls`.

use serde_json::Value as Json;
use wharf_client::Query;

use crate::cli::{Cli, print};
use crate::command::{Args, Command, FORMAT_HELP, Flag};
use crate::container::ls::{join_labels, labels, short_id};
use crate::filters::Filters;
use crate::format::listing::{Format, Row, Shape, field};
use crate::format::{natural, units};
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "List networks",
    long: None,
    aliases: &["network ls", "network list"],
    args: Args::None,
    flags: &[
        Flag::filter("filter", "Provide filter values (e.g. \"driver=bridge\")").short('f'),
        Flag::string("format", FORMAT_HELP),
        Flag::bool("no-trunc", "Do not truncate the output"),
        Flag::bool("quiet", "Only display network IDs").short('q'),
    ],
    interspersed: true,
    run,
};

static SHAPE: Shape = Shape {
    type_name: "*network.networkContext",
    columns: &["ID", "Name", "Driver", "Scope"],
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Labels", "LABELS"),
        ("Internal", "INTERNAL"),
        ("CreatedAt", "CREATED AT"),
    ],
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let quiet = m.bool("quiet");
    let format = match m.str("format") {
        "" if quiet => "{{.ID}}",
        "" => cli.config().text("networksFormat"),
        given => given,
    };
    let format = Format::parse(format)?;
    let query = Query::new().non_empty("filters", Filters::parse(&m.list("filter")).to_wire());
    let client = cli.client()?;
    let networks = cli.block_on(client.get(format!("/networks{query}")))?;
    let mut networks: Vec<&Json> = networks.as_array().into_iter().flatten().collect();
    networks.sort_by(|a, b| {
        natural::compare(
            a["Name"].as_str().unwrap_or_default(),
            b["Name"].as_str().unwrap_or_default(),
        )
    });
    let trunc = !m.bool("no-trunc");
    let rows = networks
        .into_iter()
        .map(|network| row(network, trunc))
        .collect();
    Ok(print(&format.render(&SHAPE, rows)?)?)
}

fn row(network: &Json, trunc: bool) -> Row {
    let text = |key: &str| network[key].as_str().unwrap_or_default();
    let on = |key: &str| network[key].as_bool().unwrap_or(false).to_string();
    let labels = labels(&network["Labels"]);
    Row::new(
        &SHAPE,
        vec![
            field("ID", short_id(text("Id"), trunc)),
            field("Name", text("Name")),
            field("Driver", text("Driver")),
            field("Scope", text("Scope")),
            field("IPv4", on("EnableIPv4")),
            field("IPv6", on("EnableIPv6")),
            field("Labels", join_labels(&labels)),
            field("Internal", on("Internal")),
            field("CreatedAt", units::go_time(text("Created"))),
        ],
    )
    .with_labels(labels)
}
