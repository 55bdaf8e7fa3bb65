//! The OCI runtime specification's documents (version 1.3, Linux) as Rust values.
//!
//! The names are the specification's. Optional scalars are `Option`, lists and maps are empty
//! when absent, and neither is written when empty. Unknown fields are ignored, as the
//! specification asks (`config.md`, "Extensibility"). Nothing here checks a value's meaning:
//! whoever uses a value refuses what it cannot honour.

mod linux;
mod resources;
mod seccomp;
mod spec;
mod state;

pub use linux::*;
pub use resources::*;
pub use seccomp::*;
pub use spec::*;
pub use state::*;

/// The version written into documents made here.
pub const VERSION: &str = "1.3.0";

/// `true` when a flag has its default and need not be written.
fn is_false(value: &bool) -> bool {
    !*value
}
