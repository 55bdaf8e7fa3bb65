//! `docker network rm`.

use crate::cli::{Cli, println, say_error};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "NETWORK [NETWORK...]",
    short: "Remove one or more networks",
    long: None,
    aliases: &["network rm", "network remove"],
    args: Args::Min(1),
    flags: &[Flag::bool("force", "Do not error if the network does not exist").short('f')],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let client = cli.client()?;
    let mut failed = false;
    for name in &m.args {
        match cli.block_on(client.delete(super::path(name, ""))) {
            Ok(_) => println(name)?,
            // With --force a network that is not there is as wanted.
            Err(error) if m.bool("force") && error.is_not_found() => {}
            Err(error) => {
                say_error(Failure::from(error).text());
                failed = true;
            }
        }
    }
    if failed {
        Err(Failure::new("exit status 1"))
    } else {
        Ok(())
    }
}
