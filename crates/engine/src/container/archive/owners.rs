//! Whose a container's files are, where they are looked at from outside.

use wharf_fault::{Error, Result};

use crate::container::mounts::MountRecord;
use crate::user_namespaces::{IdMap, IdMaps, MountMap, OVERFLOW_ID};

/// What the container's ids are called where its files are opened.
#[derive(Debug)]
pub(super) enum Owners {
    /// The same: layers and volumes, and containers without a user namespace.
    AsTheyAre,
    /// The host's ids: what runs, and binds.
    OfHost {
        /// The container's mapping.
        maps: IdMaps,
        /// Only mapped ids can make files there.
        running: bool,
    },
    /// The ids on a disk that is mounted through a mapping of its own.
    OnDisk {
        /// The container's mapping, if it has one.
        container: Option<IdMaps>,
        /// The mount's.
        mount: IdMaps,
    },
}

impl Owners {
    pub(super) fn of_running(maps: Option<IdMaps>) -> Self {
        maps.map_or(Self::AsTheyAre, |maps| Self::OfHost {
            maps,
            running: true,
        })
    }

    /// A stopped container's mount, opened on the host.
    pub(super) fn of_bind(mount: &MountRecord, maps: Option<IdMaps>) -> Result<Self> {
        match &mount.id_map {
            None => Ok(maps.map_or(Self::AsTheyAre, |maps| Self::OfHost {
                maps,
                running: false,
            })),
            Some(text) => Ok(Self::OnDisk {
                mount: MountMap::parse(text)
                    .and_then(|map| map.resolve(maps.as_ref()))
                    .map_err(Error::invalid)?,
                container: maps,
            }),
        }
    }

    /// In whose name files have to be made.
    pub(super) fn maker(&self) -> Option<(u32, u32)> {
        match self {
            Self::OfHost {
                maps,
                running: true,
            } => Some(maps.root()),
            _ => None,
        }
    }

    /// What a user and a group of the container are called; the one that has no name is the error.
    pub(super) fn outside(&self, uid: u32, gid: u32) -> std::result::Result<(u32, u32), u32> {
        let one = |half: fn(&IdMaps) -> &IdMap, id: u32| {
            match self {
                Self::AsTheyAre => Some(id),
                Self::OfHost { maps, .. } => half(maps).to_host(id),
                Self::OnDisk { container, mount } => container
                    .as_ref()
                    .map_or(Some(id), |maps| half(maps).to_host(id))
                    .and_then(|id| half(mount).to_container(id)),
            }
            .ok_or(id)
        };
        Ok((one(|maps| &maps.uids, uid)?, one(|maps| &maps.gids, gid)?))
    }

    /// How the container sees a user and a group.
    pub(super) fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let one = |half: fn(&IdMaps) -> &IdMap, id: u32| {
            match self {
                Self::AsTheyAre => Some(id),
                Self::OfHost { maps, .. } => half(maps).to_container(id),
                Self::OnDisk { container, mount } => half(mount).to_host(id).and_then(|id| {
                    container
                        .as_ref()
                        .map_or(Some(id), |maps| half(maps).to_container(id))
                }),
            }
            .unwrap_or(OVERFLOW_ID)
        };
        (one(|maps| &maps.uids, uid), one(|maps| &maps.gids, gid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user_namespaces::Extent;

    fn maps(text: &str) -> IdMaps {
        let map = IdMap::new(vec![Extent::parse(text).unwrap()]).unwrap();
        IdMaps {
            uids: map.clone(),
            gids: map,
        }
    }

    #[test]
    fn ids_are_those_of_the_place_that_is_opened() {
        let running = Owners::of_running(Some(maps("0:100000:1000")));
        assert_eq!(running.maker(), Some((100_000, 100_000)));
        assert_eq!(running.outside(5, 6), Ok((100_005, 100_006)));
        assert_eq!(running.outside(5, 1000), Err(1000));
        assert_eq!(running.inside(100_005, 0), (5, OVERFLOW_ID));

        let mut mount = crate::container::mounts::parse_bind("/a:/b:idmap", "").unwrap();
        let mapped = Owners::of_bind(&mount, Some(maps("0:100000:1000"))).unwrap();
        assert_eq!(mapped.maker(), None);
        assert_eq!(mapped.outside(5, 6), Ok((5, 6)));
        mount.id_map = Some("uids=1000-100000-1;gids=1000-100000-1".to_owned());
        let given = Owners::of_bind(&mount, Some(maps("0:100000:1000"))).unwrap();
        assert_eq!(given.outside(0, 0), Ok((1000, 1000)));
        assert_eq!(given.inside(1000, 1000), (0, 0));
        mount.id_map = None;
        let plain = Owners::of_bind(&mount, Some(maps("0:100000:1000"))).unwrap();
        assert_eq!(plain.outside(1, 1), Ok((100_001, 100_001)));
        assert_eq!(
            Owners::of_bind(&mount, None).unwrap().outside(1, 2),
            Ok((1, 2))
        );
    }
}
