//! What follows from a container's endpoints: where its ports lead, what it can resolve, what its
//! files say; and giving it all back.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::prepare::give_back;
use super::{Attached, gateway_of};
use crate::attach::{ContainerFiles, DnsSettings, Endpoint, Mode, PortBinding, Protocol};
use crate::conntrack;
use crate::dns::{Scope, ScopeNetwork};
use crate::error::Result;
use crate::files::{
    ExtServer, HostResolver, HostsInput, internal_resolv_conf, legacy_resolv_conf, render_hosts,
    resolve_extra_hosts,
};
use crate::network::NetworkEndpoint;
use crate::networks::{Inner, State, lock};
use crate::ports::{PublishRequest, Target};

/// The addresses published ports lead to: those of the gateway endpoints.
pub(crate) fn target_of(endpoints: &[Endpoint]) -> Target {
    let gateway = |ipv4| gateway_of(endpoints, ipv4).map(|index| &endpoints[index]);
    Target {
        ipv4: gateway(true)
            .and_then(|endpoint| endpoint.ipv4)
            .map(|(ip, _)| ip),
        ipv6: gateway(false)
            .and_then(|endpoint| endpoint.ipv6)
            .map(|(ip, _)| ip),
    }
}

/// What to publish for a container.
pub(crate) fn publish_request<'a>(inner: &Inner, attached: &'a Attached) -> PublishRequest<'a> {
    let gateway = attached
        .endpoints
        .iter()
        .find(|endpoint| endpoint.is_gateway);
    let state = inner.state();
    let default_host = gateway
        .and_then(|endpoint| state.networks.get(&endpoint.network_id))
        .and_then(|live| live.options.host_binding)
        .or(inner.config.default_binding);
    PublishRequest {
        container_name: &attached.request.container_name,
        endpoint_id: gateway.map_or("", |endpoint| endpoint.endpoint_id.as_str()),
        // Without a way out there is none in either.
        mappings: if gateway.is_some() {
            &attached.request.ports
        } else {
            &[]
        },
        target: target_of(&attached.endpoints),
        default_host,
    }
}

/// The user's resolver settings over the daemon's.
fn dns_settings(inner: &Inner, own: &DnsSettings) -> DnsSettings {
    let or = |own: &Vec<String>, daemon: &Vec<String>| {
        if own.is_empty() {
            daemon.clone()
        } else {
            own.clone()
        }
    };
    DnsSettings {
        servers: if own.servers.is_empty() {
            inner.config.dns_servers.clone()
        } else {
            own.servers.clone()
        },
        options: or(&own.options, &inner.config.dns_options),
        search: or(&own.search, &inner.config.dns_search),
    }
}

/// A container's files, and the servers its embedded DNS server forwards to.
pub(crate) fn files_of(
    inner: &Inner,
    attached: &Attached,
) -> Result<(ContainerFiles, Vec<ExtServer>)> {
    let request = &attached.request;
    let settings = dns_settings(inner, &request.dns);
    let embedded = attached
        .endpoints
        .iter()
        .any(|endpoint| !endpoint.dns_names.is_empty());
    let ipv6 = attached
        .endpoints
        .iter()
        .any(|endpoint| endpoint.ipv6.is_some());
    let path = &inner.config.resolv_conf;
    let (resolv_conf, servers) = if embedded {
        internal_resolv_conf(&HostResolver::read(path), &settings)
    } else if request.mode == Mode::Host {
        (
            legacy_resolv_conf(&HostResolver::read(path), &settings, ipv6, true),
            Vec::new(),
        )
    } else {
        (
            legacy_resolv_conf(&HostResolver::read_reachable(path), &settings, ipv6, false),
            Vec::new(),
        )
    };
    let mut extra = resolve_extra_hosts(&request.extra_hosts, &host_gateways(inner))?;
    let hosts = if request.mode == Mode::Host && extra.is_empty() {
        std::fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        extra.extend(
            request
                .links
                .iter()
                .map(|link| (link.address, link.names.join(" "))),
        );
        let mut own: Vec<IpAddr> = attached
            .endpoints
            .iter()
            .filter_map(|e| e.ipv4.map(|(ip, _)| ip.into()))
            .collect();
        own.extend(
            attached
                .endpoints
                .iter()
                .filter_map(|e| e.ipv6.map(|(ip, _)| IpAddr::from(ip))),
        );
        render_hosts(&HostsInput {
            ipv6: inner.ipv6.is_on(),
            extra,
            own,
            hostname: &request.hostname,
            domainname: &request.domainname,
        })
    };
    Ok((
        ContainerFiles {
            hosts,
            hostname: format!("{}\n", request.hostname),
            resolv_conf,
        },
        servers,
    ))
}

/// What `host-gateway` stands for.
fn host_gateways(inner: &Inner) -> Vec<IpAddr> {
    if !inner.config.host_gateways.is_empty() {
        return inner.config.host_gateways.clone();
    }
    inner
        .state()
        .networks
        .values()
        .find(|live| live.record.is_default_bridge())
        .map(|live| {
            live.record
                .subnets
                .iter()
                .map(|config| config.gateway)
                .collect()
        })
        .unwrap_or_default()
}

/// What a container can resolve.
pub(crate) fn scope_of(inner: &Inner, attached: &Attached, servers: Vec<ExtServer>) -> Scope {
    let networks = attached
        .endpoints
        .iter()
        .filter(|endpoint| !endpoint.dns_names.is_empty())
        .map(|endpoint| ScopeNetwork {
            id: endpoint.network_id.clone(),
            name: endpoint.network_name.clone(),
            links: endpoint
                .request
                .links
                .iter()
                .map(|(target, alias)| (alias.clone(), target.clone()))
                .collect(),
        })
        .collect();
    let way_out = attached
        .endpoints
        .iter()
        .any(|endpoint| endpoint.gateway4.is_some() || endpoint.gateway6.is_some());
    let ndots = dns_settings(inner, &attached.request.dns)
        .options
        .iter()
        .rev()
        .find_map(|option| option.strip_prefix("ndots:")?.parse::<u32>().ok());
    Scope {
        networks,
        servers: if way_out { servers } else { Vec::new() },
        keep_single_labels: ndots.is_some_and(|ndots| ndots > 0),
    }
}

/// Lists a container in its networks.
pub(crate) fn show_endpoints(state: &mut State, attached: &Attached) {
    for endpoint in &attached.endpoints {
        if let Some(live) = state.networks.get_mut(&endpoint.network_id) {
            live.endpoints.insert(
                attached.request.container_id.clone(),
                NetworkEndpoint {
                    container_id: attached.request.container_id.clone(),
                    container_name: attached.request.container_name.clone(),
                    endpoint_id: endpoint.endpoint_id.clone(),
                    mac: endpoint.mac,
                    ipv4: endpoint.ipv4,
                    ipv6: endpoint.ipv6,
                },
            );
        }
    }
}

/// Lets UDP clients of these bindings notice that the port has changed hands; off the path.
pub(crate) fn forget_clients(inner: &Inner, bindings: &[PortBinding]) {
    let ports: HashSet<u16> = bindings
        .iter()
        .filter(|b| b.protocol == Protocol::Udp)
        .map(|b| b.host_port)
        .collect();
    if ports.is_empty() {
        return;
    }
    let worker = inner.worker.clone();
    inner.runtime.spawn_blocking(move || {
        if let Err(error) = worker.at_home(move || conntrack::forget_udp(&ports)) {
            tracing::warn!(error = %error, "cannot forget the clients of published UDP ports");
        }
    });
}

/// Addresses of an endpoint, by network.
pub(crate) fn addresses_of(endpoint: &Endpoint) -> Vec<(String, IpAddr)> {
    let ipv4 = endpoint.ipv4.map(|(ip, _)| IpAddr::V4(ip));
    let ipv6 = endpoint.ipv6.map(|(ip, _)| IpAddr::V6(ip));
    ipv4.into_iter()
        .chain(ipv6)
        .map(|ip| (endpoint.network_id.clone(), ip))
        .collect()
}

/// Gives back what a container had; nothing happens for an unknown one.
pub(crate) fn release(inner: &Arc<Inner>, container_id: &str) {
    let Some(attached) = inner.state().containers.remove(container_id) else {
        return;
    };
    let mut attached = lock(&attached);
    attached.dns = None;
    let elements = attached.published.elements();
    if let Err(error) = inner.firewall.remove(&elements) {
        tracing::warn!(container = container_id, error = %error, "cannot remove firewall elements");
    }
    forget_clients(inner, &attached.published.bindings);
    // The host ports are free from here on.
    attached.published = inner.ports.nothing();
    {
        let mut state = inner.state();
        for endpoint in &attached.endpoints {
            if let Some(live) = state.networks.get_mut(&endpoint.network_id) {
                live.endpoints.remove(container_id);
            }
        }
    }
    let mut freed = Vec::new();
    for endpoint in &attached.endpoints {
        inner.dns.remove(&endpoint.network_id, container_id);
        freed.extend(addresses_of(endpoint));
    }
    give_back(inner, &freed);
    let veths: Vec<String> = attached
        .endpoints
        .iter()
        .map(|endpoint| endpoint.host_ifname.clone())
        .collect();
    linger(inner, veths);
}

/// Removes veths that outlive their container because something else (a container that shares the
/// namespace) keeps it. Usually the kernel is quicker.
fn linger(inner: &Arc<Inner>, veths: Vec<String>) {
    const KERNEL_CLEANUP: std::time::Duration = std::time::Duration::from_secs(2);
    let veths: Vec<String> = veths.into_iter().filter(|name| !name.is_empty()).collect();
    if veths.is_empty() {
        return;
    }
    let weak = Arc::downgrade(inner);
    inner.runtime.spawn(async move {
        tokio::time::sleep(KERNEL_CLEANUP).await;
        let Some(inner) = weak.upgrade() else { return };
        for veth in veths {
            super::plug::unplug(&inner, &veth);
        }
    });
}
