//! The engine as an ordinary user: namespaces in which the daemon is root, and a network beside
//! the host's for the containers' bridges.
//!
//! ```text
//! wharf daemon (as a user) ──enter()──▶ joins user and mount namespace, goes on as root of those;
//!      │                                its own network stays the host's
//!      └─ starts, where there is none:
//!   keeper ── holds user, mount and network namespace (a pinned child), hands them to every daemon,
//!      └──── runs pasta or slirp4netns, which connects the network namespace to the host's network
//! ```
//!
//! Only bridges, firewall and containers are in the network namespace. The daemon stays in the
//! host's, so that registries, resolvers, listeners and published ports are what they are for any
//! program of the user, and `--network host` is the host's network.
//!
//! - `cgroup`: where the containers' cgroups are, and who may make them
//! - [`directories`]: where a user's engine keeps its things
//! - [`subordinate`]: the ids a user may give away
//! - [`prerequisites`]: what a host may lack, each with its one remedy
//! - [`sandbox`]: making the namespaces
//! - [`uplink`]: pasta and slirp4netns
//! - [`keeper`]: the process that holds it all, and ends when neither daemon nor container is left
//! - `lifeline`: how it knows that
//! - [`enter`](mod@enter): the daemon's way in
//!
//! A daemon that ends or is killed changes nothing for containers; the next one joins the same
//! namespaces. A keeper that is killed takes the way to the outside along and the daemon ends; the
//! next one's keeper finds the namespaces through the containers that are in them, and goes on.

mod cgroup;
pub mod directories;
pub mod enter;
pub mod keeper;
mod lifeline;
pub mod prerequisites;
pub mod sandbox;
pub mod subordinate;
pub mod uplink;

use std::io;

use wharf_fault::{Fault, Kind};

pub use directories::Directories;
pub use enter::{Inside, enter};
pub use prerequisites::Missing;

/// Why an ordinary user's engine can not start.
#[derive(Debug, thiserror::Error)]
pub enum RootlessError {
    /// The host lacks something.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A step failed.
    #[error("rootless: cannot {action}")]
    Step {
        /// What was being done.
        action: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program the host has did not do its work.
    #[error("rootless: {program} failed: {output}")]
    Program {
        /// Its name.
        program: String,
        /// What it said.
        output: String,
    },
    /// None of the programs that connect a network namespace did.
    #[error("rootless: {0}")]
    NoUplink(String),
    /// The process that makes the namespaces said this.
    #[error("{0}")]
    Keeper(String),
}

impl RootlessError {
    pub(crate) fn step(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Step {
            action: action.into(),
            source: source.into(),
        }
    }
}

impl Fault for RootlessError {
    fn kind(&self) -> Kind {
        Kind::System
    }
}

/// The result of a step towards a user's engine.
pub type Result<T> = std::result::Result<T, RootlessError>;
