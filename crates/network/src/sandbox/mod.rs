//! Containers' networks: made, changed and given back.
//!
//! ```text
//! prepare ─▶ reserve addresses ─▶ namespace (pool or new) ─▶ veths ─▶ ports ─▶ names ─▶ files
//!               └──────────── on failure everything so far is undone ────────────┘
//! ```

mod change;
mod plug;
mod prepare;
mod settle;

use crate::attach::{AttachRequest, Endpoint, EndpointRequest};
use crate::dns;
use crate::error::{NetworkError, Result};
use crate::network::{Driver, Network};
use crate::ports::Published;

pub(crate) use change::{connect, disconnect, rename};
pub(crate) use plug::{Bare, OnBridge, discard_on_bridge, fill_pool};
pub(crate) use prepare::{announce, prepare, remember};
pub(crate) use settle::{files_of, release, scope_of, target_of};

/// What a running container has.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) request: AttachRequest,
    pub(crate) sandbox_id: String,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) published: Published,
    pub(crate) dns: Option<dns::Server>,
}

const ENDPOINT_IFNAME: &str = "com.docker.network.endpoint.ifname";
const ENDPOINT_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Reads `net.ipv4.conf.IFNAME.log_martians=1,…` into paths below /proc/sys/net and values, with
/// the interface's name filled in.
pub(crate) fn interface_sysctls(text: &str, ifname: &str) -> Result<Vec<(String, String)>> {
    let word = |part: &&str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    text.split(',')
        .map(|entry| {
            let bad = || {
                NetworkError::invalid(format!(
                    "invalid {ENDPOINT_SYSCTLS} value \"{entry}\": net.<ipv4|ipv6|mpls>.<conf|neigh|…>.IFNAME.<name>=<value> expected"
                ))
            };
            let (key, value) = entry.trim().split_once('=').ok_or_else(bad)?;
            let parts: Vec<&str> = key.split('.').collect();
            match parts.as_slice() {
                ["net", family @ ("ipv4" | "ipv6" | "mpls"), kind, "IFNAME", name] if word(kind) && word(name) => {
                    Ok((format!("{family}/{kind}/{ifname}/{name}"), value.to_owned()))
                }
                _ => Err(bad()),
            }
        })
        .collect()
}

/// Checks that nothing in a request can break out of its place in a file's line.
pub(crate) fn check_texts(request: &AttachRequest) -> Result<()> {
    let dns = &request.dns;
    let texts = [
        ("hostname", &request.hostname),
        ("domainname", &request.domainname),
    ]
    .into_iter()
    .chain(dns.options.iter().map(|option| ("DNS option", option)))
    .chain(
        dns.search
            .iter()
            .map(|domain| ("DNS search domain", domain)),
    )
    .chain(
        request
            .links
            .iter()
            .flat_map(|link| &link.names)
            .map(|name| ("link", name)),
    );
    for (what, text) in texts {
        if text.len() > 1024 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(NetworkError::invalid(format!(
                "invalid {what}: {}",
                text.escape_debug()
            )));
        }
    }
    Ok(())
}

/// Checks an endpoint's settings against its network.
pub(crate) fn check_endpoint(network: &Network, request: &EndpointRequest) -> Result<()> {
    if network.driver != Driver::Bridge {
        return Ok(());
    }
    if network.predefined {
        if request.ipv4.is_some() || request.ipv6.is_some() || !request.link_local.is_empty() {
            return Err(NetworkError::AddressNeedsUserNetwork);
        }
        if !request.aliases.is_empty() {
            return Err(NetworkError::AliasNeedsUserNetwork);
        }
    }
    let asked = [
        (
            request.ipv4.map(std::net::IpAddr::V4),
            network.subnet4_configured,
        ),
        (
            request.ipv6.map(std::net::IpAddr::V6),
            network.subnet6_configured,
        ),
    ];
    for (address, configured) in asked {
        let Some(address) = address else { continue };
        if !configured {
            return Err(NetworkError::AddressNeedsConfiguredSubnet);
        }
        if !network
            .subnet(address.is_ipv4())
            .is_some_and(|config| config.subnet.contains(address))
        {
            return Err(NetworkError::NoSubnetContains(address));
        }
    }
    for (key, value) in &request.driver_options {
        match key.as_str() {
            ENDPOINT_IFNAME if !value.is_empty() => drop(crate::options::interface_name(value)?),
            ENDPOINT_SYSCTLS => drop(interface_sysctls(value, "eth0")?),
            _ => {
                return Err(NetworkError::Unsupported(format!(
                    "endpoint option \"{key}\" is not supported by the bridge driver"
                )));
            }
        }
    }
    Ok(())
}

/// The index of the endpoint with the default route of a family: the highest priority, then the
/// most gateways, then the network's name.
pub(crate) fn gateway_of(endpoints: &[Endpoint], ipv4: bool) -> Option<usize> {
    let has = |endpoint: &Endpoint| {
        if ipv4 {
            endpoint.gateway4.is_some()
        } else {
            endpoint.gateway6.is_some()
        }
    };
    let gateways = |endpoint: &Endpoint| {
        usize::from(endpoint.gateway4.is_some()) + usize::from(endpoint.gateway6.is_some())
    };
    (0..endpoints.len())
        .filter(|index| has(&endpoints[*index]))
        .min_by(|one, other| {
            let (one, other) = (&endpoints[*one], &endpoints[*other]);
            other
                .request
                .gateway_priority
                .cmp(&one.request.gateway_priority)
                .then(gateways(other).cmp(&gateways(one)))
                .then(one.network_name.cmp(&other.network_name))
        })
}

/// Marks the endpoint that has the default route.
pub(crate) fn mark_gateway(endpoints: &mut [Endpoint]) {
    let gateway = gateway_of(endpoints, true).or_else(|| gateway_of(endpoints, false));
    for (index, endpoint) in endpoints.iter_mut().enumerate() {
        endpoint.is_gateway = gateway == Some(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str, priority: i32, gateway4: bool, gateway6: bool) -> Endpoint {
        Endpoint {
            network_id: name.to_owned(),
            network_name: name.to_owned(),
            endpoint_id: String::new(),
            ifname: String::new(),
            host_ifname: String::new(),
            mac: None,
            ipv4: None,
            gateway4: gateway4.then_some([10, 0, 0, 1].into()),
            ipv6: None,
            gateway6: gateway6.then_some([0xfd00, 0, 0, 0, 0, 0, 0, 1].into()),
            is_gateway: false,
            dns_names: Vec::new(),
            request: EndpointRequest {
                gateway_priority: priority,
                ..EndpointRequest::default()
            },
        }
    }

    #[test]
    fn the_gateway_is_chosen_as_docker_does() {
        let four = |endpoints: &[Endpoint]| gateway_of(endpoints, true);
        assert_eq!(
            four(&[endpoint("b", 0, true, false), endpoint("a", 0, true, false)]),
            Some(1)
        );
        assert_eq!(
            four(&[endpoint("b", 1, true, false), endpoint("a", 0, true, false)]),
            Some(0)
        );
        assert_eq!(
            four(&[endpoint("b", 0, true, true), endpoint("a", 0, true, false)]),
            Some(0)
        );
        assert_eq!(
            four(&[
                endpoint("internal", 9, false, false),
                endpoint("a", 0, true, false)
            ]),
            Some(1)
        );
        assert_eq!(four(&[endpoint("internal", 9, false, false)]), None);
        assert_eq!(
            gateway_of(
                &[endpoint("a", 0, true, false), endpoint("b", 0, true, true)],
                false
            ),
            Some(1)
        );
    }
}
