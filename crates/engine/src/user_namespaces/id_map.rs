//! Which ids of a user namespace are which ids of the host.
//!
//! Written as Podman's options and the kernel's `uid_map` do: `container:host:size`.

use std::fmt;

use serde::{Deserialize, Serialize};
use wharf_oci::runtime::IdMapping;

use super::ranges::IdRange;

/// Lines the kernel takes in a `uid_map` (`UID_GID_MAP_MAX_EXTENTS`).
const EXTENTS_MAX: usize = 340;

/// Ids shown where there is no mapping (`/proc/sys/kernel/overflowuid`).
pub(crate) const OVERFLOW_ID: u32 = 65534;

/// A run of ids that are mapped to a run of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u32, u32, u32)", from = "(u32, u32, u32)")]
pub(crate) struct Extent {
    /// First id in the namespace.
    pub container: u32,
    /// First id on the host.
    pub host: u32,
    /// How many.
    pub size: u32,
}

impl From<(u32, u32, u32)> for Extent {
    fn from((container, host, size): (u32, u32, u32)) -> Self {
        Self {
            container,
            host,
            size,
        }
    }
}

impl From<Extent> for (u32, u32, u32) {
    fn from(extent: Extent) -> Self {
        (extent.container, extent.host, extent.size)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.container, self.host, self.size)
    }
}

impl Extent {
    /// Reads `container:host:size`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not CONTAINER_ID:HOST_ID:SIZE");
        let number = |part: &str| {
            part.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| part.parse::<u32>().ok())
                .flatten()
        };
        let mut parts = text.split(':').map(number);
        let mut next = || parts.next().flatten().ok_or_else(wrong);
        let extent = Self {
            container: next()?,
            host: next()?,
            size: next()?,
        };
        if parts.next().is_some() {
            return Err(wrong());
        }
        extent.check()?;
        Ok(extent)
    }

    fn check(&self) -> Result<(), String> {
        if self.size == 0 {
            return Err(format!("{self}: the size of a mapping must not be 0"));
        }
        // The last id there could be means "none" to the kernel.
        let beyond = |first: u32| u64::from(first) + u64::from(self.size) > u64::from(u32::MAX);
        if beyond(self.container) || beyond(self.host) {
            return Err(format!("{self}: ids end at 4294967294"));
        }
        Ok(())
    }

    /// Its ids on the host.
    pub(crate) fn host_range(&self) -> IdRange {
        IdRange::new(self.host, self.size)
    }

    /// Its ids in the namespace.
    pub(crate) fn container_range(&self) -> IdRange {
        IdRange::new(self.container, self.size)
    }
}

/// A valid `uid_map` or `gid_map`, in the order of the namespace's ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdMap(Vec<Extent>);

impl IdMap {
    /// Checks what the kernel would refuse, and says which part it is.
    pub(crate) fn new(mut extents: Vec<Extent>) -> Result<Self, String> {
        if extents.is_empty() {
            return Err("a mapping needs at least one range".to_owned());
        }
        if extents.len() > EXTENTS_MAX {
            return Err(format!("more than {EXTENTS_MAX} ranges in one mapping"));
        }
        extents.iter().try_for_each(Extent::check)?;
        for (range, whose) in [
            (Extent::host_range as fn(&Extent) -> IdRange, "host"),
            (Extent::container_range, "container"),
        ] {
            extents.sort_by_key(|extent| range(extent).start());
            for pair in extents.windows(2) {
                if range(&pair[0]).end() > range(&pair[1]).start() {
                    return Err(format!(
                        "{} and {} overlap in the {whose}'s ids",
                        pair[0], pair[1]
                    ));
                }
            }
        }
        Ok(Self(extents))
    }

    /// Its parts, in the order of the namespace's ids.
    pub(crate) fn extents(&self) -> &[Extent] {
        &self.0
    }

    /// The host's id for one of the namespace.
    pub(crate) fn to_host(&self, id: u32) -> Option<u32> {
        let extent = self.0.iter().find(|e| e.container_range().contains(id))?;
        Some(extent.host + (id - extent.container))
    }

    /// The namespace's id for one of the host.
    pub(crate) fn to_container(&self, id: u32) -> Option<u32> {
        let extent = self.0.iter().find(|e| e.host_range().contains(id))?;
        Some(extent.container + (id - extent.host))
    }

    /// What of the host it takes.
    pub(crate) fn host_ranges(&self) -> impl Iterator<Item = IdRange> {
        self.0.iter().map(Extent::host_range)
    }

    /// The highest id that follows on 0 without a gap; `None` when 0 is not mapped.
    pub(crate) fn last_from_zero(&self) -> Option<u32> {
        let mut last = None;
        for extent in &self.0 {
            let expected = last.map_or(0, |last: u32| last + 1);
            if extent.container != expected {
                break;
            }
            last = Some(extent.container + extent.size - 1);
        }
        last
    }

    /// For the OCI document.
    pub(crate) fn to_oci(&self) -> Vec<IdMapping> {
        let mapping = |extent: &Extent| IdMapping {
            container_id: extent.container,
            host_id: extent.host,
            size: extent.size,
        };
        self.0.iter().map(mapping).collect()
    }

    /// As `inspect` shows it.
    pub(crate) fn to_wire(&self) -> Vec<String> {
        self.0.iter().map(Extent::to_string).collect()
    }
}

/// The mapping of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdMaps {
    /// User ids.
    pub uids: IdMap,
    /// Group ids.
    pub gids: IdMap,
}

impl IdMaps {
    /// Whom the host takes the namespace's root for, or else its first user and group.
    pub(crate) fn root(&self) -> (u32, u32) {
        let first = |map: &IdMap| {
            map.to_host(0)
                .or_else(|| map.0.first().map(|extent| extent.host))
                .unwrap_or(OVERFLOW_ID)
        };
        (first(&self.uids), first(&self.gids))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(texts: &[&str]) -> Result<IdMap, String> {
        IdMap::new(
            texts
                .iter()
                .map(|text| Extent::parse(text))
                .collect::<Result<_, _>>()?,
        )
    }

    #[test]
    fn ids_are_translated_both_ways() {
        let map = map(&["1000:1000:1", "0:100000:1000", "1001:101000:64535"]).unwrap();
        assert_eq!(map.to_host(0), Some(100_000));
        assert_eq!(map.to_host(1000), Some(1000));
        assert_eq!(map.to_host(1001), Some(101_000));
        assert_eq!(map.to_host(65536), None);
        assert_eq!(map.to_container(1000), Some(1000));
        assert_eq!(map.to_container(0), None);
        assert_eq!(map.last_from_zero(), Some(65535));
    }

    #[test]
    fn wrong_mappings_are_named() {
        for (texts, message) in [
            (&["0:1"][..], "\"0:1\" is not CONTAINER_ID:HOST_ID:SIZE"),
            (&["0:1:2:3"], "\"0:1:2:3\" is not CONTAINER_ID:HOST_ID:SIZE"),
            (&["+0:1:2"], "\"+0:1:2\" is not CONTAINER_ID:HOST_ID:SIZE"),
            (&["0:1:0"], "0:1:0: the size of a mapping must not be 0"),
            (&["0:4294967295:1"], "0:4294967295:1: ids end at 4294967294"),
            (
                &["0:100:10", "5:200:10"],
                "0:100:10 and 5:200:10 overlap in the container's ids",
            ),
            (
                &["0:100:10", "10:105:10"],
                "0:100:10 and 10:105:10 overlap in the host's ids",
            ),
            (&[], "a mapping needs at least one range"),
        ] {
            assert_eq!(map(texts).unwrap_err(), message);
        }
    }

    proptest! {
        #[test]
        fn a_mapping_is_its_own_inverse(
            extents in prop::collection::vec((any::<u32>(), any::<u32>(), 0_u32..5000), 0..6),
            ids in prop::collection::vec(any::<u32>(), 8),
        ) {
            let extents: Vec<Extent> = extents.into_iter().map(Extent::from).collect();
            if let Ok(map) = IdMap::new(extents.clone()) {
                let edges = extents.iter().flat_map(|e| [e.container, e.container + e.size - 1]);
                for id in edges.chain(ids) {
                    if let Some(host) = map.to_host(id) {
                        prop_assert_eq!(map.to_container(host), Some(id));
                    }
                }
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,30}") {
            drop(Extent::parse(&text));
        }
    }
}
