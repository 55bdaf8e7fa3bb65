//! `docker commit`.

use wharf_client::Query;

use crate::cli::{Cli, println};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::image::Named;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    short: "Create a new image from a container's changes",
    long: None,
    aliases: &["container commit", "commit"],
    args: Args::Range(1, 2),
    flags: &[
        Flag::string(
            "author",
            "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")",
        )
        .short('a'),
        Flag::list(
            "change",
            "Apply Dockerfile instruction to the created image",
        )
        .short('c'),
        Flag::string("message", "Commit message").short('m'),
        Flag::bool("pause", "Pause container during commit")
            .short('p')
            .default("true"),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let mut query = Query::new()
        .non_empty("author", m.str("author"))
        .non_empty("comment", m.str("message"))
        .add("container", &m.args[0]);
    for change in m.list("change") {
        query = query.add("changes", change);
    }
    if let Some(reference) = m.args.get(1).filter(|reference| !reference.is_empty()) {
        let named = Named::parse(reference).map_err(|error| {
            Failure::new(format!(
                "Error parsing reference: \"{reference}\" is not a valid repository/tag: {error}"
            ))
        })?;
        if named.digest.is_some() {
            return Err(Failure::new(
                "refusing to create a tag with a digest reference",
            ));
        }
        query = query
            .add("repo", named.name())
            .non_empty("tag", named.or_latest().tag.unwrap_or_default());
    }
    if !m.bool_or("pause", true) {
        query = query.add("pause", "0");
    }
    let client = cli.client()?;
    let answer = cli.block_on(client.post(format!("/commit{query}"), None))?;
    Ok(println(answer["Id"].as_str().unwrap_or_default())?)
}
