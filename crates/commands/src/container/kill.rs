//! `docker kill`.

use wharf_client::Query;

use crate::cli::Cli;
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Kill one or more running containers",
    long: None,
    aliases: &["container kill", "kill"],
    args: Args::Min(1),
    flags: &[Flag::string("signal", "Signal to send to the container").short('s')],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let query = Query::new()
        .non_empty("signal", m.str("signal"))
        .to_string();
    let query = query.as_str();
    super::each(cli, &m.args, |client, name| async move {
        client
            .post(super::path(name, &format!("/kill{query}")), None)
            .await?;
        Ok(())
    })
}
