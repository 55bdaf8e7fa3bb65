//! `docker image …`: one file per command, and what several of them share.

pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod ls;
pub(crate) mod progress;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rm;
pub(crate) mod save;
pub(crate) mod tag;

use wharf_client::Query;

use crate::cli::{env, println};
use crate::matches::{Matches, parse_bool};
use crate::outcome::{Failure, Outcome};
use crate::parse::image::Named;
use crate::tree::{Node, node};

/// The commands below `image`.
pub(crate) static NODES: &[Node] = &[
    node("history", &history::COMMAND),
    node("import", &import::COMMAND),
    node("inspect", &inspect::COMMAND),
    node("load", &load::COMMAND),
    node("ls", &ls::COMMAND),
    node("prune", &prune::COMMAND),
    node("pull", &pull::COMMAND),
    node("push", &push::COMMAND),
    node("rm", &rm::COMMAND),
    node("save", &save::COMMAND),
    node("tag", &tag::COMMAND),
];

/// `/images/NAME` with `rest` behind it.
fn path(name: &str, rest: &str) -> String {
    format!("/images/{}{rest}", Query::path_segment(name))
}

/// The image that `pull` or `push` is about, with the default tag where none is given and one is needed.
fn transferred(m: &Matches) -> Outcome<Named> {
    let all_tags = m.bool("all-tags");
    let named = Named::parse(&m.args[0]).map_err(Failure::new)?;
    let is_tagged = named.tag.is_some() || named.digest.is_some();
    if all_tags && is_tagged {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if all_tags || is_tagged {
        return Ok(named);
    }
    let named = named.or_latest();
    if !m.bool("quiet") {
        println(&format!(
            "Using default tag: {}",
            named.tag.as_deref().unwrap_or_default()
        ))?;
    }
    Ok(named)
}

/// Refuses what needs Docker's content trust: a flag or an environment that asks for signed
/// images must not be met with unsigned ones.
pub(crate) fn refuse_content_trust(m: &Matches) -> Outcome {
    let wanted = match m.last("disable-content-trust") {
        Some(_) => !m.bool("disable-content-trust"),
        None => env("DOCKER_CONTENT_TRUST").is_some_and(|value| parse_bool(&value).unwrap_or(true)),
    };
    if wanted {
        return Err(Failure::new(
            "content trust (signed images) is not available yet",
        ));
    }
    Ok(())
}
