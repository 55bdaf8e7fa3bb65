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
