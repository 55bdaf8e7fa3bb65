//! Ports on the wire: `80/tcp` keys, bindings, and the rows of `ps`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::container::Empty;
use crate::decode::null_default;

/// `port/proto` → nothing.
pub type PortSet = BTreeMap<String, Empty>;

/// `port/proto` → where it is published; null when only exposed.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// One publication of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Host address; empty is every address.
    #[serde(deserialize_with = "null_default")]
    pub host_ip: String,
    /// Host port or range; empty or `0` is any free one.
    #[serde(deserialize_with = "null_default")]
    pub host_port: String,
}

/// A port in a list of containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortSummary {
    /// Host address.
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// Port in the container.
    pub private_port: u16,
    /// Port on the host.
    #[serde(skip_serializing_if = "crate::decode::is_default")]
    pub public_port: u16,
    /// `tcp`, `udp`, `sctp`.
    pub r#type: String,
}
