//! Networks and the endpoints containers have on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::endpoint::{EndpointIpamConfig, EndpointSettings};

/// A network, as lists show it; `GET /networks/{id}` adds `Containers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// Name.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// `local`.
    pub scope: String,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// Has IPv4 (API 1.48 and newer).
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Has IPv6.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Has no way out.
    pub internal: bool,
    /// Whether stand-alone containers may join a swarm network.
    pub attachable: bool,
    /// The swarm's routing mesh.
    pub ingress: bool,
    /// The network whose configuration this one uses.
    pub config_from: ConfigReference,
    /// Only a configuration for other networks.
    pub config_only: bool,
    /// Containers on it, by container id. Absent in lists from API 1.28 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<BTreeMap<String, EndpointResource>>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Use of the address pools, by subnet (API 1.52 and newer, inspect only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<NetworkStatus>,
}

/// Addresses of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// Driver options; null when there are none.
    pub options: Option<BTreeMap<String, String>>,
    /// One entry per subnet; null for networks without addresses.
    pub config: Option<Vec<IpamConfig>>,
}

/// One subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// `172.18.0.0/16`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// Addresses are given out from this part only.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// The gateway's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses that are taken, by name.
    #[serde(
        rename = "AuxiliaryAddresses",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// The network whose configuration another one uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    /// Its name; empty when there is none.
    pub network: String,
}

/// A container on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointResource {
    /// The container's name.
    pub name: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// `02:42:…`.
    pub mac_address: String,
    /// `172.18.0.2/16`.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// With prefix length; empty when there is none.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// Use of a network's address pools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkStatus {
    /// The pools.
    #[serde(rename = "IPAM")]
    pub ipam: IpamStatus,
}

/// Use of address pools by subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamStatus {
    /// By subnet in CIDR form.
    pub subnets: BTreeMap<String, SubnetStatus>,
}

/// Use of one subnet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SubnetStatus {
    /// Addresses given out or reserved.
    #[serde(rename = "IPsInUse")]
    pub ips_in_use: u64,
    /// Addresses that can be given out.
    #[serde(rename = "DynamicIPsAvailable")]
    pub dynamic_ips_available: u64,
}

/// Body of `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreate {
    /// Name.
    pub name: String,
    /// Refuse a taken name; always done, whatever this says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub check_duplicate: bool,
    /// `bridge` when empty.
    pub driver: String,
    /// `local` or empty.
    pub scope: String,
    /// Has IPv4; true when not given.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Has IPv6; the daemon's default when not given.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Addresses.
    #[serde(rename = "IPAM", skip_serializing_if = "Option::is_none")]
    pub ipam: Option<Ipam>,
    /// Has no way out.
    pub internal: bool,
    /// For swarm networks.
    pub attachable: bool,
    /// For swarm networks.
    pub ingress: bool,
    /// Only a configuration for other networks.
    pub config_only: bool,
    /// The network whose configuration this one uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_from: Option<ConfigReference>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Answer of `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreated {
    /// The new network.
    pub id: String,
    /// What the user should know.
    pub warning: String,
}

/// Body of `POST /networks/{id}/connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkConnect {
    /// Container id or name.
    pub container: String,
    /// What the endpoint should be.
    pub endpoint_config: Option<EndpointSettings>,
}

/// Body of `POST /networks/{id}/disconnect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkDisconnect {
    /// Container id or name.
    pub container: String,
    /// Also when the container is not there.
    pub force: bool,
}

/// Answer of `POST /networks/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworksPruned {
    /// Names of removed networks; null when none was.
    pub networks_deleted: Option<Vec<String>>,
}
