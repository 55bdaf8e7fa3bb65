//! `docker tag`.

use wharf_client::Query;

use crate::cli::Cli;
use crate::command::{Args, Command};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::image::Named;

pub(crate) static COMMAND: Command = Command {
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    short: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    long: None,
    aliases: &["image tag", "tag"],
    args: Args::Exact(2),
    flags: &[],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let target = &m.args[1];
    let named = Named::parse(target).map_err(|error| {
        Failure::new(format!(
            "Error parsing reference: \"{target}\" is not a valid repository/tag: {error}"
        ))
    })?;
    if named.digest.is_some() {
        return Err(Failure::new(
            "refusing to create a tag with a digest reference",
        ));
    }
    let named = named.or_latest();
    let query = Query::new()
        .add("repo", named.name())
        .add("tag", named.tag.as_deref().unwrap_or_default());
    let client = cli.client()?;
    cli.block_on(client.post(super::path(&m.args[0], &format!("/tag{query}")), None))?;
    Ok(())
}
