//! After a restart of the daemon: what still runs is taken over, the rest is removed.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::attach::LiveContainer;
use crate::dns;
use crate::error::{NetworkError, Result};
use crate::netlink::Requests;
use crate::network::Driver;
use crate::networks::{Inner, lock, network_elements};
use crate::nft::Element;
use crate::sandbox::{self, Attached};

/// Takes over `live` and removes everything of this instance that belongs to nobody.
pub(crate) fn reconcile(
    inner: &Arc<Inner>,
    live: Vec<LiveContainer>,
) -> Vec<(String, NetworkError)> {
    let mut failures = Vec::new();
    let mut elements: BTreeSet<Element> = network_elements(&inner.state()).into_iter().collect();
    let mut veths = HashSet::new();
    for container in live {
        let id = container.request.container_id.clone();
        match adopt(inner, container) {
            Ok(attached) => {
                elements.extend(attached.published.elements());
                veths.extend(
                    attached
                        .endpoints
                        .iter()
                        .map(|endpoint| endpoint.host_ifname.clone()),
                );
                sandbox::remember(inner, attached);
            }
            Err(error) => failures.push((id, error)),
        }
    }
    if let Err(error) = inner.firewall.reset(elements) {
        tracing::error!(error = %error, "cannot reset the nftables table");
    }
    if let Err(error) = remove_orphans(inner, &veths) {
        tracing::warn!(error = %wharf_fault::chain(&error), "cannot remove what an earlier daemon left");
    }
    sandbox::fill_pool(inner);
    failures
}

fn adopt(inner: &Arc<Inner>, live: LiveContainer) -> Result<Attached> {
    let mut state = inner.state();
    for endpoint in &live.endpoints {
        let Some(network) = state.networks.get_mut(&endpoint.network_id) else {
            continue;
        };
        let ipv4 = endpoint.ipv4.map(|(ip, _)| IpAddr::V4(ip));
        let ipv6 = endpoint.ipv6.map(|(ip, _)| IpAddr::V6(ip));
        for address in ipv4.into_iter().chain(ipv6) {
            let taken = network
                .addresses(address.is_ipv4())
                .map(|pool| pool.request(address));
            if !matches!(taken, Some(Ok(())) | None) {
                tracing::warn!(container = %live.request.container_id, %address, "address of a running container is not free");
            }
        }
    }
    drop(state);
    let published = inner
        .ports
        .adopt(&live.ports, sandbox::target_of(&live.endpoints));
    for endpoint in &live.endpoints {
        sandbox::announce(inner, &live.request.container_id, endpoint);
    }
    Ok(Attached {
        request: live.request,
        sandbox_id: live.sandbox_id,
        endpoints: live.endpoints,
        published,
        dns: None,
    })
}

/// Bridges of ours that no record names, and ports of our bridges that no container has.
fn remove_orphans(inner: &Inner, veths: &HashSet<String>) -> Result<()> {
    let failed = |source| NetworkError::kernel("list network interfaces", source);
    let mut host = lock(&inner.host);
    let links = host.links().map_err(failed)?;
    let state = inner.state();
    let bridges: HashSet<&str> = state
        .networks
        .values()
        .filter(|live| live.record.driver == Driver::Bridge)
        .map(|live| live.record.bridge.as_str())
        .collect();
    let alias = inner.instance.alias();
    for link in links.iter().filter(|link| link.alias == alias) {
        let orphan = match link.kind.as_str() {
            "bridge" => !bridges.contains(link.name.as_str()),
            "veth" => !veths.contains(&link.name),
            _ => false,
        };
        if orphan {
            let mut requests = Requests::new();
            requests.delete_link(link.index);
            // The kernel may have been quicker.
            drop(host.execute(requests));
        }
    }
    Ok(())
}

/// Serves DNS again on sockets that a shim kept.
pub(crate) fn resume_dns(
    inner: &Arc<Inner>,
    container_id: &str,
    sockets: Vec<OwnedFd>,
) -> Result<()> {
    let attached = inner
        .state()
        .containers
        .get(container_id)
        .cloned()
        .ok_or_else(|| {
            NetworkError::Conflict(format!("container {container_id} has no running network"))
        })?;
    let mut attached = lock(&attached);
    let failed =
        |source| NetworkError::kernel(format!("serve DNS for container {container_id}"), source);
    let sockets = dns::Sockets::from_kept(sockets).map_err(failed)?;
    let (_, servers) = sandbox::files_of(inner, &attached)?;
    let scope = sandbox::scope_of(inner, &attached, servers);
    let server = dns::Server::start(&inner.runtime, Arc::clone(&inner.dns), scope, sockets)
        .map_err(failed)?;
    attached.dns = Some(server);
    Ok(())
}
