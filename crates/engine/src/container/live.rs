//! A container in memory: its record, and what it is doing right now.
//!
//! ```text
//! op     tokio mutex     one life-cycle change at a time (start, stop, remove, rename, …)
//! cell   RwLock          record and live state; held for moments, never across an await
//! watch  channel         what `wait` looks at; changes after the cell did
//! ```

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, oneshot, watch};
use wharf_fault::{Error, Result};
use wharf_ids::ContainerId;
use wharf_network::{AttachRequest, Endpoint, PortBinding};
use wharf_shim_protocol::{AttachMode, RuntimeProgram};

use super::exit::Tidying;
use super::health::HealthState;
use super::record::{ContainerRecord, Phase};
use super::shim_link::ShimLink;
use crate::user_namespaces::IdMaps;

/// A container.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    cell: RwLock<Cell>,
    /// Held during life-cycle changes.
    pub(super) op: Mutex<()>,
    watch: watch::Sender<Watched>,
}

/// What changes and is guarded by the container's lock.
#[derive(Debug)]
pub struct Cell {
    /// What is kept on disk.
    pub record: ContainerRecord,
    /// The present run.
    pub run: Option<Run>,
    /// Clients that attached before the start.
    pub waiting: Vec<WaitingClient>,
    /// Delay of the last restart by policy.
    pub restart_delay: Option<Duration>,
    /// Ends the pause before the next restart.
    pub restart_cancel: Option<oneshot::Sender<()>>,
    /// The last run's shim is removing what is left of it.
    pub tidying: Option<Tidying>,
    /// The health probe.
    pub health: Option<HealthState>,
    /// Execs of this container, newest last.
    pub execs: Vec<String>,
    /// Its record is, or is about to be, deleted from the store.
    pub gone: bool,
}

/// A client that waits for the container to start.
#[derive(Debug)]
pub struct WaitingClient {
    /// Its socket.
    pub socket: OwnedFd,
    /// What it wants.
    pub mode: AttachMode,
}

/// One run of a container.
#[derive(Debug)]
pub struct Run {
    /// The shim.
    pub link: ShimLink,
    /// The shim's directory.
    pub run_dir: PathBuf,
    /// What the shim's directory remembers for the next daemon.
    pub kept: RunRecord,
    /// Copies of the sockets of attached clients, by token: they see the end of the stream only
    /// when the end of the run is booked, and so always find the exit status.
    pub clients: Vec<(u64, OwnedFd)>,
    /// `restart`: the end is not the end, even with `--rm`.
    pub keep_on_exit: bool,
}

/// What a daemon leaves for the next one about a running container, `<run dir>/run.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunRecord {
    /// Whose run this is.
    pub container_id: String,
    /// Cgroup, from the hierarchy's root.
    pub cgroup_path: String,
    /// systemd has made it.
    #[serde(default)]
    pub systemd_cgroup: bool,
    /// The program of another OCI runtime that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeProgram>,
    /// The mapping of its user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id_maps: Option<IdMaps>,
    /// Host tmpfs mounted for a shareable `/dev/shm`.
    #[serde(default)]
    pub shm: Option<PathBuf>,
    /// The network the container asked for; absent where it shares another's.
    #[serde(default)]
    pub network: Option<AttachRequest>,
    /// Id of its network sandbox.
    #[serde(default)]
    pub sandbox_id: String,
    /// Endpoints.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Published ports.
    #[serde(default)]
    pub ports: Vec<PortBinding>,
    /// Restarts by policy before this run.
    #[serde(default)]
    pub restart_count: u32,
    /// Frozen.
    #[serde(default)]
    pub paused: bool,
    /// A user asked for the end: the restart policy is not asked.
    #[serde(default)]
    pub stop_requested: bool,
}

impl RunRecord {
    /// Writes it into a new run directory; it survives the daemon, not the machine.
    pub(super) fn write_first(&self, run_dir: &Path) -> Result<()> {
        // Nothing runs there yet: a torn file is as good as none.
        serde_json::to_vec(self)
            .map_err(std::io::Error::other)
            .and_then(|text| std::fs::write(run_dir.join(RUN_FILE), text))
            .map_err(|source| cannot_write(run_dir, source))
    }

    /// Replaces it.
    pub fn write(&self, run_dir: &Path) -> Result<()> {
        wharf_shim_protocol::files::write_atomically(&run_dir.join(RUN_FILE), self, false)
            .map_err(|source| cannot_write(run_dir, source))
    }

    /// Reads it back; `None` for a directory without one.
    pub fn read(run_dir: &Path) -> std::io::Result<Option<Self>> {
        let path = run_dir.join(RUN_FILE);
        // Made and not yet written when the daemon died.
        if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0) {
            return Ok(None);
        }
        wharf_shim_protocol::files::read(&path)
    }
}

fn cannot_write(run_dir: &Path, source: std::io::Error) -> Error {
    Error::system(format!("cannot write into {}", run_dir.display())).caused_by(source)
}

const RUN_FILE: &str = "run.json";

/// What `wait` looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// As Docker's `Running`.
    pub running: bool,
    /// How many runs have ended.
    pub exits: u64,
    /// Status of the last run that ended.
    pub exit_code: i64,
    /// The container is gone.
    pub removed: bool,
}

impl Container {
    /// A container from its record.
    pub fn new(record: ContainerRecord) -> Self {
        let watched = Watched {
            running: record.state.is_running(),
            exits: 0,
            exit_code: record.state.exit_code,
            removed: false,
        };
        Self {
            id: record.id.clone(),
            cell: RwLock::new(Cell {
                record,
                run: None,
                waiting: Vec::new(),
                restart_delay: None,
                restart_cancel: None,
                tidying: None,
                health: None,
                execs: Vec::new(),
                gone: false,
            }),
            op: Mutex::new(()),
            watch: watch::Sender::new(watched),
        }
    }

    /// Reads. Never held across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Cell> {
        self.cell
            .read()
            .expect("no code panics while it holds this lock")
    }

    /// Changes. Never held across an await.
    pub fn write(&self) -> RwLockWriteGuard<'_, Cell> {
        self.cell
            .write()
            .expect("no code panics while it holds this lock")
    }

    /// A copy of the record.
    pub fn record(&self) -> ContainerRecord {
        self.read().record.clone()
    }

    /// The name without slash.
    pub fn name(&self) -> String {
        self.read().record.name.clone()
    }

    /// Changes of the state, for `wait`.
    pub fn watch(&self) -> watch::Receiver<Watched> {
        self.watch.subscribe()
    }

    /// Tells the waiting what the state is now.
    pub(super) fn announce(&self, change: impl FnOnce(&mut Watched)) {
        let running = self.read().record.state.is_running();
        self.watch.send_modify(|watched| {
            watched.running = running;
            change(watched);
        });
    }

    /// The shim of the present run, or Docker's `is not running`.
    pub fn link(&self) -> Result<ShimLink> {
        match &self.read().run {
            Some(run) => Ok(run.link.clone()),
            None => Err(self.not_running()),
        }
    }

    /// PID of the program on the host; 0 when not running.
    pub fn pid(&self) -> i32 {
        let cell = self.read();
        if cell.record.state.phase == Phase::Running {
            cell.record.state.pid
        } else {
            0
        }
    }

    /// Docker's `Container X is not running`.
    pub fn not_running(&self) -> Error {
        Error::conflict(format!("container {} is not running", self.id))
    }

    /// Attributes of events, with further ones.
    pub fn event_attributes<const N: usize>(
        &self,
        more: [(&str, String); N],
    ) -> BTreeMap<String, String> {
        let mut attributes = self.read().record.event_attributes();
        for (key, value) in more {
            attributes.insert(key.to_owned(), value);
        }
        attributes
    }
}
