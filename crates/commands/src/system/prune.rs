//! `docker system prune`.

use crate::cli::{Cli, confirm, print};
use crate::command::{Args, Command, Flag};
use crate::filters::Filters;
use crate::format::units;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::{container, image, network, volume};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "Remove unused data",
    long: None,
    aliases: &[],
    args: Args::None,
    flags: &[
        Flag::bool("all", "Remove all unused images not just dangling ones").short('a'),
        Flag::filter(
            "filter",
            "Provide filter values (e.g. \"label=<key>=<value>\")",
        ),
        Flag::bool("force", "Do not prompt for confirmation").short('f'),
        Flag::bool("volumes", "Prune anonymous volumes"),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let all = m.bool("all");
    let volumes = m.bool("volumes");
    let filters = Filters::parse(&m.list("filter"));
    if volumes && filters.has("until") {
        return Err(Failure::new(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    if !m.bool("force") && !confirm(&question(all, volumes, &filters))? {
        return Ok(());
    }
    let mut reclaimed = 0.0;
    let mut say = |(report, bytes): (String, f64)| {
        reclaimed += bytes;
        print(&report)
    };
    say(container::prune::prune(cli, &filters)?)?;
    say((network::prune::prune(cli, &filters)?, 0.0))?;
    if volumes {
        say(volume::prune::prune(cli, &filters)?)?;
    }
    say(image::prune::prune(cli, all, filters)?)?;
    Ok(print(&format!(
        "Total reclaimed space: {}\n",
        units::size4(reclaimed)
    ))?)
}

fn question(all: bool, volumes: bool, filters: &Filters) -> String {
    let mut text = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(if all {
        "  - all images without at least one container associated to them\n"
    } else {
        "  - all dangling images\n"
    });
    let filtered = filters.describe();
    if !filtered.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        filtered
            .iter()
            .for_each(|line| text.push_str(&format!("  - {line}\n")));
    }
    text.push_str("\nAre you sure you want to continue? [y/N] ");
    text
}
