//! `docker container prune`.

use serde_json::Value;
use wharf_client::Query;

use crate::cli::{Cli, confirm, print};
use crate::command::{Args, Command, Flag};
use crate::filters::Filters;
use crate::format::units;
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "Remove all stopped containers",
    long: None,
    aliases: &[],
    args: Args::None,
    flags: &[
        Flag::filter(
            "filter",
            "Provide filter values (e.g. \"until=<timestamp>\")",
        ),
        Flag::bool("force", "Do not prompt for confirmation").short('f'),
    ],
    interspersed: true,
    run,
};

const QUESTION: &str =
    "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ";

fn run(cli: &Cli, m: &Matches) -> Outcome {
    if !m.bool("force") && !confirm(QUESTION)? {
        return Ok(());
    }
    let (report, reclaimed) = prune(cli, &Filters::parse(&m.list("filter")))?;
    Ok(print(&format!(
        "{report}Total reclaimed space: {}\n",
        units::size4(reclaimed)
    ))?)
}

/// Removes stopped containers; returns what to report and the bytes freed.
pub(crate) fn prune(cli: &Cli, filters: &Filters) -> Outcome<(String, f64)> {
    let query = Query::new().non_empty("filters", filters.to_wire());
    let client = cli.client()?;
    let answer = cli.block_on(client.post(format!("/containers/prune{query}"), None))?;
    Ok((
        report("Deleted Containers:", &answer["ContainersDeleted"]),
        answer["SpaceReclaimed"].as_f64().unwrap_or(0.0),
    ))
}

/// A heading, a line for each name and an empty line; nothing when there are no names.
pub(crate) fn report(heading: &str, names: &Value) -> String {
    let names: Vec<&str> = names
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("{heading}\n{}\n\n", names.join("\n"))
    }
}
