//! `docker volume inspect`.

use crate::cli::Cli;
use crate::command::{Args, Command, Flag, INSPECT_FORMAT_HELP};
use crate::format::inspect;
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    short: "Display detailed information on one or more volumes",
    long: None,
    aliases: &[],
    args: Args::Min(1),
    flags: &[Flag::string("format", INSPECT_FORMAT_HELP).short('f')],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let client = cli.client()?;
    inspect::run(&m.args, m.str("format"), inspect::Kind::Volume, |name| {
        let mut volume = cli.block_on(client.get(super::path(name, "")))?;
        // The order of the Go struct Docker prints, which is that of the names.
        if let Some(fields) = volume.as_object_mut() {
            fields.sort_keys();
        }
        Ok(volume)
    })
}
