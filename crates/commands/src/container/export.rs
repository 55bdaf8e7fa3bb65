//! `docker export`.

use wharf_client::{Body, Method};

use crate::cli::{Cli, stdout_is_terminal};
use crate::command::{Args, Command, Flag};
use crate::image::save::to_file_or_stdout;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    short: "Export a container's filesystem as a tar archive",
    long: None,
    aliases: &["container export", "export"],
    args: Args::Exact(1),
    flags: &[Flag::string("output", "Write to a file, instead of STDOUT").short('o')],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let output = m.str("output");
    if output.is_empty() && stdout_is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    super::check_name(&m.args[0])?;
    let client = cli.client()?;
    cli.block_on(async {
        let path = super::path(&m.args[0], "/export");
        let response = client.request(Method::GET, path, Body::Empty, &[]).await?;
        to_file_or_stdout(response, output).await
    })
}
