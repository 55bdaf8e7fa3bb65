//! `docker network …`: one file per command.

pub(crate) mod connect;
pub(crate) mod create;
pub(crate) mod disconnect;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;

use wharf_client::Query;

use crate::tree::{Node, node};

/// The commands below `network`.
pub(crate) static NODES: &[Node] = &[
    node("connect", &connect::COMMAND),
    node("create", &create::COMMAND),
    node("disconnect", &disconnect::COMMAND),
    node("inspect", &inspect::COMMAND),
    node("ls", &ls::COMMAND),
    node("prune", &prune::COMMAND),
    node("rm", &rm::COMMAND),
];

/// `/networks/NAME` with `rest` behind it.
fn path(name: &str, rest: &str) -> String {
    format!("/networks/{}{rest}", Query::path_segment(name))
}
