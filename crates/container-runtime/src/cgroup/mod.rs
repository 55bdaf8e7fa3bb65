//! A container's cgroup: one directory on the unified hierarchy (v2), one per hierarchy where
//! they are split (v1, and "hybrid", whose unified part has no controllers worth having).
//!
//! - [`layout`]: where the directories are
//! - [`plan`]: resources → the files to write, pure
//! - [`apply`]: writing them, at the beginning and as an update
//! - [`devices`]: device rules for either version, pure
//! - [`hybrid`]: controllers of the unified hierarchy beside split ones
//! - [`systemd`]: cgroups that systemd makes
//! - [`stats`]: usage figures
//! - [`freeze`]: pausing, signalling everything
//! - [`oom`]: memory exhaustion

mod apply;
mod details;
mod devices;
mod freeze;
mod hybrid;
mod layout;
mod oom;
pub mod plan;
mod stats;
mod systemd;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use wharf_oci::runtime::Resources;

use crate::error::{Stage, StartError};

pub use details::{Counter, Cpuset, Details};
pub use layout::{Hierarchy, Layout};
pub use oom::MemoryAtEnd;
pub use stats::{BlockIoStat, CpuStats, MemoryStats, PidsStats, Pressure, Stall, Stats};

/// A container's cgroup.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    layout: Layout,
    /// Its place on the unified side, where the machine has both and that one has controllers.
    beside: Option<hybrid::UnifiedSide>,
    /// Set where systemd makes it.
    unit: Option<systemd::Unit>,
}

/// How long removal waits for processes that are still on their way out.
const REMOVAL_TRIES: u32 = 50;

impl Cgroup {
    /// The cgroup at `path` (absolute from the hierarchy's root), which need not exist. Needs no
    /// running container: the daemon reads statistics through it.
    pub fn at(path: &str) -> io::Result<Self> {
        let layout = Layout::find(path)?;
        let beside = match &layout {
            Layout::Unified { .. } => None,
            Layout::Split(_) => hybrid::UnifiedSide::find(path),
        };
        Ok(Self {
            path: path.to_owned(),
            layout,
            beside,
            unit: None,
        })
    }

    /// Its path from the hierarchy's root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is on the unified hierarchy (v2).
    pub fn is_unified(&self) -> bool {
        matches!(self.layout, Layout::Unified { .. })
    }

    /// Whether a path out of the kernel's log is this cgroup or below it.
    pub fn contains(&self, logged: &str) -> bool {
        crate::kernel_log::is_within(logged, &self.path)
    }

    /// Where its directories are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes it, if it is not there, and applies `resources`.
    pub(crate) fn create(&self, resources: &Resources) -> Result<(), StartError> {
        self.make_directories(resources)?;
        self.apply(resources)?;
        match &self.layout {
            Layout::Unified { directory } => devices::attach_filter(directory, &resources.devices),
            Layout::Split(_) => match self.hierarchy("devices") {
                Some(directory) => devices::write_rules(directory, &resources.devices),
                None => Ok(()),
            },
        }
    }

    /// Makes it without any limit, for a container that is to come. What was made before a failure
    /// is the caller's to remove.
    pub fn make_ahead(&self) -> Result<(), StartError> {
        self.make_directories(&Resources::default())
    }

    /// Makes its directories, with what `resources` needs handed down to them.
    fn make_directories(&self, resources: &Resources) -> Result<(), StartError> {
        match &self.layout {
            Layout::Unified { directory } => {
                let controllers = plan::controllers(resources);
                persistently(|| {
                    layout::create_unified(directory, Path::new(layout::MOUNT), &controllers)
                })
                .map_err(|error| cgroup_error(directory, &error))
            }
            Layout::Split(hierarchies) => {
                for hierarchy in hierarchies {
                    persistently(|| layout::create_split(hierarchy))
                        .map_err(|error| cgroup_error(&hierarchy.directory, &error))?;
                }
                if let Some(beside) = &self.beside {
                    let (ours, _) = beside.divide(resources);
                    persistently(|| beside.create(&ours).map(drop))
                        .map_err(|error| cgroup_error(&beside.directory, &error))?;
                }
                Ok(())
            }
        }
    }

    /// Refuses a cgroup that exists and that somebody else uses: it would be limited, paused and
    /// ended as ours.
    pub(crate) fn check_unused(&self) -> Result<(), StartError> {
        let directory = match self
            .hierarchy("pids")
            .or(self.directories().first().copied())
        {
            Some(directory) if directory.exists() => directory,
            _ => return Ok(()),
        };
        let used = |what: String| {
            let path = directory.display();
            Err(StartError::refused(
                Stage::Cgroup,
                format!("{path}: {what}"),
            ))
        };
        match self.processes() {
            Ok(processes) if !processes.is_empty() => used(format!(
                "it is not empty: {} processes found",
                processes.len()
            )),
            // Removed just now.
            _ if !self.is_paused().unwrap_or(false) => Ok(()),
            _ => used("it is frozen".to_owned()),
        }
    }

    /// What a process with one thread [enters](enter) it by, one per directory. Opened by somebody
    /// with the right to do so, they can be used by somebody without.
    ///
    /// On the split hierarchies these are the `tasks` files: a thread that moves *itself* takes no
    /// lock that others' forks and exits are kept from changing things with. Moving another
    /// process, or a whole one, takes it, and that waits for an RCU grace period: ten milliseconds.
    pub(crate) fn doors(&self) -> Result<Vec<OwnedFd>, StartError> {
        let open = |directory: &Path| {
            // Only split hierarchies have the other file.
            let beside = self
                .beside
                .as_ref()
                .is_some_and(|side| side.directory == directory);
            let name = if self.is_unified() || beside {
                "cgroup.procs"
            } else {
                "tasks"
            };
            let file = directory.join(name);
            rustix::fs::open(&file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| StartError::new(Stage::Cgroup, errno, file.display().to_string()))
        };
        self.directories().into_iter().map(open).collect()
    }

    /// Its directory on the unified hierarchy, to be born into.
    pub(crate) fn open_unified(&self) -> Result<Option<OwnedFd>, StartError> {
        let Layout::Unified { directory } = &self.layout else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(directory, flags, Mode::empty())
            .map(Some)
            .map_err(|errno| StartError::new(Stage::Cgroup, errno, directory.display().to_string()))
    }

    /// The directory in the hierarchy that has `controller`.
    pub(crate) fn hierarchy(&self, controller: &str) -> Option<&Path> {
        match &self.layout {
            Layout::Unified { directory } => Some(directory),
            Layout::Split(hierarchies) => hierarchies
                .iter()
                .find(|hierarchy| hierarchy.has(controller))
                .map(|hierarchy| hierarchy.directory.as_path()),
        }
    }

    /// Where it is, one directory per hierarchy.
    pub fn directories(&self) -> Vec<&Path> {
        match &self.layout {
            Layout::Unified { directory } => vec![directory],
            Layout::Split(hierarchies) => hierarchies
                .iter()
                .map(|hierarchy| hierarchy.directory.as_path())
                .chain(self.unified_side())
                .collect(),
        }
    }

    /// Its directory on the unified side of a machine with both, if it is there.
    fn unified_side(&self) -> Option<&Path> {
        let directory = self.beside.as_ref()?.directory.as_path();
        directory.exists().then_some(directory)
    }

    /// The processes in it and in its children.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let directories = self.directories();
        let Some(directory) = self.hierarchy("pids").or(directories.first().copied()) else {
            return Ok(Vec::new());
        };
        let mut processes = Vec::new();
        collect_processes(directory, 0, &mut processes)?;
        Ok(processes)
    }

    /// Begins its removal if no process is in it and no cgroup below it, which tells without a look
    /// at the processes that there are none. Whether that is so.
    pub fn begin_removal(&self) -> bool {
        if self.is_unit() {
            // systemd is asked first.
            return false;
        }
        let directories = self.directories();
        let directory = self.hierarchy("pids").or(directories.first().copied());
        directory.is_some_and(|directory| rustix::fs::rmdir(directory).is_ok())
    }

    /// Removes it and the children that were made in it. Its processes must have ended or be
    /// ending: for those it waits a little.
    pub fn remove(&self) -> io::Result<()> {
        let mut result = self.stop_unit();
        for directory in self.directories() {
            let mut tries = 0;
            let outcome = loop {
                match remove_tree(directory, 0) {
                    Err(error)
                        if error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
                            && tries < REMOVAL_TRIES =>
                    {
                        tries += 1;
                        std::thread::sleep(Duration::from_millis(u64::from(tries.min(20))));
                    }
                    other => break other,
                }
            };
            // The others go all the same.
            result = result.and(outcome);
        }
        result
    }
}

/// What may be given to somebody on the unified hierarchy (`/sys/kernel/cgroup/delegate`).
const DELEGATED: [&str; 4] = [
    "",
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.subtree_control",
];

impl Cgroup {
    /// Lets `uid` and `gid` make cgroups below it (runtime-spec, "Cgroup ownership").
    pub(crate) fn delegate(&self, uid: u32, gid: u32) -> Result<(), StartError> {
        let Layout::Unified { directory } = &self.layout else {
            return Ok(());
        };
        for file in DELEGATED {
            let path = directory.join(file);
            std::os::unix::fs::chown(&path, Some(uid), Some(gid))
                .map_err(|error| cgroup_error(&path, &error))?;
        }
        Ok(())
    }

    /// Removes it where it has neither processes nor children, and leaves it where it has: for
    /// the parent of all containers' cgroups, when the last one may have gone.
    pub fn remove_if_unused(&self) {
        for directory in self.directories() {
            let _ = rustix::fs::rmdir(directory);
        }
    }
}

/// Moves the calling process, which must have one thread, through `doors` into a cgroup.
pub(crate) fn enter(doors: &[OwnedFd]) -> Result<(), StartError> {
    for door in doors {
        rustix::io::write(door, b"0")
            .map_err(|errno| StartError::new(Stage::Cgroup, errno, "joining it"))?;
    }
    Ok(())
}

/// Tries again when a parent was removed ([`Cgroup::remove_if_unused`]) under our feet.
fn persistently(create: impl Fn() -> io::Result<()>) -> io::Result<()> {
    for _ in 0..8 {
        match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    create()
}

/// How deep cgroups made inside a container are followed.
const DEPTH_MAX: usize = 64;

fn collect_processes(directory: &Path, depth: usize, processes: &mut Vec<i32>) -> io::Result<()> {
    let text = match std::fs::read_to_string(directory.join("cgroup.procs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A threaded cgroup's processes are listed by its parent.
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
            String::new()
        }
        other => other?,
    };
    processes.extend(
        text.lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0),
    );
    if depth < DEPTH_MAX {
        for child in children(directory)? {
            collect_processes(&child, depth + 1, processes)?;
        }
    }
    Ok(())
}

fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            children.push(entry.path());
        }
    }
    Ok(children)
}

fn remove_tree(directory: &Path, depth: usize) -> io::Result<()> {
    match rustix::fs::rmdir(directory) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) if depth < DEPTH_MAX => {
            let children = match children(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            };
            for child in children {
                remove_tree(&child, depth + 1)?;
            }
            match rustix::fs::rmdir(directory) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Writes a control file in one write, as cgroup files want it.
fn write(file: &Path, value: &str) -> Result<(), Errno> {
    let fd = rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(fd, value.as_bytes()).map(drop)
}

fn cgroup_error(path: &Path, error: &io::Error) -> StartError {
    crate::launch::io(Stage::Cgroup, error, &path.display().to_string())
}
