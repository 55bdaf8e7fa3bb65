//! The network of a starting container.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use super::plug::{self, Bare, Plug, Plugged};
use super::settle::{files_of, forget_clients, publish_request, scope_of, show_endpoints};
use super::{
    Attached, ENDPOINT_IFNAME, ENDPOINT_SYSCTLS, check_endpoint, check_texts, gateway_of,
    interface_sysctls, mark_gateway,
};
use crate::attach::{AttachRequest, Endpoint, EndpointRequest, Mode, Sandbox};
use crate::dns;
use crate::error::{NetworkError, Result};
use crate::ipam::Refusal;
use crate::mac::MacAddr;
use crate::netlink::Requests;
use crate::network::{Driver, Network};
use crate::networks::{Inner, State};
use crate::nft::Element;
use crate::options::BridgeOptions;

/// Everything done so far for a container; dropped before it is complete, it undoes itself.
struct Undo<'a> {
    inner: &'a Inner,
    addresses: Vec<(String, IpAddr)>,
    veths: Vec<String>,
    elements: Vec<Element>,
    names: Vec<String>,
    container: String,
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        for network in &self.names {
            self.inner.dns.remove(network, &self.container);
        }
        if let Err(error) = self.inner.firewall.remove(&self.elements) {
            tracing::warn!(container = %self.container, error = %error, "cannot remove firewall elements");
        }
        for veth in &self.veths {
            plug::unplug(self.inner, veth);
        }
        give_back(self.inner, &self.addresses);
    }
}

/// Frees addresses, by network.
pub(super) fn give_back(inner: &Inner, addresses: &[(String, IpAddr)]) {
    let mut state = inner.state();
    for (network, address) in addresses {
        let pool = state
            .networks
            .get_mut(network)
            .and_then(|live| live.addresses(address.is_ipv4()));
        if let Some(pool) = pool {
            pool.release(*address);
        }
    }
}

/// An endpoint that has its addresses but no interface yet.
pub(super) struct Draft {
    pub(super) network: Arc<Network>,
    pub(super) options: Arc<BridgeOptions>,
    pub(super) ipv4: Option<std::net::Ipv4Addr>,
    pub(super) ipv6: Option<std::net::Ipv6Addr>,
    pub(super) request: EndpointRequest,
}

/// Makes the network of a starting container, in `netns` if one is given; on failure nothing of it
/// is left.
pub(crate) fn prepare(
    inner: &Arc<Inner>,
    request: &AttachRequest,
    netns: Option<OwnedFd>,
) -> Result<Sandbox> {
    check_texts(request)?;
    // A container that ended without being released.
    super::release(inner, &request.container_id);
    let undo = Undo {
        inner,
        addresses: Vec::new(),
        veths: Vec::new(),
        elements: Vec::new(),
        names: Vec::new(),
        container: request.container_id.clone(),
        armed: true,
    };
    match request.mode {
        Mode::Host | Mode::None => without_endpoints(inner, request, netns, undo),
        Mode::Endpoints => with_endpoints(inner, request, netns, undo),
    }
}

/// The host's network, or loopback only: an entry in that network's list and the files.
fn without_endpoints(
    inner: &Arc<Inner>,
    request: &AttachRequest,
    given: Option<OwnedFd>,
    mut undo: Undo<'_>,
) -> Result<Sandbox> {
    let name = if request.mode == Mode::Host {
        "host"
    } else {
        "none"
    };
    if !request.ports.is_empty() && request.mode == Mode::None {
        tracing::debug!(container = %request.container_id, "ports of a container without network are not published");
    }
    let network = Arc::clone(&inner.state().find(name)?.record);
    let netns = match request.mode {
        Mode::Host => None,
        _ => Some(
            bare(inner, given, false)
                .map_err(|error| kernel(request, error))?
                .netns,
        ),
    };
    let endpoint = Endpoint {
        network_id: network.id.clone(),
        network_name: network.name.clone(),
        endpoint_id: wharf_ids::hex_id(),
        ifname: String::new(),
        host_ifname: String::new(),
        mac: None,
        ipv4: None,
        gateway4: None,
        ipv6: None,
        gateway6: None,
        is_gateway: false,
        dns_names: Vec::new(),
        request: request.endpoints.first().cloned().unwrap_or_default(),
    };
    let attached = Attached {
        request: request.clone(),
        sandbox_id: wharf_ids::hex_id(),
        endpoints: vec![endpoint],
        published: inner.ports.nothing(),
        dns: None,
    };
    let (files, _) = files_of(inner, &attached)?;
    let sandbox = Sandbox {
        netns,
        sandbox_id: attached.sandbox_id.clone(),
        endpoints: attached.endpoints.clone(),
        ports: Vec::new(),
        files,
        dns_sockets: Vec::new(),
    };
    remember(inner, attached);
    undo.armed = false;
    Ok(sandbox)
}

fn with_endpoints(
    inner: &Arc<Inner>,
    request: &AttachRequest,
    given: Option<OwnedFd>,
    mut undo: Undo<'_>,
) -> Result<Sandbox> {
    if request.endpoints.is_empty() {
        return Err(NetworkError::invalid(
            "a container needs at least one network",
        ));
    }
    let quick = match &given {
        // The ready ones belong to the daemon's user namespace.
        Some(_) => None,
        None => default_bridge_only(inner, request)?,
    };
    let (bare, mut endpoints, plugs) = match quick {
        Some(network) => on_default_bridge(inner, request, &network, &mut undo)?,
        None => on_networks(inner, request, given, &mut undo)?,
    };
    let Bare {
        netns,
        mut route,
        dns,
        ..
    } = bare;
    mark_gateway(&mut endpoints);
    if let Some(plugs) = plugs {
        let mut requests = Requests::new();
        for ipv4 in [true, false] {
            if let Some(index) = gateway_of(&endpoints, ipv4) {
                let endpoint = &endpoints[index];
                let gateway = if ipv4 {
                    endpoint.gateway4.map(IpAddr::V4)
                } else {
                    endpoint.gateway6.map(IpAddr::V6)
                };
                if let Some(gateway) = gateway {
                    requests.add_default_route(plugs[index].index, gateway);
                }
            }
        }
        route
            .execute(requests)
            .map_err(|refused| kernel(request, refused.into()))?;
    }

    let mut attached = Attached {
        request: request.clone(),
        sandbox_id: wharf_ids::hex_id(),
        endpoints,
        published: inner.ports.nothing(),
        dns: None,
    };
    attached.published = inner.ports.publish(&publish_request(inner, &attached))?;
    undo.elements = attached.published.elements();
    inner.firewall.add(&undo.elements).map_err(|source| {
        NetworkError::kernel(
            format!("publish the ports of {}", request.container_name),
            source,
        )
    })?;

    forget_clients(inner, &attached.published.bindings);

    let (files, servers) = files_of(inner, &attached)?;
    let mut dns_sockets = Vec::new();
    if let Some(sockets) = dns.filter(|_| {
        attached
            .endpoints
            .iter()
            .any(|endpoint| !endpoint.dns_names.is_empty())
    }) {
        dns_sockets = sockets.copies().map_err(|error| kernel(request, error))?;
        for endpoint in &attached.endpoints {
            undo.names.push(endpoint.network_id.clone());
            announce(inner, &request.container_id, endpoint);
        }
        let scope = scope_of(inner, &attached, servers);
        let server = dns::Server::start(&inner.runtime, Arc::clone(&inner.dns), scope, sockets)
            .map_err(|error| kernel(request, error))?;
        attached.dns = Some(server);
    }
    let sandbox = Sandbox {
        netns: Some(netns),
        sandbox_id: attached.sandbox_id.clone(),
        endpoints: attached.endpoints.clone(),
        ports: attached.published.bindings.clone(),
        files,
        dns_sockets,
    };
    remember(inner, attached);
    undo.armed = false;
    Ok(sandbox)
}

/// The given namespace made ready, or one of ours.
fn bare(inner: &Arc<Inner>, given: Option<OwnedFd>, with_dns: bool) -> io::Result<Bare> {
    match given {
        Some(netns) => plug::furnish_given(inner, &netns, with_dns),
        None => plug::take_bare(inner, with_dns),
    }
}

/// The default bridge's record if it is all the container joins.
fn default_bridge_only(inner: &Inner, request: &AttachRequest) -> Result<Option<Arc<Network>>> {
    let [one] = request.endpoints.as_slice() else {
        return Ok(None);
    };
    let state = inner.state();
    let live = state.find(&one.network)?;
    check_endpoint(&live.record, one)?;
    Ok(
        (live.record.is_default_bridge() && one.driver_options.is_empty())
            .then(|| Arc::clone(&live.record)),
    )
}

type Made = (Bare, Vec<Endpoint>, Option<Vec<Plugged>>);

/// The quick way: a namespace that is on the default bridge with address and route already.
fn on_default_bridge(
    inner: &Arc<Inner>,
    request: &AttachRequest,
    network: &Arc<Network>,
    undo: &mut Undo<'_>,
) -> Result<Made> {
    let bridge = inner.bridge_of(network)?;
    if !request.links.is_empty() && !inner.state().find(&network.id)?.options.icc {
        return Err(NetworkError::Unsupported(
            "links between containers on a network without inter-container connectivity (icc=false) are not supported"
                .to_owned(),
        ));
    }
    let ready = plug::take_on_bridge(inner, bridge).map_err(|error| kernel(request, error))?;
    undo.addresses
        .push((network.id.clone(), IpAddr::V4(ready.ipv4)));
    undo.addresses
        .extend(ready.ipv6.map(|v6| (network.id.clone(), IpAddr::V6(v6))));
    undo.veths.push(ready.plugged.host_ifname.clone());
    let mut bare = ready.bare;
    let mut plugged = ready.plugged;
    let wanted = &request.endpoints[0];
    if let Some(mac) = wanted.mac {
        let mut requests = Requests::new();
        requests.set_mac(plugged.index, mac);
        bare.route
            .execute(requests)
            .map_err(|refused| kernel(request, refused.into()))?;
        plugged.mac = mac;
    }
    let options = Arc::clone(&inner.state().find(&network.id)?.options);
    let draft = Draft {
        network: Arc::clone(network),
        options,
        ipv4: Some(ready.ipv4),
        ipv6: ready.ipv6,
        request: wanted.clone(),
    };
    let ifname = format!("{}0", draft.options.iface_prefix);
    let endpoint = finish(inner, request, draft, ifname, &plugged);
    Ok((bare, vec![endpoint], None))
}

/// The general way: any networks.
fn on_networks(
    inner: &Arc<Inner>,
    request: &AttachRequest,
    given: Option<OwnedFd>,
    undo: &mut Undo<'_>,
) -> Result<Made> {
    let mut drafts = Vec::new();
    {
        let mut state = inner.state();
        for wanted in &request.endpoints {
            let draft = reserve(&mut state, wanted, &mut undo.addresses)?;
            if drafts
                .iter()
                .any(|other: &Draft| other.network.id == draft.network.id)
            {
                return Err(NetworkError::EndpointExists {
                    name: request.container_name.clone(),
                    network: draft.network.name.clone(),
                });
            }
            drafts.push(draft);
        }
    }
    let with_dns = drafts.iter().any(|draft| draft.network.is_user_defined());
    let mut bare = bare(inner, given, with_dns).map_err(|error| kernel(request, error))?;
    let (mut endpoints, mut plugs): (Vec<Endpoint>, Vec<Plugged>) = (Vec::new(), Vec::new());
    // The user's names first, so that none of ours takes one.
    let mut names: Vec<Option<String>> = drafts
        .iter()
        .map(|draft| draft.request.driver_options.get(ENDPOINT_IFNAME).cloned())
        .collect();
    for index in 0..drafts.len() {
        if names[index].is_none() {
            let taken: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
            names[index] = Some(free_ifname(&drafts[index].options.iface_prefix, &taken));
        }
    }
    for (draft, ifname) in drafts.into_iter().zip(names.into_iter().flatten()) {
        let plugged = plug_draft(
            inner,
            &draft,
            &bare.netns,
            &mut bare.route,
            bare.spare.take(),
            &ifname,
        )?;
        undo.veths.push(plugged.host_ifname.clone());
        endpoints.push(finish(inner, request, draft, ifname, &plugged));
        plugs.push(plugged);
    }
    Ok((bare, endpoints, Some(plugs)))
}

/// The first of `eth0`, `eth1`, … that is not taken.
pub(super) fn free_ifname(prefix: &str, taken: &[&str]) -> String {
    (0..=taken.len())
        .map(|number| format!("{prefix}{number}"))
        .find(|name| !taken.contains(&name.as_str()))
        .unwrap_or_else(|| format!("{prefix}{}", taken.len()))
}

/// Finds an endpoint's network and takes its addresses; `taken` gets what was taken.
pub(super) fn reserve(
    state: &mut State,
    wanted: &EndpointRequest,
    taken: &mut Vec<(String, IpAddr)>,
) -> Result<Draft> {
    let id = state.find(&wanted.network)?.record.id.clone();
    let live = state
        .networks
        .get_mut(&id)
        .ok_or_else(|| NetworkError::NotFound(wanted.network.clone()))?;
    let network = Arc::clone(&live.record);
    check_endpoint(&network, wanted)?;
    if network.driver != Driver::Bridge {
        return Err(NetworkError::Conflict(format!(
            "container cannot be connected to multiple networks with one of the networks in {} mode",
            if network.driver == Driver::Host {
                "host"
            } else {
                "private (none)"
            }
        )));
    }
    let mut draft = Draft {
        options: Arc::clone(&live.options),
        ipv4: None,
        ipv6: None,
        request: wanted.clone(),
        network: Arc::clone(&network),
    };
    for ipv4 in [true, false] {
        let Some(pool) = live.addresses(ipv4) else {
            continue;
        };
        let asked = if ipv4 {
            wanted.ipv4.map(IpAddr::V4)
        } else {
            wanted.ipv6.map(IpAddr::V6)
        };
        let result = match asked {
            Some(address) => pool.request(address).map(|()| address),
            None => pool.allocate(),
        };
        let address = result.map_err(|refusal| match refusal {
            Refusal::Exhausted => NetworkError::AddressesExhausted {
                family: if ipv4 { "IPv4" } else { "IPv6" },
                network: network.name.clone(),
                id: network.id.clone(),
            },
            Refusal::InUse => NetworkError::AddressInUse,
            Refusal::Outside => {
                NetworkError::NoSubnetContains(asked.unwrap_or_else(|| pool.subnet().base()))
            }
        })?;
        taken.push((network.id.clone(), address));
        match address {
            IpAddr::V4(v4) => draft.ipv4 = Some(v4),
            IpAddr::V6(v6) => draft.ipv6 = Some(v6),
        }
    }
    Ok(draft)
}

/// Makes a draft's interface.
pub(super) fn plug_draft(
    inner: &Inner,
    draft: &Draft,
    netns: &OwnedFd,
    route: &mut crate::netlink::Socket,
    spare: Option<plug::Spare>,
    ifname: &str,
) -> Result<Plugged> {
    let network = &draft.network;
    let failed = |source| {
        NetworkError::endpoint(
            format!("make an endpoint in network {}", network.name),
            &network.name,
            source,
        )
    };
    let bridge = inner.bridge_of(network)?;
    let prefix = |ipv4| {
        draft
            .network
            .subnet(ipv4)
            .map_or(0, |config| config.subnet.prefix())
    };
    let mut addresses = Vec::new();
    addresses.extend(draft.ipv4.map(|v4| (IpAddr::V4(v4), prefix(true))));
    addresses.extend(draft.ipv6.map(|v6| (IpAddr::V6(v6), prefix(false))));
    addresses.extend(
        draft
            .request
            .link_local
            .iter()
            .map(|ip| (*ip, if ip.is_ipv4() { 16 } else { 64 })),
    );
    let sysctls = match draft.request.driver_options.get(ENDPOINT_SYSCTLS) {
        Some(text) => interface_sysctls(text, ifname)?,
        None => Vec::new(),
    };
    let mac: MacAddr = draft
        .request
        .mac
        .unwrap_or_else(|| plug::mac_for(draft.ipv4));
    plug::plug(
        inner,
        netns,
        route,
        spare,
        &Plug {
            bridge,
            mtu: draft.options.mtu,
            isolated: !draft.options.icc,
            ifname,
            mac,
            addresses,
            sysctls,
        },
    )
    .map_err(failed)
}

/// The endpoint a draft has become.
pub(super) fn finish(
    inner: &Inner,
    request: &AttachRequest,
    draft: Draft,
    ifname: String,
    plugged: &Plugged,
) -> Endpoint {
    let network = &draft.network;
    let prefix = |ipv4| {
        network
            .subnet(ipv4)
            .map_or(0, |config| config.subnet.prefix())
    };
    let gateway = |ipv4: bool| {
        network
            .subnet(ipv4)
            .filter(|_| !network.internal)
            .map(|config| config.gateway)
    };
    let mut gateway4 = match gateway(true) {
        Some(IpAddr::V4(v4)) => Some(v4),
        _ => None,
    };
    if network.is_default_bridge() {
        gateway4 = inner.config.default_gateway.or(gateway4);
    }
    let gateway6 = match gateway(false) {
        Some(IpAddr::V6(v6)) => Some(v6),
        _ => None,
    };
    let dns_names = if network.is_user_defined() {
        dns_names(request, &draft.request)
    } else {
        Vec::new()
    };
    Endpoint {
        network_id: network.id.clone(),
        network_name: network.name.clone(),
        endpoint_id: wharf_ids::hex_id(),
        ifname,
        host_ifname: plugged.host_ifname.clone(),
        mac: Some(plugged.mac),
        ipv4: draft.ipv4.map(|ip| (ip, prefix(true))),
        gateway4,
        ipv6: draft.ipv6.map(|ip| (ip, prefix(false))),
        gateway6,
        is_gateway: false,
        dns_names,
        request: draft.request,
    }
}

/// Container name, aliases, short id, hostname; each once.
pub(super) fn dns_names(request: &AttachRequest, endpoint: &EndpointRequest) -> Vec<String> {
    let short = request
        .container_id
        .get(..12)
        .unwrap_or(&request.container_id);
    let mut names: Vec<String> = Vec::new();
    let all = std::iter::once(request.container_name.as_str())
        .chain(endpoint.aliases.iter().map(String::as_str))
        .chain([short, request.hostname.as_str()]);
    for name in all.filter(|name| !name.is_empty()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Puts an endpoint's names into its network's directory.
pub(crate) fn announce(inner: &Inner, container: &str, endpoint: &Endpoint) {
    if endpoint.dns_names.is_empty() {
        return;
    }
    inner.dns.insert(
        &endpoint.network_id,
        container,
        dns::Member {
            ipv4: endpoint.ipv4.map(|(ip, _)| ip),
            ipv6: endpoint.ipv6.map(|(ip, _)| ip),
            names: endpoint.dns_names.clone(),
        },
    );
}

/// Enters a finished container.
pub(crate) fn remember(inner: &Inner, attached: Attached) {
    let mut state = inner.state();
    show_endpoints(&mut state, &attached);
    let id = attached.request.container_id.clone();
    state.containers.insert(id, Arc::new(Mutex::new(attached)));
}

fn kernel(request: &AttachRequest, source: io::Error) -> NetworkError {
    NetworkError::endpoint(
        format!("make the network of container {}", request.container_name),
        "bridge",
        source,
    )
}
