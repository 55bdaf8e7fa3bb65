//! `docker rename`.

use wharf_client::Query;

use crate::cli::{Cli, say_error};
use crate::command::{Args, Command};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "CONTAINER NEW_NAME",
    short: "Rename a container",
    long: None,
    aliases: &["container rename", "rename"],
    args: Args::Exact(2),
    flags: &[],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let (old, new) = (m.args[0].trim(), m.args[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new(
            "Error: Neither old nor new names may be empty",
        ));
    }
    let client = cli.client()?;
    let query = Query::new().add("name", new);
    let path = super::path(old, &format!("/rename{query}"));
    match cli.block_on(client.post(path, None)) {
        Ok(_) => Ok(()),
        Err(error) => {
            say_error(Failure::from(error).text());
            Err(Failure::new(format!(
                "Error: failed to rename container named {old}"
            )))
        }
    }
}
