//! A whole image from a content store into a registry: blobs first, then the manifests that name
//! them, then the tag.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use wharf_ids::Digest;
use wharf_oci::image::Descriptor;

use crate::auth::NO_CREDENTIALS;
use crate::error::Error;
use crate::progress::{Event, LayerStatus, Progress};
use crate::repository::{Job, Reference, Repository};
use crate::sink::BlobSource;

/// Pause between two reports of a layer's progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// A manifest or index to push.
#[derive(Debug, Clone)]
pub struct PushManifest {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its exact bytes.
    pub bytes: Bytes,
}

/// A layer to push.
#[derive(Debug, Clone)]
pub struct PushLayer {
    /// Digest, length and type.
    pub descriptor: Descriptor,
    /// Repositories (paths) of the same registry that are known to have it.
    pub mount_from: Vec<String>,
}

/// What to push.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// The name the last manifest gets.
    pub reference: Reference,
    /// The layers of all manifests.
    pub layers: Vec<PushLayer>,
    /// The configurations of all manifests.
    pub configs: Vec<Descriptor>,
    /// Each after those it names; the last one gets the reference.
    pub manifests: Vec<PushManifest>,
    /// How many layers at once; Docker's default is 5.
    pub concurrency: usize,
}

/// Pushes an image and returns what the reference points to now.
///
/// # Errors
/// [`Error::PushDenied`] without the right to write; [`Error::Store`] when the source fails.
pub async fn push<S: BlobSource>(
    repository: &Repository,
    request: &PushRequest,
    source: &S,
    progress: Progress<'_>,
) -> Result<Descriptor, Error> {
    push_all(repository, request, source, progress)
        .await
        .map_err(|error| match error {
            // Docker leaves out here what it asked for.
            Error::Unauthorized(text) if text.ends_with(NO_CREDENTIALS) => {
                Error::Unauthorized(NO_CREDENTIALS.to_owned())
            }
            other => other,
        })
}

async fn push_all<S: BlobSource>(
    repository: &Repository,
    request: &PushRequest,
    source: &S,
    progress: Progress<'_>,
) -> Result<Descriptor, Error> {
    let Some((last, before)) = request.manifests.split_last() else {
        return Err(Error::Invalid("nothing to push".to_owned()));
    };
    let mut layers: Vec<&PushLayer> = Vec::new();
    for layer in &request.layers {
        if !layers
            .iter()
            .any(|known| known.descriptor.digest == layer.descriptor.digest)
        {
            layers.push(layer);
        }
    }
    let report = |digest: &Digest, status: LayerStatus| {
        progress(Event::Layer {
            digest: digest.clone(),
            status,
        });
    };
    for layer in &layers {
        report(&layer.descriptor.digest, LayerStatus::Preparing);
    }
    // The first refusal should be one about the repository, not one per layer.
    repository.link().await?;
    let concurrency = request.concurrency.max(1);
    for layer in layers.iter().skip(concurrency) {
        report(&layer.descriptor.digest, LayerStatus::Waiting);
    }
    let mut jobs: Vec<Job<'_, ()>> = Vec::with_capacity(layers.len());
    for layer in layers {
        jobs.push(Box::pin(push_layer(repository, layer, source, progress)));
    }
    stream::iter(jobs)
        .buffer_unordered(concurrency)
        .try_collect::<()>()
        .await?;
    for config in &request.configs {
        if !repository.has_blob(&config.digest).await? {
            repository
                .upload_blob(&config.digest, config.size, source, &|_| {})
                .await?;
        }
    }
    for manifest in before {
        let by_digest = Reference::Digest(manifest.digest.clone());
        repository
            .put_manifest(&by_digest, &manifest.media_type, manifest.bytes.clone())
            .await?;
    }
    repository
        .put_manifest(&request.reference, &last.media_type, last.bytes.clone())
        .await
}

async fn push_layer<S: BlobSource>(
    repository: &Repository,
    layer: &PushLayer,
    source: &S,
    progress: Progress<'_>,
) -> Result<(), Error> {
    let Descriptor { digest, size, .. } = &layer.descriptor;
    let report = |status: LayerStatus| {
        progress(Event::Layer {
            digest: digest.clone(),
            status,
        });
    };
    if repository.has_blob(digest).await? {
        report(LayerStatus::LayerAlreadyExists);
        return Ok(());
    }
    let own = &repository.name().path;
    for from in layer.mount_from.iter().filter(|from| *from != own) {
        if repository.mount_blob(digest, from).await? {
            report(LayerStatus::MountedFrom(from.clone()));
            return Ok(());
        }
    }
    report(LayerStatus::Pushing {
        current: 0,
        total: *size,
    });
    let reported = Mutex::new(Instant::now());
    let sent = |current: u64| {
        let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
        if current == *size || reported.elapsed() >= REPORT_INTERVAL {
            *reported = Instant::now();
            report(LayerStatus::Pushing {
                current,
                total: *size,
            });
        }
    };
    repository.upload_blob(digest, *size, source, &sent).await?;
    report(LayerStatus::Pushed);
    Ok(())
}
