//! `userns-remap`: the user namespace of every container that asks for no other.
//!
//! Docker's syntax, look-ups and messages (`daemon/daemon_unix.go`), with one difference: for
//! `default` no user is made. Where `dockremap` has no entries in `/etc/subuid` and `/etc/subgid`,
//! the first ids of the range without an owner are taken.

use super::id_map::{Extent, IdMap, IdMaps};
use super::ranges::IdRange;
use super::subordinate::{self, Subordinate};

/// Whom `default` means.
const DEFAULT_USER: &str = "dockremap";
/// Ids taken for `default` without entries.
const DEFAULT_SIZE: u32 = 65536;

/// The host's files, as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
    /// `/etc/subuid`.
    pub subuid: Subordinate,
    /// `/etc/subgid`.
    pub subgid: Subordinate,
}

/// What a setting means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remap {
    /// Root as itself: nothing is remapped.
    Root,
    /// These ids.
    To(IdMaps),
}

impl Accounts {
    /// Name and number of the first entry that `matches`.
    fn find(text: &str, matches: impl Fn(&str, u32) -> bool) -> Option<(String, u32)> {
        text.lines().find_map(|line| {
            let mut parts = line.split(':');
            let (name, _, id) = (parts.next()?, parts.next()?, parts.next()?);
            let id: u32 = id.parse().ok()?;
            (!name.is_empty() && matches(name, id)).then(|| (name.to_owned(), id))
        })
    }

    fn user(&self, name: &str) -> Result<(String, u32), String> {
        Self::find(&self.passwd, |known, _| known == name).ok_or_else(|| {
            format!("unable to find user {name}: no matching entries in passwd file")
        })
    }

    fn user_by_id(&self, id: u32) -> Result<(String, u32), String> {
        Self::find(&self.passwd, |_, known| known == id)
            .ok_or_else(|| format!("unable to find user {id}: no matching entries in passwd file"))
    }

    fn group(&self, name: &str) -> Result<(String, u32), String> {
        Self::find(&self.group, |known, _| known == name).ok_or_else(|| {
            format!("unable to find group {name}: no matching entries in group file")
        })
    }

    fn group_by_id(&self, id: u32) -> Result<(String, u32), String> {
        Self::find(&self.group, |_, known| known == id)
            .ok_or_else(|| format!("unable to find group {id}: no matching entries in group file"))
    }

    /// The ids that `setting` maps containers to.
    pub(crate) fn remap(&self, setting: &str) -> Result<Remap, String> {
        if setting == "default" && self.user(DEFAULT_USER).is_err() {
            let named = [&self.subuid, &self.subgid].map(|file| file.of(DEFAULT_USER, None));
            if named.iter().any(Vec::is_empty) {
                return self.without_owner().map(Remap::To);
            }
            return maps(&named[0], &named[1]).map(Remap::To);
        }
        let (user, group) = self.named(setting)?;
        if user.0 == "root" {
            return Ok(Remap::Root);
        }
        let users = self.subuid.of(&user.0, Some(user.1));
        if users.is_empty() {
            return Err(format!(
                "Can't create ID mappings: no subuid ranges found for user \"{}\"",
                user.0
            ));
        }
        let mut groups = self.subgid.of(&user.0, Some(user.1));
        if groups.is_empty() {
            groups = self.subgid.of(&group.0, Some(group.1));
        }
        if groups.is_empty() {
            return Err(format!(
                "Can't create ID mappings: no subgid ranges found for user \"{}\"",
                user.0
            ));
        }
        maps(&users, &groups).map(Remap::To)
    }

    fn without_owner(&self) -> Result<IdMaps, String> {
        let taken = self.subuid.all().union(&self.subgid.all());
        let ids = subordinate::default_pool()
            .without(&taken)
            .take(DEFAULT_SIZE)
            .ok_or("there are no ids without an owner: give the user \"dockremap\" entries in /etc/subuid and /etc/subgid")?;
        maps(&ids, &ids)
    }

    /// User and group of a setting, each by name or by number.
    #[expect(
        clippy::type_complexity,
        reason = "a user and a group, each name and id"
    )]
    fn named(&self, setting: &str) -> Result<((String, u32), (String, u32)), String> {
        let mut parts = setting.split(':');
        let (user, group) = (parts.next().unwrap_or_default(), parts.next());
        if parts.next().is_some() {
            return Err(format!(
                "Invalid user/group specification in --userns-remap: {setting:?}"
            ));
        }
        let (found, own_group) = match user.parse::<u32>() {
            Ok(id) => {
                let found = self
                    .user_by_id(id)
                    .map_err(|why| format!("Uid {id} has no entry in /etc/passwd: {why}"))?;
                let own = || {
                    self.group_by_id(id)
                        .map_err(|why| format!("Gid {id} has no entry in /etc/group: {why}"))
                };
                (found, group.is_none().then(own).transpose()?)
            }
            Err(_) => {
                let name = if user == "default" {
                    DEFAULT_USER
                } else {
                    user
                };
                let found = self
                    .user(name)
                    .map_err(|why| format!("Error during uid lookup for {name:?}: {why}"))?;
                let own = || {
                    self.group(name)
                        .map_err(|why| format!("Error during gid lookup for {name:?}: {why}"))
                };
                (found, group.is_none().then(own).transpose()?)
            }
        };
        let group = match (own_group, group) {
            (Some(own), _) => own,
            (None, group) => {
                let text = group.unwrap_or_default();
                match text.parse::<u32>() {
                    Ok(id) => self
                        .group_by_id(id)
                        // Docker says passwd here.
                        .map_err(|why| format!("Gid {id} has no entry in /etc/passwd: {why}"))?,
                    Err(_) => self.group(text).map_err(|why| {
                        format!("Error during groupname lookup for {text:?}: {why}")
                    })?,
                }
            }
        };
        Ok((found, group))
    }
}

/// Ids from 0 on, one range after the other.
pub(crate) fn consecutive(ranges: &[IdRange]) -> Result<IdMap, String> {
    let mut next = 0_u32;
    let mut extents = Vec::new();
    for (host, size) in ranges.iter().filter_map(IdRange::parts) {
        let size = size.min(u32::MAX - next);
        if size > 0 {
            extents.push(Extent {
                container: next,
                host,
                size,
            });
            next += size;
        }
    }
    IdMap::new(extents)
}

fn maps(users: &[IdRange], groups: &[IdRange]) -> Result<IdMaps, String> {
    let named = |why: String| format!("Can't create ID mappings: {why}");
    Ok(IdMaps {
        uids: consecutive(users).map_err(named)?,
        gids: consecutive(groups).map_err(named)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/:\nbob:x:1001:1001::/:\ncarol:x:1002:5::/:\n".into(),
            group: "root:x:0:\nalice:x:1000:\nstaff:x:50:\nbob:x:1001:\n".into(),
            subuid: Subordinate::parse("alice:100000:65536\nalice:300000:10\ncarol:500000:5\n"),
            subgid: Subordinate::parse("alice:200000:65536\nstaff:600000:5\n"),
        }
    }

    fn text(remap: Result<Remap, String>) -> (Vec<String>, Vec<String>) {
        match remap.unwrap() {
            Remap::To(maps) => (maps.uids.to_wire(), maps.gids.to_wire()),
            Remap::Root => (Vec::new(), Vec::new()),
        }
    }

    #[test]
    fn users_and_groups_are_found_as_docker_finds_them() {
        let alice = (
            vec!["0:100000:65536".to_owned(), "65536:300000:10".to_owned()],
            vec!["0:200000:65536".to_owned()],
        );
        for setting in ["alice", "1000", "alice:alice", "1000:1000", "alice:staff"] {
            assert_eq!(text(accounts().remap(setting)), alice, "{setting}");
        }
        assert_eq!(
            text(accounts().remap("carol:50")),
            (vec!["0:500000:5".to_owned()], vec!["0:600000:5".to_owned()])
        );
        assert_eq!(accounts().remap("root"), Ok(Remap::Root));
        assert_eq!(accounts().remap("0:0"), Ok(Remap::Root));
    }

    #[test]
    fn default_takes_dockremaps_entries_or_ids_without_an_owner() {
        let mut host = accounts();
        assert_eq!(
            text(host.remap("default")).0,
            ["0:1879048192:65536"],
            "nobody has an entry there"
        );
        host.subuid = Subordinate::parse("eve:1879048190:3");
        assert_eq!(text(host.remap("default")).0, ["0:1879048193:65536"]);
        host.subuid = Subordinate::parse("dockremap:700000:100");
        host.subgid = Subordinate::parse("dockremap:800000:100");
        assert_eq!(
            text(host.remap("default")),
            (
                vec!["0:700000:100".to_owned()],
                vec!["0:800000:100".to_owned()]
            )
        );
    }

    #[test]
    fn what_is_missing_is_named_in_dockers_words() {
        for (setting, message) in [
            (
                "a:b:c",
                "Invalid user/group specification in --userns-remap: \"a:b:c\"",
            ),
            (
                "nobody",
                "Error during uid lookup for \"nobody\": unable to find user nobody: no matching entries in passwd file",
            ),
            (
                "77",
                "Uid 77 has no entry in /etc/passwd: unable to find user 77: no matching entries in passwd file",
            ),
            (
                "1002",
                "Gid 1002 has no entry in /etc/group: unable to find group 1002: no matching entries in group file",
            ),
            (
                "carol",
                "Error during gid lookup for \"carol\": unable to find group carol: no matching entries in group file",
            ),
            (
                "alice:none",
                "Error during groupname lookup for \"none\": unable to find group none: no matching entries in group file",
            ),
            (
                "alice:99",
                "Gid 99 has no entry in /etc/passwd: unable to find group 99: no matching entries in group file",
            ),
            (
                "bob",
                "Can't create ID mappings: no subuid ranges found for user \"bob\"",
            ),
            (
                "carol:bob",
                "Can't create ID mappings: no subgid ranges found for user \"carol\"",
            ),
        ] {
            assert_eq!(accounts().remap(setting).unwrap_err(), message, "{setting}");
        }
    }
}
