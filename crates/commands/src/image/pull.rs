//! `docker pull`.

use wharf_client::{Body, Client, Method, Query};

use super::progress::{self, Target};
use crate::cli::{Cli, env, println};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::Outcome;
use crate::parse::image::Named;
use crate::registry::credentials;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    short: "Download an image from a registry",
    long: None,
    aliases: &["image pull", "pull"],
    args: Args::Exact(1),
    flags: &[
        Flag::bool("all-tags", "Download all tagged images in the repository").short('a'),
        Flag::bool("disable-content-trust", "Skip image verification").default("true"),
        Flag::string(
            "platform",
            "Set platform if server is multi-platform capable",
        ),
        Flag::bool("quiet", "Suppress verbose output").short('q'),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    super::refuse_content_trust(m)?;
    let all_tags = m.bool("all-tags");
    let quiet = m.bool("quiet");
    let named = super::transferred(m)?;
    let platform = match m.str("platform") {
        "" => env("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        given => given.to_owned(),
    };
    let client = cli.client()?;
    let options = Options {
        all_tags,
        platform: &platform,
        quiet,
        to_stderr: false,
    };
    cli.block_on(pull(cli, client, &named, options))?;
    Ok(println(&named.full())?)
}

/// How an image is pulled.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    /// Every tag of the repository.
    pub(crate) all_tags: bool,
    /// `os/architecture`, empty for the engine's.
    pub(crate) platform: &'a str,
    /// Show nothing.
    pub(crate) quiet: bool,
    /// Show progress on standard error, as `run` does.
    pub(crate) to_stderr: bool,
}

/// Pulls an image and shows the progress.
pub(crate) async fn pull(
    cli: &Cli,
    client: &Client,
    named: &Named,
    options: Options<'_>,
) -> Outcome {
    let mut query = Query::new()
        .add("fromImage", named.name())
        .non_empty("platform", options.platform);
    if !options.all_tags {
        query = query.add("tag", named.api_tag());
    }
    let auth = credentials::header(cli, &named.domain)?;
    let headers = [("X-Registry-Auth", auth.as_str())];
    let response = client
        .request(
            Method::POST,
            format!("/images/create{query}"),
            Body::Empty,
            &headers,
        )
        .await?;
    let target = match (options.quiet, options.to_stderr) {
        (true, _) => Target::Nowhere,
        (false, true) => Target::Stderr,
        (false, false) => Target::Stdout,
    };
    progress::show(response, target, |_| {}).await
}
