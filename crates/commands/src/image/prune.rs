//! `docker image prune`.

use wharf_client::Query;

use crate::cli::{Cli, confirm, print};
use crate::command::{Args, Command, Flag};
use crate::filters::Filters;
use crate::format::units;
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "Remove unused images",
    long: None,
    aliases: &[],
    args: Args::None,
    flags: &[
        Flag::bool("all", "Remove all unused images, not just dangling ones").short('a'),
        Flag::filter(
            "filter",
            "Provide filter values (e.g. \"until=<timestamp>\")",
        ),
        Flag::bool("force", "Do not prompt for confirmation").short('f'),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let all = m.bool("all");
    let what = if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    let question =
        format!("WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] ");
    if !m.bool("force") && !confirm(&question)? {
        return Ok(());
    }
    let (report, reclaimed) = prune(cli, all, Filters::parse(&m.list("filter")))?;
    Ok(print(&format!(
        "{report}Total reclaimed space: {}\n",
        units::size4(reclaimed)
    ))?)
}

/// Removes unused images; returns what to report and the bytes freed.
pub(crate) fn prune(cli: &Cli, all: bool, mut filters: Filters) -> Outcome<(String, f64)> {
    filters.add("dangling", if all { "false" } else { "true" });
    let query = Query::new().add("filters", filters.to_wire());
    let client = cli.client()?;
    let answer = cli.block_on(client.post(format!("/images/prune{query}"), None))?;
    let mut report = String::new();
    for entry in answer["ImagesDeleted"].as_array().into_iter().flatten() {
        match (entry["Untagged"].as_str(), entry["Deleted"].as_str()) {
            (Some(tag), _) if !tag.is_empty() => report.push_str(&format!("untagged: {tag}\n")),
            (_, Some(id)) => report.push_str(&format!("deleted: {id}\n")),
            _ => {}
        }
    }
    if !report.is_empty() {
        report = format!("Deleted Images:\n{report}\n");
    }
    Ok((report, answer["SpaceReclaimed"].as_f64().unwrap_or(0.0)))
}
