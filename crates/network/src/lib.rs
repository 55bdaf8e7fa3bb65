//! Docker-compatible networks: bridges, addresses, published ports, name resolution.
//!
//! Owns everything a container's network is made of: the records of networks, their bridges and
//! address ranges, the network namespaces with their veth pairs, the nftables table, the host
//! ports, the embedded DNS server and the text of /etc/hosts, /etc/hostname and
//! /etc/resolv.conf. Talks to the kernel over netlink only; starts no programs.
//!
//! [`Networks`] is the whole interface. Vocabulary: a *sandbox* is a container's network
//! namespace, an *endpoint* its place in one network.

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
