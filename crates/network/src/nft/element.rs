//! What is put into the table's sets and maps.

use std::net::{IpAddr, SocketAddr};

use super::message::RawElement;
use super::ruleset::{
    ADDR4, ADDR6, ANY4, ANY6, BRIDGES, INTERNAL, MASQUERADE4, MASQUERADE6, NETS4, NETS6, RANGE4,
    RANGE6, WITHIN,
};
use crate::attach::Protocol;
use crate::subnet::Subnet;

/// One entry; equal entries are one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Element {
    /// A bridge of ours.
    Bridge(String),
    /// A bridge nothing leaves or enters.
    Internal(String),
    /// A bridge whose containers reach each other.
    Within(String),
    /// A subnet of ours.
    Subnet(Subnet),
    /// A subnet whose traffic leaves with the host's address.
    Masquerade(Subnet),
    /// A published port; an unspecified address stands for every address of the host.
    Port {
        protocol: Protocol,
        host: SocketAddr,
        container: SocketAddr,
    },
    /// Ports published under their own numbers on every address of the host.
    PortRange {
        protocol: Protocol,
        first: u16,
        last: u16,
        container: IpAddr,
    },
}

fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = vec![0_u8; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn port_bytes(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn protocol_and_port(protocol: Protocol, port: u16) -> Vec<u8> {
    let mut bytes = vec![protocol.number(), 0, 0, 0];
    bytes.extend_from_slice(&port_bytes(port));
    bytes
}

fn plain(key: Vec<u8>) -> RawElement {
    RawElement {
        key,
        key_end: None,
        data: None,
        interval_end: false,
    }
}

/// The address after `address`; `None` after the last one.
fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4)
            .checked_add(1)
            .map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(v6) => u128::from(v6)
            .checked_add(1)
            .map(|next| IpAddr::V6(next.into())),
    }
}

fn interval(subnet: &Subnet) -> Vec<RawElement> {
    let mut raw = vec![plain(address_bytes(subnet.base()))];
    if let Some(after) = next(subnet.last()) {
        raw.push(RawElement {
            interval_end: true,
            ..plain(address_bytes(after))
        });
    }
    raw
}

impl Element {
    /// The set it belongs in and its form there.
    pub(super) fn raw(&self) -> (&'static str, Vec<RawElement>) {
        match self {
            Self::Bridge(name) => (BRIDGES, vec![plain(name_bytes(name))]),
            Self::Internal(name) => (INTERNAL, vec![plain(name_bytes(name))]),
            Self::Within(name) => (
                WITHIN,
                vec![plain([name_bytes(name), name_bytes(name)].concat())],
            ),
            Self::Subnet(subnet) => (
                if subnet.is_ipv4() { NETS4 } else { NETS6 },
                interval(subnet),
            ),
            Self::Masquerade(subnet) => (
                if subnet.is_ipv4() {
                    MASQUERADE4
                } else {
                    MASQUERADE6
                },
                interval(subnet),
            ),
            Self::Port {
                protocol,
                host,
                container,
            } => {
                let mut key = protocol_and_port(*protocol, host.port());
                let any = host.ip().is_unspecified();
                if !any {
                    key = [address_bytes(host.ip()), key].concat();
                }
                let mut data = address_bytes(container.ip());
                data.extend_from_slice(&port_bytes(container.port()));
                let set = match (any, container.is_ipv4()) {
                    (true, true) => ANY4,
                    (true, false) => ANY6,
                    (false, true) => ADDR4,
                    (false, false) => ADDR6,
                };
                (
                    set,
                    vec![RawElement {
                        data: Some(data),
                        ..plain(key)
                    }],
                )
            }
            Self::PortRange {
                protocol,
                first,
                last,
                container,
            } => {
                let raw = RawElement {
                    key_end: Some(protocol_and_port(*protocol, *last)),
                    data: Some(address_bytes(*container)),
                    ..plain(protocol_and_port(*protocol, *first))
                };
                (if container.is_ipv4() { RANGE4 } else { RANGE6 }, vec![raw])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_subnet_has_no_end() {
        let (set, raw) = Element::Subnet("255.0.0.0/8".parse().unwrap()).raw();
        assert_eq!((set, raw.len()), (NETS4, 1));
        let (_, raw) = Element::Subnet("172.17.0.0/16".parse().unwrap()).raw();
        assert_eq!(raw[1].key, [172, 18, 0, 0]);
        assert!(raw[1].interval_end);
    }

    #[test]
    fn a_port_is_keyed_by_what_the_user_named() {
        let port = |host: &str| {
            Element::Port {
                protocol: Protocol::Tcp,
                host: host.parse().unwrap(),
                container: "172.17.0.2:80".parse().unwrap(),
            }
            .raw()
        };
        assert_eq!(port("0.0.0.0:8080").0, ANY4);
        let (set, raw) = port("127.0.0.1:8080");
        assert_eq!(set, ADDR4);
        assert_eq!(raw[0].key, [127, 0, 0, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(
            raw[0].data.as_deref(),
            Some(&[172, 17, 0, 2, 0, 80, 0, 0][..])
        );
    }
}
