//! The addresses of one subnet: given out in order, the longest unused first.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::network::SubnetConfig;
use crate::subnet::Subnet;

/// Why there is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// All are given out.
    Exhausted,
    /// The requested one is given out or reserved.
    InUse,
    /// The requested one is not in the subnet.
    Outside,
}

/// The state of one subnet's addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    subnet: Subnet,
    /// First and last number that may be given out unasked.
    first: u128,
    last: u128,
    next: u128,
    used: HashSet<u128>,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

impl Addresses {
    /// All addresses of a subnet but those that have a purpose: the network's own, the broadcast
    /// address, the gateway, the auxiliary ones.
    pub(crate) fn new(config: &SubnetConfig) -> Self {
        let subnet = config.subnet;
        let range = config.ip_range.unwrap_or(subnet);
        let (base, end) = (number(subnet.base()), number(subnet.last()));
        let mut used: HashSet<u128> = config.aux_addresses.values().copied().map(number).collect();
        used.insert(number(config.gateway));
        // In /31 and /32 (and /127, /128) every address is a host's.
        let host_bits = if subnet.is_ipv4() { 32 } else { 128 } - subnet.prefix();
        if host_bits > 1 {
            used.insert(base);
            if subnet.is_ipv4() {
                used.insert(end);
            }
        }
        let (first, last) = (number(range.base()), number(range.last()));
        Self {
            subnet,
            first,
            last,
            next: first,
            used,
        }
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.subnet.is_ipv4() {
            IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)))
        } else {
            IpAddr::V6(Ipv6Addr::from(number))
        }
    }

    /// The subnet.
    pub(crate) fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The next free address. Freed ones come last: what others still know about them (ARP,
    /// connections) has expired by then.
    pub(crate) fn allocate(&mut self) -> Result<IpAddr, Refusal> {
        let size = (self.last - self.first).saturating_add(1);
        let mut candidate = self.next;
        // One of any `used + 1` different candidates is free.
        let tries = size.min(self.used.len() as u128 + 1);
        for _ in 0..tries {
            let after = if candidate >= self.last {
                self.first
            } else {
                candidate + 1
            };
            if self.used.insert(candidate) {
                self.next = after;
                return Ok(self.address(candidate));
            }
            candidate = after;
        }
        Err(Refusal::Exhausted)
    }

    /// Takes one address, inside or outside the range that is given out unasked.
    pub(crate) fn request(&mut self, address: IpAddr) -> Result<(), Refusal> {
        if !self.subnet.contains(address) {
            return Err(Refusal::Outside);
        }
        if self.used.insert(number(address)) {
            Ok(())
        } else {
            Err(Refusal::InUse)
        }
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, address: IpAddr) {
        self.used.remove(&number(address));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn addresses(subnet: &str, range: Option<&str>, gateway: &str) -> Addresses {
        Addresses::new(&SubnetConfig {
            subnet: subnet.parse().unwrap(),
            ip_range: range.map(|range| range.parse().unwrap()),
            gateway: gateway.parse().unwrap(),
            aux_addresses: BTreeMap::from([("router".to_owned(), "172.17.0.3".parse().unwrap())]),
        })
    }

    #[test]
    fn addresses_come_in_order_and_freed_ones_last() {
        let mut pool = addresses("172.17.0.0/16", None, "172.17.0.1");
        assert_eq!(pool.allocate().unwrap().to_string(), "172.17.0.2");
        assert_eq!(pool.allocate().unwrap().to_string(), "172.17.0.4");
        pool.release("172.17.0.2".parse().unwrap());
        assert_eq!(pool.allocate().unwrap().to_string(), "172.17.0.5");
    }

    #[test]
    fn a_full_subnet_says_so_and_recovers() {
        let mut pool = addresses("172.17.0.0/29", None, "172.17.0.1");
        let given: Vec<String> = std::iter::from_fn(|| pool.allocate().ok())
            .map(|a| a.to_string())
            .collect();
        assert_eq!(
            given,
            ["172.17.0.2", "172.17.0.4", "172.17.0.5", "172.17.0.6"]
        );
        assert_eq!(pool.allocate(), Err(Refusal::Exhausted));
        pool.release("172.17.0.4".parse().unwrap());
        assert_eq!(pool.allocate().unwrap().to_string(), "172.17.0.4");
    }

    #[test]
    fn requests_are_checked() {
        let mut pool = addresses("172.17.0.0/16", Some("172.17.8.0/24"), "172.17.0.1");
        assert_eq!(pool.allocate().unwrap().to_string(), "172.17.8.0");
        let request = |pool: &mut Addresses, text: &str| pool.request(text.parse().unwrap());
        assert_eq!(request(&mut pool, "172.17.0.9"), Ok(()));
        assert_eq!(request(&mut pool, "172.17.0.9"), Err(Refusal::InUse));
        assert_eq!(request(&mut pool, "172.17.0.1"), Err(Refusal::InUse));
        assert_eq!(request(&mut pool, "172.17.255.255"), Err(Refusal::InUse));
        assert_eq!(request(&mut pool, "10.0.0.1"), Err(Refusal::Outside));
        let mut v6 = addresses("fd00::/64", None, "fd00::1");
        assert_eq!(v6.allocate().unwrap().to_string(), "fd00::2");
    }
}
