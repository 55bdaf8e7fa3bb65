//! Publishing the ports of one container: all of them, or none and an error that says why.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use tokio::runtime::Handle;

use super::ledger::Ledger;
use super::relay::{Bridges, Relay, Relayed};
use super::socket::{PortSocket, display, ephemeral_range};
use crate::attach::{PortBinding, PortMapping, Protocol};
use crate::error::{NetworkError, PortBindCause, Result};
use crate::networks::lock;
use crate::nft::Element;
use crate::sysctl::Ipv6Switch;

/// A container with more ports than this holds no socket for each; the kernel's translation is
/// all they have.
const SOCKETS_MAX: usize = 256;

/// The host ports of all containers of this daemon.
#[derive(Debug)]
pub(crate) struct PortTable {
    ledger: Mutex<Ledger>,
    runtime: Handle,
    /// Whether ports are relayed at all.
    relay: bool,
    /// Where the bridges are when not in the host's network namespace: then every port is relayed.
    bridges: Option<Bridges>,
    /// Started with the first port.
    relays: OnceLock<Relay>,
    ipv6: Ipv6Switch,
}

/// Ports to publish for one container.
#[derive(Debug)]
pub(crate) struct PublishRequest<'a> {
    pub(crate) container_name: &'a str,
    pub(crate) endpoint_id: &'a str,
    pub(crate) mappings: &'a [PortMapping],
    pub(crate) target: Target,
    /// Host address for mappings that name none; `None` is every address.
    pub(crate) default_host: Option<IpAddr>,
}

/// The container's addresses that ports lead to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

impl Target {
    /// The container's side of a binding as the kernel can translate it: the same family.
    fn translated(&self, host: IpAddr, port: u16) -> Option<SocketAddr> {
        match host {
            IpAddr::V4(_) => self.ipv4.map(|ip| SocketAddr::new(IpAddr::V4(ip), port)),
            IpAddr::V6(_) => self.ipv6.map(|ip| SocketAddr::new(IpAddr::V6(ip), port)),
        }
    }

    /// The container's side as a relay reaches it: any family, the binding's first.
    fn relayed(&self, host: IpAddr, port: u16) -> Option<SocketAddr> {
        let other = if host.is_ipv4() {
            self.ipv6.map(IpAddr::V6)
        } else {
            self.ipv4.map(IpAddr::V4)
        };
        self.translated(host, port)
            .or_else(|| other.map(|ip| SocketAddr::new(ip, port)))
    }
}

/// A container's published ports; dropping it frees them. The elements are the caller's to add
/// and remove.
#[derive(Debug)]
pub(crate) struct Published {
    table: Arc<PortTable>,
    pub(crate) bindings: Vec<PortBinding>,
    target: Arc<RwLock<Target>>,
    relays: Vec<Arc<Relayed>>,
    /// Sockets that only hold their port.
    held: Vec<PortSocket>,
}

impl PortTable {
    /// No ports yet; relays run on `runtime` if `relay` is on, or if `bridges` says that the
    /// containers' bridges are in another network namespace: nothing else leads there.
    pub(crate) fn new(
        runtime: Handle,
        relay: bool,
        ipv6: Ipv6Switch,
        bridges: Option<Bridges>,
    ) -> Arc<Self> {
        Arc::new(Self {
            ipv6,
            ledger: Mutex::default(),
            runtime,
            relay: relay || bridges.is_some(),
            bridges,
            relays: OnceLock::new(),
        })
    }

    /// Nothing published.
    pub(crate) fn nothing(self: &Arc<Self>) -> Published {
        Published {
            table: Arc::clone(self),
            bindings: Vec::new(),
            target: Arc::default(),
            relays: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Finds and reserves host ports for all mappings.
    pub(crate) fn publish(self: &Arc<Self>, request: &PublishRequest<'_>) -> Result<Published> {
        let mut published = self.nothing();
        published.target = Arc::new(RwLock::new(request.target));
        if request.mappings.is_empty() {
            return Ok(published);
        }
        let ephemeral = ephemeral_range();
        let ipv6 = self.ipv6.is_on();
        let sockets = self.bridges.is_some() || request.mappings.len() <= SOCKETS_MAX;
        let mut mappings: Vec<&PortMapping> = request.mappings.iter().collect();
        // Exact ports first, so that a search does not take what another mapping must have.
        mappings.sort_by_key(|mapping| (mapping.host_port == 0, mapping.host_port_end != 0));
        let mut seen = BTreeSet::new();
        for mapping in mappings {
            // The same mapping twice is one.
            let key = (
                mapping.container_port,
                mapping.protocol,
                mapping.host_ip,
                mapping.host_port,
                mapping.host_port_end,
            );
            if mapping.host_port != 0 && !seen.insert(key) {
                continue;
            }
            let hosts = self.hosts(mapping, request, ipv6, sockets)?;
            if hosts.is_empty() {
                continue;
            }
            let range = match (mapping.host_port, mapping.host_port_end) {
                (0, _) => ephemeral.clone(),
                (first, 0) => first..=first,
                (first, last) => first..=last,
            };
            self.reserve(&mut published, request, mapping, &hosts, range, sockets)?;
        }
        published.bindings.sort();
        Ok(published)
    }

    /// Reserves exactly these bindings again, after a restart of the daemon. A port that a program
    /// of the host has taken meanwhile is kept in the kernel's translation, without a socket.
    pub(crate) fn adopt(self: &Arc<Self>, bindings: &[PortBinding], target: Target) -> Published {
        let mut published = self.nothing();
        published.target = Arc::new(RwLock::new(target));
        let sockets = self.bridges.is_some() || bindings.len() <= SOCKETS_MAX;
        for binding in bindings {
            lock(&self.ledger).take(binding.protocol, binding.host_port, binding.host_ip);
            published.bindings.push(*binding);
            if sockets {
                let host = SocketAddr::new(binding.host_ip, binding.host_port);
                let held = PortSocket::bind(binding.protocol, host, self.relay, false)
                    .and_then(|socket| self.hold(&mut published, *binding, socket));
                if let Err(error) = held {
                    tracing::warn!(port = binding.host_port, error = %error, "cannot hold a published port again");
                }
            }
        }
        published
    }

    /// The host addresses a mapping binds.
    fn hosts(
        &self,
        mapping: &PortMapping,
        request: &PublishRequest<'_>,
        ipv6: bool,
        sockets: bool,
    ) -> Result<Vec<IpAddr>> {
        let both = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        let wanted = match (mapping.host_ip, request.default_host) {
            (Some(host), _) => vec![host],
            (None, Some(host)) if host != both[0] => vec![host],
            (None, _) => both.to_vec(),
        };
        let reachable = |host: &IpAddr| {
            request.target.translated(*host, 1).is_some()
                || self.relay && sockets && request.target.relayed(*host, 1).is_some()
        };
        if let Some(host) = mapping.host_ip.filter(|host| !reachable(host)) {
            let family = if host.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(NetworkError::Invalid(format!(
                "cannot publish port {} on {host}: the container has no {family} address, and {}",
                mapping.container_port,
                if self.relay {
                    "so many ports are not relayed"
                } else {
                    "the userland proxy is off"
                }
            )));
        }
        let named = mapping.host_ip.is_some();
        Ok(wanted
            .into_iter()
            .filter(|host| reachable(host) && (named || host.is_ipv4() || ipv6))
            .collect())
    }

    fn reserve(
        self: &Arc<Self>,
        published: &mut Published,
        request: &PublishRequest<'_>,
        mapping: &PortMapping,
        hosts: &[IpAddr],
        range: std::ops::RangeInclusive<u16>,
        sockets: bool,
    ) -> Result<()> {
        let protocol = mapping.protocol;
        let exact = range.start() == range.end();
        let (name, endpoint) = (
            request.container_name.to_owned(),
            request.endpoint_id.to_owned(),
        );
        let mut ledger = lock(&self.ledger);
        let mut refusal = None;
        for port in ledger.candidates(protocol, &range) {
            if !ledger.is_free(protocol, port, hosts) {
                refusal = Some(NetworkError::PortAllocated {
                    name: name.clone(),
                    endpoint: endpoint.clone(),
                    address: SocketAddr::new(hosts[0], port),
                });
                continue;
            }
            let just_freed = ledger.just_freed(protocol, port);
            match bind_all(protocol, port, hosts, self.relay && sockets, just_freed) {
                Ok(bound) => {
                    for host_ip in hosts {
                        ledger.take(protocol, port, *host_ip);
                        published.bindings.push(PortBinding {
                            container_port: mapping.container_port,
                            protocol,
                            host_ip: *host_ip,
                            host_port: port,
                        });
                    }
                    if !exact {
                        ledger.chosen(protocol, port);
                    }
                    drop(ledger);
                    if sockets {
                        for (host_ip, socket) in hosts.iter().zip(bound) {
                            let binding = PortBinding {
                                container_port: mapping.container_port,
                                protocol,
                                host_ip: *host_ip,
                                host_port: port,
                            };
                            self.hold(published, binding, socket).map_err(|source| {
                                NetworkError::kernel(format!("relay host port {port}"), source)
                            })?;
                        }
                    }
                    return Ok(());
                }
                Err((host, source)) => {
                    let number = mapping.container_port;
                    let container = request
                        .target
                        .relayed(host, number)
                        .map_or_else(String::new, |c| c.to_string());
                    refusal = Some(NetworkError::PortBind {
                        name: name.clone(),
                        endpoint: endpoint.clone(),
                        binding: format!(
                            "{}:{container}/{}",
                            display(host, port),
                            protocol.as_str()
                        ),
                        source: PortBindCause(bind_reason(&source, port)),
                    });
                    // Only a used port is a reason to look at the next one.
                    if source.kind() != io::ErrorKind::AddrInUse {
                        break;
                    }
                }
            }
        }
        Err(match refusal {
            Some(error) if exact || !matches!(error, NetworkError::PortAllocated { .. }) => error,
            _ => NetworkError::PortsExhausted { name, endpoint },
        })
    }

    /// Keeps a bound socket: relays from it where it can, only holds it otherwise.
    fn hold(
        &self,
        published: &mut Published,
        binding: PortBinding,
        socket: PortSocket,
    ) -> io::Result<()> {
        let target = Arc::clone(&published.target);
        let everything = self.bridges.is_some();
        let find = move |client: IpAddr| {
            let target = lock_read(&target);
            let in_kernel = target
                .translated(binding.host_ip, binding.container_port)
                .is_some();
            // A UDP packet the kernel should have translated belongs to a connection it remembers
            // from before; an answer from here would only keep that memory alive.
            let stale = !everything
                && binding.protocol == Protocol::Udp
                && in_kernel
                && !(client.is_ipv6() && client.is_loopback());
            if stale {
                None
            } else {
                target.relayed(binding.host_ip, binding.container_port)
            }
        };
        if !self.relay || binding.protocol == Protocol::Sctp {
            published.held.push(socket);
            return Ok(());
        }
        let relayed = self.relays()?.add(socket, find)?;
        published.relays.push(relayed);
        Ok(())
    }

    fn relays(&self) -> io::Result<&Relay> {
        if let Some(relay) = self.relays.get() {
            return Ok(relay);
        }
        // Of two that start one at the same time, the loser's thread ends at once.
        drop(
            self.relays
                .set(Relay::start(self.runtime.clone(), self.bridges.as_ref())?),
        );
        self.relays
            .get()
            .ok_or_else(|| io::Error::other("the port relay was not kept"))
    }
}

fn lock_read(target: &RwLock<Target>) -> Target {
    *target
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn bind_all(
    protocol: Protocol,
    port: u16,
    hosts: &[IpAddr],
    listen: bool,
    just_freed: bool,
) -> std::result::Result<Vec<PortSocket>, (IpAddr, io::Error)> {
    hosts
        .iter()
        .map(|host| {
            let address = SocketAddr::new(*host, port);
            PortSocket::bind(protocol, address, listen, false)
                .or_else(|error| {
                    if just_freed && error.kind() == io::ErrorKind::AddrInUse {
                        PortSocket::bind(protocol, address, listen, true)
                    } else {
                        Err(error)
                    }
                })
                .map_err(|error| (*host, error))
        })
        .collect()
}

/// The first port that needs no privilege.
const UNPRIVILEGED: &str = "net.ipv4.ip_unprivileged_port_start";

/// The kernel's reason in the words of Go's `syscall.Errno`, which are libc's in lower case.
fn bind_reason(error: &io::Error, port: u16) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        io::ErrorKind::PermissionDenied => format!(
            "permission denied: port {port} is for root only; to let everybody use it, root runs: sysctl -w {UNPRIVILEGED}={port}"
        ),
        // `Protocol not supported (os error 93)` in the same form.
        _ => {
            let text = error.to_string();
            text.split(" (os error")
                .next()
                .unwrap_or_default()
                .to_lowercase()
        }
    }
}

impl Published {
    /// The firewall elements that lead the ports to the container. Every way of delivery is decided
    /// here and nowhere else: plain translation today; one that passes the host's own input chains
    /// first would give other elements for the same bindings.
    pub(crate) fn elements(&self) -> Vec<Element> {
        let target = lock_read(&self.target);
        let mut elements = Vec::new();
        // Port → itself on every address: neighbours become one range.
        let mut same: BTreeMap<(Protocol, bool), Vec<u16>> = BTreeMap::new();
        for binding in &self.bindings {
            let Some(container) = target.translated(binding.host_ip, binding.container_port) else {
                continue;
            };
            if binding.host_ip.is_unspecified() && binding.host_port == binding.container_port {
                same.entry((binding.protocol, container.is_ipv4()))
                    .or_default()
                    .push(binding.host_port);
            } else {
                elements.push(Element::Port {
                    protocol: binding.protocol,
                    host: SocketAddr::new(binding.host_ip, binding.host_port),
                    container,
                });
            }
        }
        for ((protocol, ipv4), mut ports) in same {
            ports.sort_unstable();
            ports.dedup();
            let host = if ipv4 {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            } else {
                IpAddr::V6(Ipv6Addr::UNSPECIFIED)
            };
            for run in ports.chunk_by(|one, next| one.checked_add(1) == Some(*next)) {
                let (first, last) = (run[0], run[run.len() - 1]);
                let Some(container) = target.translated(host, first) else {
                    continue;
                };
                if run.len() < RANGE_MIN {
                    elements.extend(run.iter().map(|port| Element::Port {
                        protocol,
                        host: SocketAddr::new(host, *port),
                        container: SocketAddr::new(container.ip(), *port),
                    }));
                } else {
                    elements.push(Element::PortRange {
                        protocol,
                        first,
                        last,
                        container: container.ip(),
                    });
                }
            }
        }
        elements
    }

    /// Leads the ports to other addresses of the container. The elements change with it.
    pub(crate) fn retarget(&mut self, target: Target) {
        *self
            .target
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = target;
    }

    /// Where the ports lead now.
    pub(crate) fn target(&self) -> Target {
        lock_read(&self.target)
    }
}

/// Fewer neighbouring ports than this are elements of their own.
const RANGE_MIN: usize = 4;

impl Drop for Published {
    fn drop(&mut self) {
        // The sockets first: whoever finds the port free in the ledger can bind it.
        for relayed in self.relays.drain(..) {
            relayed.let_go();
        }
        self.held.clear();
        let mut ledger = lock(&self.table.ledger);
        for binding in &self.bindings {
            ledger.give_back(binding.protocol, binding.host_port, binding.host_ip);
        }
    }
}
