//! Docker-compatible networks: bridges, addresses, published ports, name resolution.
//!
//! Owns everything a container's network is made of: the records of networks, their bridges and
//! address ranges, the network namespaces with their veth pairs, the nftables table, the host
//! ports, the embedded DNS server and the text of /etc/hosts, /etc/hostname and
//! /etc/resolv.conf. Talks to the kernel over netlink only; starts no programs.
//!
//! [`Networks`] is the whole interface. Vocabulary: a *sandbox* is a container's network
//! namespace, an *endpoint* its place in one network.
//!
//! ```text
//! networks   the interface; records in the store         plan      request → record, decided purely
//! sandbox    prepare, connect, disconnect, release       ipam      subnets and addresses
//! reconcile  after a restart: take over, remove          bridge    a network's bridge
//! netns      namespaces: worker thread, pools            netlink   the socket; links, addresses, routes
//! nft        our table: rules, elements, self-healing    ports     host ports: ledger, sockets, relay
//! dns        127.0.0.11: names, answers, forwarding      files     hosts, hostname, resolv.conf
//! answers    rootless: the way back of relayed connections
//! ```
//!
//! A start on the default bridge takes a namespace that has address and route already, adds the
//! elements of its ports in one nftables transaction, and renders three texts. Everything else
//! happens before or after it, on other threads.
//!
//! What never happens: a rule outside our table is changed; a program is started; a namespace is
//! pinned by a file, so that a container's end is the end of its network; a thread of the async
//! runtime changes its namespace.
//!
//! Locks are taken in this order and none is held while the store writes, but for the one that
//! lets a single network be made or removed at a time: a container's own, then the host's netlink
//! socket, then the state.

mod answers;
mod attach;
mod bridge;
mod config;
mod conntrack;
mod dns;
mod error;
mod files;
mod forwarding;
mod instance;
mod ipam;
mod mac;
mod netlink;
mod netns;
mod network;
mod networks;
mod nft;
mod options;
mod plan;
mod ports;
mod reconcile;
mod sandbox;
mod subnet;
mod sysctl;

pub use attach::{
    AttachRequest, Change, ContainerFiles, DnsSettings, Endpoint, EndpointRequest, LegacyLink,
    LiveContainer, Mode, PortBinding, PortMapping, Protocol, Sandbox,
};
pub use config::{AddressPool, Config};
pub use error::{NetworkError, PortBindCause, Result};
pub use mac::{MacAddr, MacError};
pub use network::{
    Driver, Network, NetworkEndpoint, NetworkSpec, NetworkView, SubnetConfig, SubnetRequest,
};
pub use networks::Networks;
pub use subnet::{Ipv4Net, Ipv6Net, Subnet, SubnetError};
