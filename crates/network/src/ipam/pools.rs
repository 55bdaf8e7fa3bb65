//! Which subnet a new network gets when its user named none.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::AddressPool;
use crate::subnet::Subnet;

/// How many subnets are tried before giving up; a pool of /64 networks has too many to look at.
const TRIES_MAX: u128 = 65_536;

/// Docker's pools, in its order (libnetwork/ipamutils).
pub(crate) fn default_pools() -> Vec<AddressPool> {
    [
        ("172.17.0.0/16", 16),
        ("172.18.0.0/16", 16),
        ("172.19.0.0/16", 16),
        ("172.20.0.0/14", 16),
        ("172.24.0.0/14", 16),
        ("172.28.0.0/14", 16),
        ("192.168.0.0/16", 20),
    ]
    .into_iter()
    .map(|(base, size)| AddressPool {
        base: base.parse().expect("a literal subnet"),
        size,
    })
    .collect()
}

/// The /48 of unique local addresses that belongs to this host; networks are its /64 parts.
pub(crate) fn ula_pool(global_id: [u8; 5]) -> AddressPool {
    let mut octets = [0_u8; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&global_id);
    let base =
        Subnet::containing(IpAddr::V6(Ipv6Addr::from(octets)), 48).expect("48 is at most 128");
    AddressPool { base, size: 64 }
}

/// The first subnet of the pools (of one family) that meets none of `taken`.
pub(crate) fn choose(pools: &[AddressPool], ipv4: bool, taken: &[Subnet]) -> Option<Subnet> {
    let bits: u8 = if ipv4 { 32 } else { 128 };
    for pool in pools.iter().filter(|pool| pool.base.is_ipv4() == ipv4) {
        let Some(split) = pool.size.checked_sub(pool.base.prefix()) else {
            continue;
        };
        let count = 1_u128
            .checked_shl(u32::from(split))
            .unwrap_or(u128::MAX)
            .min(TRIES_MAX);
        let step = 1_u128
            .checked_shl(u32::from(bits.saturating_sub(pool.size)))
            .unwrap_or(0);
        let found = (0..count)
            .filter_map(|n| pool.base.nth(n.checked_mul(step)?))
            .filter_map(|base| Subnet::containing(base, pool.size))
            .find(|subnet| !taken.iter().any(|other| other.overlaps(subnet)));
        if found.is_some() {
            return found;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(taken: &[&str]) -> Option<String> {
        let taken: Vec<Subnet> = taken.iter().map(|text| text.parse().unwrap()).collect();
        choose(&default_pools(), true, &taken).map(|subnet| subnet.to_string())
    }

    #[test]
    fn pools_are_used_in_order_around_what_is_taken() {
        assert_eq!(chosen(&[]).unwrap(), "172.17.0.0/16");
        assert_eq!(
            chosen(&["172.17.3.0/24", "172.18.0.0/15"]).unwrap(),
            "172.20.0.0/16"
        );
        assert_eq!(chosen(&["172.16.0.0/12"]).unwrap(), "192.168.0.0/20");
        assert_eq!(
            chosen(&["172.16.0.0/12", "192.168.0.0/17"]).unwrap(),
            "192.168.128.0/20"
        );
        assert_eq!(chosen(&["0.0.0.0/0"]), None);
    }

    #[test]
    fn unique_local_networks_are_64_bits() {
        let pool = ula_pool([1, 2, 3, 4, 5]);
        let first = choose(&[pool], false, &[]).unwrap();
        assert_eq!(first.to_string(), "fd01:203:405::/64");
        assert_eq!(
            choose(&[pool], false, &[first]).unwrap().to_string(),
            "fd01:203:405:1::/64"
        );
    }
}
