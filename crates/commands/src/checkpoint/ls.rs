//! `docker checkpoint ls`.

use serde_json::Value as Json;
use wharf_client::Query;

use crate::cli::{Cli, print};
use crate::command::{Args, Command};
use crate::format::listing::{Format, Row, Shape, field};
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    short: "List checkpoints for a container",
    long: None,
    aliases: &["checkpoint ls", "checkpoint list"],
    args: Args::Exact(1),
    flags: &[super::DIRECTORY],
    interspersed: true,
    run,
};

static SHAPE: Shape = Shape {
    type_name: "*checkpoint.checkpointContext",
    columns: &["Name"],
    headers: &[("Name", "CHECKPOINT NAME")],
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let container = m.args[0].as_str();
    crate::container::check_name(container)?;
    let query = Query::new().non_empty("dir", m.str("checkpoint-dir"));
    let client = cli.client()?;
    let answer = cli.block_on(client.get(super::path(container, &query.to_string())))?;
    let rows = answer
        .as_array()
        .into_iter()
        .flatten()
        .map(|checkpoint: &Json| {
            let name = checkpoint["Name"].as_str().unwrap_or_default();
            Row::new(&SHAPE, vec![field("Name", name)])
        });
    Ok(print(&Format::parse("")?.render(&SHAPE, rows.collect())?)?)
}
