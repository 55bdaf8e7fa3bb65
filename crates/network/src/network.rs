//! What a network is: the record on disk, the request that makes one, the view callers get.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::mac::MacAddr;
use crate::subnet::Subnet;

/// How a network is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge interface on the host with NAT.
    Bridge,
    /// The host's own namespace.
    Host,
    /// Loopback only.
    Null,
}

impl Driver {
    /// `bridge`, `host` or `null`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// One subnet of a network and what of it may be given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetConfig {
    /// The subnet.
    pub subnet: Subnet,
    /// The part of it containers get addresses from; `None` is all of it.
    pub ip_range: Option<Subnet>,
    /// The bridge's own address and the containers' default route.
    pub gateway: IpAddr,
    /// Addresses never given out, by the name the user gave them.
    #[serde(default)]
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// A request for one subnet, every part optional as in Docker's `IPAM.Config`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubnetRequest {
    /// `--subnet`.
    pub subnet: Option<Subnet>,
    /// `--ip-range`.
    pub ip_range: Option<Subnet>,
    /// `--gateway`.
    pub gateway: Option<IpAddr>,
    /// `--aux-address`.
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// A request for a new network.
#[derive(Debug, Clone, Default)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// `bridge` where empty.
    pub driver: String,
    /// `default` where empty.
    pub ipam_driver: String,
    /// `IPAM.Options`.
    pub ipam_options: BTreeMap<String, String>,
    /// The subnets asked for; empty takes one of the default pools.
    pub subnets: Vec<SubnetRequest>,
    /// `EnableIPv4`; `None` is true.
    pub ipv4: Option<bool>,
    /// `EnableIPv6`; `None` is false.
    pub ipv6: Option<bool>,
    /// No way out of the host.
    pub internal: bool,
    /// Kept for inspect; has a meaning for swarm networks only.
    pub attachable: bool,
    /// Driver options, `com.docker.network.bridge.name` and so on.
    pub options: BTreeMap<String, String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
}

/// A network as stored: everything `docker network inspect` shows apart from its containers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Network {
    /// 64 hex digits.
    pub id: String,
    /// Unique among this daemon's networks.
    pub name: String,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// How it works.
    pub driver: Driver,
    /// `EnableIPv4`.
    pub ipv4: bool,
    /// `EnableIPv6`.
    pub ipv6: bool,
    /// `IPAM.Options`.
    #[serde(default)]
    pub ipam_options: BTreeMap<String, String>,
    /// `IPAM.Config`; IPv4 first.
    pub subnets: Vec<SubnetConfig>,
    /// Whether the user named the IPv4 subnet; only then may addresses be requested.
    #[serde(default)]
    pub subnet4_configured: bool,
    /// Whether the user named the IPv6 subnet.
    #[serde(default)]
    pub subnet6_configured: bool,
    /// No way out of the host.
    pub internal: bool,
    /// Kept for inspect.
    pub attachable: bool,
    /// Driver options as inspect shows them.
    pub options: BTreeMap<String, String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The bridge's interface name; empty for host and none.
    pub bridge: String,
    /// One of bridge, host and none, which can not be removed.
    #[serde(default)]
    pub predefined: bool,
}

impl Network {
    /// Whether this is the default bridge, where containers have no DNS names.
    pub fn is_default_bridge(&self) -> bool {
        self.predefined && self.driver == Driver::Bridge
    }

    /// Whether containers name it in `--network` and get embedded DNS.
    pub fn is_user_defined(&self) -> bool {
        !self.predefined
    }

    /// The subnet of a family.
    pub fn subnet(&self, ipv4: bool) -> Option<&SubnetConfig> {
        self.subnets
            .iter()
            .find(|config| config.subnet.is_ipv4() == ipv4)
    }
}

/// A network with the endpoints of its running containers.
#[derive(Debug, Clone)]
pub struct NetworkView {
    /// The record.
    pub network: Network,
    /// Running containers in it, by container id; filled by [`crate::Networks::inspect`] and
    /// [`crate::Networks::list`].
    pub endpoints: Vec<NetworkEndpoint>,
}

/// One line of `Containers` in `docker network inspect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkEndpoint {
    /// The container's id.
    pub container_id: String,
    /// The container's name without the slash.
    pub container_name: String,
    /// The endpoint's id.
    pub endpoint_id: String,
    /// Its Ethernet address; `None` on the host network.
    pub mac: Option<MacAddr>,
    /// Address and prefix length.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// Address and prefix length.
    pub ipv6: Option<(Ipv6Addr, u8)>,
}
