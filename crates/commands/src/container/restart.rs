//! `docker restart`.

use super::stop;
use crate::cli::Cli;
use crate::command::{Args, Command};
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Restart one or more containers",
    long: None,
    aliases: &["container restart", "restart"],
    args: Args::Min(1),
    flags: stop::FLAGS,
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    stop::end(cli, m, "restart")
}
