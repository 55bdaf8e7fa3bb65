//! Addresses: which subnet a network gets and which address an endpoint.

mod addresses;
mod pools;

pub(crate) use addresses::{Addresses, Refusal};
pub(crate) use pools::{choose, default_pools, ula_pool};
