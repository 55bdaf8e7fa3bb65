//! Mappings between a user namespace's IDs and those outside. Pure.

use wharf_oci::runtime::IdMapping;

use crate::error::{Stage, StartError};

/// The most ranges the kernel takes.
const RANGES_MAX: usize = 340;

/// A mapping of IDs: ranges that do not overlap, on neither side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap(Vec<IdMapping>);

/// The mapping of a user namespace: users and groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub uid: IdMap,
    /// Groups.
    pub gid: IdMap,
}

impl IdMaps {
    /// Checks the mapping of a document. `whose` names it in messages.
    pub fn new(whose: &str, uid: &[IdMapping], gid: &[IdMapping]) -> Result<Self, StartError> {
        Ok(Self {
            uid: IdMap::new(&format!("{whose}: uidMappings"), uid)?,
            gid: IdMap::new(&format!("{whose}: gidMappings"), gid)?,
        })
    }
}

impl IdMap {
    fn new(what: &str, ranges: &[IdMapping]) -> Result<Self, StartError> {
        let refuse = |why: String| StartError::refused(Stage::Config, format!("{what} {why}"));
        if ranges.is_empty() {
            return Err(refuse("are missing".to_owned()));
        }
        if ranges.len() > RANGES_MAX {
            return Err(refuse(format!(
                "are {}, the kernel takes {RANGES_MAX}",
                ranges.len()
            )));
        }
        for (index, range) in ranges.iter().enumerate() {
            let text = text_of(range);
            if range.size == 0 {
                return Err(refuse(format!("have an empty range ({text})")));
            }
            // The highest ID means "none" to the kernel.
            let ends =
                [range.container_id, range.host_id].map(|first| first.checked_add(range.size));
            if ends.contains(&None) {
                return Err(refuse(format!("go beyond the highest ID ({text})")));
            }
            if let Some(other) = ranges[..index].iter().find(|other| {
                overlap(range.container_id, other.container_id, range, other)
                    || overlap(range.host_id, other.host_id, range, other)
            }) {
                return Err(refuse(format!("overlap ({} and {text})", text_of(other))));
            }
        }
        Ok(Self(ranges.to_vec()))
    }

    /// Reads the kernel's `/proc/PID/uid_map`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let ranges = text.lines().map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            Some(IdMapping {
                container_id: numbers.next()?.ok()?,
                host_id: numbers.next()?.ok()?,
                size: numbers.next()?.ok()?,
            })
        });
        let ranges: Vec<IdMapping> = ranges.collect::<Option<_>>()?;
        (!ranges.is_empty()).then_some(Self(ranges))
    }

    /// As `/proc/PID/uid_map` takes it.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|range| text_of(range) + "\n").collect()
    }

    /// Its ranges.
    pub fn ranges(&self) -> &[IdMapping] {
        &self.0
    }

    /// The ID outside of the namespace's `id`.
    pub fn outside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let distance = id.checked_sub(range.container_id)?;
            (distance < range.size).then(|| range.host_id + distance)
        })
    }

    /// Whether the namespace has no ID but one, which is `outside` outside of it.
    pub(crate) fn is_only(&self, outside: u32) -> bool {
        matches!(self.0.as_slice(), [range] if range.size == 1 && range.host_id == outside)
    }

    /// Whom a namespace is set up as: its root, or its first ID if it has no root.
    pub(crate) fn first(&self) -> u32 {
        let lowest = self.0.iter().map(|range| range.container_id).min();
        lowest.unwrap_or(0)
    }

    /// Whether both map the same IDs in the same way, however it is written.
    pub(crate) fn means_the_same_as(&self, other: &Self) -> bool {
        let sorted = |map: &Self| {
            let mut ranges = map.0.clone();
            ranges.sort_by_key(|range| range.container_id);
            let mut merged: Vec<IdMapping> = Vec::with_capacity(ranges.len());
            for range in ranges {
                match merged.last_mut() {
                    Some(last)
                        if last.container_id + last.size == range.container_id
                            && last.host_id + last.size == range.host_id =>
                    {
                        last.size += range.size;
                    }
                    _ => merged.push(range),
                }
            }
            merged
        };
        sorted(self) == sorted(other)
    }
}

fn text_of(range: &IdMapping) -> String {
    format!("{} {} {}", range.container_id, range.host_id, range.size)
}

fn overlap(first: u32, other_first: u32, range: &IdMapping, other: &IdMapping) -> bool {
    let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
    u64::from(first) < end(other_first, other.size)
        && u64::from(other_first) < end(first, range.size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping {
            container_id,
            host_id,
            size,
        }
    }

    #[test]
    fn ids_are_looked_up() {
        let map = IdMap::new("x", &[range(1000, 0, 1), range(0, 100_000, 1000)]).unwrap();
        assert_eq!(map.outside(1000), Some(0));
        assert_eq!(map.outside(999), Some(100_999));
        assert_eq!(map.outside(1001), None);
        assert_eq!(map.first(), 0);
        assert_eq!(map.text(), "1000 0 1\n0 100000 1000\n");
        assert_eq!(IdMap::parse("  1000 0 1\n  0  100000  1000\n"), Some(map));
        assert_eq!(IdMap::parse(""), None);
    }

    #[test]
    fn ways_of_writing_do_not_matter() {
        let whole = IdMap::new("x", &[range(0, 10, 20)]).unwrap();
        let parts = IdMap::new("x", &[range(5, 15, 15), range(0, 10, 5)]).unwrap();
        assert!(whole.means_the_same_as(&parts));
        assert!(!whole.means_the_same_as(&IdMap::new("x", &[range(0, 10, 19)]).unwrap()));
    }

    #[test]
    fn what_the_kernel_would_refuse_is_named() {
        for (ranges, why) in [
            (vec![], "x are missing"),
            (vec![range(0, 1, 0)], "x have an empty range (0 1 0)"),
            (
                vec![range(1, 5, u32::MAX)],
                "x go beyond the highest ID (1 5 4294967295)",
            ),
            (
                vec![range(0, 0, 2), range(5, 1, 2)],
                "x overlap (0 0 2 and 5 1 2)",
            ),
            (
                vec![range(0, 0, 2), range(1, 9, 2)],
                "x overlap (0 0 2 and 1 9 2)",
            ),
        ] {
            assert_eq!(IdMap::new("x", &ranges).unwrap_err().to_string(), why);
        }
        let many: Vec<_> = (0..341).map(|index| range(index, index, 1)).collect();
        assert!(IdMap::new("x", &many).is_err());
    }

    proptest! {
        #[test]
        fn a_mapping_is_one_to_one(
            ranges in proptest::collection::vec((0_u32..200, 0_u32..200, 0_u32..40), 1..6),
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(c, h, s)| range(c, h, s)).collect();
            if let Ok(map) = IdMap::new("x", &ranges) {
                let outside: Vec<u32> = (0..300).filter_map(|id| map.outside(id)).collect();
                let distinct: std::collections::BTreeSet<_> = outside.iter().collect();
                prop_assert_eq!(distinct.len(), outside.len());
                prop_assert_eq!(outside.len(), ranges.iter().map(|range| range.size as usize).sum::<usize>());
                prop_assert_eq!(IdMap::parse(&map.text()), Some(map));
            }
        }
    }
}
