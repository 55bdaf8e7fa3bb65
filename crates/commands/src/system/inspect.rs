//! `docker inspect`: whatever has this name.

use serde_json::Value as Json;
use wharf_client::Query;

use crate::cli::Cli;
use crate::command::{Args, Command, Flag, INSPECT_FORMAT_HELP};
use crate::format::inspect::{self, Kind};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    short: "Return low-level information on Docker objects",
    long: None,
    aliases: &[],
    args: Args::Min(1),
    flags: &[
        Flag::string("format", INSPECT_FORMAT_HELP).short('f'),
        Flag::bool("size", "Display total file sizes if the type is container").short('s'),
        Flag::string("type", "Only inspect objects of the given type"),
    ],
    interspersed: true,
    run,
};

/// Where names are looked up, in Docker's order.
const KINDS: &[(&str, Kind)] = &[
    ("container", Kind::Container),
    ("image", Kind::Image),
    ("network", Kind::Network),
    ("volume", Kind::Volume),
];

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let wanted = m.str("type");
    let kinds: Vec<&(&str, Kind)> = KINDS
        .iter()
        .filter(|(name, _)| wanted.is_empty() || *name == wanted)
        .collect();
    if kinds.is_empty() {
        return Err(match wanted {
            "config" | "node" | "plugin" | "secret" | "service" | "task" => {
                Failure::new(format!("--type {wanted} is not available yet"))
            }
            _ => Failure::new(format!(
                "unknown type: \"{wanted}\": must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\""
            )),
        });
    }
    if m.given("type") && wanted.is_empty() {
        return Err(Failure::new(
            "type is empty: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
        ));
    }
    let size = m.bool("size");
    inspect::run_mixed(&m.args, m.str("format"), |name| {
        for (_, kind) in &kinds {
            match lookup(cli, *kind, name, size) {
                Ok(object) => return Ok((*kind, object)),
                Err(failure) if failure.is_not_found() && wanted.is_empty() => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::new(format!("Error: No such object: {name}")))
    })
}

fn lookup(cli: &Cli, kind: Kind, name: &str, size: bool) -> Outcome<Json> {
    let name = Query::path_segment(name);
    let path = match kind {
        Kind::Container => format!("/containers/{name}/json{}", Query::new().flag("size", size)),
        Kind::Image => format!("/images/{name}/json"),
        Kind::Network => format!("/networks/{name}"),
        Kind::Volume => format!("/volumes/{name}"),
    };
    let client = cli.client()?;
    Ok(cli.block_on(client.get(path))?)
}
