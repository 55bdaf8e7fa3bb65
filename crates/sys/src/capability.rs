//! Capabilities by name, and the calling thread's sets.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// A set of capabilities, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

/// Names in the order of the numbers (`linux/capability.h`).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

impl Capabilities {
    /// No capability.
    pub const NONE: Self = Self(0);

    /// Every capability there may be.
    pub const ALL: Self = Self(u64::MAX);

    /// The capability called `name` (`CAP_CHOWN`).
    pub fn named(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .position(|known| *known == name)
            .map(|number| Self(1 << number))
    }

    /// The names of the set's members; numbers without a name are left out.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .enumerate()
            .filter(move |(number, _)| self.0 >> number & 1 == 1)
            .map(|(_, name)| *name)
    }

    /// Members of both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Members of either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are members.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn each(self) -> impl Iterator<Item = CapabilitySet> {
        (0..64)
            .filter(move |number| self.0 >> number & 1 == 1)
            .map(|number| CapabilitySet::from_bits_retain(1 << number))
    }
}

/// The calling thread's permitted set.
pub fn permitted() -> Result<Capabilities, Errno> {
    Ok(Capabilities(capabilities(None)?.permitted.bits()))
}

/// The calling thread's bounding set, up to the last capability the kernel knows.
pub fn bounding() -> Capabilities {
    let mut set = 0;
    for number in 0..64 {
        match capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(true) => set |= 1 << number,
            Ok(false) => {}
            Err(_) => break,
        }
    }
    Capabilities(set)
}

/// All capabilities the kernel knows: what the first process of a user namespace has there.
pub fn known() -> Capabilities {
    let mut set = 0;
    for number in 0..64 {
        if capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << number)).is_err() {
            break;
        }
        set |= 1 << number;
    }
    Capabilities(set)
}

/// The calling thread's effective set.
pub fn effective() -> Result<Capabilities, Errno> {
    Ok(Capabilities(capabilities(None)?.effective.bits()))
}

/// Removes everything but `keep` from the bounding set, given what is in it now.
pub fn limit_bounding(current: Capabilities, keep: Capabilities) -> Result<(), Errno> {
    Capabilities(current.0 & !keep.0)
        .each()
        .try_for_each(remove_capability_from_bounding_set)
}

/// Sets the calling thread's effective, permitted and inheritable sets.
pub fn set(
    effective: Capabilities,
    permitted: Capabilities,
    inheritable: Capabilities,
) -> Result<(), Errno> {
    let bits = |set: Capabilities| CapabilitySet::from_bits_retain(set.0);
    let sets = CapabilitySets {
        effective: bits(effective),
        permitted: bits(permitted),
        inheritable: bits(inheritable),
    };
    set_capabilities(None, sets)
}

/// Replaces the calling thread's ambient set.
pub fn set_ambient(ambient: Capabilities) -> Result<(), Errno> {
    clear_ambient_capability_set()?;
    ambient
        .each()
        .try_for_each(|capability| configure_capability_in_ambient_set(capability, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_agree() {
        let set = Capabilities::named("CAP_SYS_ADMIN")
            .unwrap()
            .union(Capabilities::named("CAP_CHOWN").unwrap());
        assert_eq!(set.0, 1 << 21 | 1);
        assert_eq!(
            set.names().collect::<Vec<_>>(),
            ["CAP_CHOWN", "CAP_SYS_ADMIN"]
        );
        assert_eq!(Capabilities::named("CAP_NONSENSE"), None);
    }

    #[test]
    fn permitted_is_within_bounding() {
        assert!(bounding().0 != 0 || permitted().unwrap().0 == 0);
    }
}
