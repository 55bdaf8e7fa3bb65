//! `docker stop`.

use wharf_client::Query;

use crate::cli::Cli;
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::Outcome;

/// Those of `restart`, too. The older name of `--timeout` is still understood.
pub(super) static FLAGS: &[Flag] = &[
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
    end(cli, m, "stop")
}

/// Has each container stopped, for good or for a restart.
pub(super) fn end(cli: &Cli, m: &Matches, action: &str) -> Outcome {
    let timeout = m.last("timeout").or(m.last("time")).unwrap_or_default();
    let query = Query::new()
        .non_empty("signal", m.str("signal"))
        .non_empty("t", timeout)
        .to_string();
    let action = format!("/{action}{query}");
    let action = action.as_str();
    super::each(cli, &m.args, |client, name| async move {
        client.post(super::path(name, action), None).await?;
        Ok(())
    })
}
