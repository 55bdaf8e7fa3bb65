//! Reading image archives: OCI layouts and Docker's format.
//!
//! The archive is a stream: a blob may come before or after what refers to it. Every file is stored
//! as a blob under the digest of its bytes; only then is it known what it was. Files that look like
//! layers are unpacked while they come in, so that the bytes are read once. What turns out to
//! belong to no image is removed at the end.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Cursor, Read, Write as _};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use wharf_ids::{Digest, ImageRef};
use wharf_oci::image::{
    CONFIG_SIZE_MAX, Descriptor, Document, Index, MANIFEST_SIZE_MAX, Manifest, media_type,
};
use wharf_oci::platform::Platform;

use crate::apply::{clean_path, split_path};
use crate::archive::{Entry, EntryKind, TarReader};
use crate::compression::{Compression, read_start};
use crate::content::finish;
use crate::error::ImageError;
use crate::lease::Lease;
use crate::pipe::pipe;
use crate::store::ImageStore;
use crate::tee::LayerTee;
use crate::unpack::UnpackProgress;

const READ_BUFFER_BYTES: usize = 1024 * 1024;
/// More files than any real image has.
const FILE_COUNT_MAX: usize = 65_536;
/// Below this size a file is not worth a thread of its own.
const STREAMED_SIZE_MIN: u64 = 64 * 1024;

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its name; `None` for an archive without names.
    pub name: Option<ImageRef>,
    /// Its id.
    pub id: Digest,
}

impl Loaded {
    /// Docker's line about it, without the line end.
    pub fn message(&self) -> String {
        match &self.name {
            Some(name) => format!("Loaded image: {}", name.familiar()),
            None => format!("Loaded image ID: {}", self.id),
        }
    }
}

/// How far loading is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadProgress {
    /// A file of the archive is being read.
    Reading {
        /// Its name in the archive.
        file: String,
        /// Bytes so far.
        done: u64,
        /// Its size.
        total: u64,
    },
    /// A layer is being unpacked.
    Unpacking(UnpackProgress),
}

/// An entry of Docker's `manifest.json`.
#[derive(Debug, Deserialize)]
struct DockerManifest {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default)]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    layers: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct OciLayout {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// What was found in the archive.
#[derive(Debug, Default)]
struct Contents {
    oci_layout: Option<Vec<u8>>,
    docker_manifest: Option<Vec<u8>>,
    index: Option<Vec<u8>>,
    /// Digest and size of every other file.
    files: HashMap<Vec<u8>, (Digest, u64)>,
    /// Links between files, which older archives have for layers that occur twice.
    links: HashMap<Vec<u8>, Vec<u8>>,
}

/// An image of the archive: what to point to, and by which name.
#[derive(Debug)]
struct Found {
    name: Option<ImageRef>,
    target: Descriptor,
}

type OnProgress<'a> = &'a (dyn Fn(LoadProgress) + Sync);

impl ImageStore {
    /// Loads every image of an archive (plain, gzip or zstd). With `platform` only that one of
    /// several is required and unpacked; otherwise this machine's is unpacked.
    pub fn load(
        &self,
        source: impl Read + Send,
        platform: Option<&Platform>,
        progress: &(dyn Fn(LoadProgress) + Sync),
    ) -> Result<Vec<Loaded>, ImageError> {
        let lease = self.lease();
        let loaded = lease.load(source, platform, progress);
        drop(lease);
        // Files that belong to no image, and everything when something failed.
        self.collect_garbage()?;
        if loaded.is_err() {
            self.empty_trash()?;
        }
        loaded
    }
}

impl Lease {
    fn load(
        &self,
        mut source: impl Read + Send,
        platform: Option<&Platform>,
        progress: OnProgress<'_>,
    ) -> Result<Vec<Loaded>, ImageError> {
        // A socket may hand out less than the magic number at once.
        let start = read_start(&mut source, 512).map_err(ImageError::Read)?;
        let source = BufReader::with_capacity(READ_BUFFER_BYTES, Cursor::new(start).chain(source));
        let contents = self.read_archive(source, progress)?;
        let found = self.interpret(&contents)?;
        if found.is_empty() {
            return Err(ImageError::ImageArchive("it contains no image".to_owned()));
        }
        let mut loaded = Vec::new();
        for image in &found {
            self.check_complete(&image.target, platform)?;
            self.unpack_loaded(&image.target, platform, progress)?;
        }
        for image in found {
            match &image.name {
                Some(name) => self.store.set_image(name, &image.target)?,
                None => self.store.set_dangling(&image.target)?,
            }
            loaded.push(Loaded {
                name: image.name,
                id: image.target.digest,
            });
        }
        Ok(loaded)
    }

    fn read_archive(
        &self,
        mut source: impl BufRead + Send,
        progress: OnProgress<'_>,
    ) -> Result<Contents, ImageError> {
        let compression = Compression::detect(source.fill_buf().map_err(ImageError::Read)?)
            .map_err(ImageError::Read)?;
        if compression == Compression::None {
            return self.read_files(source, progress);
        }
        let (mut writer, reader) = pipe();
        std::thread::scope(|scope| {
            let decompressing = scope.spawn(move || {
                let result = Compression::decoder(source)
                    .and_then(|(_, mut plain)| writer.copy_from(&mut plain, |_| {}));
                writer.finish(result);
            });
            let contents = self.read_files(reader, progress);
            decompressing
                .join()
                .map_err(|_| ImageError::ThreadLost("decompression"))?;
            contents
        })
    }

    fn read_files(
        &self,
        source: impl BufRead,
        progress: OnProgress<'_>,
    ) -> Result<Contents, ImageError> {
        let mut contents = Contents::default();
        let mut reader = TarReader::new(source);
        let mut first = true;
        loop {
            let entry = match reader.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                // What does not even begin like a tar archive is no damaged image but none at all.
                Err(ImageError::Archive(_)) if first => {
                    return Err(ImageError::UnrecognizedArchive);
                }
                Err(error) => return Err(error),
            };
            first = false;
            let path = clean_path(&entry.path).map_err(|problem| entry.problem(problem))?;
            if contents.files.len() + contents.links.len() >= FILE_COUNT_MAX {
                return Err(ImageError::ImageArchive(format!(
                    "it has more than {FILE_COUNT_MAX} files"
                )));
            }
            match (entry.kind, path.as_slice()) {
                (EntryKind::File, b"oci-layout") => {
                    contents.oci_layout = Some(read_json(&mut reader, &entry)?)
                }
                (EntryKind::File, b"manifest.json") => {
                    contents.docker_manifest = Some(read_json(&mut reader, &entry)?)
                }
                (EntryKind::File, b"index.json") => {
                    contents.index = Some(read_json(&mut reader, &entry)?)
                }
                (EntryKind::File, _) => {
                    let stored = self.store_file(&mut reader, &entry, progress)?;
                    check_name(&path, &stored.0)?;
                    contents.files.insert(path, stored);
                }
                (EntryKind::Symlink, _) => {
                    let mut target = split_path(&path).0.to_vec();
                    target.push(b'/');
                    target.extend_from_slice(&entry.link);
                    let target = clean_path(&target).map_err(|problem| entry.problem(problem))?;
                    contents.links.insert(path, target);
                }
                (EntryKind::HardLink, _) => {
                    let target =
                        clean_path(&entry.link).map_err(|problem| entry.problem(problem))?;
                    contents.links.insert(path, target);
                }
                _ => {}
            }
        }
        reader.drain()?;
        Ok(contents)
    }

    /// Stores a file as a blob, unpacking it on a second thread when it looks like a layer.
    fn store_file<R: BufRead>(
        &self,
        reader: &mut TarReader<R>,
        entry: &Entry,
        progress: OnProgress<'_>,
    ) -> Result<(Digest, u64), ImageError> {
        let file = crate::error::printable(&entry.path);
        let report = |done| {
            progress(LoadProgress::Reading {
                file: file.clone(),
                done,
                total: entry.size,
            })
        };
        if let Some(digest) = digest_in_name(&entry.path)
            && self.has_blob(&digest)
        {
            return check_known(reader, digest, &report);
        }
        let start = reader.body()?;
        if entry.size < STREAMED_SIZE_MIN || !looks_like_layer(start) || self.knows(&entry.path) {
            let stored = self.store_plain(reader, entry.size, None, &report)?;
            return Ok(stored);
        }
        let mut tee = LayerTee::begin(&self.store)?;
        let (digest, size) = self.store_plain(reader, entry.size, Some(&mut tee), &report)?;
        match tee.finish() {
            Ok(unpacked) => self.staged.insert_unpacked(&digest, unpacked),
            // It only looked like a layer, or it is a bad one: then unpacking it in its place in
            // the image says so again.
            Err(error) => tracing::debug!(
                file,
                error = wharf_fault::chain(&error),
                "not unpacked as a layer"
            ),
        }
        Ok((digest, size))
    }

    /// Copies the body into the content store and into `tee`, which may stop listening.
    fn store_plain<R: BufRead>(
        &self,
        reader: &mut TarReader<R>,
        size: u64,
        mut tee: Option<&mut LayerTee>,
        report: &dyn Fn(u64),
    ) -> Result<(Digest, u64), ImageError> {
        let mut ingest = self.store.inner.content.begin(size)?;
        loop {
            let piece = reader.body()?;
            if piece.is_empty() {
                return self.publish(ingest);
            }
            if let Some(unpacking) = &mut tee
                && !unpacking.write(piece)
            {
                tee = None;
            }
            ingest.write_all(piece).map_err(ImageError::io(
                "write",
                &self.store.inner.content.path(&ingest.digest()),
            ))?;
            let length = piece.len();
            reader.consume(length);
            report(ingest.len());
        }
    }

    /// Whether the file's name says it is a layer that is unpacked for some image.
    fn knows(&self, path: &[u8]) -> bool {
        digest_in_name(path).is_some_and(|digest| self.is_unpacked_somewhere(&digest))
    }

    fn interpret(&self, contents: &Contents) -> Result<Vec<Found>, ImageError> {
        if let Some(layout) = &contents.oci_layout {
            let layout: OciLayout = parse("oci-layout", layout)?;
            if layout.version != "1.0.0" {
                return Err(ImageError::ImageArchive(format!(
                    "OCI layout version {} is not supported",
                    layout.version
                )));
            }
            let Some(index) = &contents.index else {
                return Err(ImageError::ImageArchive("it has no index.json".to_owned()));
            };
            return self.interpret_layout(index);
        }
        match &contents.docker_manifest {
            Some(manifest) => self.interpret_docker(
                contents,
                &parse::<Vec<DockerManifest>>("manifest.json", manifest)?,
            ),
            None => Err(ImageError::UnrecognizedArchive),
        }
    }

    fn interpret_layout(&self, index: &[u8]) -> Result<Vec<Found>, ImageError> {
        let invalid = |source| ImageError::Document {
            digest: crate::content::digest_of(index),
            source,
        };
        let Document::Index(Index { manifests, .. }) =
            Document::parse(index, media_type::OCI_INDEX).map_err(invalid)?
        else {
            return Err(ImageError::ImageArchive(
                "its index.json is no index".to_owned(),
            ));
        };
        let mut found = Vec::new();
        for mut target in manifests {
            let name = [
                "io.containerd.image.name",
                "org.opencontainers.image.ref.name",
            ]
            .iter()
            .find_map(|key| target.annotations.get(*key))
            .and_then(|name| ImageRef::parse(name).ok())
            .map(ImageRef::or_latest);
            target.annotations.clear();
            found.push(Found { name, target });
        }
        Ok(found)
    }

    fn interpret_docker(
        &self,
        contents: &Contents,
        manifests: &[DockerManifest],
    ) -> Result<Vec<Found>, ImageError> {
        let mut found = Vec::new();
        for manifest in manifests {
            let (config, size) = contents.file(&manifest.config, "image configuration")?;
            let config = Descriptor::new(media_type::DOCKER_CONFIG, config, size);
            let layers = manifest
                .layers
                .iter()
                .flatten()
                .map(|name| {
                    let (digest, size) = contents.file(name, "layer")?;
                    self.docker_layer(digest, size)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let document = Manifest {
                schema_version: 2,
                media_type: media_type::DOCKER_MANIFEST.to_owned(),
                artifact_type: None,
                config,
                layers,
                subject: None,
                annotations: BTreeMap::new(),
            };
            let target = self.put_document(media_type::DOCKER_MANIFEST, &document)?;
            let names = manifest.repo_tags.iter().flatten();
            let names = names
                .map(|name| ImageRef::parse(name).map(ImageRef::or_latest))
                .collect::<Result<Vec<_>, _>>()?;
            if names.is_empty() {
                found.push(Found {
                    name: None,
                    target: target.clone(),
                });
            }
            found.extend(names.into_iter().map(|name| Found {
                name: Some(name),
                target: target.clone(),
            }));
        }
        Ok(found)
    }

    /// Describes a layer of a Docker archive: as the compressed blob it was pulled as when that is
    /// known, so that the image keeps its id.
    fn docker_layer(&self, digest: Digest, size: u64) -> Result<Descriptor, ImageError> {
        let mut known: Vec<Digest> = {
            let catalog = self.store.catalog();
            let same = catalog
                .content
                .iter()
                .filter(|(_, record)| record.diff_id.as_ref() == Some(&digest));
            same.map(|(compressed, _)| compressed.clone()).collect()
        };
        known.sort();
        // Not under the catalog's lock: a lease is taken here, and a collection takes them the
        // other way round.
        let compressed = known
            .into_iter()
            .find(|compressed| self.has_blob(compressed));
        let (digest, size) = match compressed {
            Some(compressed) => {
                let size = self.store.inner.content.size(&compressed).unwrap_or(size);
                (compressed, size)
            }
            None => (digest, size),
        };
        let start =
            read_start(&mut self.store.open_blob(&digest)?, 16).map_err(ImageError::Read)?;
        let media_type = match Compression::detect(&start).map_err(ImageError::Read)? {
            Compression::None => media_type::DOCKER_LAYER,
            Compression::Gzip => media_type::DOCKER_LAYER_GZIP,
            Compression::Zstd => media_type::DOCKER_LAYER_ZSTD,
        };
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// Whether everything the image needs on one platform at least is there.
    fn check_complete(
        &self,
        target: &Descriptor,
        platform: Option<&Platform>,
    ) -> Result<(), ImageError> {
        let missing =
            |digest: &Digest| ImageError::ImageArchive(format!("content {digest} is missing"));
        if !self.has_blob(&target.digest) {
            return Err(missing(&target.digest));
        }
        let image = self
            .store
            .view(target, platform)?
            .ok_or_else(|| match platform {
                Some(platform) => ImageError::NoSuchPlatform {
                    reference: target.digest.to_string(),
                    platform: platform.to_string(),
                },
                None => ImageError::NotAnImage(target.digest.clone()),
            })?;
        for layer in &image.layers {
            if !self.has_blob(&layer.blob.digest) {
                return Err(missing(&layer.blob.digest));
            }
        }
        if let Document::Index(index) = self.store.document(target)? {
            index
                .manifests
                .iter()
                .for_each(|entry| self.hold(&entry.digest));
        }
        Ok(())
    }

    fn unpack_loaded(
        &self,
        target: &Descriptor,
        platform: Option<&Platform>,
        progress: OnProgress<'_>,
    ) -> Result<(), ImageError> {
        let host = Platform::host();
        let wanted = platform.unwrap_or(&host);
        // An image for another machine is kept, but not unpacked.
        if self.store.view(target, Some(wanted))?.is_none() {
            return Ok(());
        }
        self.unpack(target, Some(wanted), &|unpacking| {
            progress(LoadProgress::Unpacking(unpacking))
        })
    }
}

impl Contents {
    fn file(&self, name: &str, what: &str) -> Result<(Digest, u64), ImageError> {
        let missing = || {
            ImageError::ImageArchive(format!(
                "{what} \"{}\" is missing",
                crate::error::printable(name.as_bytes())
            ))
        };
        let mut path = clean_path(name.as_bytes()).map_err(|_| missing())?;
        // A link to a link is more than any archive has.
        if let Some(target) = self.links.get(&path) {
            path.clone_from(target);
        }
        self.files.get(&path).cloned().ok_or_else(missing)
    }
}

/// Reads a file that claims to be a blob that is in the store: only its digest is needed.
fn check_known<R: BufRead>(
    reader: &mut TarReader<R>,
    expected: Digest,
    report: &dyn Fn(u64),
) -> Result<(Digest, u64), ImageError> {
    let (mut hash, mut length) = (Sha256::new(), 0);
    loop {
        let piece = reader.body()?;
        if piece.is_empty() {
            break;
        }
        hash.update(piece);
        let taken = piece.len();
        reader.consume(taken);
        length += taken as u64;
        report(length);
    }
    let found = finish(hash);
    if found == expected {
        Ok((found, length))
    } else {
        Err(ImageError::DigestMismatch { expected, found })
    }
}

/// Files below `blobs/sha256/` carry their digest as their name.
fn check_name(path: &[u8], found: &Digest) -> Result<(), ImageError> {
    match path
        .strip_prefix(b"blobs/sha256/")
        .and_then(|_| digest_in_name(path))
    {
        Some(expected) if expected != *found => Err(ImageError::DigestMismatch {
            expected,
            found: found.clone(),
        }),
        _ => Ok(()),
    }
}

fn digest_in_name(path: &[u8]) -> Option<Digest> {
    let name = std::str::from_utf8(split_path(path).1).ok()?;
    let name = name.strip_suffix(".tar").unwrap_or(name);
    format!("sha256:{name}").parse().ok()
}

/// By the first bytes: compressed, or a tar archive.
fn looks_like_layer(start: &[u8]) -> bool {
    match Compression::detect(start) {
        Ok(Compression::None) => start.get(257..262) == Some(b"ustar"),
        Ok(_) => true,
        Err(_) => false,
    }
}

fn read_json<R: BufRead>(reader: &mut TarReader<R>, entry: &Entry) -> Result<Vec<u8>, ImageError> {
    if entry.size > MANIFEST_SIZE_MAX.max(CONFIG_SIZE_MAX) {
        let file = crate::error::printable(&entry.path);
        return Err(ImageError::ImageArchive(format!(
            "{file} is larger than {CONFIG_SIZE_MAX} bytes"
        )));
    }
    let mut bytes = Vec::new();
    loop {
        let piece = reader.body()?;
        if piece.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(piece);
        let length = piece.len();
        reader.consume(length);
    }
}

fn parse<'a, T: Deserialize<'a>>(file: &str, bytes: &'a [u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ImageError::ImageArchive(format!("{file} is not valid: {error}")))
}
