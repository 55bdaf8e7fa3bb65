//! `docker wait`.

use crate::cli::{Cli, println};
use crate::command::{Args, Command};
use crate::format::inspect::finish;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "CONTAINER [CONTAINER...]",
    short: "Block until one or more containers stop, then print their exit codes",
    long: None,
    aliases: &["container wait", "wait"],
    args: Args::Min(1),
    flags: &[],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let client = cli.client()?;
    cli.block_on(async {
        let mut errors = Vec::new();
        for name in &m.args {
            let waited = async {
                super::check_name(name)?;
                client
                    .post(super::path(name, "/wait"), None)
                    .await
                    .map_err(Failure::from)
            };
            match waited.await {
                Err(failure) => errors.push(failure),
                Ok(answer) => match answer["Error"]["Message"]
                    .as_str()
                    .filter(|message| !message.is_empty())
                {
                    Some(message) => errors.push(Failure::new(message)),
                    None => println(
                        &answer["StatusCode"]
                            .as_i64()
                            .unwrap_or_default()
                            .to_string(),
                    )?,
                },
            }
        }
        finish(errors)
    })
}
