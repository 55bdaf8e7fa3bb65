//! `docker image inspect`.

use wharf_client::Query;

use crate::cli::Cli;
use crate::command::{Args, Command, Flag, INSPECT_FORMAT_HELP};
use crate::format::inspect;
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    short: "Display detailed information on one or more images",
    long: None,
    aliases: &[],
    args: Args::Min(1),
    flags: &[
        Flag::string("format", INSPECT_FORMAT_HELP).short('f'),
        Flag::string(
            "platform",
            "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let query = Query::new().non_empty("platform", super::push::platform(m.str("platform"))?);
    let client = cli.client()?;
    inspect::run(&m.args, m.str("format"), inspect::Kind::Image, |name| {
        Ok(cli.block_on(client.get(super::path(name, &format!("/json{query}"))))?)
    })
}
