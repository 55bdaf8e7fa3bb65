//! `docker network disconnect`.

use serde_json::json;

use crate::cli::Cli;
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] NETWORK CONTAINER",
    short: "Disconnect a container from a network",
    long: None,
    aliases: &[],
    args: Args::Exact(2),
    flags: &[Flag::bool("force", "Force the container to disconnect from a network").short('f')],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let body = json!({"Container": m.args[1], "Force": m.bool("force")});
    let client = cli.client()?;
    cli.block_on(client.post(super::path(&m.args[0], "/disconnect"), Some(body)))?;
    Ok(())
}
