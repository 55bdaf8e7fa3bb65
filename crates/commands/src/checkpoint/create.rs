//! `docker checkpoint create`.

use serde_json::json;

use crate::cli::{Cli, println};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER CHECKPOINT",
    short: "Create a checkpoint from a running container",
    long: None,
    aliases: &[],
    args: Args::Exact(2),
    flags: &[
        super::DIRECTORY,
        Flag::bool(
            "leave-running",
            "Leave the container running after checkpoint",
        ),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let (container, name) = (m.args[0].as_str(), m.args[1].as_str());
    crate::container::check_name(container)?;
    let body = json!({
        "CheckpointID": name,
        "CheckpointDir": m.str("checkpoint-dir"),
        "Exit": !m.bool("leave-running"),
    });
    let client = cli.client()?;
    cli.block_on(client.post(super::path(container, ""), Some(body)))?;
    Ok(println(name)?)
}
