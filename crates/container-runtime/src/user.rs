//! Who the program runs as: Docker's `user[:group]` looked up in the container's own passwd and
//! group files. Pure, but for [`Files::read`].

use std::path::Path;

use rustix::io::Errno;
use wharf_sys::rootfs::Rootfs;

use crate::error::{Stage, StartError};

/// The identity of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, without doubles.
    pub(crate) groups: Vec<u32>,
    /// The home directory of the user with this uid, if there is one.
    pub(crate) home: Option<String>,
}

/// Docker's `user[:group]` and further groups, looked up in the account files of the root file
/// system at `root`: for runtimes that are told numbers. `None` takes `current` as it is.
pub fn resolve_user(
    root: &Rootfs,
    current: &wharf_oci::runtime::User,
    user: Option<&str>,
    group_add: &[String],
) -> Result<wharf_oci::runtime::User, StartError> {
    let files = Files::read(root, user.is_some() || !group_add.is_empty())?;
    let identity = match user {
        Some(user) => files.resolve(user, group_add)?,
        None => {
            let mut identity = Identity {
                uid: current.uid,
                gid: current.gid,
                groups: current.additional_gids.clone(),
                home: None,
            };
            files.add_groups(&mut identity, group_add)?;
            identity
        }
    };
    Ok(wharf_oci::runtime::User {
        uid: identity.uid,
        gid: identity.gid,
        additional_gids: identity.groups,
        ..current.clone()
    })
}

/// The container's account files; empty where missing.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) passwd: String,
    pub(crate) group: String,
}

/// The most read of an account file, in bytes.
const FILE_MAX: usize = 8 << 20;

/// The highest ID (as Docker: the IDs are 31-bit there).
const ID_MAX: u32 = i32::MAX as u32;

impl Files {
    /// Reads them from `root`.
    pub(crate) fn read(root: &Rootfs, group_too: bool) -> Result<Self, StartError> {
        let read = |path: &str| match root.read_file(Path::new(path), FILE_MAX) {
            Ok(content) => Ok(String::from_utf8_lossy(&content).into_owned()),
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                // No account file is an empty one; so is one that is not a file.
                Some(Errno::NOENT | Errno::NOTDIR | Errno::INVAL | Errno::LOOP | Errno::NXIO) => {
                    Ok(String::new())
                }
                errno => Err(StartError::new(
                    Stage::Identity,
                    errno.unwrap_or(Errno::IO),
                    path,
                )),
            },
        };
        Ok(Self {
            passwd: read("/etc/passwd")?,
            group: if group_too {
                read("/etc/group")?
            } else {
                String::new()
            },
        })
    }

    fn users(&self) -> impl Iterator<Item = User<'_>> {
        self.passwd.lines().filter_map(User::parse)
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.group.lines().filter_map(Group::parse)
    }

    /// The home directory of the first user with `uid`.
    pub(crate) fn home_of(&self, uid: u32) -> Option<String> {
        self.users()
            .find(|user| user.uid == uid)
            .map(|user| user.home.to_owned())
            .filter(|home| !home.is_empty())
    }

    /// Resolves Docker's `user[:group]`, of which nothing is root. An unknown number is a user of its own with
    /// group 0. The group is the first of the supplementary ones, too: a program that gives it up by taking
    /// another one would else escape what files deny to its members (CVE-2022-36109).
    pub(crate) fn resolve(
        &self,
        wanted: &str,
        additional: &[String],
    ) -> Result<Identity, StartError> {
        let (user, group) = match wanted.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (wanted, None),
        };
        let number = number(user)?;
        // What looks like a number is one, or an image could name root `1000` (CVE-2026-46680).
        let account = self.users().find(|account| match number {
            Some(uid) => account.uid == uid,
            None if user.is_empty() => account.uid == 0,
            None => account.name == user,
        });
        let mut identity = match (&account, number) {
            (Some(account), _) => Identity {
                uid: account.uid,
                gid: account.gid,
                groups: Vec::new(),
                home: Some(account.home.to_owned()).filter(|home| !home.is_empty()),
            },
            (None, Some(uid)) => Identity {
                uid,
                gid: 0,
                groups: Vec::new(),
                home: None,
            },
            (None, None) if user.is_empty() => Identity {
                uid: 0,
                gid: 0,
                groups: Vec::new(),
                home: None,
            },
            (None, None) => {
                let sentence =
                    format!("unable to find user {user}: no matching entries in passwd file");
                return Err(StartError::refused(Stage::User, sentence));
            }
        };
        match group.filter(|group| !group.is_empty()) {
            Some(group) => identity.gid = self.group_id(group)?,
            // Only a user named without a group is a member of further ones.
            None => {
                if let Some(account) = account {
                    identity.groups = self
                        .groups()
                        .filter(|group| {
                            group
                                .members
                                .split(',')
                                .any(|member| member == account.name)
                        })
                        .map(|group| group.gid)
                        .collect();
                }
            }
        }
        identity.groups.insert(0, identity.gid);
        self.add_groups(&mut identity, additional)?;
        Ok(identity)
    }

    /// Adds supplementary groups by name or number.
    pub(crate) fn add_groups(
        &self,
        identity: &mut Identity,
        additional: &[String],
    ) -> Result<(), StartError> {
        for group in additional {
            identity.groups.push(self.group_id(group)?);
        }
        let mut seen = Vec::with_capacity(identity.groups.len());
        identity.groups.retain(|gid| {
            let new = !seen.contains(gid);
            seen.push(*gid);
            new
        });
        Ok(())
    }

    fn group_id(&self, wanted: &str) -> Result<u32, StartError> {
        let number = number(wanted)?;
        let found = self.groups().find(|group| match number {
            Some(gid) => group.gid == gid,
            None => group.name == wanted,
        });
        match found {
            Some(group) => Ok(group.gid),
            None => match number {
                Some(gid) => Ok(gid),
                None => {
                    let sentence =
                        format!("unable to find group {wanted}: no matching entries in group file");
                    Err(StartError::refused(Stage::User, sentence))
                }
            },
        }
    }
}

/// The number `text` is, if it is one: digits only, `+5` is a name to Docker. One that is no ID is
/// an error, not a name (CVE-2024-40635).
fn number(text: &str) -> Result<Option<u32>, StartError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    in_range(text.parse().unwrap_or(u32::MAX)).map(Some)
}

/// Checks the numbers of a document. The highest number of all would leave the caller's own in place, which
/// is root's.
pub(crate) fn check_numbers(user: &wharf_oci::runtime::User) -> Result<(), StartError> {
    let numbers = [user.uid, user.gid].into_iter();
    numbers
        .chain(user.additional_gids.iter().copied())
        .try_for_each(|id| in_range(id).map(drop))
}

fn in_range(id: u32) -> Result<u32, StartError> {
    if id > ID_MAX {
        return Err(StartError::refused(
            Stage::User,
            format!("uids and gids must be in range 0-{ID_MAX}"),
        ));
    }
    Ok(id)
}

/// A line of `/etc/passwd`.
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> User<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let (name, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
        Some(Self {
            name,
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: fields.nth(1).unwrap_or(""),
        })
    }
}

/// A line of `/etc/group`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?);
        Some(Self {
            name,
            gid: gid.parse().ok()?,
            members: fields.next().unwrap_or(""),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files() -> Files {
        Files {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbad line\nweb:x:33:33::/var/www:/bin/false\n42:x:7:7:::\n".into(),
            group: "root:x:0:\nwww:x:33:\nadm:x:4:web,other\ndisk:x:6:web\n".into(),
        }
    }

    #[test]
    fn names_and_numbers_are_found() {
        let files = files();
        let resolve = |user: &str| files.resolve(user, &[]).unwrap();
        let web = Identity {
            uid: 33,
            gid: 33,
            groups: vec![33, 4, 6],
            home: Some("/var/www".into()),
        };
        assert_eq!(resolve("web"), web);
        assert_eq!(resolve("33"), web);
        assert_eq!(
            resolve("web:adm"),
            Identity {
                gid: 4,
                groups: vec![4],
                ..web.clone()
            }
        );
        assert_eq!(
            resolve("web:77"),
            Identity {
                gid: 77,
                groups: vec![77],
                ..web
            }
        );
        assert_eq!(
            resolve("1000"),
            Identity {
                uid: 1000,
                gid: 0,
                groups: vec![0],
                home: None
            }
        );
        assert_eq!(resolve("").uid, 0);
        assert_eq!(resolve(":adm").gid, 4);
        // A number is never a name: an image must not turn it into another user.
        assert_eq!((resolve("42").uid, resolve("42").gid), (42, 0));
    }

    #[test]
    fn unknown_names_are_dockers_errors() {
        let files = files();
        let error =
            |user: &str, groups: &[String]| files.resolve(user, groups).unwrap_err().to_string();
        assert_eq!(
            error("nobody", &[]),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            error("web:nogroup", &[]),
            "unable to find group nogroup: no matching entries in group file"
        );
        assert_eq!(
            error("web", &["x".into()]),
            "unable to find group x: no matching entries in group file"
        );
        for number in [
            "2147483648",
            "4294967295",
            "4294967296",
            "99999999999999999999",
        ] {
            assert!(error(number, &[]).contains("must be in range"), "{number}");
            assert!(error(&format!("web:{number}"), &[]).contains("must be in range"));
        }
    }

    #[test]
    fn additional_groups_come_once() {
        let identity = files()
            .resolve("web", &["adm".into(), "6".into(), "99".into()])
            .unwrap();
        assert_eq!(identity.groups, [33, 4, 6, 99]);
    }

    proptest! {
        #[test]
        fn any_files_and_users_are_survived(passwd in ".*", group in ".*", user in ".*") {
            let _ = Files { passwd, group }.resolve(&user, &["a".to_owned()]);
        }
    }
}
