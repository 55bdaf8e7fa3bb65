//! Containers and execs: records, registry, life cycle.
//!
//! ```text
//!            create            start                 program ends
//! (nothing) ───────▶ created ───────▶ running ⇄ paused ───────▶ exited ──start──▶ running …
//!                                        ▲                        │
//!                                        └──── restarting ◀───────┘ restart policy
//! ```
//!
//! One file per verb; each is an `impl Engine`. Pure parts ([`spec`], [`mounts`], [`validate`],
//! [`status`], [`restart_policy`], [`list`]'s filters) know nothing of the rest.

mod ahead;
mod apparmor;
mod archive;
mod attach;
pub(crate) mod cgroups;
mod checkpoint;
mod client_socket;
mod connect;
mod copy_up;
mod create;
mod devices;
mod ending;
mod endpoints;
mod exec;
mod exit;
mod health;
mod host;
mod image_defaults;
mod inspect;
mod kill;
mod limits;
mod links;
mod list;
mod live;
mod logs;
mod mounts;
mod names;
mod next_id;
mod pause;
mod ports;
mod processes;
mod prune;
mod readiness;
pub mod reconcile;
mod record;
mod registry;
mod remove;
mod rename;
mod restart_policy;
mod runtimes;
mod seccomp;
mod security;
mod selinux;
mod shim_link;
mod shim_spawn;
mod signal;
mod spec;
mod start;
mod stats;
mod status;
mod stop;
mod top;
mod update;
mod usage;
mod user_namespace;
mod validate;
mod volume_intent;
mod wait;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use wharf_fault::{Error, Result};
use wharf_ids::ContainerId;
use wharf_state::{Batch, Store};

pub use archive::{ExtractOptions, Packed};
pub use attach::AttachOptions;
pub use exec::{ExecClient, ExecSession};
pub use list::ListOptions;
pub use live::Container;
pub use logs::{LogOptions, LogStream};
pub use stats::StatsStream;
pub use status::human_duration;
pub use stop::StopOptions;
pub use wait::{WaitCondition, Waiter};

use crate::EngineConfig;
use crate::user_namespaces::UserNamespaces;
use ahead::Ahead;
use host::HostFacts;
use next_id::NextIds;
use record::{ContainerRecord, TABLE};
use registry::Registry;
use seccomp::SeccompCache;
use shim_spawn::ShimSpawner;

/// All containers of an engine.
#[derive(Debug)]
pub struct Containers {
    registry: Registry,
    host: HostFacts,
    spawner: ShimSpawner,
    ahead: Ahead,
    next_ids: NextIds,
    seccomp: SeccompCache,
    user_namespaces: UserNamespaces,
    /// Exec sessions by id.
    execs: Mutex<HashMap<String, Arc<ExecSession>>>,
    /// `<data-root>/containers`.
    root: PathBuf,
    /// `<exec-root>/containers`.
    run_root: PathBuf,
    /// Exit records of containers that are removed with their end, in a directory for each: its
    /// shim can write nowhere else.
    exits: PathBuf,
    /// Parent of the containers' cgroups; meaningless where they have none.
    cgroup_parent: String,
    store: Store,
    /// Numbers the clients handed to shims.
    next_client: AtomicU64,
}

/// What confines containers, beside what confines all of them everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Confinement {
    /// AppArmor profiles.
    pub(crate) apparmor: bool,
    /// SELinux labels.
    pub(crate) selinux: bool,
    /// User namespaces, for those that ask for nothing.
    pub(crate) remaps_users: bool,
}

/// How many containers there are, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Running, and not paused.
    pub running: i64,
    /// Paused.
    pub paused: i64,
    /// All others.
    pub stopped: i64,
}

impl Containers {
    /// Reads the records. [`reconcile::run`] then finds out what became of them.
    pub fn open(config: &EngineConfig, store: &Store) -> Result<Self> {
        let root = config.data_root.join("containers");
        let run_root = config.exec_root.join("containers");
        let exits = config.exec_root.join("exits");
        let next_ids = config.exec_root.join("next-ids");
        for folder in [&root, &run_root, &exits, &next_ids] {
            create::make_private_dir(folder).map_err(|source| {
                Error::system(format!("cannot create {}", folder.display())).caused_by(source)
            })?;
        }
        let registry = Registry::default();
        for (_, record) in store
            .list::<ContainerRecord>(TABLE)
            .map_err(Error::from_fault)?
        {
            registry.insert(Arc::new(Container::new(record)));
        }
        let own_parent = match &config.rootless {
            Some(rootless) => rootless.cgroup_parent.clone().ok(),
            None => Some(format!("/wharf{}", config.instance)),
        };
        let cgroup_parent = cgroups::parent(&config.daemon, own_parent.as_deref());
        let host = HostFacts::gather(
            config.rootless.is_some(),
            config.daemon.selinux_enabled,
            own_parent.as_deref(),
        );
        Ok(Self {
            registry,
            spawner: ShimSpawner::new(&config.shim)?,
            ahead: Ahead::default(),
            next_ids: NextIds::new(next_ids),
            seccomp: SeccompCache::new(&config.daemon.seccomp_profile, host.kernel)?,
            user_namespaces: UserNamespaces::open(&config.daemon.userns_remap)?,
            host,
            execs: Mutex::new(HashMap::new()),
            root,
            run_root,
            exits,
            cgroup_parent,
            store: store.clone(),
            next_client: AtomicU64::new(1),
        })
    }

    /// A container by id, name or the beginning of an id.
    pub fn find(&self, reference: &str) -> Result<Arc<Container>> {
        self.registry.find(reference)
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for container in self.registry.all() {
            match container.read().record.state.status() {
                "running" | "restarting" => counts.running += 1,
                "paused" => counts.paused += 1,
                _ => counts.stopped += 1,
            }
        }
        counts
    }

    /// Containers that mount a volume, running or not.
    pub fn using_volume(&self, name: &str) -> Vec<ContainerId> {
        let uses = |container: &Arc<Container>| {
            container
                .read()
                .record
                .mounts
                .iter()
                .any(|mount| mount.volume() == Some(name))
        };
        self.registry
            .all()
            .into_iter()
            .filter(uses)
            .map(|container| container.id.clone())
            .collect()
    }

    /// Containers made from an image: id, and whether it runs.
    pub fn using_image(&self, image_id: &str) -> Vec<(ContainerId, bool)> {
        let uses = |container: &Arc<Container>| {
            let cell = container.read();
            (cell.record.image_id == image_id)
                .then(|| (container.id.clone(), cell.record.state.is_running()))
        };
        self.registry.all().iter().filter_map(uses).collect()
    }

    /// Ids of containers that name a network, running or not.
    pub fn using_network(&self, network_id: &str) -> Vec<ContainerId> {
        let uses = |container: &Arc<Container>| {
            container
                .read()
                .record
                .networks
                .values()
                .any(|endpoint| endpoint.network_id == network_id)
        };
        self.registry
            .all()
            .into_iter()
            .filter(uses)
            .map(|container| container.id.clone())
            .collect()
    }

    /// What confines containers on this host.
    pub(crate) fn confinement(&self) -> Confinement {
        Confinement {
            apparmor: self.host.apparmor,
            selinux: self.host.selinux.is_some(),
            remaps_users: self.user_namespaces.remap().is_some(),
        }
    }

    /// A number for a client that is handed to a shim.
    fn client_token(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    /// A container's directory: log, exit record, `hosts` and the like.
    fn directory(&self, id: &ContainerId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// Where the end of a container's run is written down: where its record is.
    fn exit_path(&self, record: &ContainerRecord) -> PathBuf {
        if record.host_config.auto_remove {
            self.exits.join(record.id.as_str()).join(EXIT_FILE)
        } else {
            self.directory(&record.id).join(EXIT_FILE)
        }
    }

    /// Puts a container's record into the store without waiting. Losing it to a crash is repaired
    /// from the shim; what must not be lost is committed with [`commit`].
    fn persist(&self, container: &Container) {
        let cell = container.read();
        if cell.gone {
            return;
        }
        let mut batch = cell.record.batch();
        batch.put(TABLE, container.id.as_str(), &cell.record);
        // Sent under the container's lock: no older record can come after a newer one.
        self.store.commit_then(batch, |result| {
            if let Err(error) = result {
                tracing::error!(error = %wharf_fault::chain(&error), "cannot save the state of a container");
            }
        });
    }

    /// The same, and waits until it is durable.
    async fn persist_now(&self, container: &Container) -> Result<()> {
        let waiting = {
            let cell = container.read();
            if cell.gone {
                return Ok(());
            }
            let mut batch = cell.record.batch();
            batch.put(TABLE, container.id.as_str(), &cell.record);
            send(&self.store, batch)
        };
        finish(waiting).await
    }
}

/// A shim's last word about a run.
const EXIT_FILE: &str = "exit.json";

type Waiting = tokio::sync::oneshot::Receiver<std::result::Result<(), wharf_state::StateError>>;

fn send(store: &Store, batch: Batch) -> Waiting {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    store.commit_then(batch, move |result| drop(sender.send(result)));
    receiver
}

async fn finish(waiting: Waiting) -> Result<()> {
    match waiting.await {
        Ok(result) => result.map_err(Error::from_fault),
        Err(_) => Err(Error::system("the state store is closed")),
    }
}

/// Commits without blocking a worker thread.
async fn commit(store: &Store, batch: Batch) -> Result<()> {
    finish(send(store, batch)).await
}
