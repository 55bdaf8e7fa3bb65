//! Which user namespace a container gets: modes, id ranges, the daemon-wide remap.
//!
//! ```text
//! UsernsMode ─ mode ─▶ Mode ─┐
//! /etc/subuid, /etc/subgid ──┼─▶ IdMaps ─▶ the container's record
//! ranges in use ─────────────┘
//! ```
//!
//! Which ranges are in use is read off the containers' records and runs each time. A range is free again
//! with the last that names it, however that came to go; there is no list to get out of step.
//! Layers and volumes hold the container's own ids and are mounted through the mapping, so a range
//! leaves no files behind for its next owner.

mod id_map;
mod mode;
mod mount_map;
mod ranges;
mod remap;
mod subordinate;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wharf_fault::{Error, Result};

pub(crate) use id_map::{Extent, IdMap, IdMaps, OVERFLOW_ID};
pub(crate) use mode::Mode;
use mode::{Auto, KeepId, Private};
pub(crate) use mount_map::MountMap;
use ranges::{IdRange, RangeSet};
use remap::{Accounts, Remap};
use subordinate::{AUTO_USER, Subordinate};

/// Ids of an automatic range that names no size.
const SIZE_DEFAULT: u32 = 65536;

/// The user namespaces of an engine's containers.
#[derive(Debug)]
pub(crate) struct UserNamespaces {
    remap: Option<IdMaps>,
    own: Own,
    /// Given to containers that are being made and are not on record yet.
    pending: Arc<Mutex<Vec<Arc<IdMaps>>>>,
}

/// The mapping of the namespace the daemon itself is in.
#[derive(Debug, Clone)]
struct Own {
    /// The machine's first one, where all ids are.
    initial: bool,
    uids: IdMap,
    gids: IdMap,
}

/// A mapping that nobody else gets while this is held.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// The mapping.
    pub maps: Arc<IdMaps>,
    pending: Arc<Mutex<Vec<Arc<IdMaps>>>>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        lock(&self.pending).retain(|held| !Arc::ptr_eq(held, &self.maps));
    }
}

fn lock(pending: &Mutex<Vec<Arc<IdMaps>>>) -> MutexGuard<'_, Vec<Arc<IdMaps>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UserNamespaces {
    /// Understands the setting `userns-remap`; empty is no remap.
    pub(crate) fn open(setting: &str) -> Result<Self> {
        let own = Own::read()?;
        let remap = match setting {
            "" => None,
            _ if !own.initial => {
                return Err(Error::not_implemented(
                    "userns-remap: the daemon is in a user namespace already, as are its containers",
                ));
            }
            setting => {
                let text = |path: &str| {
                    std::fs::read_to_string(path).map_err(|source| {
                        Error::system(format!("cannot read {path}")).caused_by(source)
                    })
                };
                let accounts = Accounts {
                    passwd: text("/etc/passwd")?,
                    group: text("/etc/group")?,
                    subuid: subordinate_ids("/etc/subuid")?,
                    subgid: subordinate_ids("/etc/subgid")?,
                };
                match accounts.remap(setting).map_err(Error::invalid)? {
                    Remap::To(maps) => Some(maps),
                    Remap::Root => {
                        tracing::warn!(
                            "User namespaces: root cannot be remapped with itself; user namespaces are OFF"
                        );
                        None
                    }
                }
            }
        };
        Ok(Self {
            remap,
            own,
            pending: Arc::default(),
        })
    }

    /// The mapping of containers that ask for no other.
    pub(crate) fn remap(&self) -> Option<&IdMaps> {
        self.remap.as_ref()
    }

    /// The options that say who calls, where `keep` does not; `uid` and `gid` are as the daemon
    /// sees them.
    pub(crate) fn caller(&self, keep: &KeepId, uid: u32, gid: u32) -> Option<String> {
        if keep.host_uid.is_some() || keep.host_gid.is_some() {
            return None;
        }
        let (uid, gid) = (self.own.uids.to_host(uid)?, self.own.gids.to_host(gid)?);
        Some(format!("host-uid={uid},host-gid={gid}"))
    }

    /// Gives a container that has `mode` its mapping; `in_use` lists those that others have. `None` for
    /// modes whose mapping is found out at each start, and for those without one.
    pub(crate) fn assign(
        &self,
        mode: &Mode,
        in_use: impl FnOnce() -> Vec<IdMaps>,
    ) -> Result<Option<Reserved>> {
        let auto = match mode {
            Mode::Host | Mode::Container(_) => return Ok(None),
            Mode::Daemon => {
                let remap = self.remap.clone();
                return Ok(remap.map(|maps| self.hold(&mut lock(&self.pending), maps)));
            }
            Mode::Private(private) => {
                let maps = private
                    .resolve(
                        &subordinate_ids("/etc/subuid")?,
                        &subordinate_ids("/etc/subgid")?,
                    )
                    .map_err(Error::invalid)?;
                return Ok(Some(self.hold(&mut lock(&self.pending), maps)));
            }
            Mode::Auto(auto) => auto.clone(),
            Mode::KeepId(keep) => self.own.auto_of(keep).map_err(Error::invalid)?,
        };
        let pools = self.own.pools()?;
        let mut pending = lock(&self.pending);
        let known = in_use();
        let taken = || {
            let recorded = known.iter().chain(self.remap.as_ref());
            recorded.chain(pending.iter().map(Arc::as_ref))
        };
        let uids: RangeSet = taken().flat_map(|maps| maps.uids.host_ranges()).collect();
        let gids: RangeSet = taken().flat_map(|maps| maps.gids.host_ranges()).collect();
        let size = auto.size.unwrap_or(SIZE_DEFAULT);
        let map = |what: &str, fixed: &[Extent], pool: &RangeSet, used: &RangeSet| {
            around(fixed, size, &pool.without(used)).map_err(|why| match why {
                Refusal::Wrong(why) => Error::invalid(format!("--userns: {why}")),
                Refusal::Exhausted { wanted, left } => Error::conflict(format!(
                    "not enough unused {what} ids for a user namespace of {wanted}: {left} of {} are left (fewer: --userns=auto:size=N; more: entries of the user \"{AUTO_USER}\" in /etc/subuid and /etc/subgid)",
                    pool.len()
                )),
            })
        };
        let maps = IdMaps {
            uids: map("user", &auto.uids, &pools[0], &uids)?,
            gids: map("group", &auto.gids, &pools[1], &gids)?,
        };
        Ok(Some(self.hold(&mut pending, maps)))
    }

    fn hold(&self, pending: &mut Vec<Arc<IdMaps>>, maps: IdMaps) -> Reserved {
        let maps = Arc::new(maps);
        pending.push(Arc::clone(&maps));
        Reserved {
            maps,
            pending: Arc::clone(&self.pending),
        }
    }
}

fn subordinate_ids(path: &str) -> Result<Subordinate> {
    Subordinate::read(Path::new(path))
        .map_err(|source| Error::system(format!("cannot read {path}")).caused_by(source))
}

impl Own {
    fn read() -> Result<Self> {
        let map = |path: &str| {
            let failed = || Error::system(format!("cannot read {path}"));
            let text =
                std::fs::read_to_string(path).map_err(|source| failed().caused_by(source))?;
            kernel_map(&text).map_err(|why| failed().caused_by(why))
        };
        let (uids, gids) = (map("/proc/self/uid_map")?, map("/proc/self/gid_map")?);
        let all = |map: &IdMap| map.extents() == [Extent::from((0, 0, u32::MAX))];
        Ok(Self {
            initial: all(&uids) && all(&gids),
            uids,
            gids,
        })
    }

    /// Users and groups that containers may get.
    fn pools(&self) -> Result<[RangeSet; 2]> {
        if self.initial {
            return Ok([
                subordinate_ids("/etc/subuid")?.pool(),
                subordinate_ids("/etc/subgid")?.pool(),
            ]);
        }
        // Everything this namespace has, apart from the user it belongs to.
        let user: RangeSet = [IdRange::new(0, 1)].into_iter().collect();
        let ids = |map: &IdMap| {
            let all: RangeSet = map.extents().iter().map(Extent::container_range).collect();
            all.without(&user)
        };
        Ok([ids(&self.uids), ids(&self.gids)])
    }

    /// `keep-id` as an automatic range with two ids given.
    fn auto_of(&self, keep: &KeepId) -> std::result::Result<Auto, String> {
        let (Some(host_uid), Some(host_gid)) = (keep.host_uid, keep.host_gid) else {
            return Err(
                "--userns=keep-id: the daemon does not know who calls it: add host-uid=N,host-gid=N"
                    .to_owned(),
            );
        };
        if host_uid == 0 || host_gid == 0 {
            return Err(
                "--userns=keep-id keeps the ids of an ordinary user and cannot be used by root"
                    .to_owned(),
            );
        }
        let here = |map: &IdMap, id: u32, what: &str| {
            map.to_container(id)
                .ok_or_else(|| format!("--userns=keep-id: {what} {id} is not known to the daemon"))
        };
        let extent = |container: u32, host: u32| Extent::from((container, host, 1));
        Ok(Auto {
            size: keep.size,
            uids: vec![extent(
                keep.uid.unwrap_or(host_uid),
                here(&self.uids, host_uid, "user")?,
            )],
            gids: vec![extent(
                keep.gid.unwrap_or(host_gid),
                here(&self.gids, host_gid, "group")?,
            )],
        })
    }
}

/// Reads what the kernel writes in `uid_map`.
fn kernel_map(text: &str) -> std::result::Result<IdMap, String> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(container)), Some(Ok(host)), Some(Ok(size))) => {
                Ok(Extent::from((container, host, size)))
            }
            _ => Err(format!("unexpected line {line:?}")),
        }
    };
    IdMap::new(
        text.lines()
            .map(line)
            .collect::<std::result::Result<_, _>>()?,
    )
}

impl KeepId {
    /// Whom the container's program runs as when nobody says.
    pub(crate) fn user(&self) -> Option<String> {
        let uid = self.uid.or(self.host_uid)?;
        let gid = self.gid.or(self.host_gid)?;
        Some(format!("{uid}:{gid}"))
    }
}

impl Private {
    fn resolve(
        &self,
        subuid: &Subordinate,
        subgid: &Subordinate,
    ) -> std::result::Result<IdMaps, String> {
        let entries = |file: &Subordinate, name: &String, what: &str| {
            let ranges = file.of(name, None);
            if ranges.is_empty() {
                return Err(format!("no {what} ranges found for user {name:?}"));
            }
            remap::consecutive(&ranges)
        };
        let uids = match (&self.uids[..], &self.subuid_name) {
            ([], None) => None,
            ([], Some(name)) => Some(entries(subuid, name, "subuid")?),
            (extents, _) => Some(IdMap::new(extents.to_vec())?),
        };
        let gids = match (&self.gids[..], &self.subgid_name, &self.subuid_name) {
            ([], None, None) => None,
            ([], Some(name), _) | ([], None, Some(name)) => Some(entries(subgid, name, "subgid")?),
            (extents, ..) => Some(IdMap::new(extents.to_vec())?),
        };
        let uids = match (uids, &self.subgid_name) {
            (None, Some(name)) => Some(entries(subuid, name, "subuid")?),
            (uids, _) => uids,
        };
        let maps = match (uids, gids) {
            (Some(uids), Some(gids)) => IdMaps { uids, gids },
            // One of the two is for both.
            (Some(one), None) | (None, Some(one)) => IdMaps {
                uids: one.clone(),
                gids: one,
            },
            (None, None) => return Err("a private user namespace needs a mapping".to_owned()),
        };
        // Its root sets the container up.
        if maps.uids.to_host(0).is_none() || maps.gids.to_host(0).is_none() {
            return Err(
                "a private user namespace needs a mapping of the container's id 0".to_owned(),
            );
        }
        Ok(maps)
    }
}

/// Why there is no mapping.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Wrong(String),
    Exhausted { wanted: u64, left: u64 },
}

/// `size` ids from 0 on, of which `fixed` are given and the rest come from `free`.
fn around(fixed: &[Extent], size: u32, free: &RangeSet) -> std::result::Result<IdMap, Refusal> {
    let all: RangeSet = [IdRange::new(0, size)].into_iter().collect();
    let given: RangeSet = fixed.iter().map(Extent::container_range).collect();
    let open = all.without(&given);
    let free = free.without(&fixed.iter().map(Extent::host_range).collect());
    let wanted = open.len();
    let exhausted = || Refusal::Exhausted {
        wanted,
        left: free.len(),
    };
    let taken = u32::try_from(wanted)
        .ok()
        .and_then(|wanted| free.take(wanted))
        .ok_or_else(exhausted)?;
    let mut extents = fixed.to_vec();
    let mut sources = taken.iter().filter_map(IdRange::parts);
    let (mut host, mut host_left) = (0, 0);
    for (mut container, mut left) in open.ranges().iter().filter_map(IdRange::parts) {
        while left > 0 {
            if host_left == 0 {
                (host, host_left) = sources.next().ok_or_else(exhausted)?;
            }
            let size = left.min(host_left);
            extents.push(Extent {
                container,
                host,
                size,
            });
            (container, left) = (container + size, left - size);
            (host, host_left) = (host + size, host_left - size);
        }
    }
    IdMap::new(extents).map_err(Refusal::Wrong)
}

#[cfg(test)]
mod tests;
