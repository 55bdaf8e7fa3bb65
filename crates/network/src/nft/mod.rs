//! nftables over netlink: our own table, kept as it should be.
//!
//! The rules never change while the daemon runs; what changes is the elements of their sets and
//! maps. [`Firewall`] holds the elements that should be there and puts all of it back when
//! somebody flushes the ruleset.

mod element;
mod firewall;
mod message;
mod resolver_table;
mod ruleset;

pub(crate) use element::Element;
pub(crate) use firewall::Firewall;
pub(crate) use message::{IPV4, IPV6};
pub(crate) use resolver_table::{RESOLVER, redirect_dns};
pub(crate) use ruleset::Options;
