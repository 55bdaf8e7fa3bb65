//! Netlink: the socket, and links, addresses and routes as functions over it.

pub(crate) mod attribute;
pub(crate) mod route;
pub(crate) mod socket;

pub(crate) use route::VethPair;
pub(crate) use socket::{Requests, Socket};
