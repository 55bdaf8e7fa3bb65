//! A whole image from a registry into a content store.
//!
//! ```text
//! manifest by tag ─▶ index? pick the platform's manifest ─▶ configuration, layers (some at once)
//!                                                             each: network ─▶ sink ─▶ digest ─▶ visible
//! ```
//! The documents go into the sink first to last as they are read: an index before its manifest,
//! the manifest before its blobs.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use wharf_oci::image::{CONFIG_SIZE_MAX, Descriptor, Document, Manifest, media_type};
use wharf_oci::platform::Platform;

use crate::error::Error;
use crate::progress::{Event, LayerStatus, Progress};
use crate::repository::{Fetched, Job, Reference, Repository};
use crate::sink::{BlobInfo, BlobRole, BlobSink, BlobWriter as _};

/// Pause between two reports of a layer's progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// How often a blob with the wrong digest is fetched anew.
const WRONG_DIGEST_COUNT_MAX: u32 = 1;

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Which image of the repository.
    pub reference: Reference,
    /// For which platform, when there are several.
    pub platform: Platform,
    /// How many layers at once; Docker's default is 3.
    pub concurrency: usize,
}

/// What was pulled; all of it is in the sink.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// What the reference points to: an index or a manifest.
    pub target: Descriptor,
    /// The manifest of the platform; the target itself when that is no index.
    pub manifest: Descriptor,
    /// The same, parsed: configuration and layers.
    pub image: Manifest,
}

/// Pulls an image. Dropping the future cancels; the next pull goes on where this one was.
///
/// # Errors
/// As [`Repository::manifest`]; [`Error::NoPlatform`] when the index has nothing that fits;
/// [`Error::Store`] when the sink fails.
pub async fn pull<S: BlobSink>(
    repository: &Repository,
    request: &PullRequest,
    sink: &S,
    progress: Progress<'_>,
) -> Result<Pulled, Error> {
    let target = repository.manifest(&request.reference).await?;
    pull_resolved(repository, request, target, sink, progress).await
}

/// The same when the manifest was fetched before, to see whether it is new.
///
/// # Errors
/// As [`pull`].
pub async fn pull_resolved<S: BlobSink>(
    repository: &Repository,
    request: &PullRequest,
    target: Fetched,
    sink: &S,
    progress: Progress<'_>,
) -> Result<Pulled, Error> {
    progress(Event::Resolved {
        digest: target.descriptor.digest.clone(),
    });
    let (manifest, image) = choose(repository, request, &target, sink).await?;
    put(
        sink,
        &manifest.descriptor,
        BlobRole::Manifest,
        manifest.bytes.clone(),
    )
    .await?;
    if !media_type::is_config(&image.config.media_type) {
        return Err(Error::NotAnImage {
            reference: repository.familiar(&request.reference),
            media_type: image.config.media_type.clone(),
        });
    }
    if image.config.size > CONFIG_SIZE_MAX {
        let size = image.config.size;
        return Err(Error::Protocol(format!(
            "image configuration of {size} bytes is too large"
        )));
    }

    let mut layers: Vec<&Descriptor> = Vec::new();
    for layer in &image.layers {
        if media_type::is_nondistributable(&layer.media_type) {
            let kind = &layer.media_type;
            return Err(Error::Invalid(format!(
                "layers of type {kind} are not supported"
            )));
        }
        if !layers.iter().any(|known| known.digest == layer.digest) {
            layers.push(layer);
        }
    }
    let config = info(&image.config, BlobRole::Config);
    let has_config = sink.has(&config).await.map_err(Error::Store)?;
    let mut blobs = Vec::with_capacity(layers.len());
    for layer in layers {
        let blob = info(layer, BlobRole::Layer);
        let has = sink.has(&blob).await.map_err(Error::Store)?;
        blobs.push((blob, has));
    }
    let missing: Vec<&BlobInfo> = blobs
        .iter()
        .filter(|(_, has)| !has)
        .map(|(blob, _)| blob)
        .collect();
    let concurrency = request.concurrency.max(1);
    // Docker is silent about the layers of an image that is there altogether.
    if !missing.is_empty() || !has_config {
        for (blob, has) in &blobs {
            let status = match has {
                true => LayerStatus::AlreadyExists,
                false => LayerStatus::PullingFsLayer,
            };
            report(progress, blob, status);
        }
        for blob in missing.iter().skip(concurrency) {
            report(progress, blob, LayerStatus::Waiting);
        }
    }
    let mut jobs: Vec<Job<'_, ()>> = Vec::with_capacity(missing.len());
    for blob in missing {
        jobs.push(Box::pin(fetch(repository, blob, sink, progress)));
    }
    let layers = stream::iter(jobs)
        .buffer_unordered(concurrency)
        .try_collect::<()>();
    // The configuration is small and comes beside the layers.
    let config = async {
        match has_config {
            true => Ok(()),
            false => fetch(repository, &config, sink, progress).await,
        }
    };
    tokio::try_join!(config, layers)?;
    Ok(Pulled {
        target: target.descriptor,
        manifest: manifest.descriptor,
        image,
    })
}

/// The manifest to pull, through the index where the target is one.
async fn choose<S: BlobSink>(
    repository: &Repository,
    request: &PullRequest,
    target: &Fetched,
    sink: &S,
) -> Result<(Fetched, Manifest), Error> {
    let mut current = target.clone();
    // An index may hold another one; more levels nobody builds.
    for _ in 0..3 {
        let index = match &current.document {
            Document::Manifest(manifest) => {
                let manifest = manifest.clone();
                return Ok((current, manifest));
            }
            Document::Index(index) => index,
        };
        put(
            sink,
            &current.descriptor,
            BlobRole::Index,
            current.bytes.clone(),
        )
        .await?;
        let chosen = index
            .select(&request.platform)
            .ok_or_else(|| Error::NoPlatform {
                platform: request.platform.to_string(),
            })?;
        let fetched = repository
            .manifest(&Reference::Digest(chosen.digest.clone()))
            .await?;
        if fetched.descriptor.size != chosen.size {
            return Err(Error::Protocol(format!(
                "manifest {} has {} bytes, {} were declared",
                chosen.digest, fetched.descriptor.size, chosen.size
            )));
        }
        current = fetched;
    }
    Err(Error::Protocol("indexes are nested too deep".to_owned()))
}

fn info(descriptor: &Descriptor, role: BlobRole) -> BlobInfo {
    BlobInfo {
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        media_type: descriptor.media_type.clone(),
        role,
    }
}

/// Stores a document that is in memory and was checked.
async fn put<S: BlobSink>(
    sink: &S,
    descriptor: &Descriptor,
    role: BlobRole,
    bytes: Bytes,
) -> Result<(), Error> {
    let blob = info(descriptor, role);
    if sink.has(&blob).await.map_err(Error::Store)? {
        return Ok(());
    }
    let Some(mut writer) = sink.begin(&blob).await.map_err(Error::Store)? else {
        return Ok(());
    };
    if writer.offset() > 0 {
        writer.restart().await.map_err(Error::Store)?;
    }
    writer.write(bytes).await.map_err(Error::Store)?;
    match writer.commit().await.map_err(Error::Store)? {
        true => Ok(()),
        false => Err(Error::DigestMismatch(blob.digest)),
    }
}

/// Tells what happens to a layer; other blobs are not talked about.
fn report(progress: Progress<'_>, blob: &BlobInfo, status: LayerStatus) {
    if blob.role == BlobRole::Layer {
        progress(Event::Layer {
            digest: blob.digest.clone(),
            status,
        });
    }
}

/// Fetches one blob into the sink, from where an earlier pull left off.
async fn fetch<S: BlobSink>(
    repository: &Repository,
    blob: &BlobInfo,
    sink: &S,
    progress: Progress<'_>,
) -> Result<(), Error> {
    let report = |status: LayerStatus| report(progress, blob, status);
    let mut wrong = 0;
    loop {
        let Some(mut writer) = sink.begin(blob).await.map_err(Error::Store)? else {
            report(LayerStatus::AlreadyExists);
            return Ok(());
        };
        if writer.offset() > blob.size {
            writer.restart().await.map_err(Error::Store)?;
        }
        let total = blob.size;
        let mut stream = repository.blob(&blob.digest, total, writer.offset());
        report(LayerStatus::Downloading {
            current: stream.offset(),
            total,
        });
        let mut reported = Instant::now();
        while let Some(bytes) = stream.next().await? {
            writer.write(bytes).await.map_err(Error::Store)?;
            if reported.elapsed() >= REPORT_INTERVAL {
                reported = Instant::now();
                report(LayerStatus::Downloading {
                    current: stream.offset(),
                    total,
                });
            }
        }
        report(LayerStatus::Downloading {
            current: total,
            total,
        });
        report(LayerStatus::VerifyingChecksum);
        if writer.commit().await.map_err(Error::Store)? {
            report(LayerStatus::DownloadComplete);
            return Ok(());
        }
        wrong += 1;
        if wrong > WRONG_DIGEST_COUNT_MAX {
            return Err(Error::DigestMismatch(blob.digest.clone()));
        }
    }
}
