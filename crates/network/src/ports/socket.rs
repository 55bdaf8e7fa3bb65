//! Sockets that hold host ports: bound, and listening where they are TCP's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};

use crate::attach::Protocol;

/// Connections that wait while the relay is busy.
const BACKLOG: i32 = 128;

/// A socket that holds a port until it is dropped.
///
/// Closing is not enough for that: a process that is being spawned at this moment has a copy of
/// every descriptor until it executes its program. What is done to the socket itself holds for
/// the copy too.
#[derive(Debug)]
pub(super) struct PortSocket {
    fd: OwnedFd,
    protocol: Protocol,
}

impl PortSocket {
    /// Binds `address`; with `listen` a TCP socket takes connections. `just_freed` says that it
    /// was one of ours that had the port a moment ago.
    pub(super) fn bind(
        protocol: Protocol,
        address: SocketAddr,
        listen: bool,
        just_freed: bool,
    ) -> io::Result<Self> {
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
        let fd = rustix::net::socket_with(family, kind, flags, number)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        // Connections of an earlier user of a TCP port that linger do not hold it. For UDP the
        // option would let us share a port with a program of the host.
        let reuse = protocol != Protocol::Udp || just_freed;
        sockopt::set_socket_reuseaddr(&fd, reuse)?;
        rustix::net::bind(&fd, &address)?;
        if protocol == Protocol::Udp {
            sockopt::set_socket_reuseaddr(&fd, false)?;
        } else if listen {
            rustix::net::listen(&fd, BACKLOG)?;
        }
        Ok(Self { fd, protocol })
    }

    /// Lets others bind the port from here on.
    pub(super) fn let_go(&self) {
        // A TCP socket that does not listen any more lets others bind the port, as does a UDP one
        // that is willing to share. A socket that was never listening has nothing to shut down.
        let let_go = if self.protocol == Protocol::Udp {
            sockopt::set_socket_reuseaddr(&self.fd, true)
        } else {
            rustix::net::shutdown(&self.fd, Shutdown::Both)
        };
        if let Err(error) = let_go {
            tracing::trace!(error = %error, "a host port is let go by closing only");
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }
}

impl AsFd for PortSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for PortSocket {
    fn drop(&mut self) {
        self.let_go();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_socket_frees_its_port_though_a_copy_is_open() {
        let any = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let first = PortSocket::bind(protocol, any(0), true, false).unwrap();
            let address = SocketAddr::try_from(rustix::net::getsockname(&first).unwrap()).unwrap();
            let copy = first.as_fd().try_clone_to_owned().unwrap();
            assert!(PortSocket::bind(protocol, address, true, protocol == Protocol::Udp).is_err());
            drop(first);
            PortSocket::bind(protocol, address, true, true).unwrap();
            drop(copy);
        }
    }
}
