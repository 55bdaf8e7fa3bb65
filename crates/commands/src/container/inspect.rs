//! `docker container inspect`.

use wharf_client::Query;

use crate::cli::Cli;
use crate::command::{Args, Command, Flag, INSPECT_FORMAT_HELP};
use crate::format::inspect;
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Display detailed information on one or more containers",
    long: None,
    aliases: &[],
    args: Args::Min(1),
    flags: &[
        Flag::string("format", INSPECT_FORMAT_HELP).short('f'),
        Flag::bool("size", "Display total file sizes").short('s'),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let query = Query::new().flag("size", m.bool("size"));
    let client = cli.client()?;
    inspect::run(&m.args, m.str("format"), inspect::Kind::Container, |name| {
        super::check_name(name)?;
        Ok(cli.block_on(client.get(super::path(name, &format!("/json{query}"))))?)
    })
}
