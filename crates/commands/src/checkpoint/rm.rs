//! `docker checkpoint rm`.

use wharf_client::Query;

use crate::cli::Cli;
use crate::command::{Args, Command};
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER CHECKPOINT",
    short: "Remove a checkpoint",
    long: None,
    aliases: &["checkpoint rm", "checkpoint remove"],
    args: Args::Exact(2),
    flags: &[super::DIRECTORY],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let (container, name) = (m.args[0].as_str(), m.args[1].as_str());
    crate::container::check_name(container)?;
    let query = Query::new().non_empty("dir", m.str("checkpoint-dir"));
    let path = super::path(container, &format!("/{}{query}", Query::path_segment(name)));
    let client = cli.client()?;
    cli.block_on(client.delete(path))?;
    Ok(())
}
