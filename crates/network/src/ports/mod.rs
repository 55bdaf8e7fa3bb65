//! Published ports: which host port a container gets, and who holds it.
//!
//! ```text
//! mapping ──resolve──▶ binding ──reserve──▶ bound socket + nft element
//!                                              │            └ the kernel translates: the usual way
//!                                              └ relay: [::1], and IPv6 to containers without IPv6
//! ```

mod ledger;
mod publish;
mod relay;
mod socket;

pub(crate) use publish::{PortTable, PublishRequest, Published, Target};
