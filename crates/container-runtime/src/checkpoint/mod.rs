//! Checkpoint and restore, through CRIU's program.
//!
//! ```text
//! checkpoint   what lies outside is named (streams, network, binds) ──▶ criu dump ──▶ images + wharf.json
//! restore      cgroup ──▶ criu restore, with what lies outside now in place of what did ──▶ Running
//! ```
//!
//! The images are CRIU's; `wharf.json` beside them says what a restore has to put in place.
//! CRIU's restored processes become children of whoever is the nearest subreaper, who must be the
//! caller of [`restore`].

mod criu;
mod outside;
mod restore;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wharf_fault::{Fault, Kind};

use crate::error::StartError;
use outside::Outside;

pub use criu::Criu;
pub use restore::restore;

/// How a checkpoint is made; the names are `runc checkpoint`'s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointOptions {
    /// The container goes on.
    #[serde(skip_serializing_if = "is_false")]
    pub leave_running: bool,
    /// Established TCP connections are kept.
    #[serde(skip_serializing_if = "is_false")]
    pub tcp_established: bool,
    /// Unix sockets connected to the outside are let be.
    #[serde(skip_serializing_if = "is_false")]
    pub external_unix_sockets: bool,
    /// The container's terminal belongs to a session of the outside.
    #[serde(skip_serializing_if = "is_false")]
    pub shell_job: bool,
    /// File locks are kept.
    #[serde(skip_serializing_if = "is_false")]
    pub file_locks: bool,
    /// Only memory is written, the container goes on.
    #[serde(skip_serializing_if = "is_false")]
    pub pre_dump: bool,
    /// Images of an earlier checkpoint, relative to the new ones: pages in there are not repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<PathBuf>,
    /// Pages that later images repeat are removed from the earlier ones.
    #[serde(skip_serializing_if = "is_false")]
    pub auto_dedup: bool,
    /// CRIU's `--manage-cgroups`. If not given, a restore puts the processes into their cgroup; on
    /// the unified hierarchy it is `soft`, which keeps a cgroup namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manage_cgroups: Option<String>,
    /// Where the container is paused: the directory of its freezer. CRIU has to let the processes go one step
    /// at a time, which on cgroup v1 it cannot without.
    #[serde(skip)]
    pub freezer: Option<PathBuf>,
    /// The network namespace is restored empty.
    #[serde(skip_serializing_if = "is_false")]
    pub empty_network: bool,
    /// The network namespace is the container's own, and is written down with it.
    #[serde(skip_serializing_if = "is_false")]
    pub own_network: bool,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl CheckpointOptions {
    /// What both commands of CRIU are told.
    fn words(&self) -> Vec<String> {
        let flags = [
            (self.tcp_established, "--tcp-established"),
            (self.external_unix_sockets, "--ext-unix-sk"),
            (self.shell_job, "--shell-job"),
            (self.file_locks, "--file-locks"),
            (self.auto_dedup, "--auto-dedup"),
        ];
        let mut words: Vec<String> = flags
            .iter()
            .filter(|(given, _)| *given)
            .map(|(_, word)| (*word).to_owned())
            .collect();
        let mode = self.manage_cgroups.as_deref().unwrap_or("ignore");
        words.push(format!("--manage-cgroups={mode}"));
        if self.empty_network {
            words.extend(["--empty-ns", "net"].map(str::to_owned));
        }
        words
    }
}

/// Writes the container whose first process is `pid` into `criu.images`, which is made. Unless
/// told otherwise, its processes are gone when this returns.
pub fn checkpoint(
    criu: &Criu,
    pid: i32,
    options: &CheckpointOptions,
) -> Result<(), CheckpointError> {
    for directory in [&criu.images, &criu.work] {
        make(directory)?;
    }
    let options = &CheckpointOptions {
        manage_cgroups: Some(cgroup_mode(pid, options)?),
        ..options.clone()
    };
    let (outside, told) =
        Outside::look(pid, options).map_err(|source| CheckpointError::Look { pid, source })?;
    outside
        .write(&criu.images)
        .map_err(|source| CheckpointError::Write {
            path: criu.images.clone(),
            source,
        })?;
    let mut words = vec!["--tree".to_owned(), pid.to_string()];
    words.extend(options.words());
    for name in told {
        words.extend(["--external".to_owned(), name]);
    }
    if options.leave_running {
        words.push("--leave-running".to_owned());
    }
    if let Some(freezer) = &options.freezer {
        words.extend(["--freeze-cgroup".to_owned(), freezer.display().to_string()]);
    }
    if let Some(parent) = &options.parent {
        words.extend(["--prev-images-dir".to_owned(), parent.display().to_string()]);
    }
    if options.pre_dump || options.parent.is_some() {
        words.push("--track-mem".to_owned());
    }
    let command = if options.pre_dump { "pre-dump" } else { "dump" };
    criu.run(command, &words, &[], &[])
}

/// How CRIU deals with cgroups. Where there are several hierarchies, processes may be at the top
/// of one, and CRIU would take the whole of it for the container's.
fn cgroup_mode(pid: i32, options: &CheckpointOptions) -> Result<String, CheckpointError> {
    if let Some(mode) = &options.manage_cgroups {
        return Ok(mode.clone());
    }
    let look = |source| CheckpointError::Look { pid, source };
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(look)?;
    if cgroups.lines().all(|line| line.starts_with("0::")) {
        return Ok("soft".to_owned());
    }
    let namespace =
        |process: &str| std::fs::read_link(format!("/proc/{process}/ns/cgroup")).map_err(look);
    if namespace(&pid.to_string())? != namespace("self")? {
        return Err(CheckpointError::CgroupNamespace);
    }
    Ok("ignore".to_owned())
}

fn make(directory: &Path) -> Result<(), CheckpointError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| CheckpointError::Write {
            path: directory.to_owned(),
            source,
        })
}

/// Why a checkpoint was not made, or a container not restored.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// CRIU could not be run.
    #[error("cannot run {}", program.display())]
    Start {
        /// Its program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// CRIU failed.
    #[error("criu {command} failed: {reason}\nlog file: {}", log.display())]
    Failed {
        /// Which command.
        command: &'static str,
        /// The first error of its log.
        reason: String,
        /// That log.
        log: PathBuf,
    },
    /// The container could not be looked at.
    #[error("cannot look at process {pid}")]
    Look {
        /// Its first process.
        pid: i32,
        /// Why.
        source: io::Error,
    },
    /// A directory could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// CRIU would lose the container's cgroup namespace.
    #[error("a cgroup namespace of its own cannot be kept on cgroup v1")]
    CgroupNamespace,
    /// There is no checkpoint of ours.
    #[error("cannot read the checkpoint in {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something around the container could not be made.
    #[error("cannot restore: {0}")]
    Prepare(StartErrorText),
}

/// A [`StartError`] in its own words.
#[derive(Debug)]
pub struct StartErrorText(StartError);

impl fmt::Display for StartErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<StartError> for CheckpointError {
    fn from(error: StartError) -> Self {
        Self::Prepare(StartErrorText(error))
    }
}

impl Fault for CheckpointError {
    fn kind(&self) -> Kind {
        Kind::System
    }
}
