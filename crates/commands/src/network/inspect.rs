//! `docker network inspect`.

use wharf_client::Query;

use crate::cli::Cli;
use crate::command::{Args, Command, Flag, INSPECT_FORMAT_HELP};
use crate::format::inspect;
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    short: "Display detailed information on one or more networks",
    long: None,
    aliases: &[],
    args: Args::Min(1),
    flags: &[
        Flag::string("format", INSPECT_FORMAT_HELP).short('f'),
        Flag::bool("verbose", "Verbose output for diagnostics").short('v'),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let query = if m.bool("verbose") {
        Query::new().add("verbose", "true")
    } else {
        Query::new()
    };
    let client = cli.client()?;
    inspect::run(&m.args, m.str("format"), inspect::Kind::Network, |name| {
        Ok(cli.block_on(client.get(super::path(name, &query.to_string())))?)
    })
}
