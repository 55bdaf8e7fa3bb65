//! Network devices of the host that become the container's (`linux.netDevices`).
//!
//! A device that moves to another network namespace loses its addresses and is taken down; the
//! container gets it with its permanent global addresses, and up.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send,
    socket_with,
};
use wharf_oci::runtime::{Linux, NamespaceKind};

use crate::birth;
use crate::config::NamespaceFd;
use crate::error::{Stage, StartError};

/// A device to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedDevice {
    /// Its name on the host.
    host: String,
    /// Its name in the container.
    container: String,
}

/// Understands the document's devices. `own` says whether the container has a network namespace.
pub(crate) fn plan(linux: &Linux, own: bool) -> Result<Vec<PlannedDevice>, StartError> {
    let refuse =
        |what: String| StartError::refused(Stage::Config, format!("linux.netDevices: {what}"));
    if !linux.net_devices.is_empty() && !own {
        return Err(refuse(
            "the container has no network namespace of its own".to_owned(),
        ));
    }
    let mut devices: Vec<PlannedDevice> = Vec::with_capacity(linux.net_devices.len());
    for (host, device) in &linux.net_devices {
        let container = device.name.as_ref().filter(|name| !name.is_empty());
        let device = PlannedDevice {
            host: host.clone(),
            container: container.unwrap_or(host).clone(),
        };
        for name in [&device.host, &device.container] {
            if !is_name(name) {
                return Err(refuse(format!("{name:?} is not a device's name")));
            }
        }
        if devices
            .iter()
            .any(|other| other.container == device.container)
        {
            return Err(refuse(format!("{:?} is given twice", device.container)));
        }
        devices.push(device);
    }
    Ok(devices)
}

/// What the kernel takes as a name.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() < 16
        && name
            .bytes()
            .all(|byte| byte > b' ' && !matches!(byte, b'/' | b':' | b'%' | 0x7f))
}

/// Gives `devices` to the container whose network namespace is `namespace` (a namespace file or a
/// pidfd): all or none.
pub(crate) fn give(devices: &[PlannedDevice], namespace: OwnedFd) -> Result<(), StartError> {
    if devices.is_empty() {
        return Ok(());
    }
    let target = [NamespaceFd {
        kind: NamespaceKind::Network,
        fd: namespace,
    }];
    let inside = birth::in_namespaces(&target, || current().map_err(|errno| failed("", errno)))?;
    let host = current().map_err(|errno| failed("", errno))?;
    let mut moved = Vec::with_capacity(devices.len());
    let given = move_all(devices, &inside, &mut moved).and_then(|()| {
        birth::in_namespaces(&target, || {
            let mut socket = Socket::open().map_err(|errno| failed("", errno))?;
            for (device, addresses) in &moved {
                socket
                    .bring_up(&device.container, addresses)
                    .map_err(|errno| failed(&device.container, errno))?;
            }
            Ok(())
        })
    });
    given.inspect_err(|_| {
        // The failure is what the caller wants to hear about.
        let _ = birth::in_namespaces(&target, || {
            let mut socket = Socket::open().map_err(|errno| failed("", errno))?;
            for (device, _) in &moved {
                let _ = socket.move_to(&device.container, &device.host, &host);
            }
            Ok(())
        });
    })
}

type Moved<'a> = Vec<(&'a PlannedDevice, Vec<Address>)>;

fn move_all<'a>(
    devices: &'a [PlannedDevice],
    inside: &OwnedFd,
    moved: &mut Moved<'a>,
) -> Result<(), StartError> {
    let mut socket = Socket::open().map_err(|errno| failed("", errno))?;
    for device in devices {
        let mut give = || {
            let index = socket.index(&device.host)?;
            let addresses = socket.addresses(index)?;
            socket.move_to(&device.host, &device.container, inside)?;
            Ok(addresses)
        };
        let addresses = give().map_err(|errno| failed(&device.host, errno))?;
        moved.push((device, addresses));
    }
    Ok(())
}

fn failed(name: &str, errno: Errno) -> StartError {
    StartError::new(Stage::NetDevice, errno, name)
}

/// The network namespace of the calling process.
fn current() -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(c"/proc/self/ns/net", flags, Mode::empty())
}

/// Message types, flags and attributes (`linux/rtnetlink.h`, `linux/if_link.h`,
/// `linux/if_addr.h`).
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x600;
const LINK_NAME: u16 = 3;
const LINK_NAMESPACE_FD: u16 = 28;
const ADDRESS_LABEL: u16 = 3;
const ADDRESS_CACHE_INFO: u16 = 6;
const ADDRESS_FLAGS: u16 = 8;
const PERMANENT: u32 = 0x80;
/// Flags of an address that are a wish, not a state.
const WISHES: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
const UP: u32 = 1;

/// An address to be put back: the head of its message, without the device, and its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<u8>,
}

/// A route netlink socket.
struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    fn open() -> Result<Self, Errno> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE
            None,
        )?;
        Ok(Self { fd, sequence: 0 })
    }

    fn index(&self, name: &str) -> Result<u32, Errno> {
        netdevice::name_to_index(&self.fd, name)
    }

    fn move_to(&mut self, name: &str, new_name: &str, namespace: &OwnedFd) -> Result<(), Errno> {
        let mut body = link(self.index(name)?, 0);
        let number = u32::try_from(namespace.as_raw_fd()).map_err(|_| Errno::BADF)?;
        push_attribute(&mut body, LINK_NAMESPACE_FD, &number.to_ne_bytes());
        if name != new_name {
            push_attribute(&mut body, LINK_NAME, &[new_name.as_bytes(), &[0]].concat());
        }
        self.ask(NEW_LINK, ACKNOWLEDGE, &body, |_, _| {})
    }

    fn bring_up(&mut self, name: &str, addresses: &[Address]) -> Result<(), Errno> {
        let index = self.index(name)?;
        for address in addresses {
            let mut body = vec![address.family, address.prefix, 0, 0];
            body.extend(index.to_ne_bytes());
            body.extend(&address.attributes);
            self.ask(NEW_ADDRESS, ACKNOWLEDGE | CREATE, &body, |_, _| {})?;
        }
        self.ask(NEW_LINK, ACKNOWLEDGE, &link(index, UP), |_, _| {})
    }

    /// The permanent addresses of global scope that the device has.
    fn addresses(&mut self, index: u32) -> Result<Vec<Address>, Errno> {
        let mut addresses = Vec::new();
        self.ask(GET_ADDRESS, DUMP, &[0; 8], |kind, body| {
            if kind == NEW_ADDRESS {
                addresses.extend(read_address(body, index));
            }
        })?;
        Ok(addresses)
    }

    /// Sends a request and takes what comes back up to its end.
    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut take: impl FnMut(u16, &[u8]),
    ) -> Result<(), Errno> {
        self.sequence += 1;
        let length = u32::try_from(16 + body.len()).map_err(|_| Errno::MSGSIZE)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        send(&self.fd, &message, SendFlags::empty())?;
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let (count, _) = match recv(&self.fd, buffer.as_mut_slice(), RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let mut rest = buffer.get(..count).unwrap_or_default();
            while let Some((kind, body, after)) = split_message(rest) {
                rest = after;
                match kind {
                    DONE => return Ok(()),
                    ERROR => {
                        return match read_number(body, 0) {
                            Some(0) => Ok(()),
                            Some(number) => Err(Errno::from_raw_os_error(
                                i32::from_ne_bytes(number.to_ne_bytes()).wrapping_neg(),
                            )),
                            None => Err(Errno::BADMSG),
                        };
                    }
                    kind => take(kind, body),
                }
            }
        }
    }
}

/// The head of a message about a device: its index, and flags to be set.
fn link(index: u32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body
}

fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn read_number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn read_short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The first message of `bytes`: its type, its body, and what follows.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(read_number(bytes, 0)?).ok()?;
    let kind = read_short(bytes, 4)?;
    let body = bytes.get(16..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, after))
}

/// The address in `body` if it is one of the device `index` that is to be kept.
fn read_address(body: &[u8], index: u32) -> Option<Address> {
    let [family, prefix, flags, scope, ..] = *body else {
        return None;
    };
    if read_number(body, 4)? != index || scope != 0 {
        return None;
    }
    let mut flags = u32::from(flags);
    let mut attributes = Vec::new();
    let mut rest = body.get(8..)?;
    while let (Some(length), Some(kind)) = (read_short(rest, 0), read_short(rest, 2)) {
        let length = usize::from(length);
        let value = rest.get(4..length)?;
        match kind {
            ADDRESS_FLAGS => flags = read_number(value, 0)?,
            // Made up by the kernel, or after the device's old name.
            ADDRESS_LABEL | ADDRESS_CACHE_INFO => {}
            kind => push_attribute(&mut attributes, kind, value),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    if flags & PERMANENT == 0 {
        return None;
    }
    push_attribute(
        &mut attributes,
        ADDRESS_FLAGS,
        &(flags & WISHES).to_ne_bytes(),
    );
    Some(Address {
        family,
        prefix,
        attributes,
    })
}

#[cfg(test)]
mod tests {
    use wharf_oci::runtime::NetDevice;

    use super::*;

    #[test]
    fn devices_are_checked() {
        let linux = |devices: &[(&str, Option<&str>)]| Linux {
            net_devices: devices
                .iter()
                .map(|(host, name)| {
                    let name = name.map(str::to_owned);
                    ((*host).to_owned(), NetDevice { name })
                })
                .collect(),
            ..Linux::default()
        };
        let planned = plan(&linux(&[("eth1", None), ("eth2", Some("data"))]), true).unwrap();
        let names: Vec<_> = planned
            .iter()
            .map(|device| (device.host.as_str(), device.container.as_str()))
            .collect();
        assert_eq!(names, [("eth1", "eth1"), ("eth2", "data")]);
        assert!(plan(&linux(&[("eth1", None)]), false).is_err());
        assert!(plan(&linux(&[("eth1", None), ("eth2", Some("eth1"))]), true).is_err());
        for wrong in ["a/b", "a b", "way-too-long-name", "..", "x%d"] {
            assert!(plan(&linux(&[(wrong, None)]), true).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_read() {
        let mut body = vec![2, 24, 0x80, 0];
        body.extend(7_u32.to_ne_bytes());
        push_attribute(&mut body, 1, &[10, 0, 0, 1]);
        push_attribute(&mut body, ADDRESS_LABEL, b"eth1\0");
        push_attribute(&mut body, ADDRESS_FLAGS, &0x280_u32.to_ne_bytes());
        let address = read_address(&body, 7).unwrap();
        assert_eq!((address.family, address.prefix), (2, 24));
        let mut attributes = Vec::new();
        push_attribute(&mut attributes, 1, &[10, 0, 0, 1]);
        push_attribute(&mut attributes, ADDRESS_FLAGS, &0x200_u32.to_ne_bytes());
        assert_eq!(address.attributes, attributes);
        assert_eq!(read_address(&body, 8), None);
        body[3] = 253;
        assert_eq!(read_address(&body, 7), None, "link-local");
        assert_eq!(read_address(&[2, 24], 7), None);
    }
}
