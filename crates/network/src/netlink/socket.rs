//! A synchronous netlink socket: one send for many requests, answers read once.
//!
//! The kernel handles a request inside the `send`, so all answers are there when it returns and
//! nothing ever waits. A socket belongs for good to the network namespace of the thread that
//! opened it, which is how other namespaces are configured without entering them again.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 0x04;
/// `NLM_F_DUMP`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_REPLACE`.
pub(crate) const REPLACE: u16 = 0x100;

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;

/// Requests that go out in one send; each keeps its place for error reports.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    /// Where each request begins.
    starts: Vec<usize>,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a message whose body `fill` appends. Only the last one asks for an acknowledgement:
    /// the kernel reports errors anyway.
    pub(crate) fn push(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        fill(&mut self.bytes);
        let length =
            u32::try_from(self.bytes.len() - start).expect("a netlink message is far below 4 GiB");
        let header = &mut self.bytes[start..start + HEADER];
        header[0..4].copy_from_slice(&length.to_ne_bytes());
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        self.starts.push(start);
    }

    /// Bytes so far; a send over ~200 kB is refused by the kernel.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn number(&mut self, first: u32) {
        for (index, start) in self.starts.iter().enumerate() {
            let sequence =
                first.wrapping_add(u32::try_from(index).expect("far fewer requests than 2^32"));
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
    }

    fn add_flags(&mut self, index: usize, flags: u16) {
        let at = self.starts[index] + 6;
        let old = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.bytes[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }
}

/// The first request of a batch that the kernel refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its place in the batch.
    pub(crate) index: usize,
    /// Why.
    pub(crate) error: io::Error,
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        tracing::debug!(index = refused.index, error = %refused.error, "netlink request refused");
        refused.error
    }
}

/// A netlink socket bound to one network namespace.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// A socket for `NETLINK_ROUTE` in the calling thread's network namespace.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(None)
    }

    /// A socket for `NETLINK_NETFILTER` in the calling thread's network namespace.
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0, which rustix spells `None`.
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { fd, sequence: 1 })
    }

    /// Subscribes to multicast groups given as the old-style bit mask (groups 1 to 32).
    pub(crate) fn subscribe(protocol_netfilter: bool, groups: u32) -> io::Result<Self> {
        let protocol = protocol_netfilter.then_some(rustix::net::netlink::NETFILTER);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { fd, sequence: 1 })
    }

    /// Sends all requests at once; the first refusal is the result. Requests after a refused one
    /// are carried out nevertheless (rtnetlink) or undone with it (nftables batches).
    pub(crate) fn execute(&mut self, mut requests: Requests) -> Result<(), Refused> {
        let Some(last) = requests.starts.len().checked_sub(1) else {
            return Ok(());
        };
        requests.add_flags(last, ACK);
        self.send_and_collect(requests)
    }

    /// Sends an nftables batch: the last request is the batch's end, the one before it gets the
    /// acknowledgement.
    pub(crate) fn execute_transaction(&mut self, mut requests: Requests) -> Result<(), Refused> {
        let Some(last) = requests.starts.len().checked_sub(2) else {
            return Ok(());
        };
        requests.add_flags(last, ACK);
        self.send_and_collect(requests)
    }

    fn send_and_collect(&mut self, mut requests: Requests) -> Result<(), Refused> {
        let first = self.sequence;
        requests.number(first);
        let count = u32::try_from(requests.starts.len()).expect("far fewer requests than 2^32");
        self.sequence = first.wrapping_add(count);
        let whole = |error: io::Error| Refused { index: 0, error };
        rustix::net::send(&self.fd, &requests.bytes, SendFlags::empty())
            .map_err(|error| whole(error.into()))?;
        let mut buffer = [0_u8; 8192];
        let mut refused: Option<Refused> = None;
        let mut answered = false;
        loop {
            let length = match rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => length.min(buffer.len()),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => continue,
                // Answers were lost: the outcome is unknown, which is a failure.
                Err(error) => return Err(whole(error.into())),
            };
            for message in messages(&buffer[..length]) {
                let offset = message.sequence.wrapping_sub(first);
                if message.kind != TYPE_ERROR || offset >= count {
                    continue;
                }
                answered = true;
                let code = error_code(message.body);
                if code != 0
                    && refused
                        .as_ref()
                        .is_none_or(|old| old.index > offset as usize)
                {
                    refused = Some(Refused {
                        index: offset as usize,
                        error: io::Error::from_raw_os_error(-code),
                    });
                }
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None if answered => Ok(()),
            None => Err(whole(io::Error::other("the kernel did not answer"))),
        }
    }

    /// Sends one request and hands every answer's type and body to `each` until the kernel says
    /// it is done.
    pub(crate) fn query(
        &mut self,
        kind: u16,
        flags: u16,
        fill: impl FnOnce(&mut Vec<u8>),
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let mut requests = Requests::new();
        requests.push(kind, flags, fill);
        let dump = flags & DUMP == DUMP;
        if !dump {
            requests.add_flags(0, ACK);
        }
        let sequence = self.sequence;
        requests.number(sequence);
        self.sequence = sequence.wrapping_add(1);
        rustix::net::send(&self.fd, &requests.bytes, SendFlags::empty())?;
        // The kernel fills dump answers up to 32 kB.
        let mut buffer = vec![0_u8; 64 * 1024];
        loop {
            let length = match rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, length)) => length.min(buffer.len()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in messages(&buffer[..length]) {
                if message.sequence != sequence {
                    continue;
                }
                match message.kind {
                    TYPE_DONE => return Ok(()),
                    TYPE_ERROR => {
                        let code = error_code(message.body);
                        return if code == 0 {
                            Ok(())
                        } else {
                            Err(io::Error::from_raw_os_error(-code))
                        };
                    }
                    other => each(other, message.body),
                }
            }
        }
    }

    /// Reads what a subscription has to say, without waiting; `each` gets type, port id of
    /// the socket that caused it, and body. The result is whether messages were lost.
    pub(crate) fn drain(&self, mut each: impl FnMut(u16, u32, &[u8])) -> io::Result<bool> {
        let mut buffer = vec![0_u8; 16 * 1024];
        let mut lost = false;
        loop {
            match rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    for message in messages(&buffer[..length.min(buffer.len())]) {
                        each(message.kind, message.port, message.body);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(lost),
                Err(rustix::io::Errno::NOBUFS) => lost = true,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// An interface's index by name; unlike a request it does not wait for the kernel's lock on
    /// network configuration.
    pub(crate) fn index_of(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.fd, name)?)
    }

    /// The port id, by which multicast messages name their origin.
    pub(crate) fn port(&self) -> u32 {
        rustix::net::getsockname(&self.fd)
            .ok()
            .and_then(|address| SocketAddrNetlink::try_from(address).ok())
            .map_or(0, |address| address.pid())
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    /// The socket that caused it; 0 is the kernel.
    port: u32,
    body: &'a [u8],
}

/// Splits a datagram into its messages; a malformed rest is dropped.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let length = u32::from_ne_bytes(header[0..4].try_into().ok()?) as usize;
        let body = bytes.get(HEADER..length)?;
        let message = Message {
            kind: u16::from_ne_bytes(header[4..6].try_into().ok()?),
            sequence: u32::from_ne_bytes(header[8..12].try_into().ok()?),
            port: u32::from_ne_bytes(header[12..16].try_into().ok()?),
            body,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

fn error_code(body: &[u8]) -> i32 {
    body.get(..4)
        .and_then(|code| code.try_into().ok())
        .map_or(0, i32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_padded_and_numbered() {
        let mut requests = Requests::new();
        requests.push(16, CREATE, |body| body.extend_from_slice(&[1, 2, 3]));
        requests.push(17, 0, |_| {});
        requests.number(7);
        assert_eq!(requests.starts, [0, 20]);
        let parsed: Vec<_> = messages(&requests.bytes)
            .map(|m| (m.kind, m.sequence, m.body.len()))
            .collect();
        assert_eq!(parsed, [(16, 7, 3), (17, 8, 0)]);
    }

    #[test]
    fn malformed_answers_are_dropped() {
        assert_eq!(messages(&[1, 2, 3]).count(), 0);
        let mut lying = vec![0_u8; 16];
        lying[0] = 200;
        assert_eq!(messages(&lying).count(), 0);
        lying[0] = 3;
        assert_eq!(messages(&lying).count(), 0);
    }
}
