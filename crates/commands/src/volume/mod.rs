//! `docker volume …`: one file per command.

pub(crate) mod create;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;

use wharf_client::Query;

use crate::tree::{Node, node};

/// The commands below `volume`.
pub(crate) static NODES: &[Node] = &[
    node("create", &create::COMMAND),
    node("inspect", &inspect::COMMAND),
    node("ls", &ls::COMMAND),
    node("prune", &prune::COMMAND),
    node("rm", &rm::COMMAND),
];

/// `/volumes/NAME` with `rest` behind it.
fn path(name: &str, rest: &str) -> String {
    format!("/volumes/{}{rest}", Query::path_segment(name))
}
