//! Namespaces and the veth pairs that lead out of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Weak};

use crate::dns;
use crate::mac::MacAddr;
use crate::netlink::{Requests, Socket, VethPair};
use crate::netns::{self, Pool, Worker};
use crate::networks::{Inner, lock};
use crate::sysctl;

/// The most ready namespaces kept of a kind.
const POOL_MAX: usize = 16;

/// A new namespace: loopback up, nothing else.
#[derive(Debug)]
pub(crate) struct Bare {
    pub(crate) netns: OwnedFd,
    /// rtnetlink inside.
    pub(crate) route: Socket,
    /// The embedded server's sockets, where the namespace was made for a user-defined network.
    pub(crate) dns: Option<dns::Sockets>,
    /// A veth pair that only has to be put on a bridge.
    pub(crate) spare: Option<Spare>,
}

/// A veth pair on no bridge, with its inner end in a namespace.
#[derive(Debug)]
pub(crate) struct Spare {
    host_ifname: String,
    /// The inner end's index.
    index: u32,
}

/// A namespace that is on the default bridge already.
#[derive(Debug)]
pub(crate) struct OnBridge {
    pub(crate) bare: Bare,
    pub(crate) plugged: Plugged,
    /// The bridge's index.
    bridge: u32,
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

/// A veth pair in place.
#[derive(Debug)]
pub(crate) struct Plugged {
    pub(crate) host_ifname: String,
    /// The inner end's index.
    pub(crate) index: u32,
    pub(crate) mac: MacAddr,
}

/// How an endpoint is to be plugged.
#[derive(Debug)]
pub(crate) struct Plug<'a> {
    pub(crate) bridge: u32,
    pub(crate) mtu: u32,
    pub(crate) isolated: bool,
    pub(crate) ifname: &'a str,
    pub(crate) mac: MacAddr,
    /// Addresses with prefix lengths.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// Paths below /proc/sys/net and their values.
    pub(crate) sysctls: Vec<(String, String)>,
}

/// The Ethernet address of an endpoint: made of its IPv4 address, so that whoever knows the one
/// from an earlier container is not misled about the other.
pub(crate) fn mac_for(ipv4: Option<Ipv4Addr>) -> MacAddr {
    ipv4.map_or_else(MacAddr::random, |ip| {
        let [a, b, c, d] = ip.octets();
        MacAddr([0x02, 0x42, a, b, c, d])
    })
}

/// Makes a namespace. Runs inside it: on a thread that has just got a new one.
pub(crate) fn furnish(with_dns: bool) -> io::Result<Bare> {
    let netns = netns::current()?;
    let mut route = Socket::route()?;
    let mut requests = Requests::new();
    requests.up("lo");
    route.execute(requests)?;
    let dns = if with_dns {
        Some(dns::Sockets::open()?)
    } else {
        None
    };
    Ok(Bare {
        netns,
        route,
        dns,
        spare: None,
    })
}

/// Makes a namespace for a container on user-defined networks, as far as that can be done before
/// they are known.
fn make_for_networks(inner: &Inner, worker: &Worker) -> io::Result<Bare> {
    let mut bare = worker.in_new(|| furnish(true))?;
    let host_ifname = veth_name();
    let mut requests = Requests::new();
    requests.add_spare_veth(
        &host_ifname,
        &inner.instance.alias(),
        SPARE_NAME,
        bare.netns.as_fd(),
    );
    // On failure the namespace goes and takes the pair with it.
    lock(&inner.host).execute(requests)?;
    set_interface(worker, &bare.netns, SPARE_NAME, false, Vec::new())?;
    let index = bare.route.index_of(SPARE_NAME)?;
    bare.spare = Some(Spare { host_ifname, index });
    Ok(bare)
}

/// What the inner end of a spare pair is called until its network is known.
const SPARE_NAME: &str = "eth0";

/// Brings an endpoint's veth pair into place, a new one or the spare; on failure it is gone.
pub(crate) fn plug(
    inner: &Inner,
    netns: &OwnedFd,
    route: &mut Socket,
    spare: Option<Spare>,
    plug: &Plug<'_>,
) -> io::Result<Plugged> {
    let alias = inner.instance.alias();
    let mut requests = Requests::new();
    let (host_ifname, spare_index) = match spare {
        Some(Spare { host_ifname, index }) => {
            requests.attach_spare_veth(&host_ifname, &alias, plug.bridge, plug.mtu, plug.isolated);
            (host_ifname, Some(index))
        }
        None => {
            let host_ifname = veth_name();
            requests.add_veth(&VethPair {
                host_name: &host_ifname,
                alias: &alias,
                peer_name: plug.ifname,
                peer_mac: plug.mac,
                mtu: plug.mtu,
                bridge: plug.bridge,
                netns: netns.as_fd(),
                isolated: plug.isolated,
            });
            (host_ifname, None)
        }
    };
    let made = lock(&inner.host).execute(requests);
    let configured = made
        .map_err(io::Error::from)
        .and_then(|()| configure(inner, netns, route, spare_index, plug));
    match configured {
        Ok(index) => Ok(Plugged {
            host_ifname,
            index,
            mac: plug.mac,
        }),
        Err(error) => {
            unplug(inner, &host_ifname);
            Err(error)
        }
    }
}

fn configure(
    inner: &Inner,
    netns: &OwnedFd,
    route: &mut Socket,
    spare_index: Option<u32>,
    plug: &Plug<'_>,
) -> io::Result<u32> {
    let mut requests = Requests::new();
    if let Some(index) = spare_index {
        requests.dress(index, plug.ifname, plug.mac, plug.mtu);
    }
    let ipv6 = plug.addresses.iter().any(|(address, _)| address.is_ipv6());
    // A spare one has been set for IPv4 alone.
    if spare_index.is_none() || ipv6 || !plug.sysctls.is_empty() {
        route.execute(std::mem::take(&mut requests))?;
        set_interface(
            &inner.worker,
            netns,
            plug.ifname,
            ipv6,
            plug.sysctls.clone(),
        )?;
    }
    let index = match spare_index {
        Some(index) => index,
        None => route.index_of(plug.ifname)?,
    };
    for (address, prefix) in &plug.addresses {
        requests.add_address(index, *address, *prefix);
    }
    requests.up(plug.ifname);
    route.execute(requests)?;
    Ok(index)
}

/// Settings an interface must have before it goes up: without an IPv6 address of ours it gets no
/// link-local one either.
fn set_interface(
    worker: &Worker,
    netns: &OwnedFd,
    ifname: &str,
    ipv6: bool,
    sysctls: Vec<(String, String)>,
) -> io::Result<()> {
    let disable_ipv6 = format!("ipv6/conf/{ifname}/disable_ipv6");
    worker.inside(netns.as_fd(), move || {
        let settings = sysctl::Settings::open();
        match settings.set(&disable_ipv6, if ipv6 { "0" } else { "1" }) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !ipv6 => {}
            other => other?,
        }
        sysctls
            .iter()
            .try_for_each(|(path, value)| settings.set(path, value))
    })
}

/// Removes a veth pair by its host end; one that is gone does not matter.
pub(crate) fn unplug(inner: &Inner, host_ifname: &str) {
    if host_ifname.is_empty() || inner.lookup.index_of(host_ifname).is_err() {
        return;
    }
    let mut requests = Requests::new();
    requests.delete_link_named(host_ifname);
    // Between the two the kernel may have removed it itself.
    drop(lock(&inner.host).execute(requests));
}

/// `veth` and seven hex digits.
fn veth_name() -> String {
    let random = u32::from_ne_bytes(wharf_ids::random_bytes::<4>());
    format!("veth{:07x}", random & 0x0fff_ffff)
}

/// Makes a namespace on the default bridge. Must run on a thread that may change namespaces.
fn make_on_bridge(inner: &Inner, worker: &Worker) -> io::Result<OnBridge> {
    let (ipv4, ipv6, bridge, options, prefixes, gateways) = {
        let mut state = inner.state();
        let live = state
            .networks
            .values_mut()
            .find(|live| live.record.is_default_bridge())
            .ok_or_else(|| io::Error::other("there is no default bridge"))?;
        let exhausted = |_| io::Error::other("the default bridge's addresses are all in use");
        let Some(IpAddr::V4(ipv4)) = live
            .addresses4
            .as_mut()
            .map(crate::ipam::Addresses::allocate)
            .transpose()
            .map_err(exhausted)?
        else {
            return Err(io::Error::other("the default bridge has no IPv4 subnet"));
        };
        let ipv6 = match live
            .addresses6
            .as_mut()
            .map(crate::ipam::Addresses::allocate)
            .transpose()
        {
            Ok(Some(IpAddr::V6(v6))) => Some(v6),
            Ok(_) => None,
            Err(refusal) => {
                if let Some(addresses) = &mut live.addresses4 {
                    addresses.release(IpAddr::V4(ipv4));
                }
                return Err(exhausted(refusal));
            }
        };
        let prefix = |ipv4| {
            live.record
                .subnet(ipv4)
                .map_or(0, |config| config.subnet.prefix())
        };
        let gateways: Vec<IpAddr> = live
            .record
            .subnets
            .iter()
            .map(|config| config.gateway)
            .collect();
        (
            ipv4,
            ipv6,
            live.bridge,
            Arc::clone(&live.options),
            [prefix(true), prefix(false)],
            gateways,
        )
    };
    let gateways = with_default_gateway(inner, gateways);
    let made = (|| {
        let mut bare = worker.in_new(|| furnish(false))?;
        let mut addresses = vec![(IpAddr::V4(ipv4), prefixes[0])];
        addresses.extend(ipv6.map(|v6| (IpAddr::V6(v6), prefixes[1])));
        let ifname = format!("{}0", options.iface_prefix);
        let plugged = plug(
            inner,
            &bare.netns,
            &mut bare.route,
            None,
            &Plug {
                bridge,
                mtu: options.mtu,
                isolated: !options.icc,
                ifname: &ifname,
                mac: mac_for(Some(ipv4)),
                addresses,
                sysctls: Vec::new(),
            },
        )?;
        let mut requests = Requests::new();
        for gateway in gateways {
            requests.add_default_route(plugged.index, gateway);
        }
        if let Err(refused) = bare.route.execute(requests) {
            unplug(inner, &plugged.host_ifname);
            return Err(refused.into());
        }
        Ok(OnBridge {
            bare,
            plugged,
            bridge,
            ipv4,
            ipv6,
        })
    })();
    if made.is_err() {
        give_back_on_bridge(inner, ipv4, ipv6);
    }
    made
}

/// The gateways with `--default-gateway` in place of the bridge's own.
fn with_default_gateway(inner: &Inner, mut gateways: Vec<IpAddr>) -> Vec<IpAddr> {
    if let Some(configured) = inner.config.default_gateway {
        for gateway in gateways.iter_mut().filter(|gateway| gateway.is_ipv4()) {
            *gateway = IpAddr::V4(configured);
        }
    }
    gateways
}

/// Frees addresses of the default bridge.
pub(crate) fn give_back_on_bridge(inner: &Inner, ipv4: Ipv4Addr, ipv6: Option<Ipv6Addr>) {
    let mut state = inner.state();
    if let Some(live) = state
        .networks
        .values_mut()
        .find(|live| live.record.is_default_bridge())
    {
        if let Some(addresses) = &mut live.addresses4 {
            addresses.release(IpAddr::V4(ipv4));
        }
        if let (Some(addresses), Some(ipv6)) = (&mut live.addresses6, ipv6) {
            addresses.release(IpAddr::V6(ipv6));
        }
    }
}

/// Ends a namespace on the default bridge that nobody took.
pub(crate) fn discard_on_bridge(inner: &Inner, surplus: OnBridge) {
    let OnBridge {
        bare, ipv4, ipv6, ..
    } = surplus;
    // The kernel takes the veth pair away with the namespace.
    drop(bare);
    give_back_on_bridge(inner, ipv4, ipv6);
}

/// A namespace on the default bridge, which has the index `bridge`, ready or made now.
pub(crate) fn take_on_bridge(inner: &Arc<Inner>, bridge: u32) -> io::Result<OnBridge> {
    while let Some(ready) = inner.on_bridge.get().and_then(Pool::take) {
        if ready.bridge == bridge {
            return Ok(ready);
        }
        // It was being made when somebody removed the bridge.
        discard_on_bridge(inner, ready);
    }
    make_on_bridge(inner, &inner.worker)
}

/// An empty namespace, ready or made now.
pub(crate) fn take_bare(inner: &Arc<Inner>, with_dns: bool) -> io::Result<Bare> {
    if inner.config.pool_size > 0 {
        let pool = &inner.bare[usize::from(with_dns)];
        if pool.get().is_none() {
            let make: fn(&Inner, &Worker) -> io::Result<Bare> = if with_dns {
                make_for_networks
            } else {
                |_, worker| worker.in_new(|| furnish(false))
            };
            // Of two that start one at the same time, the loser's ends at once.
            drop(
                pool.set(start_pool(inner, "netns-bare", 0, make, |_, surplus| {
                    drop(surplus)
                })?),
            );
        }
        if let Some(ready) = pool.get().and_then(Pool::take) {
            return Ok(ready);
        }
    }
    inner.worker.in_new(move || furnish(with_dns))
}

/// A namespace that somebody else made.
pub(crate) fn furnish_given(inner: &Inner, netns: &OwnedFd, with_dns: bool) -> io::Result<Bare> {
    inner
        .worker
        .inside(netns.as_fd(), move || furnish(with_dns))
}

/// Starts the default bridge's pool; it ends with `inner`.
pub(crate) fn fill_pool(inner: &Arc<Inner>) {
    let size = inner.config.pool_size;
    if size == 0 {
        return;
    }
    match start_pool(
        inner,
        "netns-bridge",
        size,
        make_on_bridge,
        discard_on_bridge,
    ) {
        Ok(pool) => drop(inner.on_bridge.set(pool)),
        Err(error) => {
            tracing::warn!(error = %error, "network namespaces are not prepared ahead");
        }
    }
}

/// A pool with a namespace thread of its own, so that it never stands in the way of a start.
fn start_pool<T: Send + 'static>(
    inner: &Arc<Inner>,
    name: &str,
    size: usize,
    make: fn(&Inner, &Worker) -> io::Result<T>,
    discard: fn(&Inner, T),
) -> io::Result<Pool<T>> {
    let worker = inner.worker.another()?;
    let inner = Arc::downgrade(inner);
    let again = Weak::clone(&inner);
    Pool::start(
        name,
        size,
        POOL_MAX.max(size),
        move || {
            let inner = inner
                .upgrade()
                .ok_or_else(|| io::Error::other("the networks are closed"))?;
            make(&inner, &worker)
        },
        move |surplus| {
            if let Some(inner) = again.upgrade() {
                discard(&inner, surplus);
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_have_dockers_form() {
        let name = veth_name();
        assert_eq!(name.len(), 11);
        assert!(name.starts_with("veth"));
        assert_eq!(
            mac_for(Some([172, 17, 0, 2].into())).to_string(),
            "02:42:ac:11:00:02"
        );
    }
}
