//! `docker top`.

use serde_json::Value;
use wharf_client::Query;

use crate::cli::{Cli, print};
use crate::command::{Args, Command};
use crate::format::table::{Spacing, align};
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "CONTAINER [ps OPTIONS]",
    short: "Display the running processes of a container",
    long: None,
    aliases: &["container top", "top"],
    args: Args::Min(1),
    flags: &[],
    interspersed: false,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    super::check_name(&m.args[0])?;
    let query = Query::new().non_empty("ps_args", m.args[1..].join(" "));
    let client = cli.client()?;
    let answer = cli.block_on(client.get(super::path(&m.args[0], &format!("/top{query}"))))?;
    let line = |cells: &Value| {
        let cells = cells
            .as_array()
            .into_iter()
            .flatten()
            .map(|cell| cell.as_str().unwrap_or_default());
        cells.collect::<Vec<_>>().join("\t") + "\n"
    };
    let mut text = line(&answer["Titles"]);
    answer["Processes"]
        .as_array()
        .into_iter()
        .flatten()
        .for_each(|process| text.push_str(&line(process)));
    Ok(print(&align(
        &text,
        Spacing {
            min_width: 20,
            padding: 3,
        },
    ))?)
}
