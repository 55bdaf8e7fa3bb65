//! `docker system dial-stdio`: standard input and output become a connection to the engine; the
//! other end of `ssh://` hosts.

use tokio::io::{AsyncWriteExt as _, copy};

use crate::cli::Cli;
use crate::command::{Args, Command};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "",
    short: "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
    long: None,
    aliases: &[],
    args: Args::None,
    flags: &[],
    interspersed: true,
    run,
};

fn run(cli: &Cli, _: &Matches) -> Outcome {
    let client = cli.client()?;
    cli.block_on(async {
        let connection = client.dial().await?;
        let (mut reader, mut writer) = tokio::io::split(connection);
        let up = async {
            copy(&mut tokio::io::stdin(), &mut writer).await?;
            // The answer may still come.
            writer.shutdown().await?;
            std::future::pending::<std::io::Result<()>>().await
        };
        let down = async {
            let mut out = tokio::io::stdout();
            copy(&mut reader, &mut out).await?;
            out.flush().await
        };
        tokio::select! {
            result = up => result,
            result = down => result,
        }
        .map_err(Failure::from)
    })
}
