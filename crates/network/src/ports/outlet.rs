//! The container's side of a relayed port: sockets that lead from here to a container.
//!
//! They are opened by the relay's own thread, whose network namespace is that of the bridges. Where
//! it is not the host's (rootless), the container shall still see who its client is: the socket
//! takes the client's address, and a mark by which the answers find back to it (see
//! [`crate::nft`]'s rules and [`crate::answers`]).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// How sockets towards containers are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlet {
    /// With an address of ours.
    Own,
    /// With the client's address, where it is one that leads back here.
    Client,
}

/// A TCP socket on its way to the container: writable, or in error, when it has arrived or failed.
pub(super) fn tcp(
    outlet: Outlet,
    client: SocketAddr,
    container: SocketAddr,
) -> io::Result<TcpStream> {
    open(outlet, SocketType::STREAM, client, container).map(TcpStream::from)
}

/// A UDP socket connected to the container.
pub(super) fn udp(
    outlet: Outlet,
    client: SocketAddr,
    container: SocketAddr,
) -> io::Result<UdpSocket> {
    open(outlet, SocketType::DGRAM, client, container).map(UdpSocket::from)
}

fn open(
    outlet: Outlet,
    kind: SocketType,
    client: SocketAddr,
    container: SocketAddr,
) -> io::Result<OwnedFd> {
    if outlet == Outlet::Client
        && may_be_borrowed(client.ip(), container.ip())
        && !is_neighbour(client, container)
    {
        match connect(kind, Some(client), container) {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                tracing::debug!(%client, %error, "a container sees the relay's address, not its client's");
            }
        }
    }
    connect(kind, None, container)
}

/// Whether a container can be shown this address: it is of the container's family and means the
/// same there as here.
fn may_be_borrowed(client: IpAddr, container: IpAddr) -> bool {
    client.is_ipv4() == container.is_ipv4()
        && client != container
        && !client.is_loopback()
        && !client.is_multicast()
        && !client.is_unspecified()
        && !matches!(client, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Whether the container would look for this address on its own bridge: there may be a network with
/// the same addresses out there.
fn is_neighbour(client: SocketAddr, container: SocketAddr) -> bool {
    let way_to = |target: SocketAddr| -> io::Result<IpAddr> {
        let any: IpAddr = if target.is_ipv4() {
            [0, 0, 0, 0].into()
        } else {
            [0_u16; 8].into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(target)?;
        Ok(socket.local_addr()?.ip())
    };
    match (way_to(client), way_to(container)) {
        (Ok(to_client), Ok(to_container)) => to_client == to_container,
        // No way to the client at all: nobody answers for it on the bridge either.
        _ => false,
    }
}

fn connect(
    kind: SocketType,
    client: Option<SocketAddr>,
    container: SocketAddr,
) -> io::Result<OwnedFd> {
    let family = if container.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if let Some(client) = client {
        wharf_sys::socket::set_transparent(&socket, client.is_ipv6())?;
        wharf_sys::socket::set_mark(&socket, crate::answers::MARK)?;
        // The client's port too, unless another of its connections (to another host port that
        // leads to the same place) has it.
        rustix::net::bind(&socket, &client)
            .or_else(|_| rustix::net::bind(&socket, &SocketAddr::new(client.ip(), 0)))?;
    }
    match rustix::net::connect(&socket, &container) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_mean_the_same_there_are_borrowed() {
        let container = "172.17.0.2".parse().unwrap();
        let borrowed = |client: &str| may_be_borrowed(client.parse().unwrap(), container);
        assert!(borrowed("192.0.2.7"));
        for own in ["127.0.0.1", "172.17.0.2", "::1", "2001:db8::1", "0.0.0.0"] {
            assert!(!borrowed(own), "{own}");
        }
    }
}
