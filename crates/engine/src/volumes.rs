//! Volumes: directories (or mounts made when they are used) that outlive containers.
//!
//! ```text
//! <data-root>/volumes/<name>/_data     what containers see
//! store, table "volumes"               name → VolumeRecord
//! store, table "volumes-removed"       name → (), a directory still to be deleted
//! ```
//!
//! The `local` driver's options `type`, `device` and `o` describe a mount. It is made in the mount
//! namespace of each container that uses the volume ([`Volumes::source`]), so nothing is ever
//! mounted on the host. A `tmpfs` volume is therefore one file system per container.

mod options;
mod prune;
mod source;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_api_types::Filters;
use wharf_api_types::volume::{Volume, VolumeCreate, VolumeList};
use wharf_fault::{Error, Result};
use wharf_ids::{hex_id, validate_volume_name};
use wharf_state::{Batch, Store};

use crate::events::Events;
use crate::{Engine, EngineConfig};

pub use source::VolumeSource;

const TABLE: &str = "volumes";
const REMOVED: &str = "volumes-removed";
/// Prefix of directories whose volume is not on record yet; no volume's name starts with a dot.
const DRAFT: &str = ".new-";
/// Prefix of directories on their way out.
const TRASH: &str = ".removed-";
/// The only driver.
pub const LOCAL: &str = "local";
/// Marks volumes nobody named.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// The volumes of a data root.
#[derive(Debug, Clone)]
pub struct Volumes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    store: Store,
    state: Mutex<State>,
    /// Held while a volume is made or removed.
    change: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<String, VolumeRecord>,
    /// Volumes that operations under way need.
    holds: HashMap<String, usize>,
}

/// What is kept about a volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct VolumeRecord {
    created_at: Timestamp,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
}

impl VolumeRecord {
    fn is_anonymous(&self) -> bool {
        self.labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(ANONYMOUS_LABEL))
    }
}

/// Keeps a volume from being removed until it is dropped.
#[derive(Debug)]
pub struct VolumeHold {
    volumes: Volumes,
    name: String,
}

impl Drop for VolumeHold {
    fn drop(&mut self) {
        let mut state = self.volumes.lock();
        if let Some(count) = state.holds.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                state.holds.remove(&self.name);
            }
        }
    }
}

impl Volumes {
    /// Reads the records and finishes removals a crash interrupted.
    pub fn open(config: &EngineConfig, store: &Store) -> Result<Self> {
        let root = config.data_root.join("volumes");
        std::fs::create_dir_all(&root).map_err(|source| {
            Error::system(format!("cannot create {}", root.display())).caused_by(source)
        })?;
        let records: BTreeMap<String, VolumeRecord> = store
            .list(TABLE)
            .map_err(Error::from_fault)?
            .into_iter()
            .collect();
        sweep(&root);
        for name in records.keys() {
            // Names were checked when the records were made; a power cut may have lost the directory.
            make_data_dir(&root.join(name))?;
        }
        let removed: Vec<(String, ())> = store.list(REMOVED).map_err(Error::from_fault)?;
        let volumes = Self {
            inner: Arc::new(Inner {
                root,
                store: store.clone(),
                state: Mutex::new(State {
                    records,
                    holds: HashMap::new(),
                }),
                change: tokio::sync::Mutex::new(()),
            }),
        };
        for (name, ()) in removed {
            volumes.delete_directory(&name);
        }
        Ok(volumes)
    }

    /// The volume a request describes: the existing one of that name, or a new one. Without a name
    /// a new anonymous one. Durable when this returns; true when it is new.
    pub async fn ensure(&self, events: &Events, request: &VolumeCreate) -> Result<(Volume, bool)> {
        let mut labels = request.labels.clone();
        let name = if request.name.is_empty() {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
            hex_id()
        } else {
            request.name.clone()
        };
        let named = |error: Error| Error::new(error.kind(), format!("create {name}: {error}"));
        if request.cluster_volume_spec.is_some() {
            return Err(Error::not_implemented(
                "cluster volumes are not supported by this version of Wharf",
            ));
        }
        if name.len() == 1 {
            return Err(named(Error::invalid(
                "volume name is too short, names should be at least two alphanumeric characters",
            )));
        }
        validate_volume_name(&name).map_err(|error| named(Error::invalid(error.to_string())))?;
        if !matches!(request.driver.as_str(), "" | LOCAL) {
            let driver = &request.driver;
            return Err(named(Error::not_found(format!(
                "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
            ))));
        }
        options::check(&request.driver_opts).map_err(named)?;
        let _changing = self.inner.change.lock().await;
        if let Some(existing) = self.get(&name) {
            return Ok((existing, false));
        }
        let record = VolumeRecord {
            created_at: Timestamp::now(),
            // Docker distinguishes no labels given (null) from an empty set.
            labels: (!labels.is_empty()).then_some(labels),
            options: (!request.driver_opts.is_empty()).then(|| request.driver_opts.clone()),
        };
        // Under a draft's name until the record is durable: a crash in between leaves something
        // that the next start knows to be nobody's.
        let draft = self.inner.root.join(format!("{DRAFT}{name}"));
        make_data_dir(&draft)?;
        let mut batch = Batch::new();
        batch.put(TABLE, name.clone(), &record);
        batch.delete(REMOVED, name.clone());
        commit(&self.inner.store, batch).await?;
        let place = self.inner.root.join(&name);
        // A directory without a record is somebody's data, restored by hand perhaps: it is used.
        let placed = if place.exists() {
            std::fs::remove_dir_all(&draft)
        } else {
            std::fs::rename(&draft, &place)
        };
        if let Err(source) = placed {
            let mut undo = Batch::new();
            undo.delete(TABLE, name.clone());
            commit(&self.inner.store, undo).await?;
            let failed = Error::system(format!("cannot create volume {name}")).caused_by(source);
            return Err(failed);
        }
        let volume = self.describe(&name, &record);
        self.lock().records.insert(name.clone(), record);
        events.publish("volume", "create", &name, driver_attribute());
        Ok((volume, true))
    }

    /// Keeps a volume from being removed while an operation under way needs it, until the
    /// container that uses it is on record.
    pub fn hold(&self, name: &str) -> VolumeHold {
        *self.lock().holds.entry(name.to_owned()).or_default() += 1;
        VolumeHold {
            volumes: self.clone(),
            name: name.to_owned(),
        }
    }

    /// A volume by name.
    pub fn get(&self, name: &str) -> Option<Volume> {
        let state = self.lock();
        state
            .records
            .get(name)
            .map(|record| self.describe(name, record))
    }

    /// A volume by name, or Docker's error.
    pub fn inspect(&self, name: &str) -> Result<Volume> {
        self.get(name)
            .ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    /// The directory containers see; meaningful for volumes that exist.
    pub fn path(&self, name: &str) -> PathBuf {
        self.inner.root.join(name).join("_data")
    }

    /// What containers mount.
    pub async fn source(&self, name: &str) -> Result<VolumeSource> {
        let options = {
            let state = self.lock();
            let record = state
                .records
                .get(name)
                .ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))?;
            record.options.clone()
        };
        match options {
            None => Ok(VolumeSource::Directory(self.path(name))),
            Some(options) => source::from_options(name, &self.path(name), &options).await,
        }
    }

    /// The volumes that match.
    pub fn list(&self, engine: &Engine, filters: &Filters) -> Result<VolumeList> {
        let invalid =
            |error: wharf_api_types::filters::FilterError| Error::invalid(error.to_string());
        filters
            .only(&["dangling", "driver", "label", "name"])
            .map_err(invalid)?;
        let dangling = if filters.contains("dangling") {
            Some(filters.flag("dangling", false).map_err(invalid)?)
        } else {
            None
        };
        let all: Vec<(Volume, BTreeMap<String, String>)> = {
            let state = self.lock();
            let one = |(name, record): (&String, &VolumeRecord)| {
                (
                    self.describe(name, record),
                    record.labels.clone().unwrap_or_default(),
                )
            };
            state.records.iter().map(one).collect()
        };
        let volumes = all
            .into_iter()
            .filter(|(volume, labels)| {
                filters.matches_part("name", &volume.name)
                    && filters.matches_exactly("driver", LOCAL)
                    && filters.matches_labels("label", labels)
                    && dangling.is_none_or(|dangling| {
                        dangling == engine.containers.using_volume(&volume.name).is_empty()
                    })
            })
            .map(|(volume, _)| volume)
            .collect();
        Ok(VolumeList {
            volumes,
            warnings: None,
        })
    }

    /// Removes a volume no container uses. With `force` one that does not exist is no error.
    pub async fn remove(&self, engine: &Engine, name: &str, force: bool) -> Result<()> {
        let _changing = self.inner.change.lock().await;
        if self.get(name).is_none() {
            return if force {
                Ok(())
            } else {
                self.inspect(name).map(drop)
            };
        }
        let users: Vec<String> = engine
            .containers
            .using_volume(name)
            .iter()
            .map(ToString::to_string)
            .collect();
        if !users.is_empty() {
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        if self.lock().holds.contains_key(name) {
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - []"
            )));
        }
        self.forget(name).await?;
        engine
            .events
            .publish("volume", "destroy", name, driver_attribute());
        Ok(())
    }

    /// Removes the record durably, then the directory in the background.
    async fn forget(&self, name: &str) -> Result<()> {
        let mut batch = Batch::new();
        batch.delete(TABLE, name);
        batch.put(REMOVED, name, &());
        commit(&self.inner.store, batch).await?;
        self.lock().records.remove(name);
        self.delete_directory(name);
        Ok(())
    }

    /// Moves the directory out of the way, so that the name can be used again at once, and deletes
    /// it in the background.
    fn delete_directory(&self, name: &str) {
        let trash = self.inner.root.join(format!("{TRASH}{}", hex_id()));
        if let Err(error) = std::fs::rename(self.inner.root.join(name), &trash)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, volume = name, "cannot remove a volume's directory");
            return;
        }
        let mut batch = Batch::new();
        batch.delete(REMOVED, name);
        self.inner.store.commit_then(batch, drop);
        let delete = move || {
            // The standard library removes trees without following links (openat, unlinkat).
            if let Err(error) = std::fs::remove_dir_all(&trash)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %trash.display(), "cannot delete a removed volume");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(delete)),
            Err(_) => delete(),
        }
    }

    fn describe(&self, name: &str, record: &VolumeRecord) -> Volume {
        Volume {
            created_at: record.created_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            driver: LOCAL.to_owned(),
            labels: record.labels.clone(),
            mountpoint: self.path(name).display().to_string(),
            name: name.to_owned(),
            options: record.options.clone(),
            scope: "local".to_owned(),
            usage_data: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

/// Deletes what a daemon that was killed left half made or half deleted. Directories under a
/// volume's own name are never touched here.
fn sweep(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = [DRAFT, TRASH]
            .iter()
            .any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
        if ours && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(%error, path = %entry.path().display(), "cannot delete a leftover of a volume");
        }
    }
}

fn driver_attribute() -> BTreeMap<String, String> {
    BTreeMap::from([("driver".to_owned(), LOCAL.to_owned())])
}

fn make_data_dir(volume: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let failed = |source: std::io::Error| {
        Error::system(format!("cannot create {}", volume.display())).caused_by(source)
    };
    // Containers' users need to pass through neither: they see `_data` itself.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o701)
        .create(volume)
        .map_err(failed)?;
    let data = volume.join("_data");
    if std::fs::symlink_metadata(&data).is_ok() {
        return Ok(());
    }
    std::fs::create_dir(&data).map_err(failed)?;
    // Whatever the daemon's umask is.
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).map_err(failed)
}

/// Waits for a commit without blocking a worker thread.
pub(crate) async fn commit(store: &Store, batch: Batch) -> Result<()> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    store.commit_then(batch, move |result| drop(sender.send(result)));
    match receiver.await {
        Ok(result) => result.map_err(Error::from_fault),
        Err(_) => Err(Error::system("the state store is closed")),
    }
}
