//! Subnets: an address range with a prefix length, always in canonical form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text that is not a subnet in CIDR notation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct SubnetError(pub String);

/// An IPv4 or IPv6 range; host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subnet {
    /// IPv4.
    V4(Ipv4Net),
    /// IPv6.
    V6(Ipv6Net),
}

/// An IPv4 range; host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Net {
    base: Ipv4Addr,
    prefix: u8,
}

/// An IPv6 range; host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv6Net {
    base: Ipv6Addr,
    prefix: u8,
}

impl Ipv4Net {
    /// The range of `prefix` bits that holds `address`; `None` when `prefix` is over 32.
    pub fn containing(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let host_bits = u32::from(32_u8.checked_sub(prefix)?);
        let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
        Some(Self {
            base: Ipv4Addr::from(u32::from(address) & mask),
            prefix,
        })
    }

    /// First address.
    pub fn base(&self) -> Ipv4Addr {
        self.base
    }

    /// Prefix length.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Last address.
    pub fn last(&self) -> Ipv4Addr {
        let hosts = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        Ipv4Addr::from(u32::from(self.base) | hosts)
    }
}

impl Ipv6Net {
    /// The range of `prefix` bits that holds `address`; `None` when `prefix` is over 128.
    pub fn containing(address: Ipv6Addr, prefix: u8) -> Option<Self> {
        let host_bits = u32::from(128_u8.checked_sub(prefix)?);
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Some(Self {
            base: Ipv6Addr::from(u128::from(address) & mask),
            prefix,
        })
    }

    /// First address.
    pub fn base(&self) -> Ipv6Addr {
        self.base
    }

    /// Prefix length.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Last address.
    pub fn last(&self) -> Ipv6Addr {
        let hosts = u128::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        Ipv6Addr::from(u128::from(self.base) | hosts)
    }
}

impl Subnet {
    /// The range of `prefix` bits that holds `address`.
    pub fn containing(address: IpAddr, prefix: u8) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Ipv4Net::containing(address, prefix).map(Self::V4),
            IpAddr::V6(address) => Ipv6Net::containing(address, prefix).map(Self::V6),
        }
    }

    /// First address.
    pub fn base(&self) -> IpAddr {
        match self {
            Self::V4(net) => IpAddr::V4(net.base),
            Self::V6(net) => IpAddr::V6(net.base),
        }
    }

    /// Last address.
    pub fn last(&self) -> IpAddr {
        match self {
            Self::V4(net) => IpAddr::V4(net.last()),
            Self::V6(net) => IpAddr::V6(net.last()),
        }
    }

    /// Prefix length.
    pub fn prefix(&self) -> u8 {
        match self {
            Self::V4(net) => net.prefix,
            Self::V6(net) => net.prefix,
        }
    }

    /// Whether `address` is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = (self.base(), self.last());
        first.is_ipv4() == address.is_ipv4() && first <= address && address <= last
    }

    /// Whether both have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.base()) || other.contains(self.base())
    }

    /// Whether this is an IPv4 range.
    pub fn is_ipv4(&self) -> bool {
        matches!(self, Self::V4(_))
    }

    /// The `n`th address of the range, counted from 0.
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        let address = match self {
            Self::V4(net) => IpAddr::V4(Ipv4Addr::from(
                u32::from(net.base).checked_add(u32::try_from(n).ok()?)?,
            )),
            Self::V6(net) => IpAddr::V6(Ipv6Addr::from(u128::from(net.base).checked_add(n)?)),
        };
        self.contains(address).then_some(address)
    }

    /// Parses `192.168.0.5/24` into the address and its range.
    pub fn parse_with_address(text: &str) -> Result<(IpAddr, Self), SubnetError> {
        let error = || SubnetError(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(error)?;
        // `u8::from_str` takes a sign, CIDR notation does not.
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let prefix: u8 = prefix.parse().map_err(|_| error())?;
        let subnet = Self::containing(address, prefix).ok_or_else(error)?;
        Ok((address, subnet))
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        Self::parse_with_address(text).map(|(_, subnet)| subnet)
    }
}

impl FromStr for Ipv4Net {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        match text.parse()? {
            Subnet::V4(net) => Ok(net),
            Subnet::V6(_) => Err(SubnetError(text.to_owned())),
        }
    }
}

impl FromStr for Ipv6Net {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        match text.parse()? {
            Subnet::V6(net) => Ok(net),
            Subnet::V4(_) => Err(SubnetError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Subnet {
    type Error = SubnetError;

    fn try_from(text: String) -> Result<Self, SubnetError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix())
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl fmt::Display for Ipv6Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_canonical_and_bounded() {
        let subnet: Subnet = "172.17.5.9/16".parse().unwrap();
        assert_eq!(subnet.to_string(), "172.17.0.0/16");
        assert_eq!(subnet.last().to_string(), "172.17.255.255");
        assert_eq!(subnet.nth(1).unwrap().to_string(), "172.17.0.1");
        assert_eq!(subnet.nth(65_536), None);
        assert!(subnet.overlaps(&"172.16.0.0/12".parse().unwrap()));
        assert!(!subnet.overlaps(&"172.18.0.0/16".parse().unwrap()));
        assert!(!subnet.overlaps(&"fd00::/8".parse().unwrap()));
        assert_eq!(
            "0.0.0.0/0".parse::<Subnet>().unwrap().last().to_string(),
            "255.255.255.255"
        );
        assert_eq!(
            "::/0"
                .parse::<Subnet>()
                .unwrap()
                .nth(u128::MAX)
                .unwrap()
                .to_string()
                .len(),
            39
        );
        for bad in [
            "",
            "1.2.3.4",
            "1.2.3.4/33",
            "1.2.3.4/+8",
            "x/8",
            "::1/129",
            "1.2.3.4/",
            "1.2.3.4/8/8",
        ] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,40}") {
            if let Ok(subnet) = text.parse::<Subnet>() {
                prop_assert_eq!(subnet.to_string().parse::<Subnet>().unwrap(), subnet);
                prop_assert!(subnet.contains(subnet.base()) && subnet.contains(subnet.last()));
            }
        }

        #[test]
        fn every_address_is_in_its_range(address: u32, prefix in 0_u8..=32) {
            let subnet = Subnet::containing(IpAddr::V4(address.into()), prefix).unwrap();
            prop_assert!(subnet.contains(IpAddr::V4(address.into())));
        }
    }
}
