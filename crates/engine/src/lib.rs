//! The engine: every decision about containers, and the records behind them.
//!
//! ```text
//! server route ──▶ Engine ──▶ container::{create,start,…}   plan (pure) → apply (undo stack)
//!                        ├──▶ images, volumes, networks      thin owners of the domain crates
//!                        └──▶ events                         numbered, kept, streamed
//! ```
//!
//! [`Engine`] is a cheap handle; clones share one set of parts. It knows no HTTP. Desired state is
//! in the store (`state`), actual state is in the kernel and in the shims; [`Engine::open`] brings
//! the two together after any kind of end of the previous daemon, and nothing here stops a
//! container because the daemon stops.

pub mod config;
pub mod container;
pub mod events;
pub mod images;
pub mod networks;
pub mod system;
mod user_namespaces;
pub mod volumes;

use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use wharf_fault::{Error, Result};
use wharf_state::Store;

/// Where the shim program comes from.
#[derive(Debug, Clone)]
pub enum ShimProgram {
    /// The program's bytes, shipped inside the main binary.
    Embedded(&'static [u8]),
    /// A file on the host.
    File(PathBuf),
}

/// What the composition root decides about one instance of the engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Everything durable: store, images, volumes, container directories.
    pub data_root: PathBuf,
    /// Everything that dies with the machine: shim sockets.
    pub exec_root: PathBuf,
    /// Suffix of names shared by the whole host (nft table, bridges, cgroups): empty for the
    /// default data root, else a dash and eight hex digits made from the data root's path.
    pub instance: String,
    /// The program that carries a container.
    pub shim: ShimProgram,
    /// The settings of `daemon.json` and the command line.
    pub daemon: config::DaemonConfig,
    /// What an ordinary user's daemon was given; `None` for root's.
    pub rootless: Option<Rootless>,
}

/// The engine as an ordinary user, who is root in a user namespace only.
#[derive(Debug, Clone)]
pub struct Rootless {
    /// The network namespace of bridges and firewall; the daemon's own is the host's.
    pub network: Arc<OwnedFd>,
    /// Held by every shim: the namespaces stay as long as somebody holds it.
    pub lifeline: Arc<OwnedFd>,
    /// The program that connects containers to the outside, or why there is none.
    pub uplink: std::result::Result<String, String>,
    /// The cgroup, from the hierarchy's root, below which the system lets this user make more, or
    /// why there is none. Without one, containers have no limits.
    pub cgroup_parent: std::result::Result<String, String>,
    /// The user's name on the host.
    pub user: String,
}

impl Rootless {
    /// What to say to somebody who wants containers to be started again: a service manager ends what
    /// a user has when the last session closes, and starts nothing at boot, unless told to.
    pub(crate) fn session_warning(&self) -> Option<String> {
        let (systemd, lingers) = (
            std::path::Path::new("/run/systemd/system"),
            std::path::Path::new("/var/lib/systemd/linger").join(&self.user),
        );
        (systemd.exists() && !lingers.exists()).then(|| {
            format!(
                "Without lingering, systemd ends what {0} runs after the last logout and starts nothing at boot, whatever the restart policy; to keep containers: loginctl enable-linger {0}",
                self.user
            )
        })
    }
}

/// The parts of an engine; reached through [`Engine`].
#[derive(Debug)]
pub struct Parts {
    /// How this instance was set up.
    pub config: EngineConfig,
    /// The daemon's settings in force; the reloadable ones change on SIGHUP.
    settings: RwLock<Arc<config::DaemonConfig>>,
    /// The metadata store.
    pub store: Store,
    /// Events of all objects.
    pub events: events::Events,
    /// Images.
    pub images: images::Images,
    /// Volumes.
    pub volumes: volumes::Volumes,
    /// Networks.
    pub networks: networks::Networks,
    /// Containers and their execs.
    pub containers: container::Containers,
}

/// A handle to the engine.
#[derive(Debug, Clone)]
pub struct Engine {
    parts: Arc<Parts>,
}

impl Deref for Engine {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Engine {
    /// Opens the engine over its data root and takes over whatever an earlier daemon left running.
    pub async fn open(config: EngineConfig) -> Result<Self> {
        for folder in [&config.data_root, &config.exec_root] {
            create_private_dir(folder)?;
        }
        // Where an administrator or a package made it; Docker sets the mode of its root as well.
        close_to_others(&config.data_root)?;
        let store = Store::open_with_passing(
            &config.data_root.join("state.redb"),
            &config.exec_root.join("records"),
        )
        .map_err(Error::from_fault)?;
        let events = events::Events::open(&config, &store)?;
        let images = images::Images::open(&config, &store)?;
        let volumes = volumes::Volumes::open(&config, &store)?;
        let networks = networks::Networks::open(&config, &store).await?;
        let containers = container::Containers::open(&config, &store)?;
        let engine = Self {
            parts: Arc::new(Parts {
                settings: RwLock::new(Arc::new(config.daemon.clone())),
                config,
                store,
                events,
                images,
                volumes,
                networks,
                containers,
            }),
        };
        container::reconcile::run(&engine).await?;
        Ok(engine)
    }

    /// The daemon's settings in force.
    pub fn settings(&self) -> Arc<config::DaemonConfig> {
        Arc::clone(
            &self
                .parts
                .settings
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Takes over what can change without a restart.
    pub fn reload(&self, new: config::DaemonConfig) -> config::Reload {
        let outcome = self.settings().reload(new);
        *self
            .parts
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(outcome.config.clone());
        if let Err(error) = self.images.reload(&outcome.config) {
            tracing::error!(error = %wharf_fault::chain(&error), "the registry settings stay as they were");
        }
        self.announce_reload(&outcome);
        outcome
    }

    /// Makes everything durable that is not yet. Containers go on.
    pub async fn shutdown(&self) {
        container::reconcile::shutdown(self).await;
        self.events.flush();
    }
}

/// Takes away what others may do with `folder`: secrets lie below it, and programs of containers that
/// are root's on disk.
fn close_to_others(folder: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let failed = |source| {
        Error::system(format!("cannot set the mode of {}", folder.display())).caused_by(source)
    };
    let found = folder.metadata().map_err(failed)?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw();
    if found.mode() & 0o7 != 0 && is_ours {
        let mode = std::fs::Permissions::from_mode(found.mode() & 0o7770);
        std::fs::set_permissions(folder, mode).map_err(failed)?;
    }
    Ok(())
}

/// Creates `folder` (and parents) for root only.
fn create_private_dir(folder: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o710)
        .create(folder)
        .map_err(|source| {
            Error::system(format!("cannot create directory {}", folder.display())).caused_by(source)
        })
}
