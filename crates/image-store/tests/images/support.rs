//! A store in a temporary directory and image archives made by hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wharf_ids::Digest;
use wharf_image_store::{ContainerUse, ImageStore, Loaded};
use wharf_state::Store;

pub(crate) struct Scratch {
    dir: tempfile::TempDir,
    pub(crate) state: Store,
    pub(crate) store: ImageStore,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = Store::open(&dir.path().join("state.redb")).unwrap();
        let store = ImageStore::open(dir.path(), state.clone()).unwrap();
        Self { dir, state, store }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The same directory as the next daemon finds it.
    pub(crate) fn reopened(self) -> Self {
        let Self { dir, state, store } = self;
        drop((state, store));
        let state = Store::open(&dir.path().join("state.redb")).unwrap();
        let store = ImageStore::open(dir.path(), state.clone()).unwrap();
        Self { dir, state, store }
    }

    /// The same after `kill -9`: leases that were forgotten keep the old store alive in this
    /// process, so the next daemon works on a copy.
    pub(crate) fn reopened_after_kill(self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(self.path().join("."))
            .arg(dir.path())
            .status();
        assert!(copied.unwrap().success());
        let state = Store::open(&dir.path().join("state.redb")).unwrap();
        let store = ImageStore::open(dir.path(), state.clone()).unwrap();
        Self { dir, state, store }
    }

    pub(crate) fn load(&self, archive: &[u8]) -> Vec<Loaded> {
        self.store.load(archive, None, &|_| {}).unwrap()
    }

    /// Every file and directory of the store with content, the trash and the state file left out.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.store.empty_trash().unwrap();
        let mut files = Vec::new();
        let mut todo = vec![self.dir.path().to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let path = entry
                    .path()
                    .strip_prefix(self.dir.path())
                    .unwrap()
                    .to_owned();
                let base = [
                    "content",
                    "content/blobs",
                    "content/blobs/sha256",
                    "content/ingest",
                    "layers",
                    "containers-rw",
                    "unpacking",
                    "trash",
                ];
                // Always there, and checked by a test of its own.
                if path == Path::new("mount-points") {
                    continue;
                }
                if entry.file_type().unwrap().is_dir() {
                    todo.push(entry.path());
                    if base.iter().any(|known| path == Path::new(known)) {
                        continue;
                    }
                }
                if path != Path::new("state.redb") {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }
}

pub(crate) fn nobody(_: &Digest) -> Vec<ContainerUse> {
    Vec::new()
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// A tar archive of plain files; names ending in `/` are directories.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, body) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(body.len() as u64);
        header.set_mode(if name.ends_with('/') { 0o755 } else { 0o644 });
        header.set_entry_type(if name.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_mtime(1_000_000_000);
        builder.append_data(&mut header, name, *body).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// Turns a plain layer into the blob an archive has.
pub(crate) type Compress = fn(&[u8]) -> Vec<u8>;

/// An image to put into archives.
pub(crate) struct Sample {
    /// Uncompressed layers, lowest first.
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) architecture: &'static str,
    pub(crate) created: &'static str,
}

impl Sample {
    pub(crate) fn new(layers: &[&[(&str, &[u8])]]) -> Self {
        Self {
            layers: layers.iter().map(|files| tar(files)).collect(),
            architecture: if cfg!(target_arch = "aarch64") {
                "arm64"
            } else {
                "amd64"
            },
            created: "2020-02-03T04:05:06Z",
        }
    }

    pub(crate) fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self
            .layers
            .iter()
            .map(|layer| digest(layer).to_string())
            .collect();
        serde_json::to_vec(&serde_json::json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": self.created,
            "config": {"Cmd": ["/bin/true"], "Env": ["A=b"], "Labels": {"kind": "sample"}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": self.layers.iter().map(|_| serde_json::json!({"created_by": "step"})).collect::<Vec<_>>(),
        }))
        .unwrap()
    }

    /// As `docker save` of the older image store writes it.
    pub(crate) fn docker_archive(&self, names: &[&str]) -> Vec<u8> {
        let config = self.config();
        let config_name = format!("{}.json", digest(&config).hex());
        let layer_names: Vec<String> = (0..self.layers.len())
            .map(|n| format!("layer{n}/layer.tar"))
            .collect();
        let manifest = serde_json::to_vec(&serde_json::json!([
            {"Config": config_name, "RepoTags": names, "Layers": layer_names}
        ]))
        .unwrap();
        let mut files: Vec<(&str, &[u8])> = Vec::new();
        for (name, layer) in layer_names.iter().zip(&self.layers) {
            files.push((name, layer));
        }
        files.push((&config_name, &config));
        files.push(("manifest.json", &manifest));
        files.push(("repositories", b"{}"));
        tar(&files)
    }

    /// Blobs and manifest descriptor as a registry has them.
    pub(crate) fn oci(&self, compress: Compress) -> (BTreeMap<String, Vec<u8>>, serde_json::Value) {
        let mut blobs = BTreeMap::new();
        let mut put = |bytes: Vec<u8>, media_type: &str| {
            let descriptor = serde_json::json!({
                "mediaType": media_type, "digest": digest(&bytes).to_string(), "size": bytes.len(),
            });
            blobs.insert(digest(&bytes).hex().to_owned(), bytes);
            descriptor
        };
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| {
                put(
                    compress(layer),
                    "application/vnd.oci.image.layer.v1.tar+gzip",
                )
            })
            .collect();
        let config = put(self.config(), "application/vnd.oci.image.config.v1+json");
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
        });
        let manifest = put(
            serde_json::to_vec(&manifest).unwrap(),
            "application/vnd.oci.image.manifest.v1+json",
        );
        (blobs, manifest)
    }

    pub(crate) fn oci_archive(&self, name: &str, compress: Compress) -> Vec<u8> {
        let (blobs, mut manifest) = self.oci(compress);
        if !name.is_empty() {
            manifest["annotations"] =
                serde_json::json!({"org.opencontainers.image.ref.name": name});
        }
        oci_archive(&blobs, &[manifest])
    }
}

pub(crate) fn oci_archive(
    blobs: &BTreeMap<String, Vec<u8>>,
    manifests: &[serde_json::Value],
) -> Vec<u8> {
    let index =
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": manifests}))
            .unwrap();
    let names: Vec<String> = blobs
        .keys()
        .map(|hex| format!("blobs/sha256/{hex}"))
        .collect();
    let mut files: Vec<(&str, &[u8])> = vec![
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", &index),
        ("blobs/", b""),
    ];
    for (name, bytes) in names.iter().zip(blobs.values()) {
        files.push((name, bytes));
    }
    tar(&files)
}

pub(crate) fn save(store: &ImageStore, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let archive = store.save(&names, None).unwrap();
    let mut bytes = Vec::new();
    archive.write(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, archive.size_bytes());
    bytes
}
