//! How one daemon's networking is set up.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::subnet::{Ipv4Net, Ipv6Net, Subnet};

/// A range of addresses that networks without a requested subnet are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    /// The whole range.
    pub base: Subnet,
    /// Prefix length of one network.
    pub size: u8,
}

/// The networking of one daemon instance; [`Config::default`] is Docker's defaults for the
/// default instance.
#[derive(Debug, Clone)]
pub struct Config {
    /// Marks everything of this instance in the kernel (nft table, bridges); `None` for the
    /// default instance. At most eight characters of `[a-z0-9]`.
    pub instance: Option<String>,
    /// `--bridge`: the default bridge's interface; `None` chooses `docker0`, or `wharf0` where
    /// that name belongs to somebody else, or `wharf-<instance>`.
    pub bridge: Option<String>,
    /// `--bip`: address and prefix of the default bridge.
    pub bip: Option<(Ipv4Addr, u8)>,
    /// `--fixed-cidr`: the part of the default bridge's subnet containers get addresses from.
    pub fixed_cidr: Option<Ipv4Net>,
    /// `--fixed-cidr-v6`: the default bridge's IPv6 subnet.
    pub fixed_cidr_v6: Option<Ipv6Net>,
    /// `--default-gateway`: what containers on the default bridge route through.
    pub default_gateway: Option<Ipv4Addr>,
    /// `--ipv6`: IPv6 on the default bridge.
    pub ipv6: bool,
    /// `--mtu` of the default bridge, bytes.
    pub mtu: u32,
    /// `--icc`: containers on the default bridge reach each other.
    pub icc: bool,
    /// `--ip-masq`.
    pub ip_masq: bool,
    /// `--ip-forward`: switch forwarding on where a network needs it.
    pub ip_forward: bool,
    /// `--userland-proxy`: relay what the kernel can not translate.
    pub userland_proxy: bool,
    /// `--allow-direct-routing`: container addresses can be reached from outside the host.
    pub allow_direct_routing: bool,
    /// `--ip`: host address of published ports that name none.
    pub default_binding: Option<IpAddr>,
    /// `--default-address-pool`; empty means Docker's.
    pub address_pools: Vec<AddressPool>,
    /// `--dns` of the daemon.
    pub dns_servers: Vec<IpAddr>,
    /// `--dns-opt` of the daemon.
    pub dns_options: Vec<String>,
    /// `--dns-search` of the daemon.
    pub dns_search: Vec<String>,
    /// `--host-gateway-ip`; empty means the default bridge's gateway.
    pub host_gateways: Vec<IpAddr>,
    /// `--default-network-opt bridge=k=v`: options for new bridge networks that do not set them.
    pub default_network_options: std::collections::BTreeMap<String, String>,
    /// The host's resolver configuration, `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Ready network namespaces kept for the default bridge when idle; 0 switches the pool off.
    pub pool_size: usize,
    /// The network namespace of bridges and firewall where it is not the daemon's own (rootless:
    /// the daemon has no say over the host's). Published ports are relayed into it then.
    pub bridge_namespace: Option<Arc<OwnedFd>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instance: None,
            bridge: None,
            bip: None,
            fixed_cidr: None,
            fixed_cidr_v6: None,
            default_gateway: None,
            ipv6: false,
            mtu: 1500,
            icc: true,
            ip_masq: true,
            ip_forward: true,
            userland_proxy: true,
            allow_direct_routing: false,
            default_binding: None,
            address_pools: Vec::new(),
            dns_servers: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            host_gateways: Vec::new(),
            default_network_options: std::collections::BTreeMap::new(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            pool_size: 4,
            bridge_namespace: None,
        }
    }
}
