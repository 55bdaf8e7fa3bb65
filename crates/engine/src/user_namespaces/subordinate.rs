//! `/etc/subuid` and `/etc/subgid`: ids that belong to a user beside his own, `name:first:count`.
//!
//! ```text
//! pool of --userns=auto:  the entries of the user "containers", as Podman's;
//!                         without one a high range, less everything anybody has an entry for
//! ```
//!
//! The files belong to the administrator and are read anew each time; a line that makes no sense
//! is no entry.

use std::io::Read as _;
use std::path::Path;

use super::ranges::{IdRange, RangeSet};

/// Whose entries containers with a namespace of their own get their ids from.
pub(crate) const AUTO_USER: &str = "containers";

/// Where ids come from when [`AUTO_USER`] has none: above what systemd gives to its containers,
/// below the ids of foreign disk images (`systemd`'s `UIDS-GIDS.md`).
const DEFAULT_POOL: (u32, u32) = (0x7000_0000, 0x0ffe_0000);

/// A bigger file is no list of users' ids.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The entries of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subordinate {
    entries: Vec<(String, IdRange)>,
}

impl Subordinate {
    /// Reads a file; a missing one has no entries.
    pub(crate) fn read(path: &Path) -> std::io::Result<Self> {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// Reads a file's text.
    pub(crate) fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let line = line.trim();
            let mut parts = line.split(':');
            let (name, start, count) = (parts.next()?, parts.next()?, parts.next()?);
            if name.is_empty() || name.starts_with('#') || parts.next().is_some() {
                return None;
            }
            let (start, count): (u32, u32) = (start.parse().ok()?, count.parse().ok()?);
            // Nothing reaches the last id, which means "none".
            let count = count.min(u32::MAX - start);
            (count > 0).then(|| (name.to_owned(), IdRange::new(start, count)))
        };
        Self {
            entries: text.lines().filter_map(entry).collect(),
        }
    }

    /// The entries of a user, by name or by number, in the order of the file.
    pub(crate) fn of(&self, name: &str, id: Option<u32>) -> Vec<IdRange> {
        let id = id.map(|id| id.to_string());
        self.entries
            .iter()
            .filter(|(owner, _)| owner == name || Some(owner) == id.as_ref())
            .map(|(_, range)| *range)
            .collect()
    }

    /// Everything anybody has.
    pub(crate) fn all(&self) -> RangeSet {
        self.entries.iter().map(|(_, range)| *range).collect()
    }

    /// What containers may get: see the top.
    pub(crate) fn pool(&self) -> RangeSet {
        let given: RangeSet = self.of(AUTO_USER, None).into_iter().collect();
        if given.is_empty() {
            default_pool().without(&self.all())
        } else {
            given
        }
    }
}

/// The range without an owner.
pub(crate) fn default_pool() -> RangeSet {
    [IdRange::new(DEFAULT_POOL.0, DEFAULT_POOL.1)]
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_read_and_nonsense_is_not() {
        let file = Subordinate::parse(
            "alice:100000:65536\n# bob:1:2\n\nbob:200000\nbob:x:1\n1001:300000:10\ncarol:4294967000:4294967295\ndave:5:0\n:1:1\nalice:400000:5:6\nalice:500000:7\n",
        );
        assert_eq!(
            file.of("alice", Some(1001)),
            [
                IdRange::new(100_000, 65536),
                IdRange::new(300_000, 10),
                IdRange::new(500_000, 7)
            ]
        );
        assert_eq!(
            file.of("carol", None),
            [IdRange::new(4_294_967_000, 295)],
            "cut at the last id"
        );
        assert!(file.of("bob", None).is_empty() && file.of("dave", None).is_empty());
    }

    #[test]
    fn the_pool_is_containers_own_or_what_nobody_has() {
        let named = Subordinate::parse("containers:1000000:500\nalice:5:5\ncontainers:7:3");
        assert_eq!(
            named.pool(),
            [IdRange::new(7, 3), IdRange::new(1_000_000, 500)]
                .into_iter()
                .collect()
        );
        let other = Subordinate::parse("alice:1879048192:65536");
        assert_eq!(
            other.pool().ranges()[0].start(),
            u64::from(DEFAULT_POOL.0) + 65536
        );
    }

    proptest! {
        #[test]
        fn no_file_panics_or_leaves_the_ids(text in "([a-z0-9:#\n ]|[0-9]{1,11}|containers:|\u{0}){0,40}") {
            let file = Subordinate::parse(&text);
            for range in file.all().ranges() {
                prop_assert!(range.end() <= u64::from(u32::MAX));
            }
            let taken = file.all();
            if file.of(AUTO_USER, None).is_empty() {
                prop_assert_eq!(file.pool().without(&taken), file.pool());
            }
        }
    }
}
