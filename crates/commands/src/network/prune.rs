//! `docker network prune`.

use wharf_client::Query;

use crate::cli::{Cli, confirm, print};
use crate::command::{Args, Command, Flag};
use crate::container::prune::report;
use crate::filters::Filters;
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "Remove all unused networks",
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

const QUESTION: &str = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue? [y/N] ";

fn run(cli: &Cli, m: &Matches) -> Outcome {
    if !m.bool("force") && !confirm(QUESTION)? {
        return Ok(());
    }
    Ok(print(&prune(cli, &Filters::parse(&m.list("filter")))?)?)
}

/// Removes unused networks; returns what to report.
pub(crate) fn prune(cli: &Cli, filters: &Filters) -> Outcome<String> {
    let query = Query::new().non_empty("filters", filters.to_wire());
    let client = cli.client()?;
    let answer = cli.block_on(client.post(format!("/networks/prune{query}"), None))?;
    Ok(report("Deleted Networks:", &answer["NetworksDeleted"]))
}
