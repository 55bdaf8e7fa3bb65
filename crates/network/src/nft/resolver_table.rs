//! The small table inside a container's namespace that leads 127.0.0.11:53 to our sockets.
//!
//! The sockets can not sit on port 53 itself: a DNS server in the container must be able to have
//! `0.0.0.0:53`.

use std::io;
use std::net::Ipv4Addr;

use super::message::{Compare, Hook, IPV4, Meta, Rule, Transaction};
use crate::attach::Protocol;
use crate::netlink::Socket;

/// Where containers expect the embedded DNS server.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Leads DNS queries for [`RESOLVER`] to our ports, in the namespace `socket` belongs to, which has
/// no such table yet.
pub(crate) fn redirect_dns(socket: &mut Socket, udp_port: u16, tcp_port: u16) -> io::Result<()> {
    let mut transaction = Transaction::new(IPV4, "wharf-dns");
    transaction.add_table(&[]);
    transaction.add_chain(
        "output",
        Some(Hook {
            kind: "nat",
            number: 3,
            priority: -100,
        }),
    );
    for (protocol, port) in [(Protocol::Udp, udp_port), (Protocol::Tcp, tcp_port)] {
        let rule = Rule::new()
            .load_packet(1, 16, 4, 0)
            .compare(Compare::Equal, 0, &RESOLVER.octets())
            .load_meta(Meta::Protocol, 0)
            .compare(Compare::Equal, 0, &[protocol.number()])
            .load_packet(2, 2, 2, 0)
            .compare(Compare::Equal, 0, &53_u16.to_be_bytes())
            .load(0, &RESOLVER.octets())
            .load(1, &port.to_be_bytes())
            .dnat(IPV4, Some(1));
        transaction.add_rule("output", &rule);
    }
    socket.execute_transaction(transaction.finish())?;
    Ok(())
}
