//! `docker volume rm`.

use wharf_client::Query;

use crate::cli::{Cli, println};
use crate::command::{Args, Command, Flag};
use crate::format::inspect::finish;
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    short: "Remove one or more volumes",
    long: Some(
        "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    ),
    aliases: &["volume rm", "volume remove"],
    args: Args::Min(1),
    flags: &[Flag::bool("force", "Force the removal of one or more volumes").short('f')],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let query = Query::new().flag("force", m.bool("force")).to_string();
    let client = cli.client()?;
    let mut errors = Vec::new();
    for name in &m.args {
        match cli.block_on(client.delete(super::path(name, &query))) {
            Ok(_) => println(name)?,
            Err(error) => errors.push(error.into()),
        }
    }
    finish(errors)
}
