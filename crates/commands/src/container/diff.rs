//! `docker diff`.

use crate::cli::{Cli, print};
use crate::command::{Args, Command};
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "CONTAINER",
    short: "Inspect changes to files or directories on a container's filesystem",
    long: None,
    aliases: &["container diff", "diff"],
    args: Args::Exact(1),
    flags: &[],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    super::check_name(&m.args[0])?;
    let client = cli.client()?;
    let changes = cli.block_on(client.get(super::path(&m.args[0], "/changes")))?;
    let mut text = String::new();
    for change in changes.as_array().into_iter().flatten() {
        let kind = match change["Kind"].as_i64() {
            Some(0) => 'C',
            Some(1) => 'A',
            Some(2) => 'D',
            _ => '?',
        };
        text.push_str(&format!(
            "{kind} {}\n",
            change["Path"].as_str().unwrap_or_default()
        ));
    }
    Ok(print(&text)?)
}
