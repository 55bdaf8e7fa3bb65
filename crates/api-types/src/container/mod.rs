//! Containers on the wire: what `create` takes, and what `inspect`, `list`, `wait`, `top` and
//! `prune` answer.
//!
//! Field order is the order in which Docker prints them. Every field of a request may be absent or
//! `null`; both mean the zero value, as Docker's decoder has it.

mod answers;
mod config;
mod create;
mod host_config;
mod inspect;
mod list;
mod state;

use serde::{Deserialize, Serialize};

pub use answers::*;
pub use config::*;
pub use create::*;
pub use host_config::*;
pub use inspect::*;
pub use list::*;
pub use state::*;

/// An empty JSON object, the value type of Go's sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}
