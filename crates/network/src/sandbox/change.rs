//! Networks of running containers: joined, left, renamed.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex};

use super::plug;
use super::prepare::{announce, dns_names, finish, free_ifname, give_back, plug_draft, reserve};
use super::settle::{
    addresses_of, files_of, forget_clients, publish_request, scope_of, show_endpoints, target_of,
};
use super::{Attached, ENDPOINT_IFNAME, gateway_of, mark_gateway};
use crate::attach::{Change, Endpoint, EndpointRequest, Mode};
use crate::dns;
use crate::error::{NetworkError, Result};
use crate::netlink::{Requests, Socket};
use crate::netns;
use crate::networks::{Inner, lock};
use crate::ports::Target;

fn attached(inner: &Inner, container_id: &str) -> Result<Arc<Mutex<Attached>>> {
    inner
        .state()
        .containers
        .get(container_id)
        .cloned()
        .ok_or_else(|| {
            NetworkError::Conflict(format!("container {container_id} has no running network"))
        })
}

/// Adds a network to a running container.
pub(crate) fn connect(
    inner: &Arc<Inner>,
    container_id: &str,
    pid: u32,
    wanted: &EndpointRequest,
) -> Result<Change> {
    let attached = attached(inner, container_id)?;
    let mut attached = lock(&attached);
    let network = Arc::clone(&inner.state().find(&wanted.network)?.record);
    match attached.request.mode {
        Mode::Host => {
            return Err(NetworkError::Conflict(
                "container cannot be disconnected from host network or connected to host network"
                    .to_owned(),
            ));
        }
        Mode::None => {
            return Err(NetworkError::Conflict(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
                    .to_owned(),
            ));
        }
        Mode::Endpoints => {}
    }
    if attached
        .endpoints
        .iter()
        .any(|endpoint| endpoint.network_id == network.id)
    {
        return Err(NetworkError::EndpointExists {
            name: attached.request.container_name.clone(),
            network: network.name.clone(),
        });
    }
    let failed = |source: io::Error| {
        NetworkError::kernel(
            format!(
                "connect container {container_id} to network {}",
                network.name
            ),
            source,
        )
    };
    let (netns, mut route) = enter(inner, pid).map_err(failed)?;
    let mut taken = Vec::new();
    let reserved = reserve(&mut inner.state(), wanted, &mut taken);
    let draft = reserved.inspect_err(|_| give_back(inner, &taken))?;
    let in_use: Vec<&str> = attached
        .endpoints
        .iter()
        .map(|endpoint| endpoint.ifname.as_str())
        .collect();
    let ifname = wanted
        .driver_options
        .get(ENDPOINT_IFNAME)
        .cloned()
        .unwrap_or_else(|| free_ifname(&draft.options.iface_prefix, &in_use));
    let plugged = plug_draft(inner, &draft, &netns, &mut route, None, &ifname)
        .inspect_err(|_| give_back(inner, &taken))?;
    let old = attached.endpoints.clone();
    let endpoint = finish(inner, &attached.request, draft, ifname, &plugged);
    attached.endpoints.push(endpoint);
    let changed = follow(inner, &mut attached, &old, &netns, &mut route);
    if changed.is_err() {
        // The interface takes its routes with it.
        plug::unplug(inner, &plugged.host_ifname);
        give_back(inner, &taken);
        attached.endpoints = old;
        inner.dns.remove(&network.id, container_id);
        let with_it = attached.endpoints.clone();
        drop(follow(inner, &mut attached, &with_it, &netns, &mut route));
    }
    changed
}

/// Takes a running container out of a network.
pub(crate) fn disconnect(
    inner: &Arc<Inner>,
    container_id: &str,
    pid: u32,
    reference: &str,
) -> Result<Change> {
    let attached = attached(inner, container_id)?;
    let mut attached = lock(&attached);
    // By the endpoint's own record too: the network itself may be gone.
    let network = inner
        .state()
        .find(reference)
        .map(|live| Arc::clone(&live.record));
    let matches = |endpoint: &Endpoint| match &network {
        Ok(network) => endpoint.network_id == network.id,
        Err(_) => endpoint.network_name == reference || endpoint.network_id == reference,
    };
    let Some(index) = attached.endpoints.iter().position(matches) else {
        let network = network?;
        return Err(NetworkError::NotConnected {
            container: container_id.to_owned(),
            network: network.name.clone(),
        });
    };
    if attached.request.mode == Mode::Host {
        return Err(NetworkError::Conflict(
            "container cannot be disconnected from host network or connected to host network"
                .to_owned(),
        ));
    }
    let failed = |source: io::Error| {
        NetworkError::kernel(
            format!("disconnect container {container_id} from network {reference}"),
            source,
        )
    };
    let (netns, mut route) = enter(inner, pid).map_err(failed)?;
    let old = attached.endpoints.clone();
    let gone = attached.endpoints.remove(index);
    plug::unplug(inner, &gone.host_ifname);
    inner.dns.remove(&gone.network_id, container_id);
    if let Some(live) = inner.state().networks.get_mut(&gone.network_id) {
        live.endpoints.remove(container_id);
    }
    give_back(inner, &addresses_of(&gone));
    follow(inner, &mut attached, &old, &netns, &mut route)
}

fn enter(inner: &Inner, pid: u32) -> io::Result<(OwnedFd, Socket)> {
    let netns = netns::of_process(pid)?;
    let route = inner.worker.inside(netns.as_fd(), Socket::route)?;
    Ok((netns, route))
}

/// Brings default routes, ports, names and files in line with the endpoints, which were `old`.
fn follow(
    inner: &Arc<Inner>,
    attached: &mut Attached,
    old: &[Endpoint],
    netns: &OwnedFd,
    route: &mut Socket,
) -> Result<Change> {
    let container_id = attached.request.container_id.clone();
    let failed = |source: io::Error| {
        NetworkError::kernel(format!("change the network of {container_id}"), source)
    };
    mark_gateway(&mut attached.endpoints);
    move_routes(attached, old, route).map_err(failed)?;

    let target = target_of(&attached.endpoints);
    let before = attached.published.elements();
    if target == Target::default() {
        // Without a way out there is none in either.
        inner.firewall.remove(&before).map_err(failed)?;
        attached.published = inner.ports.nothing();
    } else if attached.published.bindings.is_empty() {
        attached.published = inner.ports.publish(&publish_request(inner, attached))?;
        inner
            .firewall
            .add(&attached.published.elements())
            .map_err(failed)?;
    } else if attached.published.target() != target {
        attached.published.retarget(target);
        inner
            .firewall
            .replace(&before, &attached.published.elements())
            .map_err(failed)?;
        forget_clients(inner, &attached.published.bindings);
    }

    let (files, servers) = files_of(inner, attached)?;
    let mut dns_sockets = Vec::new();
    let scope = scope_of(inner, attached, servers);
    match &attached.dns {
        Some(server) => server.set_scope(scope),
        None if !scope.networks.is_empty() => {
            let sockets = inner
                .worker
                .inside(netns.as_fd(), dns::Sockets::open)
                .map_err(failed)?;
            dns_sockets = sockets.copies().map_err(failed)?;
            let server = dns::Server::start(&inner.runtime, Arc::clone(&inner.dns), scope, sockets)
                .map_err(failed)?;
            attached.dns = Some(server);
        }
        None => {}
    }
    for endpoint in &attached.endpoints {
        announce(inner, &container_id, endpoint);
    }
    show_endpoints(&mut inner.state(), attached);
    Ok(Change {
        endpoints: attached.endpoints.clone(),
        ports: attached.published.bindings.clone(),
        files,
        dns_sockets,
    })
}

/// Lets the default routes go through the endpoints that are gateways now.
fn move_routes(attached: &Attached, old: &[Endpoint], route: &mut Socket) -> io::Result<()> {
    for ipv4 in [true, false] {
        let gateway = |endpoints: &[Endpoint]| {
            gateway_of(endpoints, ipv4).map(|index| {
                let endpoint = &endpoints[index];
                let gateway = if ipv4 {
                    endpoint.gateway4.map(IpAddr::V4)
                } else {
                    endpoint.gateway6.map(IpAddr::V6)
                };
                (
                    endpoint.endpoint_id.clone(),
                    endpoint.ifname.clone(),
                    gateway,
                )
            })
        };
        let (before, now) = (gateway(old), gateway(&attached.endpoints));
        if before == now {
            continue;
        }
        if let Some((_, ifname, Some(address))) = &before
            && let Some(link) = route.link_named(ifname)?
        {
            let mut requests = Requests::new();
            requests.delete_default_route(link.index, *address);
            // The container may have removed it itself.
            drop(route.execute(requests));
        }
        if let Some((_, ifname, Some(address))) = &now
            && let Some(link) = route.link_named(ifname)?
        {
            let mut requests = Requests::new();
            requests.add_default_route(link.index, *address);
            route.execute(requests)?;
        }
    }
    Ok(())
}

/// Gives a running container another name.
pub(crate) fn rename(inner: &Arc<Inner>, container_id: &str, name: &str) {
    let Some(attached) = inner.state().containers.get(container_id).cloned() else {
        return;
    };
    let mut attached = lock(&attached);
    name.clone_into(&mut attached.request.container_name);
    let request = attached.request.clone();
    for endpoint in &mut attached.endpoints {
        if !endpoint.dns_names.is_empty() {
            endpoint.dns_names = dns_names(&request, &endpoint.request);
            announce(inner, container_id, endpoint);
        }
    }
    show_endpoints(&mut inner.state(), &attached);
}
