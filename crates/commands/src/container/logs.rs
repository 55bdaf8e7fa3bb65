//! `docker logs`.

use wharf_client::{Body, Method, Query};

use super::streams::{Splitter, write_all};
use crate::cli::Cli;
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::timestamp;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    short: "Fetch the logs of a container",
    long: None,
    aliases: &["container logs", "logs"],
    args: Args::Exact(1),
    flags: &[
        Flag::bool("details", "Show extra details provided to logs"),
        Flag::bool("follow", "Follow log output").short('f'),
        Flag::string(
            "since",
            "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
        Flag::string("tail", "Number of lines to show from the end of the logs")
            .short('n')
            .default("all"),
        Flag::bool("timestamps", "Show timestamps").short('t'),
        Flag::string(
            "until",
            "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let name = &m.args[0];
    super::check_name(name)?;
    let now = jiff::Timestamp::now();
    let time = |flag: &str| match m.str(flag) {
        "" => Ok(String::new()),
        text => timestamp::parse(text, now)
            .map_err(|error| Failure::new(format!("invalid value for \"{flag}\": {error}"))),
    };
    let tail = m.last("tail").unwrap_or("all");
    let query = Query::new()
        .flag("details", m.bool("details"))
        .flag("follow", m.bool("follow"))
        .non_empty("since", time("since")?)
        .add("stderr", "1")
        .add("stdout", "1")
        .add("tail", tail)
        .flag("timestamps", m.bool("timestamps"))
        .non_empty("until", time("until")?);
    let client = cli.client()?;
    cli.block_on(async {
        let container = client.get(super::path(name, "/json")).await?;
        let tty = container["Config"]["Tty"].as_bool().unwrap_or(false);
        let path = super::path(name, &format!("/logs{query}"));
        let mut response = client.request(Method::GET, path, Body::Empty, &[]).await?;
        let mut splitter = Splitter::new([true; 2]);
        while let Some(chunk) = response.chunk().await? {
            if tty {
                write_all(rustix::stdio::stdout(), &chunk)?;
            } else {
                splitter.write(&chunk)?;
            }
        }
        Ok(())
    })
}
