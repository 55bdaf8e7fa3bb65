//! From Docker's requests and settings to the network crate's.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use wharf_api_types::network::{IpamConfig, NetworkCreate};
use wharf_fault::{Error, Result};
use wharf_network::{AddressPool, Config, Ipv4Net, NetworkSpec, Subnet, SubnetRequest};

use crate::EngineConfig;

/// The network crate's settings from the daemon's.
pub(super) fn driver_config(config: &EngineConfig) -> Result<Config> {
    let daemon = &config.daemon;
    let instance = config.instance.trim_start_matches('-');
    let pools = daemon.default_address_pools.iter().map(|pool| {
        let base = subnet("default-address-pools", &pool.base)?;
        Ok(AddressPool {
            base,
            size: pool.size,
        })
    });
    Ok(Config {
        instance: (!instance.is_empty()).then(|| instance.to_owned()),
        bridge: (!daemon.bridge.is_empty()).then(|| daemon.bridge.clone()),
        bip: optional(&daemon.bip, bridge_address)?,
        fixed_cidr: optional(&daemon.fixed_cidr, |text| {
            match subnet("fixed-cidr", text)? {
                Subnet::V4(net) => Ok(net),
                Subnet::V6(_) => Err(Error::invalid(format!(
                    "fixed-cidr: {text} is not an IPv4 subnet"
                ))),
            }
        })?,
        ipv6: daemon.ipv6,
        mtu: if daemon.mtu == 0 {
            Config::default().mtu
        } else {
            daemon.mtu
        },
        icc: daemon.icc,
        ip_masq: daemon.ip_masq,
        ip_forward: daemon.ip_forward,
        userland_proxy: daemon.userland_proxy,
        default_binding: (!daemon.ip.is_unspecified()).then_some(daemon.ip),
        address_pools: pools.collect::<Result<_>>()?,
        dns_servers: daemon.dns.clone(),
        dns_options: daemon.dns_opts.clone(),
        dns_search: daemon.dns_search.clone(),
        // Ready namespaces belong to the daemon's user namespace: of no use to remapped containers.
        pool_size: if daemon.userns_remap.is_empty() {
            Config::default().pool_size
        } else {
            0
        },
        bridge_namespace: config
            .rootless
            .as_ref()
            .map(|rootless| Arc::clone(&rootless.network)),
        ..Config::default()
    })
}

fn optional<T>(text: &str, read: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
    if text.is_empty() {
        Ok(None)
    } else {
        read(text).map(Some)
    }
}

fn bridge_address(text: &str) -> Result<(Ipv4Addr, u8)> {
    let wrong = || Error::invalid(format!("bip: invalid CIDR address: {text}"));
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    // An address that cannot be a host's.
    let net = Ipv4Net::containing(address, prefix).ok_or_else(wrong)?;
    if prefix < 31 && (net.base() == address || net.last() == address) {
        return Err(wrong());
    }
    Ok((address, prefix))
}

/// The network crate's request from Docker's.
pub(super) fn network_spec(request: NetworkCreate) -> Result<NetworkSpec> {
    if request.config_only
        || request
            .config_from
            .is_some_and(|from| !from.network.is_empty())
    {
        return Err(Error::not_implemented(
            "config-only networks are not supported by this version of Wharf",
        ));
    }
    if request.ingress {
        return Err(Error::not_implemented(
            "ingress networks are not supported by this version of Wharf",
        ));
    }
    if request.scope == "swarm" {
        return Err(Error::not_implemented(
            "networks of swarm scope are not supported by this version of Wharf",
        ));
    }
    let ipam = request.ipam.unwrap_or_default();
    let subnets = ipam
        .config
        .unwrap_or_default()
        .iter()
        .map(subnet_request)
        .collect::<Result<_>>()?;
    Ok(NetworkSpec {
        name: request.name,
        driver: request.driver,
        ipam_driver: ipam.driver,
        ipam_options: ipam.options.unwrap_or_default(),
        subnets,
        ipv4: request.enable_ipv4,
        ipv6: request.enable_ipv6,
        internal: request.internal,
        attachable: request.attachable,
        options: request.options,
        labels: request.labels,
    })
}

fn subnet_request(config: &IpamConfig) -> Result<SubnetRequest> {
    let named = |what: &str, text: &str| optional(text, |text| subnet(what, text));
    Ok(SubnetRequest {
        subnet: named("invalid subnet", &config.subnet)?,
        ip_range: named("invalid ip-range", &config.ip_range)?,
        gateway: optional(&config.gateway, |text| address("invalid gateway", text))?,
        aux_addresses: config
            .auxiliary_addresses
            .iter()
            .map(|(name, text)| Ok((name.clone(), address("invalid auxiliary address", text)?)))
            .collect::<Result<_>>()?,
    })
}

fn subnet(what: &str, text: &str) -> Result<Subnet> {
    text.parse()
        .map_err(|_| Error::invalid(format!("{what} {text}: invalid CIDR address: {text}")))
}

fn address(what: &str, text: &str) -> Result<IpAddr> {
    text.parse()
        .map_err(|_| Error::invalid(format!("{what} address {text}: it is not an IP address")))
}
