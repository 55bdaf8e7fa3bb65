//! Mappings of single mounts: `idmap[=uids=DISK-HOST-SIZE#…;gids=…]`, as Podman and crun write them.
//!
//! ```text
//! idmap                              the container's own mapping: root on disk is the container's root
//! idmap=uids=0-1000-1;gids=0-1000-1  what root has on disk belongs to the host's user 1000
//! idmap=uids=@1000-0-1;gids=@1000-0-1  what 1000 has on disk belongs to the container's root
//! ```
//!
//! The first number is the id on disk, the second the one it is shown as: the host's, or after
//! an `@` the container's. Files made through the mount get the id on disk.

use super::id_map::{Extent, IdMap, IdMaps};

/// The mapping of a mount, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountMap {
    /// The container's.
    Container,
    /// Another; a missing half is the container's.
    Given {
        /// Users.
        uids: Vec<Part>,
        /// Groups.
        gids: Vec<Part>,
    },
}

/// A run of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    disk: u32,
    shown: u32,
    size: u32,
    /// `shown` is an id of the container.
    relative: bool,
}

impl MountMap {
    /// Reads what follows `idmap=`; nothing is the container's mapping.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Container);
        }
        let (mut uids, mut gids) = (None, None);
        for half in text.split(';') {
            let (target, list) = match half.split_once('=') {
                Some(("uids", list)) => (&mut uids, list),
                Some(("gids", list)) => (&mut gids, list),
                _ => {
                    return Err(format!(
                        "invalid idmap option {half:?}: uids=DISK-HOST-SIZE#… or gids=… expected"
                    ));
                }
            };
            if target.is_some() {
                return Err(format!("invalid idmap option {half:?}: given twice"));
            }
            *target = Some(
                list.split('#')
                    .map(Part::parse)
                    .collect::<Result<Vec<_>, _>>()?,
            );
        }
        Ok(Self::Given {
            uids: uids.unwrap_or_default(),
            gids: gids.unwrap_or_default(),
        })
    }

    /// From ids on disk to ids of the host, in a container whose mapping is `container`.
    pub(crate) fn resolve(&self, container: Option<&IdMaps>) -> Result<IdMaps, String> {
        let own = || {
            container.ok_or_else(|| {
                "idmap needs a mapping (idmap=uids=…;gids=…) in a container without a user namespace of its own"
                    .to_owned()
            })
        };
        match self {
            Self::Container => own().cloned(),
            Self::Given { uids, gids } => Ok(IdMaps {
                uids: match &uids[..] {
                    [] => own()?.uids.clone(),
                    parts => resolve(parts, container.map(|maps| &maps.uids))?,
                },
                gids: match &gids[..] {
                    [] => own()?.gids.clone(),
                    parts => resolve(parts, container.map(|maps| &maps.gids))?,
                },
            }),
        }
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("invalid idmap range {text:?}: DISK-HOST-SIZE expected");
        let (numbers, relative) = match text.strip_prefix('@') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let mut numbers = numbers.split('-').map(|part| {
            part.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| part.parse::<u32>().ok())
                .flatten()
        });
        let mut next = || numbers.next().flatten().ok_or_else(wrong);
        let part = Self {
            disk: next()?,
            shown: next()?,
            size: next()?,
            relative,
        };
        if numbers.next().is_some() || part.size == 0 {
            return Err(wrong());
        }
        Ok(part)
    }
}

fn resolve(parts: &[Part], container: Option<&IdMap>) -> Result<IdMap, String> {
    let mut extents = Vec::new();
    for part in parts {
        match container.filter(|_| part.relative) {
            None => extents.push(Extent::from((part.disk, part.shown, part.size))),
            Some(map) => relative(part, map, &mut extents)?,
        }
    }
    IdMap::new(extents).map_err(|why| format!("invalid idmap: {why}"))
}

/// A run of the container's ids may be several runs of the host's.
fn relative(part: &Part, map: &IdMap, extents: &mut Vec<Extent>) -> Result<(), String> {
    let (mut disk, mut shown, mut left) = (part.disk, part.shown, part.size);
    while left > 0 {
        let run = map
            .extents()
            .iter()
            .find(|extent| extent.container_range().contains(shown))
            .ok_or_else(|| {
                format!(
                    "invalid idmap: the container has no id {shown} (range @{}-{}-{})",
                    part.disk, part.shown, part.size
                )
            })?;
        let offset = shown - run.container;
        let size = left.min(run.size - offset);
        extents.push(Extent::from((disk, run.host + offset, size)));
        left -= size;
        if left > 0 {
            let beyond = || format!("invalid idmap: ids end at {}", u32::MAX - 1);
            disk = disk.checked_add(size).ok_or_else(beyond)?;
            shown = shown.checked_add(size).ok_or_else(beyond)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn container() -> IdMaps {
        let map = |texts: &[&str]| {
            IdMap::new(texts.iter().map(|t| Extent::parse(t).unwrap()).collect()).unwrap()
        };
        IdMaps {
            uids: map(&["0:100000:1000", "1000:1000:1", "1001:101000:1000"]),
            gids: map(&["0:200000:5"]),
        }
    }

    fn resolved(text: &str) -> Result<(Vec<String>, Vec<String>), String> {
        let maps = MountMap::parse(text)?.resolve(Some(&container()))?;
        Ok((maps.uids.to_wire(), maps.gids.to_wire()))
    }

    #[test]
    fn mappings_are_the_containers_or_given() {
        assert_eq!(
            MountMap::parse("").unwrap().resolve(Some(&container())),
            Ok(container())
        );
        let (uids, gids) = resolved("uids=0-1000-10#10-11-10;gids=0-100-10").unwrap();
        assert_eq!(uids, ["0:1000:10", "10:11:10"]);
        assert_eq!(gids, ["0:100:10"]);
        // A missing half is the container's.
        assert_eq!(resolved("uids=0-5-1").unwrap().1, ["0:200000:5"]);
        // Relative to the container, across its runs.
        assert_eq!(
            resolved("uids=@0-999-3;gids=@7-0-5").unwrap(),
            (
                vec![
                    "0:100999:1".to_owned(),
                    "1:1000:1".to_owned(),
                    "2:101000:1".to_owned()
                ],
                vec!["7:200000:5".to_owned()]
            )
        );
    }

    #[test]
    fn nonsense_is_named() {
        for (text, message) in [
            (
                "uid=0-1-1",
                "invalid idmap option \"uid=0-1-1\": uids=DISK-HOST-SIZE#… or gids=… expected",
            ),
            (
                "uids=0-1",
                "invalid idmap range \"0-1\": DISK-HOST-SIZE expected",
            ),
            ("uids=", "invalid idmap range \"\": DISK-HOST-SIZE expected"),
            (
                "uids=0-1-0",
                "invalid idmap range \"0-1-0\": DISK-HOST-SIZE expected",
            ),
            (
                "uids=0-1-1;uids=0-1-1",
                "invalid idmap option \"uids=0-1-1\": given twice",
            ),
            (
                "gids=@0-4-2",
                "invalid idmap: the container has no id 5 (range @0-4-2)",
            ),
            (
                "uids=0-1-2#1-5-5",
                "invalid idmap: 0:1:2 and 1:5:5 overlap in the container's ids",
            ),
        ] {
            assert_eq!(resolved(text).unwrap_err(), message, "{text}");
        }
        assert!(MountMap::Container.resolve(None).is_err());
        assert!(
            MountMap::parse("uids=0-1-1")
                .unwrap()
                .resolve(None)
                .is_err()
        );
        assert!(
            MountMap::parse("uids=0-1-1;gids=0-1-1")
                .unwrap()
                .resolve(None)
                .is_ok()
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(uids=|gids=|;|#|-|@|[0-9]{1,10}|.){0,12}") {
            if let Ok(map) = MountMap::parse(&text) {
                drop(map.resolve(Some(&container())));
                drop(map.resolve(None));
            }
        }
    }
}
