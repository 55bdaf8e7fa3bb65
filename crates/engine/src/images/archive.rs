//! Images from and to archives: load, save, import.

use std::io::{Read, Write};

use wharf_api_types::StreamMessage;
use wharf_fault::{Error, Result};
use wharf_image_store::{Archive, ImportOptions, LoadProgress};
use wharf_oci::platform::Platform;

use super::{Images, Messages, reference};
use crate::Engine;
use crate::networks::blocking;

/// What `import` makes an image of.
#[derive(Debug, Clone, Default)]
pub struct ImportSource {
    /// Repository; empty for an image without a name.
    pub repository: String,
    /// Tag; `latest` when empty.
    pub tag: String,
    /// Comment.
    pub message: String,
    /// Instructions of a Dockerfile.
    pub changes: Vec<String>,
    /// What it is for.
    pub platform: Option<Platform>,
}

impl Images {
    /// Loads all images of an archive. `quiet` leaves out how far it is.
    pub async fn load(
        &self,
        engine: &Engine,
        archive: impl Read + Send + 'static,
        platform: Option<Platform>,
        quiet: bool,
        messages: Messages,
    ) -> Result<()> {
        let store = self.store.clone();
        let reports = messages.clone();
        let loaded = blocking(move || {
            let progress = |progress: LoadProgress| {
                if !quiet {
                    report(&reports, progress);
                }
            };
            store
                .load(archive, platform.as_ref(), &progress)
                .map_err(Error::from_fault)
        })
        .await?;
        for image in loaded {
            messages.send(StreamMessage::stream(format!("{}\n", image.message())));
            let name = image
                .name
                .as_ref()
                .map_or_else(|| image.id.to_string(), wharf_ids::ImageRef::familiar);
            self.announce(engine, "load", image.id.as_str(), &name);
        }
        Ok(())
    }

    /// Makes an image of one layer from a root file system's archive and reports its id.
    pub async fn import(
        &self,
        engine: &Engine,
        archive: impl Read + Send + 'static,
        source: ImportSource,
        messages: Messages,
    ) -> Result<()> {
        let name = match source.repository.as_str() {
            "" => None,
            repository => {
                let name = reference(repository, &source.tag)?;
                if name.digest.is_some() {
                    return Err(Error::invalid("cannot import digest reference"));
                }
                Some(name.or_latest())
            }
        };
        let options = ImportOptions {
            name,
            message: source.message,
            changes: source.changes,
            platform: source.platform,
        };
        let store = self.store.clone();
        let id =
            blocking(move || store.import(archive, &options).map_err(Error::from_fault)).await?;
        messages.send(StreamMessage::status(id.to_string()));
        self.announce(engine, "import", id.as_str(), id.as_str());
        Ok(())
    }

    /// Collects images for an archive. What is wrong with the names is found here, before the
    /// first byte.
    pub async fn save(
        &self,
        engine: &Engine,
        names: Vec<String>,
        platform: Option<Platform>,
    ) -> Result<Archive> {
        let store = self.store.clone();
        let wanted = names.clone();
        let archive = blocking(move || {
            store
                .save(&wanted, platform.as_ref())
                .map_err(Error::from_fault)
        })
        .await?;
        for name in names {
            if let Ok(image) = self.store.resolve(&name) {
                self.announce(engine, "save", image.id.as_str(), image.id.as_str());
            }
        }
        Ok(archive)
    }

    /// Writes a collected archive. Blocks; not for an async worker.
    pub fn write_archive(archive: &Archive, target: impl Write) -> Result<()> {
        archive.write(target).map_err(Error::from_fault)
    }
}

fn report(messages: &Messages, progress: LoadProgress) {
    match progress {
        LoadProgress::Reading { file, done, total } => {
            let digits = file.rsplit('/').next().unwrap_or(&file);
            let id: String = digits.chars().take(12).collect();
            messages.progress(&id, "Loading layer", done, total);
        }
        LoadProgress::Unpacking(unpack) => {
            messages.progress(
                unpack.layer.short(),
                "Extracting",
                unpack.done,
                unpack.total,
            );
        }
    }
}
