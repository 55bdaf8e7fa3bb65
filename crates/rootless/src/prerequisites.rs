//! What a host may lack for an ordinary user's engine. Every message ends with the one thing to
//! do about it.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::subordinate::{self, Account, Range, WANTED};

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The setuid programs that map subordinate ids.
    #[error(
        "rootless: the program {program} is missing; root installs it with: apt-get install uidmap"
    )]
    IdMapper {
        /// `newuidmap` or `newgidmap`.
        program: &'static str,
    },
    /// They are there without the rights they need.
    #[error(
        "rootless: {program} has lost the right to map ids; root gives it back with: apt-get install --reinstall uidmap"
    )]
    IdMapperRights {
        /// Its path.
        program: String,
    },
    /// No, or not enough, subordinate ids.
    #[error(
        "rootless: {file} gives user {user} {found} subordinate ids, and containers need {WANTED}; root gives them with: usermod {option} {first}-{last} {user}"
    )]
    SubordinateIds {
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// The user's name.
        user: String,
        /// How many there are.
        found: u64,
        /// `--add-subuids` or `--add-subgids`.
        option: &'static str,
        /// The first free id.
        first: u32,
        /// The last of those to be given.
        last: u64,
    },
    /// The user has no line in `/etc/passwd`.
    #[error(
        "rootless: no account has the user id {uid}, so it has no subordinate ids; run Wharf as a user of /etc/passwd"
    )]
    Account {
        /// The user's id.
        uid: u32,
    },
    /// The kernel makes no user namespaces for ordinary users.
    #[error(
        "rootless: this host makes no user namespaces for ordinary users; root allows them with: sysctl -w {remedy}"
    )]
    UserNamespaces {
        /// The setting and its value.
        remedy: &'static str,
    },
    /// Neither of the programs that connect a network namespace.
    #[error(
        "rootless: neither pasta nor slirp4netns is installed, so containers would have no network; root installs it with: apt-get install passt"
    )]
    Uplink,
    /// The one that is there does not do it.
    #[error(
        "rootless: {reason}; root installs another program for it with: apt-get install {package}"
    )]
    OtherUplink {
        /// What it said.
        reason: String,
        /// The package of the other.
        package: &'static str,
    },
    /// The device both of them need.
    #[error(
        "rootless: /dev/net/tun cannot be opened, so containers would have no network; root allows it with: modprobe tun && chmod 666 /dev/net/tun"
    )]
    Tunnel,
    /// No overlay mounts in user namespaces.
    #[error(
        "rootless: this kernel mounts no overlay file system for ordinary users; Linux 5.11 or newer does"
    )]
    Overlay,
    /// No directory for sockets.
    #[error(
        "rootless: XDG_RUNTIME_DIR is not set and {} belongs to somebody else; set it to a directory of your own: export XDG_RUNTIME_DIR=$(mktemp -d)", taken.display()
    )]
    RuntimeDirectory {
        /// The directory that should have been ours.
        taken: PathBuf,
    },
    /// No home directory.
    #[error("rootless: the user has no home directory; set one: export HOME=/path")]
    Home,
}

/// The ids a user's namespaces can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// Subordinate users.
    pub uids: Vec<Range>,
    /// Subordinate groups.
    pub gids: Vec<Range>,
}

/// Looks the user's subordinate ids up.
pub fn ids(uid: u32) -> Result<Ids> {
    let account = subordinate::account(uid).ok_or(Missing::Account { uid })?;
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    Ok(Ids {
        uids: enough(
            "/etc/subuid",
            &read("/etc/subuid"),
            "--add-subuids",
            &account,
            uid,
        )?,
        gids: enough(
            "/etc/subgid",
            &read("/etc/subgid"),
            "--add-subgids",
            &account,
            uid,
        )?,
    })
}

fn enough(
    file: &'static str,
    table: &str,
    option: &'static str,
    account: &Account,
    uid: u32,
) -> std::result::Result<Vec<Range>, Missing> {
    let ranges = subordinate::ranges(table, &account.name, uid);
    let found = subordinate::total(&ranges);
    if found >= WANTED {
        return Ok(ranges);
    }
    let first = subordinate::first_free(table);
    Err(Missing::SubordinateIds {
        file,
        user: account.name.clone(),
        found,
        option,
        first,
        last: u64::from(first) + WANTED - 1,
    })
}

/// The program that maps ids, `newuidmap` or `newgidmap`.
pub fn id_mapper(program: &'static str) -> Result<PathBuf> {
    Ok(find_program(program).ok_or(Missing::IdMapper { program })?)
}

/// Why the kernel refused a user namespace, if a setting of its says so.
pub fn namespaces_switched_off() -> Option<Missing> {
    let is = |path: &str, value: &str| {
        std::fs::read_to_string(Path::new("/proc/sys").join(path))
            .is_ok_and(|text| text.trim() == value)
    };
    let off = |remedy| Some(Missing::UserNamespaces { remedy });
    if is("kernel/unprivileged_userns_clone", "0") {
        off("kernel.unprivileged_userns_clone=1")
    } else if is("user/max_user_namespaces", "0") {
        off("user.max_user_namespaces=15000")
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        off("kernel.apparmor_restrict_unprivileged_userns=0")
    } else {
        None
    }
}

/// A program by name, also from where only root's search path leads.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    std::env::split_paths(&path)
        .chain(usual.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| {
            file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_ids_name_the_command_that_gives_more() {
        let ann = Account {
            name: "ann".into(),
            home: None,
        };
        let table = "bob:100000:65536\nann:165536:10\n";
        let missing = enough("/etc/subuid", table, "--add-subuids", &ann, 1000).unwrap_err();
        let text = missing.to_string();
        assert!(text.contains("gives user ann 10 subordinate ids"), "{text}");
        assert!(
            text.ends_with("usermod --add-subuids 165546-231081 ann"),
            "{text}"
        );
        let table = "ann:200000:65536\n";
        assert_eq!(
            enough("/etc/subuid", table, "--add-subuids", &ann, 1000),
            Ok(vec![Range {
                first: 200_000,
                count: 65_536
            }])
        );
    }
}
