//! What the engine asks for when a container starts, and what it gets.
//!
//! ```text
//! AttachRequest ──Networks::prepare──▶ Sandbox { netns, endpoints, ports, files, dns_sockets }
//!      │                                   │ the engine hands netns to the shim and stores endpoints
//!      │                                   │ and ports in the container's record
//!      └────── after a daemon restart ─────┴──▶ LiveContainer ──Networks::reconcile
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::mac::MacAddr;

/// Which network namespace a container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The host's; nothing is made, only the files are rendered.
    Host,
    /// Its own with loopback only.
    None,
    /// Its own with the request's endpoints. (`container:` joins the other container's namespace
    /// and shares its files, so this crate is not asked.)
    Endpoints,
}

/// Everything needed to give a starting container its network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachRequest {
    /// 64 hex digits.
    pub container_id: String,
    /// Without the leading slash.
    pub container_name: String,
    /// `Config.Hostname`.
    pub hostname: String,
    /// `Config.Domainname`.
    #[serde(default)]
    pub domainname: String,
    /// Which namespace.
    pub mode: Mode,
    /// The networks to join; for [`Mode::Endpoints`] only. Interfaces are named eth0, eth1, … in
    /// the order gateway first, then as given.
    #[serde(default)]
    pub endpoints: Vec<EndpointRequest>,
    /// Ports to publish (`-P` has been resolved into entries with host port 0).
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// Resolver settings of the container.
    #[serde(default)]
    pub dns: DnsSettings,
    /// `--add-host`, each `name:address`, `name=address` or `name:host-gateway`.
    #[serde(default)]
    pub extra_hosts: Vec<String>,
    /// `--link` of a container on the default bridge: entries for /etc/hosts.
    #[serde(default)]
    pub links: Vec<LegacyLink>,
}

/// One network a container joins.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EndpointRequest {
    /// Name or id.
    pub network: String,
    /// `--ip`.
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    /// `--ip6`.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// `--link-local-ip`.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// `--mac-address`.
    #[serde(default)]
    pub mac: Option<MacAddr>,
    /// `--network-alias`.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `--link` on a user-defined network: (container name or id, alias).
    #[serde(default)]
    pub links: Vec<(String, String)>,
    /// `gw-priority`: the highest gives the default route.
    #[serde(default)]
    pub gateway_priority: i32,
    /// Endpoint driver options.
    #[serde(default)]
    pub driver_options: BTreeMap<String, String>,
}

/// A legacy link's line in /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyLink {
    /// The linked container's address.
    pub address: IpAddr,
    /// Names on the line, in order: alias, hostname, container name.
    pub names: Vec<String>,
}

/// Resolver settings a user gave for one container; empty parts fall back to the daemon's, then
/// to the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsSettings {
    /// `--dns`.
    #[serde(default)]
    pub servers: Vec<IpAddr>,
    /// `--dns-option`.
    #[serde(default)]
    pub options: Vec<String>,
    /// `--dns-search`; a single `.` means none.
    #[serde(default)]
    pub search: Vec<String>,
}

/// A transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// `tcp`, `udp` or `sctp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The container's port, 1 to 65535.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// The host's address; `None` is every address (or the daemon's `--ip`).
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    /// First host port asked for; 0 lets the engine choose.
    #[serde(default)]
    pub host_port: u16,
    /// Last host port of a range to choose one from; 0 or equal to `host_port` for exactly that.
    #[serde(default)]
    pub host_port_end: u16,
}

/// A published port: one entry of `NetworkSettings.Ports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortBinding {
    /// The container's port.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// `0.0.0.0`, `::` or the address asked for.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
}

/// A container's place in one network: what inspect shows in `NetworkSettings.Networks`. The
/// engine keeps it in the container's record; it is how a restarted daemon takes the endpoint
/// over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's id.
    pub network_id: String,
    /// The network's name.
    pub network_name: String,
    /// 64 hex digits.
    pub endpoint_id: String,
    /// The container's side: `eth0`, …
    pub ifname: String,
    /// The host's side: `veth` and seven hex digits; empty on the host network.
    pub host_ifname: String,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// Address and prefix length.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// IPv4 gateway of the network; `None` on internal networks.
    pub gateway4: Option<Ipv4Addr>,
    /// Address and prefix length.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    /// IPv6 gateway of the network.
    pub gateway6: Option<Ipv6Addr>,
    /// Whether this endpoint has the container's default route.
    pub is_gateway: bool,
    /// The names other containers of the network find it by (`DNSNames`): container name,
    /// aliases, short id, hostname.
    pub dns_names: Vec<String>,
    /// What was asked for.
    pub request: EndpointRequest,
}

/// The three files every container gets, as their full text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFiles {
    /// /etc/hosts.
    pub hosts: String,
    /// /etc/hostname.
    pub hostname: String,
    /// /etc/resolv.conf.
    pub resolv_conf: String,
}

/// A container's network, ready for its first process.
#[derive(Debug)]
pub struct Sandbox {
    /// The network namespace; `None` for [`Mode::Host`]. The kernel removes it and the veths when
    /// the last process and the last descriptor are gone.
    pub netns: Option<OwnedFd>,
    /// 64 hex digits, `NetworkSettings.SandboxID`.
    pub sandbox_id: String,
    /// One per network; the one with the default route is marked.
    pub endpoints: Vec<Endpoint>,
    /// What was published.
    pub ports: Vec<PortBinding>,
    /// Files to bind over the container's.
    pub files: ContainerFiles,
    /// Copies of the embedded DNS server's sockets (empty without one). The shim keeps them while
    /// the daemon is away and hands them back for [`crate::Networks::resume_dns`].
    pub dns_sockets: Vec<OwnedFd>,
}

/// What a live connect or disconnect changed.
#[derive(Debug)]
pub struct Change {
    /// All endpoints of the container now.
    pub endpoints: Vec<Endpoint>,
    /// All published ports now (they follow the gateway endpoint).
    pub ports: Vec<PortBinding>,
    /// The files' new text; the engine rewrites hosts and resolv.conf in place.
    pub files: ContainerFiles,
    /// New DNS sockets for the shim to keep, when the container got its first user-defined
    /// network.
    pub dns_sockets: Vec<OwnedFd>,
}

/// A container found running after a daemon restart.
#[derive(Debug)]
pub struct LiveContainer {
    /// The request it was started with.
    pub request: AttachRequest,
    /// Its process, whose namespace is looked into.
    pub pid: u32,
    /// Its sandbox's id.
    pub sandbox_id: String,
    /// Its endpoints as last known.
    pub endpoints: Vec<Endpoint>,
    /// Its published ports as last known.
    pub ports: Vec<PortBinding>,
}
