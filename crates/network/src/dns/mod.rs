//! The embedded DNS server at 127.0.0.11 of containers on user-defined networks.
//!
//! ```text
//! query ──▶ socket inside the container's namespace ──▶ answer (pure: names of its networks)
//!                                                          │ not one of ours
//!                                                          └▶ forward, from the host's namespace
//! ```

mod answer;
mod directory;
mod forward;
mod server;

pub(crate) use directory::{Directory, Member, Scope, ScopeNetwork};
pub(crate) use server::{Server, Sockets};
