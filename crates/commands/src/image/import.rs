//! `docker import`.

use wharf_client::{Body, Method, Query};

use super::load::upload;
use super::progress::{self, Target};
use crate::cli::Cli;
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::image::Named;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    short: "Import the contents from a tarball to create a filesystem image",
    long: None,
    aliases: &["image import", "import"],
    args: Args::Min(1),
    flags: &[
        Flag::list(
            "change",
            "Apply Dockerfile instruction to the created image",
        )
        .short('c'),
        Flag::string("message", "Set commit message for imported image").short('m'),
        Flag::string(
            "platform",
            "Set platform if server is multi-platform capable",
        ),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let source = m.args[0].as_str();
    let reference = m.args.get(1).map(String::as_str).unwrap_or_default();
    if !reference.is_empty() {
        Named::parse(reference).map_err(Failure::new)?;
    }
    let remote = source.starts_with("http://") || source.starts_with("https://");
    let mut query = Query::new()
        .add("fromSrc", if remote { source } else { "-" })
        .non_empty("message", m.str("message"));
    for change in m.list("change") {
        query = query.add("changes", change);
    }
    query = query
        .non_empty("platform", m.str("platform"))
        .non_empty("repo", reference);
    let body = if remote {
        Body::Empty
    } else {
        Body::Stream {
            content_type: "text/plain",
            chunks: Box::pin(upload(source)?),
        }
    };
    let client = cli.client()?;
    cli.block_on(async {
        let response = client
            .request(Method::POST, format!("/images/create{query}"), body, &[])
            .await?;
        progress::show(response, Target::Stdout, |_| {}).await
    })
}
