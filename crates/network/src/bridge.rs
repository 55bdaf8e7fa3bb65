//! A network's bridge in the kernel, and the firewall elements that belong to it.

use std::io;

use crate::error::{NetworkError, Result};
use crate::mac::MacAddr;
use crate::netlink::{Requests, Socket};
use crate::netns::Worker;
use crate::network::Network;
use crate::nft::Element;
use crate::options::BridgeOptions;
use crate::sysctl;

/// Makes the network's bridge, or brings the one that is there into the right form. Returns its
/// index and whether it was made.
pub(crate) fn ensure(
    host: &mut Socket,
    worker: &Worker,
    network: &Network,
    options: &BridgeOptions,
    alias: &str,
) -> Result<(u32, bool)> {
    let name = network.bridge.as_str();
    let failed = |action: &str, source: io::Error| {
        NetworkError::kernel(format!("{action} bridge {name}"), source)
    };
    let existing = host
        .link_named(name)
        .map_err(|source| failed("look up", source))?;
    let made = existing.is_none();
    if let Some(link) = &existing {
        if link.kind != "bridge" {
            return Err(NetworkError::Conflict(format!(
                "interface {name} exists and is not a bridge"
            )));
        }
        if link.alias != alias {
            return Err(NetworkError::Conflict(format!(
                "bridge {name} already exists and belongs to somebody else"
            )));
        }
    } else {
        let mut requests = Requests::new();
        requests.add_bridge(name, alias, MacAddr::random(), options.mtu);
        host.execute(requests)
            .map_err(|refused| failed("create", refused.into()))?;
    }
    let configured = configure(host, worker, network, options, alias);
    match configured {
        Ok(index) => Ok((index, made)),
        Err(source) => {
            if made {
                let mut requests = Requests::new();
                requests.delete_link_named(name);
                drop(host.execute(requests));
            }
            Err(failed("set up", source))
        }
    }
}

fn configure(
    host: &mut Socket,
    worker: &Worker,
    network: &Network,
    options: &BridgeOptions,
    alias: &str,
) -> io::Result<u32> {
    let name = network.bridge.as_str();
    let link = host
        .link_named(name)?
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    // Before it goes up: with IPv6 off the kernel must not give it a link-local address.
    let no_ipv6 = if network.ipv6 { "0" } else { "1" };
    let bridge = name.to_owned();
    worker.at_home(move || {
        let settings = sysctl::Settings::open();
        match settings.set(&format!("ipv6/conf/{bridge}/disable_ipv6"), no_ipv6) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // A kernel without IPv6.
            _ => {}
        }
        settings.set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")
    })?;
    let addresses = host.addresses()?;
    let wanted: Vec<_> = network
        .subnets
        .iter()
        .filter(|config| {
            config.subnet.is_ipv4() && !options.inhibit_ipv4 || !config.subnet.is_ipv4()
        })
        .map(|config| (config.gateway, config.subnet.prefix()))
        .collect();
    let mut requests = Requests::new();
    requests.alias_and_up(name, alias, Some(options.mtu));
    for (_, address, prefix) in addresses.iter().filter(|(index, ..)| *index == link.index) {
        let link_local = matches!(address, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local());
        if !link_local && !wanted.contains(&(*address, *prefix)) {
            requests.delete_address(link.index, *address, *prefix);
        }
    }
    for (address, prefix) in wanted {
        requests.add_address(link.index, address, prefix);
    }
    host.execute(requests)?;
    Ok(link.index)
}

/// What the firewall must know about the network.
pub(crate) fn elements(network: &Network, options: &BridgeOptions) -> Vec<Element> {
    let mut elements = vec![Element::Bridge(network.bridge.clone())];
    if options.icc {
        elements.push(Element::Within(network.bridge.clone()));
    }
    if network.internal {
        elements.push(Element::Internal(network.bridge.clone()));
    }
    for config in &network.subnets {
        elements.push(Element::Subnet(config.subnet));
        if options.masquerade && !network.internal {
            elements.push(Element::Masquerade(config.subnet));
        }
    }
    elements
}
