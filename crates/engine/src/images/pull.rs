//! Pulling: resolve, fetch layers, unpack each as it arrives, name the image.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::task::JoinSet;
use wharf_api_types::StreamMessage;
use wharf_api_types::image::AuthConfig;
use wharf_fault::{Error, Result};
use wharf_ids::{Digest, ImageRef};
use wharf_image_store::{ImageError, Layer, Lease, UnpackProgress};
use wharf_oci::platform::Platform;
use wharf_registry_client::{
    Access, Event, LayerStatus, PullRequest as Fetch, Reference, Repository, pull,
};

use super::blob_sink::LeaseSink;
use super::{Images, Messages, reference};
use crate::Engine;
use crate::networks::blocking;

/// Layers unpacked while others still arrive. More would fight for the disk.
const UNPACKERS_MAX: usize = 2;

/// What `pull` is asked for.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Repository, perhaps with tag or digest.
    pub name: String,
    /// Tag or digest, when not in the name; none at all means all tags.
    pub tag: String,
    /// For which platform; this machine's when not given.
    pub platform: Option<Platform>,
    /// Credentials.
    pub auth: AuthConfig,
}

impl Images {
    /// Pulls an image, or all tags of a repository. Ends early when nobody listens any more; what
    /// has arrived by then the next pull need not fetch again.
    pub async fn pull(
        &self,
        engine: &Engine,
        request: PullRequest,
        messages: Messages,
    ) -> Result<()> {
        let name = reference(&request.name, &request.tag)?;
        let repository = self.repository(&name, &request.auth, Access::Pull);
        let work = async {
            let names = if name.tag.is_none() && name.digest.is_none() {
                let tags = repository.tags().await.map_err(Error::from_fault)?;
                tags.iter()
                    .filter_map(|tag| name.with_tag(tag).ok())
                    .collect()
            } else {
                vec![name.clone()]
            };
            for name in names {
                self.pull_one(
                    engine,
                    &repository,
                    &name,
                    request.platform.as_ref(),
                    &messages,
                )
                .await?;
            }
            Ok(())
        };
        tokio::select! {
            result = work => result,
            () = messages.closed() => Err(Error::system("context canceled")),
        }
    }

    async fn pull_one(
        &self,
        engine: &Engine,
        repository: &Repository,
        name: &ImageRef,
        platform: Option<&Platform>,
        messages: &Messages,
    ) -> Result<()> {
        let before = self.store.target(name).ok();
        let lease = Arc::new(self.store.lease());
        let (sink, layers) = LeaseSink::new(Arc::clone(&lease));
        let reports = Arc::new(Reports::new(name, messages.clone()));
        let unpacking = tokio::spawn(unpack_arriving(
            Arc::clone(&lease),
            layers,
            Arc::clone(&reports),
        ));
        // Ends with the pull, also when that is given up.
        let _unpacking = AbortOnDrop(unpacking.abort_handle());
        let fetch = Fetch {
            reference: Reference::of(name),
            platform: platform.cloned().unwrap_or_else(Platform::host),
            concurrency: engine.settings().max_concurrent_downloads,
        };
        let report = |event| reports.event(event);
        let pulled = pull(repository, &fetch, &sink, &report)
            .await
            .map_err(Error::from_fault)?;
        drop(sink);
        unpacking
            .await
            .map_err(|source| Error::system("cannot unpack the image").caused_by(source))??;
        let (target, wanted) = (pulled.target.clone(), platform.cloned());
        let unpack_reports = Arc::clone(&reports);
        blocking(move || {
            let progress = |progress: UnpackProgress| unpack_reports.unpack(progress);
            match (lease.unpack(&target, wanted.as_ref(), &progress), &wanted) {
                (Ok(()), _) => Ok(lease),
                // A single manifest is pulled whatever it is for; only now its configuration is read.
                (Err(ImageError::NotAnImage(_)), Some(platform)) => Err(Error::not_found(format!(
                    "no matching manifest for {platform} in the manifest list entries"
                ))),
                (Err(error), _) => Err(Error::from_fault(error)),
            }
        })
        .await?;
        let (store, target, named) = (self.store.clone(), pulled.target.clone(), name.clone());
        blocking(move || {
            store
                .set_image(&named, &target)
                .map_err(Error::from_fault)?;
            for layer in &pulled.image.layers {
                store
                    .add_source(&layer.digest, &named.repository())
                    .map_err(Error::from_fault)?;
            }
            Ok(())
        })
        .await?;
        messages.send(StreamMessage::status(format!(
            "Digest: {}",
            pulled.target.digest
        )));
        let is_new = before.is_none_or(|before| before.digest != pulled.target.digest);
        let outcome = if is_new {
            "Downloaded newer image for"
        } else {
            "Image is up to date for"
        };
        messages.send(StreamMessage::status(format!(
            "Status: {outcome} {}",
            name.familiar()
        )));
        self.announce(engine, "pull", &name.familiar(), &name.familiar_name());
        Ok(())
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Unpacks layers as they arrive, a few at a time.
async fn unpack_arriving(
    lease: Arc<Lease>,
    mut layers: tokio::sync::mpsc::UnboundedReceiver<Layer>,
    reports: Arc<Reports>,
) -> Result<()> {
    let mut running = JoinSet::new();
    let mut seen = HashSet::new();
    let ended = |ended: std::result::Result<Result<()>, tokio::task::JoinError>| match ended {
        Ok(result) => result,
        Err(source) => Err(Error::system("cannot unpack a layer").caused_by(source)),
    };
    while let Some(layer) = layers.recv().await {
        if !seen.insert(layer.chain_id.clone()) {
            continue;
        }
        while running.len() >= UNPACKERS_MAX
            && let Some(result) = running.join_next().await
        {
            ended(result)?;
        }
        let (lease, reports) = (Arc::clone(&lease), Arc::clone(&reports));
        running.spawn_blocking(move || {
            lease
                .unpack_layer(&layer, &|progress| reports.unpack(progress))
                .map_err(Error::from_fault)
        });
    }
    while let Some(result) = running.join_next().await {
        ended(result)?;
    }
    Ok(())
}

/// Reports in Docker's words.
#[derive(Debug)]
struct Reports {
    messages: Messages,
    from: String,
    id: String,
    layers: Mutex<Layers>,
}

#[derive(Debug, Default)]
struct Layers {
    /// Those something was done for.
    new: HashSet<Digest>,
    /// Those whose last word was said.
    complete: HashSet<Digest>,
}

impl Reports {
    fn new(name: &ImageRef, messages: Messages) -> Self {
        let id = Reference::of(name).to_string();
        Self {
            messages,
            from: format!("Pulling from {}", name.path),
            id,
            layers: Mutex::default(),
        }
    }

    fn event(&self, event: Event) {
        match event {
            Event::Resolved { .. } => {
                let message = StreamMessage {
                    id: Some(self.id.clone()),
                    ..StreamMessage::status(&self.from)
                };
                self.messages.send(message);
            }
            Event::Layer {
                digest,
                status: LayerStatus::Downloading { current, total },
            } => {
                self.lock().new.insert(digest.clone());
                self.messages
                    .progress(digest.short(), "Downloading", current, total);
            }
            // Perhaps still to be unpacked; that has a last word of its own.
            Event::Layer {
                status: LayerStatus::AlreadyExists,
                ..
            } => {}
            Event::Layer { digest, status } => {
                if status == LayerStatus::DownloadComplete {
                    self.lock().new.insert(digest.clone());
                }
                self.messages
                    .send(StreamMessage::part(digest.short(), status.text()));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Layers> {
        self.layers
            .lock()
            .expect("no code panics while it holds this lock")
    }

    fn unpack(&self, progress: UnpackProgress) {
        let id = progress.layer.short();
        let mut layers = self.lock();
        if !progress.complete {
            layers.new.insert(progress.layer.clone());
            return self
                .messages
                .progress(id, "Extracting", progress.done, progress.total);
        }
        if layers.complete.insert(progress.layer.clone()) {
            let text = if layers.new.contains(&progress.layer) {
                "Pull complete"
            } else {
                "Already exists"
            };
            self.messages.send(StreamMessage::part(id, text));
        }
    }
}
