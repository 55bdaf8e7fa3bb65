//! `docker stop`.

use wharf_client::Query;

use crate::cli::Cli;
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::Outcome;

/// The older name of `--timeout` is still understood.
static FLAGS: &[Flag] = &[
    Flag::string("signal", "Signal to send to the container").short('s'),
    Flag::int("timeout", "Seconds to wait before killing the container").short('t'),
    Flag::int(
        "time",
        "Seconds to wait before killing the container (deprecated: use --timeout)",
    )
    .hidden(),
];

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Stop one or more running containers",
    long: None,
    aliases: &["container stop", "stop"],
    args: Args::Min(1),
    flags: FLAGS,
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let timeout = m.last("timeout").or(m.last("time")).unwrap_or_default();
    let query = Query::new()
        .non_empty("signal", m.str("signal"))
        .non_empty("t", timeout)
        .to_string();
    let query = query.as_str();
    super::each(cli, &m.args, |client, name| async move {
        client
            .post(super::path(name, &format!("/stop{query}")), None)
            .await?;
        Ok(())
    })
}
