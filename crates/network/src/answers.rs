//! The way back of relayed connections that carry their client's address (rootless).
//!
//! A container answers to an address of the outside world; without more, the answer would leave for
//! it instead of coming to the relay's socket. The socket's mark is remembered with the connection
//! (by the firewall's `relayed` chain), returns with every answer (`answers`), and leads it, by the
//! routing rule made here, to this namespace itself.

use std::io;

use crate::netlink::attribute::put;
use crate::netlink::socket::{CREATE, EXCLUSIVE};
use crate::netlink::{Requests, Socket};

/// The mark of relayed connections; any number that nobody else has.
pub(crate) const MARK: u32 = 0x7761_7266;

/// The mark of their answers. Another one: what leaves for the container must not come back here.
pub(crate) const ANSWER: u32 = MARK + 1;

/// The routing table that leads everything here.
const TABLE: u8 = 119;
/// Before the tables everybody has.
const PRIORITY: u32 = 119;

const NEW_ROUTE: u16 = 24;
const NEW_RULE: u16 = 32;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The loopback interface is the first of every namespace.
const LOOPBACK: u32 = 1;

/// Makes rule and route in `socket`'s namespace, for IPv4 and, where there is one, IPv6.
pub(crate) fn lead_back(socket: &mut Socket) -> io::Result<()> {
    family(socket, AF_INET)?;
    match family(socket, AF_INET6) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        other => other,
    }
}

fn family(socket: &mut Socket, family: u8) -> io::Result<()> {
    let mut route = Requests::new();
    route.push(NEW_ROUTE, CREATE | EXCLUSIVE, |body| {
        const BOOT: u8 = 3;
        const SCOPE_HOST: u8 = 254;
        const LOCAL: u8 = 2;
        const OUTPUT: u16 = 4;
        // `struct rtmsg`: a route to everywhere.
        body.extend_from_slice(&[family, 0, 0, 0, TABLE, BOOT, SCOPE_HOST, LOCAL, 0, 0, 0, 0]);
        put(body, OUTPUT, &LOOPBACK.to_ne_bytes());
    });
    let mut rule = Requests::new();
    rule.push(NEW_RULE, CREATE | EXCLUSIVE, |body| {
        const TO_TABLE: u8 = 1;
        const FRA_PRIORITY: u16 = 6;
        const FRA_FWMARK: u16 = 10;
        // `struct fib_rule_hdr`.
        body.extend_from_slice(&[family, 0, 0, 0, TABLE, 0, 0, TO_TABLE, 0, 0, 0, 0]);
        put(body, FRA_PRIORITY, &PRIORITY.to_ne_bytes());
        put(body, FRA_FWMARK, &ANSWER.to_ne_bytes());
    });
    for requests in [route, rule] {
        match socket.execute(requests) {
            Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(refused) => return Err(refused.error),
            Ok(()) => {}
        }
    }
    Ok(())
}
