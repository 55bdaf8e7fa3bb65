//! Images as the API shows them: the image store and the registry client in Docker's words.

mod archive;
mod blob_sink;
mod describe;
mod glob;
mod list;
mod messages;
mod prune;
mod pull;
mod push;
mod registry;

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use wharf_api_types::image::{ImageDeleted, ImageHistoryItem, ImageInspect};
use wharf_fault::{Error, Result};
use wharf_ids::{Digest, ImageRef};
use wharf_image_store::{ContainerUse, Image, ImageStore, RemoveOptions, Removed};
use wharf_oci::platform::Platform;
use wharf_registry_client::Client;
use wharf_state::Store;

use crate::config::DaemonConfig;
use crate::networks::blocking;
use crate::{Engine, EngineConfig};

pub use archive::ImportSource;
pub use list::ListOptions;
pub use messages::{Messages, messages};
pub use pull::PullRequest;

/// The images of a data root.
#[derive(Debug, Clone)]
pub struct Images {
    store: ImageStore,
    client: Arc<RwLock<Arc<Client>>>,
}

impl Images {
    /// Opens the image store and removes what a crash left unfinished.
    pub fn open(config: &EngineConfig, store: &Store) -> Result<Self> {
        let images =
            ImageStore::open(&config.data_root, store.clone()).map_err(Error::from_fault)?;
        let client = registry::client(&config.daemon)?;
        Ok(Self {
            store: images,
            client: Arc::new(RwLock::new(Arc::new(client))),
        })
    }

    /// Takes over new registry settings. Pulls under way go on with the old ones.
    pub fn reload(&self, daemon: &DaemonConfig) -> Result<()> {
        let client = Arc::new(registry::client(daemon)?);
        *self
            .client
            .write()
            .expect("no code panics while it holds this lock") = client;
        Ok(())
    }

    /// The image store's handle.
    pub fn store(&self) -> &ImageStore {
        &self.store
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(
            &self
                .client
                .read()
                .expect("no code panics while it holds this lock"),
        )
    }

    /// How many there are.
    pub fn count(&self) -> i64 {
        i64::try_from(self.store.list().len()).unwrap_or(i64::MAX)
    }

    /// Finds an image by name, id or the beginning of an id.
    pub async fn find(&self, name: &str, platform: Option<Platform>) -> Result<Arc<Image>> {
        let (store, name) = (self.store.clone(), name.to_owned());
        blocking(move || {
            store
                .resolve_platform(&name, platform.as_ref())
                .map_err(Error::from_fault)
        })
        .await
    }

    /// Everything about an image; with `manifests` also what is here for each platform.
    pub async fn inspect(
        &self,
        engine: &Engine,
        name: &str,
        platform: Option<Platform>,
        manifests: bool,
    ) -> Result<ImageInspect> {
        let image = self.find(name, platform).await?;
        let mut inspect = describe::inspect(&image);
        if manifests {
            let users = container_use(engine, &image.id);
            let users = users.into_iter().map(|user| user.id).collect();
            inspect.manifests = Some(vec![describe::manifest(&image, users)]);
        }
        Ok(inspect)
    }

    /// How an image came to be, newest step first.
    pub async fn history(
        &self,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<Vec<ImageHistoryItem>> {
        let image = self.find(name, platform).await?;
        let item = |entry: wharf_image_store::HistoryEntry| ImageHistoryItem {
            comment: entry.comment,
            created: entry.created_secs,
            created_by: entry.created_by,
            id: entry.id,
            size: describe::as_i64(entry.size_bytes),
            tags: (!entry.tags.is_empty()).then_some(entry.tags),
        };
        Ok(image.history().into_iter().map(item).collect())
    }

    /// Gives an image another name.
    pub async fn tag(
        &self,
        engine: &Engine,
        source: &str,
        repository: &str,
        tag: &str,
    ) -> Result<()> {
        let target = reference(repository, tag)?.or_latest();
        if target.digest.is_some() {
            return Err(Error::invalid(
                "refusing to create a tag with a digest reference",
            ));
        }
        let (store, source, name) = (self.store.clone(), source.to_owned(), target.clone());
        let id = blocking(move || store.tag(&source, &name).map_err(Error::from_fault)).await?;
        self.announce(engine, "tag", id.as_str(), &target.familiar());
        Ok(())
    }

    /// Removes a name, or an image with all of its names.
    pub async fn remove(
        &self,
        engine: &Engine,
        name: &str,
        force: bool,
    ) -> Result<Vec<ImageDeleted>> {
        // Afterwards nobody knows what the name stood for.
        let (store, text) = (self.store.clone(), name.to_owned());
        let id = blocking(move || {
            store
                .resolve(&text)
                .map(|image| image.id.clone())
                .map_err(Error::from_fault)
        })
        .await;
        let (store, text, containers) = (self.store.clone(), name.to_owned(), engine.clone());
        let removed = blocking(move || {
            let usage = |id: &Digest| container_use(&containers, id);
            store
                .remove(&text, RemoveOptions { force }, &usage)
                .map_err(Error::from_fault)
        })
        .await?;
        self.announce_removal(engine, id.as_ref().map_or("", Digest::as_str), &removed);
        self.empty_trash_later();
        Ok(removed.into_iter().map(deleted).collect())
    }

    /// The slow part of removals, which nobody has to wait for.
    fn empty_trash_later(&self) {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.empty_trash() {
                tracing::warn!(error = wharf_fault::chain(&error), "cannot empty the trash");
            }
        });
    }

    fn announce_removal(&self, engine: &Engine, id: &str, removed: &[Removed]) {
        for item in removed {
            match item {
                Removed::Untagged(name) => {
                    let id = if id.is_empty() { name.as_str() } else { id };
                    self.announce(engine, "untag", id, id);
                }
                Removed::Deleted(id) => self.announce(engine, "delete", id.as_str(), id.as_str()),
            }
        }
    }

    /// Announces something about an image, with its labels when they are known. `id` is the
    /// image's or what stands for it in Docker's events.
    fn announce(&self, engine: &Engine, action: &str, id: &str, name: &str) {
        let mut attributes: BTreeMap<String, String> = BTreeMap::new();
        if let Ok(image) = self.store.resolve(id) {
            attributes.clone_from(&image.config.config.labels);
        }
        attributes.insert("name".to_owned(), name.to_owned());
        engine.events.publish("image", action, id, attributes);
    }
}

fn deleted(removed: Removed) -> ImageDeleted {
    match removed {
        Removed::Untagged(name) => ImageDeleted {
            untagged: name.to_string(),
            ..ImageDeleted::default()
        },
        Removed::Deleted(id) => ImageDeleted {
            deleted: id.to_string(),
            ..ImageDeleted::default()
        },
    }
}

/// The containers made from an image.
fn container_use(engine: &Engine, id: &Digest) -> Vec<ContainerUse> {
    let users = engine.containers.using_image(id.as_str()).into_iter();
    users
        .map(|(id, running)| ContainerUse {
            id: id.to_string(),
            running,
        })
        .collect()
}

/// A reference from a name and, in its own parameter, a tag or digest.
fn reference(name: &str, tag: &str) -> Result<ImageRef> {
    let invalid = |error: wharf_ids::ReferenceError| Error::invalid(error.to_string());
    let name = ImageRef::parse(name).map_err(invalid)?;
    if tag.is_empty() {
        return Ok(name);
    }
    match tag.parse::<Digest>() {
        Ok(digest) => Ok(name.with_digest(digest)),
        Err(_) => name
            .with_tag(tag)
            .map_err(|_| Error::invalid("invalid tag format")),
    }
}
