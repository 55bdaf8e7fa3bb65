//! The ids a user may give away: `/etc/subuid`, `/etc/subgid`, and the account they belong to.

use std::path::PathBuf;

/// Ids a container's files may belong to; images count on that many.
pub const WANTED: u64 = 65_536;

/// Consecutive ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first, as the host counts.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Home directory.
    pub home: Option<PathBuf>,
}

/// The account of `uid`.
pub fn account(uid: u32) -> Option<Account> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    account_in(&text, uid)
}

fn account_in(passwd: &str, uid: u32) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(uid)).then(|| Account {
            name: fields[0].to_owned(),
            home: fields
                .get(5)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute()),
        })
    })
}

/// The ranges that `table` (the text of `/etc/subuid` or `/etc/subgid`) gives the user, who is
/// named there by name or number.
pub fn ranges(table: &str, name: &str, uid: u32) -> Vec<Range> {
    entries(table)
        .filter(|(owner, _)| *owner == name || owner.parse() == Ok(uid))
        .map(|(_, range)| range)
        .collect()
}

/// The first id from which on `table` gives nothing to anybody.
pub fn first_free(table: &str) -> u32 {
    const FIRST: u32 = 100_000;
    entries(table)
        .map(|(_, range)| range.first.saturating_add(range.count))
        .fold(FIRST, u32::max)
}

/// How many ids that is.
pub fn total(ranges: &[Range]) -> u64 {
    ranges.iter().map(|range| u64::from(range.count)).sum()
}

fn entries(table: &str) -> impl Iterator<Item = (&str, Range)> {
    table.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let first = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok().filter(|count| *count > 0)?;
        Some((owner, Range { first, count }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_ranges_are_found_by_name_and_number() {
        let table =
            "# comment\nann:100000:65536\nbob:165536:65536\n1001:231072:10\nbad:x:1\nann::\n";
        let range = |first, count| Range { first, count };
        assert_eq!(ranges(table, "ann", 1000), [range(100_000, 65_536)]);
        assert_eq!(
            ranges(table, "bob", 1001),
            [range(165_536, 65_536), range(231_072, 10)]
        );
        assert_eq!(ranges(table, "eve", 1002), []);
        assert_eq!(total(&ranges(table, "bob", 1001)), 65_546);
        assert_eq!(first_free(table), 231_082);
        assert_eq!(first_free(""), 100_000);
    }

    #[test]
    fn accounts_are_read() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        let ann = account_in(passwd, 1000).unwrap();
        assert_eq!(ann.name, "ann");
        assert_eq!(ann.home, Some("/home/ann".into()));
        assert_eq!(account_in(passwd, 7), None);
    }
}
