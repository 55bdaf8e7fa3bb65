//! `docker rm`.

use wharf_client::Query;

use crate::cli::{Cli, println, say_error};
use crate::command::{Args, Command, Flag};
use crate::format::inspect::finish;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Remove one or more containers",
    long: None,
    aliases: &["container rm", "container remove", "rm"],
    args: Args::Min(1),
    flags: &[
        Flag::bool(
            "force",
            "Force the removal of a running container (uses SIGKILL)",
        )
        .short('f'),
        Flag::bool("link", "Remove the specified link").short('l'),
        Flag::bool(
            "volumes",
            "Remove anonymous volumes associated with the container",
        )
        .short('v'),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    use futures_util::StreamExt as _;
    let force = m.bool("force");
    let query = Query::new()
        .flag("v", m.bool("volumes"))
        .flag("link", m.bool("link"))
        .flag("force", force)
        .to_string();
    let query = query.as_str();
    let client = cli.client()?;
    cli.block_on(async {
        let work = m.args.iter().map(|name| async move {
            super::check_name(name)?;
            let name = name.trim_matches('/');
            client
                .delete(super::path(name, query))
                .await
                .map_err(Failure::from)
        });
        let mut results = futures_util::stream::iter(work)
            .buffered(super::PARALLEL)
            .enumerate();
        let mut errors = Vec::new();
        while let Some((at, result)) = results.next().await {
            match result {
                Ok(_) => println(&m.args[at])?,
                // With --force a container that is not there is as wanted.
                Err(failure) if force && failure.is_not_found() => say_error(failure.text()),
                Err(failure) => errors.push(failure),
            }
        }
        finish(errors)
    })
}
