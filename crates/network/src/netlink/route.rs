//! rtnetlink messages: bridges, veth pairs, addresses, routes, and what the kernel has of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::attribute::{attributes, find, text};
use super::socket::{CREATE, DUMP, EXCLUSIVE, REPLACE, Requests, Socket};
use crate::mac::MacAddr;
use crate::subnet::Subnet;

pub(crate) const NEW_LINK: u16 = 16;
pub(crate) const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;
/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
/// `struct rtmsg`.
const ROUTE_HEADER: usize = 12;

/// A network interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) kind: String,
    /// The bridge it is a port of; 0 for none.
    pub(crate) master: u32,
    pub(crate) mac: Option<MacAddr>,
}

/// A veth pair to be made: one end here on a bridge, the other inside a namespace.
#[derive(Debug, Clone)]
pub(crate) struct VethPair<'a> {
    /// The host's end.
    pub(crate) host_name: &'a str,
    /// Who made it, on the host's end.
    pub(crate) alias: &'a str,
    /// The other end's name.
    pub(crate) peer_name: &'a str,
    /// The other end's Ethernet address.
    pub(crate) peer_mac: MacAddr,
    /// Both ends'.
    pub(crate) mtu: u32,
    /// The bridge's index.
    pub(crate) bridge: u32,
    /// Where the other end goes.
    pub(crate) netns: BorrowedFd<'a>,
    /// Ports of the bridge do not reach each other (icc=false).
    pub(crate) isolated: bool,
}

/// A route of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: Subnet,
    /// The interface's index.
    pub(crate) output: u32,
}

fn push(requests: &mut Requests, kind: u16, flags: u16, message: &impl Emitable) {
    requests.push(kind, flags, |buffer| {
        let start = buffer.len();
        buffer.resize(start + message.buffer_len(), 0);
        message.emit(&mut buffer[start..]);
    });
}

fn link(attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    message
}

fn set_up(message: &mut LinkMessage) {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
}

/// A bridge's port needs no IPv6 address of its own; without one it sends nothing by itself.
fn no_link_local() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])])
}

impl Requests {
    /// Makes a bridge, down. Its alias, which says whose it is, goes out in the same send: the kernel
    /// handles both before anything can end this process, so no bridge is ever nobody's.
    pub(crate) fn add_bridge(&mut self, name: &str, alias: &str, mac: MacAddr, mtu: u32) {
        let message = link(vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ]);
        push(self, NEW_LINK, CREATE | EXCLUSIVE, &message);
        let message = link(vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::IfAlias(alias.to_owned()),
        ]);
        push(self, NEW_LINK, 0, &message);
    }

    /// Sets an interface's alias (and MTU where given) and takes it up.
    pub(crate) fn alias_and_up(&mut self, name: &str, alias: &str, mtu: Option<u32>) {
        let mut attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::IfAlias(alias.to_owned()),
        ];
        attributes.extend(mtu.map(LinkAttribute::Mtu));
        let mut message = link(attributes);
        set_up(&mut message);
        push(self, NEW_LINK, 0, &message);
    }

    /// Makes a veth pair with the host's end on its bridge; then lets the bridge send frames back
    /// through that port (a container reaching its own published port) and takes it up.
    pub(crate) fn add_veth(&mut self, pair: &VethPair<'_>) {
        let peer = link(vec![
            LinkAttribute::IfName(pair.peer_name.to_owned()),
            LinkAttribute::Address(pair.peer_mac.0.to_vec()),
            LinkAttribute::Mtu(pair.mtu),
            LinkAttribute::NetNsFd(pair.netns.as_raw_fd()),
        ]);
        let message = link(vec![
            LinkAttribute::IfName(pair.host_name.to_owned()),
            LinkAttribute::Mtu(pair.mtu),
            LinkAttribute::Controller(pair.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ]);
        push(self, NEW_LINK, CREATE | EXCLUSIVE, &message);
        self.open_port(pair.host_name, pair.alias, pair.isolated);
    }

    /// Makes a veth pair that is on no bridge yet, both ends down.
    pub(crate) fn add_spare_veth(
        &mut self,
        host_name: &str,
        alias: &str,
        peer_name: &str,
        netns: BorrowedFd<'_>,
    ) {
        let peer = link(vec![
            LinkAttribute::IfName(peer_name.to_owned()),
            LinkAttribute::NetNsFd(netns.as_raw_fd()),
        ]);
        let message = link(vec![
            LinkAttribute::IfName(host_name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ]);
        push(self, NEW_LINK, CREATE | EXCLUSIVE, &message);
        let named = link(vec![
            LinkAttribute::IfName(host_name.to_owned()),
            LinkAttribute::IfAlias(alias.to_owned()),
        ]);
        push(self, NEW_LINK, 0, &named);
    }

    /// Puts the host's end of a spare pair on a bridge and takes it up.
    pub(crate) fn attach_spare_veth(
        &mut self,
        host_name: &str,
        alias: &str,
        bridge: u32,
        mtu: u32,
        isolated: bool,
    ) {
        let message = link(vec![
            LinkAttribute::IfName(host_name.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Controller(bridge),
        ]);
        push(self, NEW_LINK, 0, &message);
        self.open_port(host_name, alias, isolated);
    }

    /// Gives the inner end of a spare pair its name, Ethernet address and MTU; it must be down.
    pub(crate) fn dress(&mut self, index: u32, name: &str, mac: MacAddr, mtu: u32) {
        let mut message = link(vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::Mtu(mtu),
        ]);
        message.header.index = index;
        push(self, NEW_LINK, 0, &message);
    }

    /// Sets a bridge's new port up. The kernel takes this for an existing port only.
    fn open_port(&mut self, name: &str, alias: &str, isolated: bool) {
        let mut port = link(vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::IfAlias(alias.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![
                    InfoBridgePort::HairpinMode(true),
                    InfoBridgePort::Isolated(isolated),
                ])),
            ]),
            no_link_local(),
        ]);
        set_up(&mut port);
        push(self, NEW_LINK, 0, &port);
    }

    /// Takes an interface up, by name.
    pub(crate) fn up(&mut self, name: &str) {
        let mut message = link(vec![LinkAttribute::IfName(name.to_owned())]);
        set_up(&mut message);
        push(self, NEW_LINK, 0, &message);
    }

    /// Gives an interface another Ethernet address.
    pub(crate) fn set_mac(&mut self, index: u32, mac: MacAddr) {
        let mut message = link(vec![LinkAttribute::Address(mac.0.to_vec())]);
        message.header.index = index;
        push(self, NEW_LINK, 0, &message);
    }

    /// Removes an interface.
    pub(crate) fn delete_link(&mut self, index: u32) {
        let mut message = LinkMessage::default();
        message.header.index = index;
        push(self, DEL_LINK, 0, &message);
    }

    /// Removes an interface by name.
    pub(crate) fn delete_link_named(&mut self, name: &str) {
        push(
            self,
            DEL_LINK,
            0,
            &link(vec![LinkAttribute::IfName(name.to_owned())]),
        );
    }

    /// Gives an interface an address; nothing happens where it has it.
    pub(crate) fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) {
        push(
            self,
            NEW_ADDRESS,
            CREATE | REPLACE,
            &address_message(index, address, prefix),
        );
    }

    /// Takes an address away.
    pub(crate) fn delete_address(&mut self, index: u32, address: IpAddr, prefix: u8) {
        push(
            self,
            DEL_ADDRESS,
            0,
            &address_message(index, address, prefix),
        );
    }

    /// Makes `gateway` the default route.
    pub(crate) fn add_default_route(&mut self, index: u32, gateway: IpAddr) {
        push(
            self,
            NEW_ROUTE,
            CREATE | REPLACE,
            &default_route(index, gateway),
        );
    }

    /// Removes the default route through `gateway`.
    pub(crate) fn delete_default_route(&mut self, index: u32, gateway: IpAddr) {
        push(self, DEL_ROUTE, 0, &default_route(index, gateway));
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn address_message(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Address(address),
        AddressAttribute::Local(address),
    ];
    match address {
        IpAddr::V4(v4) => {
            if let Some(Subnet::V4(net)) = Subnet::containing(IpAddr::V4(v4), prefix)
                && prefix < 31
            {
                message
                    .attributes
                    .push(AddressAttribute::Broadcast(net.last()));
            }
        }
        // We gave the address out: nobody else can have it, and waiting for the kernel to find
        // that out would keep it unusable for a second.
        IpAddr::V6(_) => message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad)),
    }
    message
}

fn default_route(index: u32, gateway: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::from(gateway)),
        RouteAttribute::Oif(index),
    ];
    message
}

impl Socket {
    /// One interface by name.
    pub(crate) fn link_named(&mut self, name: &str) -> io::Result<Option<Link>> {
        let message = link(vec![LinkAttribute::IfName(name.to_owned())]);
        let mut found = None;
        let result = self.query(
            GET_LINK,
            0,
            |buffer| emit_into(buffer, &message),
            |kind, body| {
                if kind == NEW_LINK {
                    found = parse_link(body);
                }
            },
        );
        match result {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }

    /// All interfaces.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut found = Vec::new();
        let message = LinkMessage::default();
        self.query(
            GET_LINK,
            DUMP,
            |buffer| emit_into(buffer, &message),
            |kind, body| {
                if kind == NEW_LINK {
                    found.extend(parse_link(body));
                }
            },
        )?;
        Ok(found)
    }

    /// All addresses: interface, address, prefix length.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<(u32, IpAddr, u8)>> {
        let mut found = Vec::new();
        let message = AddressMessage::default();
        self.query(
            GET_ADDRESS,
            DUMP,
            |buffer| emit_into(buffer, &message),
            |kind, body| {
                if kind == NEW_ADDRESS {
                    found.extend(parse_address(body));
                }
            },
        )?;
        Ok(found)
    }

    /// All routes of the main table apart from default routes.
    pub(crate) fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut found = Vec::new();
        let message = RouteMessage::default();
        self.query(
            GET_ROUTE,
            DUMP,
            |buffer| emit_into(buffer, &message),
            |kind, body| {
                if kind == NEW_ROUTE {
                    found.extend(parse_route(body));
                }
            },
        )?;
        Ok(found)
    }
}

fn emit_into(buffer: &mut Vec<u8>, message: &impl Emitable) {
    let start = buffer.len();
    buffer.resize(start + message.buffer_len(), 0);
    message.emit(&mut buffer[start..]);
}

fn word(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

pub(crate) fn parse_link(body: &[u8]) -> Option<Link> {
    let index = word(body.get(4..8)?)?;
    let mut link = Link {
        index,
        name: String::new(),
        alias: String::new(),
        kind: String::new(),
        master: 0,
        mac: None,
    };
    for (kind, value) in attributes(body.get(LINK_HEADER..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_IFALIAS => link.alias = text(value),
            IFLA_MASTER => link.master = word(value).unwrap_or(0),
            IFLA_ADDRESS => link.mac = value.try_into().ok().map(MacAddr),
            IFLA_LINKINFO => link.kind = find(value, IFLA_INFO_KIND).map(text).unwrap_or_default(),
            _ => {}
        }
    }
    Some(link)
}

fn parse_ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(
            <[u8; 16]>::try_from(value).ok()?,
        ))),
        _ => None,
    }
}

fn parse_address(body: &[u8]) -> Option<(u32, IpAddr, u8)> {
    let prefix = *body.get(1)?;
    let index = word(body.get(4..8)?)?;
    let rest = body.get(ADDRESS_HEADER..)?;
    let address = find(rest, IFA_LOCAL)
        .or_else(|| find(rest, IFA_ADDRESS))
        .and_then(parse_ip)?;
    Some((index, address, prefix))
}

fn parse_route(body: &[u8]) -> Option<Route> {
    const MAIN: u32 = 254;
    const UNICAST: u8 = 1;
    let prefix = *body.get(1)?;
    let rest = body.get(ROUTE_HEADER..)?;
    let table = find(rest, RTA_TABLE)
        .and_then(word)
        .unwrap_or(u32::from(*body.get(4)?));
    if table != MAIN || *body.get(7)? != UNICAST || prefix == 0 {
        return None;
    }
    let destination = find(rest, RTA_DST).and_then(parse_ip)?;
    let output = find(rest, RTA_OIF).and_then(word).unwrap_or(0);
    Some(Route {
        destination: Subnet::containing(destination, prefix)?,
        output,
    })
}
