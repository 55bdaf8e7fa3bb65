//! `docker unpause`.

use crate::cli::Cli;
use crate::command::{Args, Command};
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "CONTAINER [CONTAINER...]",
    short: "Unpause all processes within one or more containers",
    long: None,
    aliases: &["container unpause", "unpause"],
    args: Args::Min(1),
    flags: &[],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    super::each(cli, &m.args, |client, name| async move {
        client.post(super::path(name, "/unpause"), None).await?;
        Ok(())
    })
}
