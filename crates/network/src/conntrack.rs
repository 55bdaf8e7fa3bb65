//! Connections the kernel remembers: forgotten where they would mislead.
//!
//! A UDP client that keeps sending from one port is one connection for the kernel, translated as
//! it was at its first packet. When the published port changes hands, that memory has to go.

use std::collections::HashSet;
use std::io;

use crate::netlink::attribute::{find, put};
use crate::netlink::socket::DUMP;
use crate::netlink::{Requests, Socket};

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// `struct nfgenmsg`.
const GENERIC_HEADER: usize = 4;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_DESTINATION_PORT: u16 = 3;
const NESTED: u16 = 0x8000;
const UDP: u8 = 17;
/// Deletions in one send.
const BATCH: usize = 256;

/// Forgets the UDP connections to these ports, in the calling thread's network namespace.
pub(crate) fn forget_udp(ports: &HashSet<u16>) -> io::Result<()> {
    let mut socket = Socket::netfilter()?;
    for family in [crate::nft::IPV4, crate::nft::IPV6] {
        let mut tuples: Vec<Vec<u8>> = Vec::new();
        socket.query(
            GET,
            DUMP,
            |buffer| buffer.extend_from_slice(&[family, 0, 0, 0]),
            |_, body| tuples.extend(original_tuple(body, ports).map(<[u8]>::to_vec)),
        )?;
        for part in tuples.chunks(BATCH) {
            let mut requests = Requests::new();
            for tuple in part {
                requests.push(DELETE, 0, |buffer| {
                    buffer.extend_from_slice(&[family, 0, 0, 0]);
                    put(buffer, TUPLE_ORIGINAL | NESTED, tuple);
                });
            }
            // Some may have expired meanwhile; the others are gone nevertheless.
            drop(socket.execute(requests));
        }
    }
    Ok(())
}

/// The original tuple of an entry that is UDP to one of the ports.
fn original_tuple<'a>(body: &'a [u8], ports: &HashSet<u16>) -> Option<&'a [u8]> {
    let tuple = find(body.get(GENERIC_HEADER..)?, TUPLE_ORIGINAL)?;
    let protocol = find(tuple, TUPLE_PROTOCOL)?;
    let port = find(protocol, PROTOCOL_DESTINATION_PORT)?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    (find(protocol, PROTOCOL_NUMBER)? == [UDP] && ports.contains(&port)).then_some(tuple)
}
