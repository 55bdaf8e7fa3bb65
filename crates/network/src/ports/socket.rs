//! Sockets that hold host ports: bound, and listening where they are TCP's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::attach::Protocol;

/// Connections that wait while the relay is busy.
const BACKLOG: i32 = 128;

/// Binds `address`; with `listen` a TCP socket takes connections.
pub(super) fn bind(protocol: Protocol, address: SocketAddr, listen: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(rustix::net::ipproto::SCTP)),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, number)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol != Protocol::Udp {
        // Connections of an earlier user of the port that linger do not hold it.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if listen && protocol != Protocol::Udp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

/// The host's range of ephemeral ports.
pub(super) fn ephemeral_range() -> std::ops::RangeInclusive<u16> {
    let parsed = crate::sysctl::read("ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| {
            let mut parts = text.split_ascii_whitespace();
            let (first, last) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            (first > 0 && first <= last).then_some(first..=last)
        });
    parsed.unwrap_or(32768..=60999)
}

/// `0.0.0.0:80`, and IPv6 in brackets.
pub(super) fn display(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}
