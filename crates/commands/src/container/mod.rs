//! `docker container …`: one file per command, and what several of them share.

pub(crate) mod attach;
pub(crate) mod commit;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod ls;
mod options;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod prune;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
mod streams;
pub(crate) mod top;
pub(crate) mod unpause;
pub(crate) mod update;
pub(crate) mod wait;
pub(crate) mod why;

use std::future::Future;

use wharf_client::{Client, Query};

use crate::cli::{Cli, println};
use crate::format::inspect::finish;
use crate::outcome::{Failure, Outcome};
use crate::tree::{Node, node};

/// The commands below `container`.
pub(crate) static NODES: &[Node] = &[
    node("attach", &attach::COMMAND),
    node("commit", &commit::COMMAND),
    node("cp", &cp::COMMAND),
    node("create", &create::COMMAND),
    node("diff", &diff::COMMAND),
    node("exec", &exec::COMMAND),
    node("export", &export::COMMAND),
    node("inspect", &inspect::COMMAND),
    node("kill", &kill::COMMAND),
    node("logs", &logs::COMMAND),
    node("ls", &ls::COMMAND),
    node("pause", &pause::COMMAND),
    node("port", &port::COMMAND),
    node("prune", &prune::COMMAND),
    node("rename", &rename::COMMAND),
    node("restart", &restart::COMMAND),
    node("rm", &rm::COMMAND),
    node("run", &run::COMMAND),
    node("start", &start::COMMAND),
    node("stats", &stats::COMMAND),
    node("stop", &stop::COMMAND),
    node("top", &top::COMMAND),
    node("unpause", &unpause::COMMAND),
    node("update", &update::COMMAND),
    node("wait", &wait::COMMAND),
    node("why", &why::COMMAND),
];

/// How many requests of one command run at the same time, as with Docker's client.
const PARALLEL: usize = 50;

/// `/containers/NAME` with `rest` behind it.
pub(crate) fn path(name: &str, rest: &str) -> String {
    format!("/containers/{}{rest}", Query::path_segment(name))
}

/// Refuses names the engine could not tell from another route.
pub(crate) fn check_name(name: &str) -> Outcome {
    let trimmed = name.trim_start_matches('/');
    if trimmed.trim().is_empty() || trimmed.split('/').any(|part| part == "..") {
        return Err(Failure::new("invalid container name or ID: value is empty"));
    }
    Ok(())
}

/// Does the same to several containers at once; prints each name in order when it is done and
/// each failure at the end.
fn each<'a, F, R>(cli: &'a Cli, names: &'a [String], act: F) -> Outcome
where
    F: Fn(&'a Client, &'a str) -> R,
    R: Future<Output = Outcome>,
{
    use futures_util::StreamExt as _;
    let client = cli.client()?;
    let act = &act;
    cli.block_on(async {
        let work = names.iter().map(|name| async move {
            check_name(name)?;
            act(client, name).await
        });
        let mut results = futures_util::stream::iter(work)
            .buffered(PARALLEL)
            .enumerate();
        let mut errors = Vec::new();
        while let Some((at, result)) = results.next().await {
            match result {
                Ok(()) => println(&names[at])?,
                Err(failure) => errors.push(failure),
            }
        }
        finish(errors)
    })
}
