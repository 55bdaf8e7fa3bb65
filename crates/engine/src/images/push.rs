//! Pushing: what a name points to, with everything below it that is here.

use std::collections::BTreeSet;

use wharf_api_types::StreamMessage;
use wharf_api_types::image::AuthConfig;
use wharf_fault::{Error, Result};
use wharf_ids::{Digest, ImageRef};
use wharf_image_store::ImageStore;
use wharf_oci::image::{Descriptor, Document};
use wharf_oci::platform::Platform;
use wharf_registry_client::{
    Access, Event, LayerStatus, PushLayer, PushManifest, PushRequest, Reference, push,
};

use super::blob_sink::StoreSource;
use super::{Images, Messages, reference};
use crate::Engine;
use crate::networks::blocking;

impl Images {
    /// Pushes the image a name points to. Without a tag all tags of the repository are pushed.
    pub async fn push(
        &self,
        engine: &Engine,
        name: &str,
        tag: &str,
        platform: Option<Platform>,
        auth: AuthConfig,
        messages: Messages,
    ) -> Result<()> {
        let name = reference(name, tag)?;
        if name.digest.is_some() {
            return Err(Error::invalid("cannot push a digest reference"));
        }
        let names = if name.tag.is_some() {
            vec![name.clone()]
        } else {
            self.tags_of(&name)
        };
        if names.is_empty() {
            return Err(Error::not_found(format!(
                "An image does not exist locally with the tag: {}",
                name.familiar_name()
            )));
        }
        let work = async {
            for name in &names {
                self.push_one(engine, name, platform.clone(), &auth, &messages)
                    .await?;
            }
            Ok(())
        };
        tokio::select! {
            result = work => result,
            () = messages.closed() => Err(Error::system("context canceled")),
        }
    }

    /// All names of a repository that have a tag.
    fn tags_of(&self, repository: &ImageRef) -> Vec<ImageRef> {
        let images = self.store.list();
        let tags = images.iter().flat_map(|image| &image.tags);
        let tags: BTreeSet<&ImageRef> =
            tags.filter(|tag| tag.name() == repository.name()).collect();
        tags.into_iter().cloned().collect()
    }

    async fn push_one(
        &self,
        engine: &Engine,
        name: &ImageRef,
        platform: Option<Platform>,
        auth: &AuthConfig,
        messages: &Messages,
    ) -> Result<()> {
        let concurrency = engine.settings().max_concurrent_uploads;
        let (store, named) = (self.store.clone(), name.clone());
        let request =
            blocking(move || collect(&store, &named, platform.as_ref(), concurrency)).await?;
        messages.send(StreamMessage::status(format!(
            "The push refers to repository [{}]",
            name.name()
        )));
        let repository = self.repository(name, auth, Access::Push);
        let report = |event: Event| match event {
            Event::Resolved { .. } => {}
            Event::Layer {
                digest,
                status: LayerStatus::Pushing { current, total },
            } => {
                messages.progress(digest.short(), "Pushing", current, total);
            }
            Event::Layer { digest, status } => {
                messages.send(StreamMessage::part(digest.short(), status.text()))
            }
        };
        let source = StoreSource(self.store.clone());
        let pushed = push(&repository, &request, &source, &report)
            .await
            .map_err(Error::from_fault)?;
        // Other repositories of this registry can take the layers over from here now.
        let (store, here) = (self.store.clone(), name.repository());
        blocking(move || {
            for layer in &request.layers {
                store
                    .add_source(&layer.descriptor.digest, &here)
                    .map_err(Error::from_fault)?;
            }
            Ok(())
        })
        .await?;
        let tag = name.tag.as_deref().unwrap_or_default();
        let line = format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size);
        messages.send(StreamMessage::status(line));
        let aux = serde_json::json!({"Tag": tag, "Digest": pushed.digest, "Size": pushed.size});
        messages.send(StreamMessage {
            progress_detail: Some(Default::default()),
            aux: Some(aux),
            ..StreamMessage::default()
        });
        self.announce(engine, "push", &name.familiar(), &name.familiar_name());
        Ok(())
    }
}

/// Everything below what a name points to. An index of which parts are missing here stands for
/// this machine's part (or that of `platform`).
fn collect(
    store: &ImageStore,
    name: &ImageRef,
    platform: Option<&Platform>,
    concurrency: usize,
) -> Result<PushRequest> {
    let missing = || {
        Error::not_found(format!(
            "An image does not exist locally with the tag: {}",
            name.familiar_name()
        ))
    };
    let target = store.target(name).map_err(|_| missing())?;
    let mut request = PushRequest {
        reference: Reference::of(name),
        layers: Vec::new(),
        configs: Vec::new(),
        manifests: Vec::new(),
        concurrency,
    };
    let whole = match store.document(&target).map_err(Error::from_fault)? {
        Document::Manifest(_) => vec![target.clone()],
        Document::Index(index)
            if platform.is_none()
                && index
                    .manifests
                    .iter()
                    .all(|entry| is_complete(store, entry)) =>
        {
            let mut whole = index.manifests;
            whole.push(target.clone());
            whole
        }
        Document::Index(_) => {
            let image = store
                .resolve_platform(&name.to_string(), platform)
                .map_err(Error::from_fault)?;
            vec![image.manifest.clone()]
        }
    };
    for descriptor in whole {
        add(store, name, &descriptor, &mut request)?;
    }
    Ok(request)
}

/// Whether a manifest of an index and everything below it is here.
fn is_complete(store: &ImageStore, entry: &Descriptor) -> bool {
    store.has_blob(&entry.digest)
        && match store.document(entry) {
            Ok(document) => document
                .children()
                .iter()
                .all(|child| store.has_blob(&child.digest)),
            Err(_) => false,
        }
}

fn add(
    store: &ImageStore,
    name: &ImageRef,
    descriptor: &Descriptor,
    request: &mut PushRequest,
) -> Result<()> {
    if let Document::Manifest(manifest) = store.document(descriptor).map_err(Error::from_fault)? {
        request.configs.push(manifest.config);
        for layer in manifest.layers {
            let mount_from = mountable(store, name, &layer.digest);
            request.layers.push(PushLayer {
                descriptor: layer,
                mount_from,
            });
        }
    }
    let mut bytes = Vec::new();
    let mut file = store
        .open_blob(&descriptor.digest)
        .map_err(Error::from_fault)?;
    std::io::Read::read_to_end(&mut file, &mut bytes)
        .map_err(|source| Error::system("cannot read a manifest").caused_by(source))?;
    request.manifests.push(PushManifest {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.clone(),
        bytes: bytes.into(),
    });
    Ok(())
}

/// Other repositories of the same registry that are known to have a layer.
fn mountable(store: &ImageStore, name: &ImageRef, layer: &Digest) -> Vec<String> {
    let here = format!("{}/", name.registry);
    let sources = store.sources(layer);
    let paths = sources
        .iter()
        .filter_map(|source| source.strip_prefix(&here));
    paths
        .filter(|path| *path != name.path)
        .map(str::to_owned)
        .collect()
}
