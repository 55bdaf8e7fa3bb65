//! Published ports: which host port a container gets, and who holds it.
//!
//! ```text
//! mapping ──resolve──▶ binding ──reserve──▶ bound socket + nft element
//!                                              │            └ the kernel translates: the usual way
//!                                              └ relay: [::1], and IPv6 to containers without IPv6;
//!                                                all ports where bridges have a namespace of their own
//! ```

mod ledger;
mod outlet;
mod publish;
mod relay;
mod socket;

pub(crate) use publish::{PortTable, PublishRequest, Published, Target};
pub(crate) use relay::Bridges;
