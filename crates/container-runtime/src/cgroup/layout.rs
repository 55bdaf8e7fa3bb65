//! Where a cgroup's directories are, and making them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::io::Errno;

/// Where cgroups are mounted on every Linux system of today.
pub(super) const MOUNT: &str = "/sys/fs/cgroup";

/// The unified hierarchy's mark (`linux/magic.h`).
const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// The directories of one cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// On the unified hierarchy.
    Unified {
        /// The one directory.
        directory: PathBuf,
    },
    /// One in each of the split hierarchies.
    Split(Vec<Hierarchy>),
}

/// A cgroup's directory in one of the split hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// The name of the hierarchy's mount point: its controllers with commas between, or a name of
    /// its own (`systemd`).
    pub name: String,
    /// The cgroup's directory.
    pub directory: PathBuf,
}

impl Hierarchy {
    /// Whether `controller` is one of this hierarchy's.
    pub fn has(&self, controller: &str) -> bool {
        self.name.split(',').any(|name| name == controller)
    }

    /// The top of the hierarchy and the way down from there.
    fn top(&self) -> PathBuf {
        Path::new(MOUNT).join(&self.name)
    }
}

impl Layout {
    /// The directories of the cgroup `path`, absolute from the hierarchy's root.
    pub fn find(path: &str) -> io::Result<Self> {
        Self::below(&relative(path)?)
    }

    /// The hierarchies' own top directories.
    pub(crate) fn top() -> io::Result<Self> {
        Self::below(Path::new(""))
    }

    fn below(relative: &Path) -> io::Result<Self> {
        Ok(match Host::get()? {
            Host::Unified => Self::Unified {
                directory: Path::new(MOUNT).join(relative),
            },
            Host::Split(names) => Self::Split(
                names
                    .iter()
                    .map(|name| Hierarchy {
                        name: name.clone(),
                        directory: Path::new(MOUNT).join(name).join(relative),
                    })
                    .collect(),
            ),
        })
    }
}

/// What the host has. It does not change while it runs, and is asked for often.
enum Host {
    Unified,
    Split(Vec<String>),
}

impl Host {
    fn get() -> io::Result<&'static Self> {
        static HOST: OnceLock<Host> = OnceLock::new();
        if let Some(host) = HOST.get() {
            return Ok(host);
        }
        let host = Self::find()?;
        Ok(HOST.get_or_init(|| host))
    }

    fn find() -> io::Result<Self> {
        if rustix::fs::statfs(MOUNT)?.f_type == CGROUP2_SUPER_MAGIC {
            return Ok(Self::Unified);
        }
        let list = std::fs::read_to_string("/proc/self/cgroup")?;
        let mounted = |name: &&str| Path::new(MOUNT).join(name).join("cgroup.procs").exists();
        Ok(Self::Split(
            names(&list).filter(mounted).map(str::to_owned).collect(),
        ))
    }
}

/// `path` without its leading slashes, if it stays below the root.
fn relative(path: &str) -> io::Result<PathBuf> {
    use std::path::Component;
    let wrong = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("cgroup path {path:?} is not usable"),
        )
    };
    if path.contains('\0') {
        return Err(wrong());
    }
    let mut relative = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(wrong()),
        }
    }
    // The root itself is not a container's.
    if relative.as_os_str().is_empty() {
        Err(wrong())
    } else {
        Ok(relative)
    }
}

/// The split hierarchies' names, out of `/proc/self/cgroup` (`4:memory:/`, `1:name=systemd:/`).
/// The unified one's line has no name.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|name| !name.is_empty())
        .map(|name| name.strip_prefix("name=").unwrap_or(name))
}

/// Mode of cgroup directories.
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// Makes the directory in a split hierarchy, parents included.
pub(super) fn create_split(hierarchy: &Hierarchy) -> io::Result<()> {
    let directory = &hierarchy.directory;
    let cpuset = hierarchy.has("cpuset");
    match rustix::fs::mkdir(directory, DIRECTORY) {
        // Below a parent that was made here, a cpuset is complete from the beginning.
        Ok(()) | Err(Errno::EXIST) if !cpuset || !is_blank(&directory.join(CPUSET_FILES[0]))? => {
            return Ok(());
        }
        Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let top = hierarchy.top();
    let mut reached = top.clone();
    for name in directory.strip_prefix(&top).unwrap_or(directory) {
        let parent = reached.clone();
        reached.push(name);
        match rustix::fs::mkdir(&reached, DIRECTORY) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        if cpuset {
            inherit_cpuset(&parent, &reached)?;
            if reached != *directory {
                super::write(&reached.join("cgroup.clone_children"), "1")?;
            }
        }
    }
    Ok(())
}

/// What a cpuset takes no process without.
const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// A new cpuset has neither processors nor memory unless its parent says otherwise.
fn inherit_cpuset(parent: &Path, child: &Path) -> io::Result<()> {
    for file in CPUSET_FILES {
        let child = child.join(file);
        if is_blank(&child)? {
            let value = std::fs::read_to_string(parent.join(file))?;
            super::write(&child, value.trim())?;
        }
    }
    Ok(())
}

fn is_blank(file: &Path) -> io::Result<bool> {
    Ok(std::fs::read_to_string(file)?.trim().is_empty())
}

/// Makes the directory on the unified hierarchy and hands `controllers` down to it.
pub(super) fn create_unified(
    directory: &Path,
    top: &Path,
    controllers: &[String],
) -> io::Result<()> {
    let mut reached = top.to_path_buf();
    for name in directory.strip_prefix(top).unwrap_or(directory) {
        enable(&reached, controllers)?;
        reached.push(name);
        match rustix::fs::mkdir(&reached, DIRECTORY) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Hands those of `controllers` down that `directory` has and does not hand down yet.
fn enable(directory: &Path, controllers: &[String]) -> io::Result<()> {
    let words = |file: &str| std::fs::read_to_string(directory.join(file));
    let (available, enabled) = (
        words("cgroup.controllers")?,
        words("cgroup.subtree_control")?,
    );
    let has =
        |list: &str, controller: &str| list.split_ascii_whitespace().any(|word| word == controller);
    let missing: Vec<String> = controllers
        .iter()
        .filter(|controller| has(&available, controller) && !has(&enabled, controller))
        .map(|controller| format!("+{controller}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let file = directory.join("cgroup.subtree_control");
    match super::write(&file, &missing.join(" ")) {
        // Not ours to hand down; whoever needs it will miss its files.
        Err(Errno::ACCESS | Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read() {
        let list = "9:name=systemd:/\n5:cpu,cpuacct:/x\n4:memory:/\n0::/\n";
        assert_eq!(
            names(list).collect::<Vec<_>>(),
            ["systemd", "cpu,cpuacct", "memory"]
        );
    }

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(relative("/docker/abc").unwrap(), Path::new("docker/abc"));
        for wrong in ["", "/", "/a/../b", "..", "/a\0"] {
            assert!(relative(wrong).is_err(), "{wrong:?}");
        }
    }
}
