//! `docker checkpoint …`: one file per command.

pub(crate) mod create;
pub(crate) mod ls;
pub(crate) mod rm;

use crate::command::Flag;
use crate::tree::{Node, node};

/// The commands below `checkpoint`.
pub(crate) static NODES: &[Node] = &[
    node("create", &create::COMMAND),
    node("ls", &ls::COMMAND),
    node("rm", &rm::COMMAND),
];

/// Where checkpoints are that are not with their container.
const DIRECTORY: Flag = Flag::string(
    "checkpoint-dir",
    "Use a custom checkpoint storage directory",
);

/// `/containers/NAME/checkpoints` with `rest` behind it.
fn path(name: &str, rest: &str) -> String {
    crate::container::path(name, &format!("/checkpoints{rest}"))
}
