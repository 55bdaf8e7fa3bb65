//! `docker load`.

use std::io::Read as _;

use bytes::Bytes;
use wharf_client::{Body, Method, Query};

use super::progress::{self, Target};
use super::push::platform;
use crate::cli::{Cli, stdin_is_terminal, stdout_is_terminal};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "Load an image from a tar archive or STDIN",
    long: None,
    aliases: &["image load", "load"],
    args: Args::None,
    flags: &[
        Flag::string("input", "Read from tar archive file, instead of STDIN").short('i'),
        Flag::string(
            "platform",
            "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
        Flag::bool("quiet", "Suppress the load output").short('q'),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let input = m.str("input");
    if input.is_empty() && stdin_is_terminal() {
        return Err(Failure::new(
            "requested load from stdin, but stdin is empty",
        ));
    }
    let quiet = m.bool("quiet") || !stdout_is_terminal();
    let query = Query::new()
        .add("quiet", if quiet { "1" } else { "0" })
        .non_empty("platform", platform(m.str("platform"))?);
    let body = Body::Stream {
        content_type: "application/x-tar",
        chunks: Box::pin(upload(input)?),
    };
    let client = cli.client()?;
    cli.block_on(async {
        let response = client
            .request(Method::POST, format!("/images/load{query}"), body, &[])
            .await?;
        progress::show(response, Target::Stdout, |_| {}).await
    })
}

/// The bytes of a file, or of standard input for an empty name or `-`.
///
/// A thread reads ahead of the connection; the channel bounds how far.
pub(crate) fn upload(
    path: &str,
) -> Outcome<impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + use<>> {
    /// Size of one read in bytes.
    const CHUNK: usize = 256 << 10;
    let mut source: Box<dyn std::io::Read + Send> = match path {
        "" | "-" => Box::new(std::io::stdin()),
        path => {
            let file = std::fs::File::open(path)
                .map_err(|error| Failure::new(open_failed(path, &error)))?;
            Box::new(file)
        }
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    std::thread::spawn(move || {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let item = match source.by_ref().take(CHUNK as u64).read_to_end(&mut chunk) {
                Ok(0) => return,
                Ok(_) => Ok(Bytes::from(chunk)),
                Err(error) => Err(error),
            };
            let failed = item.is_err();
            // The request has ended when nobody receives.
            if sender.blocking_send(item).is_err() || failed {
                return;
            }
        }
    });
    Ok(futures_util::stream::unfold(
        receiver,
        |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) },
    ))
}

fn open_failed(path: &str, error: &std::io::Error) -> String {
    let text = error.to_string();
    let reason = text
        .split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase();
    format!("open {path}: {reason}")
}
