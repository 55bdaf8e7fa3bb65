//! What can go wrong with networks, in Docker's words where clients match on them.

use std::net::{IpAddr, SocketAddr};

use wharf_fault::{Fault, Kind};

/// A failed network operation.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No network has this name, id or id prefix.
    #[error("network {0} not found")]
    NotFound(String),
    /// The id prefix or name fits several networks.
    #[error("network {name} is ambiguous ({count} matches found based on {by})")]
    Ambiguous {
        /// What the caller gave.
        name: String,
        /// How many networks fit.
        count: usize,
        /// `name` or `ID prefix`.
        by: &'static str,
    },
    /// The name is taken.
    #[error("network with name {0} already exists")]
    NameTaken(String),
    /// Containers still use the network.
    #[error(
        "error while removing network: network {name} id {id} has active endpoints ({endpoints})"
    )]
    ActiveEndpoints {
        /// The network's name.
        name: String,
        /// The network's id.
        id: String,
        /// `name:"web" id:"0123…"` of each endpoint.
        endpoints: String,
    },
    /// bridge, host and none stay.
    #[error("{0} is a pre-defined network and cannot be removed")]
    PredefinedRemove(String),
    /// bridge, host, none and default can not be made.
    #[error("operation is not permitted on predefined {0} network ")]
    PredefinedCreate(String),
    /// The requested subnet meets another network's.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlap,
    /// Every default pool is in use.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    /// All addresses of a subnet are given out.
    #[error("no available {family} addresses on this network's address pools: {network} ({id})")]
    AddressesExhausted {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The network's name.
        network: String,
        /// The network's id.
        id: String,
    },
    /// The bridge takes no further container.
    #[error(
        "network {network} is full: a bridge takes 1023 containers; put others into a second network (docker network create)"
    )]
    BridgeFull {
        /// The network's name.
        network: String,
    },
    /// The requested address is in use.
    #[error("Address already in use")]
    AddressInUse,
    /// The requested address is in none of the network's subnets.
    #[error("no configured subnet contains IP address {0}")]
    NoSubnetContains(IpAddr),
    /// An address may be requested where the user named the subnet only.
    #[error(
        "user specified IP address is supported only when connecting to networks with user configured subnets"
    )]
    AddressNeedsConfiguredSubnet,
    /// An address may be requested on user-defined networks only.
    #[error("user specified IP address is supported on user defined networks only")]
    AddressNeedsUserNetwork,
    /// Aliases work on user-defined networks only.
    #[error("network-scoped aliases are only supported for user-defined networks")]
    AliasNeedsUserNetwork,
    /// The container already is in the network.
    #[error("endpoint with name {name} already exists in network {network}")]
    EndpointExists {
        /// The container's name.
        name: String,
        /// The network's name.
        network: String,
    },
    /// The container is not in the network.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// The container's id.
        container: String,
        /// The network's name.
        network: String,
    },
    /// Another container has the port.
    #[error(
        "driver failed programming external connectivity on endpoint {name} ({endpoint}): Bind for {address} failed: port is already allocated"
    )]
    PortAllocated {
        /// The container's name.
        name: String,
        /// The endpoint's id.
        endpoint: String,
        /// Host address and port asked for.
        address: SocketAddr,
    },
    /// A program of the host has the port, or it can not be bound for another reason.
    #[error(
        "driver failed programming external connectivity on endpoint {name} ({endpoint}): failed to bind host port for {binding}"
    )]
    PortBind {
        /// The container's name.
        name: String,
        /// The endpoint's id.
        endpoint: String,
        /// `0.0.0.0:8080:172.17.0.2:80/tcp`.
        binding: String,
        /// `address already in use`, `cannot assign requested address`, …
        #[source]
        source: PortBindCause,
    },
    /// No port of the requested range is free.
    #[error(
        "driver failed programming external connectivity on endpoint {name} ({endpoint}): all ports are allocated"
    )]
    PortsExhausted {
        /// The container's name.
        name: String,
        /// The endpoint's id.
        endpoint: String,
    },
    /// A value of the request is wrong; the message says which.
    #[error("{0}")]
    Invalid(String),
    /// The request can not be met in the present state; the message says why.
    #[error("{0}")]
    Conflict(String),
    /// Wharf does not offer this; the message names it.
    #[error("{0}")]
    Unsupported(String),
    /// The driver is none of ours.
    #[error("could not find plugin {0} in v1 plugin registry: plugin not found")]
    UnknownDriver(String),
    /// The kernel refused a step.
    #[error("cannot {action}")]
    Kernel {
        /// What was being done, with its operand.
        action: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store failed.
    #[error("cannot save network {name}")]
    Store {
        /// The network's name.
        name: String,
        /// Why.
        #[source]
        source: wharf_state::StateError,
    },
}

/// Why a host port could not be bound, in the words Go programs use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PortBindCause(pub(crate) String);

impl NetworkError {
    pub(crate) fn kernel(action: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Kernel {
            action: action.into(),
            source: source.into(),
        }
    }

    /// The same for a step that makes an endpoint in `network`.
    pub(crate) fn endpoint(action: String, network: &str, source: std::io::Error) -> Self {
        // What `br_add_if` says when all of a bridge's port numbers (10 bits, without 0) are taken.
        if source.raw_os_error() == Some(rustix::io::Errno::XFULL.raw_os_error()) {
            return Self::BridgeFull {
                network: network.to_owned(),
            };
        }
        Self::kernel(action, source)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

impl Fault for NetworkError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) | Self::UnknownDriver(_) => Kind::NotFound,
            Self::Ambiguous { .. }
            | Self::AddressNeedsConfiguredSubnet
            | Self::AddressNeedsUserNetwork
            | Self::AliasNeedsUserNetwork
            | Self::NoSubnetContains(_)
            | Self::PoolsExhausted
            | Self::Invalid(_) => Kind::InvalidParameter,
            Self::NameTaken(_) | Self::Conflict(_) => Kind::Conflict,
            Self::ActiveEndpoints { .. }
            | Self::PredefinedRemove(_)
            | Self::PredefinedCreate(_)
            | Self::EndpointExists { .. }
            | Self::PoolOverlap
            | Self::AddressInUse => Kind::Forbidden,
            Self::NotConnected { .. } => Kind::Forbidden,
            Self::Unsupported(_) => Kind::NotImplemented,
            Self::AddressesExhausted { .. }
            | Self::BridgeFull { .. }
            | Self::PortAllocated { .. }
            | Self::PortBind { .. }
            | Self::PortsExhausted { .. }
            | Self::Kernel { .. }
            | Self::Store { .. } => Kind::System,
        }
    }
}

/// The result of a network operation.
pub type Result<T> = std::result::Result<T, NetworkError>;
