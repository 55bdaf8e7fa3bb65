//! `docker rmi`.

use wharf_client::Query;

use crate::cli::{Cli, print, say_error};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    short: "Remove one or more images",
    long: None,
    aliases: &["image rm", "image remove", "rmi"],
    args: Args::Min(1),
    flags: &[
        Flag::bool("force", "Force removal of the image").short('f'),
        Flag::bool("no-prune", "Do not delete untagged parents"),
        Flag::csv(
            "platform",
            "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let force = m.bool("force");
    let mut query = Query::new()
        .flag("force", force)
        .flag("noprune", m.bool("no-prune"));
    for platform in m.list("platform") {
        query = query.add("platforms", super::push::platform(platform)?);
    }
    let client = cli.client()?;
    let mut fatal = false;
    let mut errors = Vec::new();
    for name in &m.args {
        match cli.block_on(client.delete(super::path(name, &query.to_string()))) {
            Err(error) => {
                fatal |= !error.is_not_found();
                errors.push(Failure::from(error));
            }
            Ok(done) => {
                let mut text = String::new();
                for entry in done.as_array().into_iter().flatten() {
                    match (entry["Deleted"].as_str(), entry["Untagged"].as_str()) {
                        (Some(id), _) if !id.is_empty() => {
                            text.push_str(&format!("Deleted: {id}\n"))
                        }
                        (_, Some(tag)) => text.push_str(&format!("Untagged: {tag}\n")),
                        _ => {}
                    }
                }
                print(&text)?;
            }
        }
    }
    errors.iter().for_each(|failure| say_error(failure.text()));
    // With --force an image that is not there is as wanted.
    if errors.is_empty() || (force && !fatal) {
        Ok(())
    } else {
        Err(Failure::status(1))
    }
}
