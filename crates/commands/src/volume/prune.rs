//! `docker volume prune`.

use wharf_client::Query;

use crate::cli::{Cli, confirm, print};
use crate::command::{Args, Command, Flag};
use crate::container::prune::report;
use crate::filters::Filters;
use crate::format::units;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "Remove unused local volumes",
    long: None,
    aliases: &[],
    args: Args::None,
    flags: &[
        Flag::bool("all", "Remove all unused volumes, not just anonymous ones").short('a'),
        Flag::filter("filter", "Provide filter values (e.g. \"label=<label>\")"),
        Flag::bool("force", "Do not prompt for confirmation").short('f'),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let all = m.bool("all");
    let mut filters = Filters::parse(&m.list("filter"));
    if all {
        if filters.has("all") {
            return Err(Failure::new(
                "conflicting options: cannot specify both --all and --filter all=1",
            ));
        }
        filters.add("all", "true");
    }
    let what = if all {
        "all local volumes"
    } else {
        "anonymous local volumes"
    };
    let question = format!(
        "WARNING! This will remove {what} not used by at least one container.\nAre you sure you want to continue? [y/N] "
    );
    if !m.bool("force") && !confirm(&question)? {
        return Ok(());
    }
    let (report, reclaimed) = prune(cli, &filters)?;
    Ok(print(&format!(
        "{report}Total reclaimed space: {}\n",
        units::size4(reclaimed)
    ))?)
}

/// Removes unused volumes; returns what to report and the bytes freed.
pub(crate) fn prune(cli: &Cli, filters: &Filters) -> Outcome<(String, f64)> {
    let query = Query::new().non_empty("filters", filters.to_wire());
    let client = cli.client()?;
    let answer = cli.block_on(client.post(format!("/volumes/prune{query}"), None))?;
    Ok((
        report("Deleted Volumes:", &answer["VolumesDeleted"]),
        answer["SpaceReclaimed"].as_f64().unwrap_or(0.0),
    ))
}
