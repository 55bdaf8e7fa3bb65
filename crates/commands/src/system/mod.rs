//! `docker system …`, `version` and the generic `inspect`: one file per command.

pub(crate) mod df;
pub(crate) mod dial_stdio;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod prune;
pub(crate) mod version;

use crate::tree::{Node, hidden, node};

/// The commands below `system`.
pub(crate) static NODES: &[Node] = &[
    node("df", &df::COMMAND),
    hidden("dial-stdio", &dial_stdio::COMMAND),
    node("events", &events::COMMAND),
    node("info", &info::COMMAND),
    node("prune", &prune::COMMAND),
];
