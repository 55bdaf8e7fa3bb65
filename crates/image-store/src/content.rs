//! The content store: blobs by digest, written once.
//!
//! ```text
//! <data-root>/content/blobs/sha256/<hex>   complete blobs, never changed
//! <data-root>/content/ingest/<hex>         blobs on their way in, resumable by digest
//! <data-root>/content/ingest/new-<n>       the same, digest not known yet
//! ```
//!
//! A blob appears under `blobs/` by a rename after its digest was checked, so what is there is
//! whole. Who writes or needs a blob holds a [`Lease`](crate::Lease) on it; garbage collection
//! removes what no image and no lease names.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use wharf_ids::Digest;

use crate::direct::OutFile;
use crate::error::ImageError;

const COPY_BUFFER_BYTES: usize = 1024 * 1024;

/// The blobs of a data root.
#[derive(Debug)]
pub(crate) struct Content {
    blobs: PathBuf,
    ingest: PathBuf,
    next: AtomicU64,
}

impl Content {
    /// Opens the store below `data_root`, creating its directories.
    pub(crate) fn open(data_root: &Path) -> Result<Self, ImageError> {
        let blobs = data_root.join("content/blobs/sha256");
        let ingest = data_root.join("content/ingest");
        for dir in [&blobs, &ingest] {
            std::fs::create_dir_all(dir).map_err(ImageError::io("create", dir))?;
        }
        let content = Self {
            blobs,
            ingest,
            next: AtomicU64::new(0),
        };
        // A blob without a digest can not be resumed: its writer is gone.
        for entry in read_dir(&content.ingest)? {
            if entry.starts_with("new-") {
                remove_file(&content.ingest.join(entry))?;
            }
        }
        Ok(content)
    }

    /// Where a blob is or will be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// A blob's length, `None` when it is not here.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        std::fs::symlink_metadata(self.path(digest))
            .ok()
            .filter(std::fs::Metadata::is_file)
            .map(|meta| meta.len())
    }

    /// Opens a blob for reading.
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File, ImageError> {
        let path = self.path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ImageError::MissingContent(digest.clone()),
            _ => ImageError::io("open", &path)(source),
        })
    }

    /// A whole blob of at most `max` bytes; longer ones are cut there, so that the caller's own
    /// bound (below `max`) refuses them.
    pub(crate) fn read_bounded(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, ImageError> {
        let file = self.open_blob(digest)?;
        let mut bytes = Vec::new();
        file.take(max + 1)
            .read_to_end(&mut bytes)
            .map_err(ImageError::io("read", &self.path(digest)))?;
        Ok(bytes)
    }

    /// Begins or resumes a blob whose digest is known.
    pub(crate) fn resume(&self, digest: &Digest) -> Result<Ingest, ImageError> {
        let path = self.ingest.join(digest.hex());
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(ImageError::io("create", &path))?;
        let (mut hash, mut written) = (Sha256::new(), 0);
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        loop {
            match file
                .read(&mut buffer)
                .map_err(ImageError::io("read", &path))?
            {
                0 => break,
                n => {
                    hash.update(&buffer[..n]);
                    written += n as u64;
                }
            }
        }
        Ok(Ingest {
            file: OutFile::Cached(file),
            path,
            hash,
            written,
            keep: true,
        })
    }

    /// Begins a blob of about `size` bytes whose digest its bytes will tell.
    pub(crate) fn begin(&self, size: u64) -> Result<Ingest, ImageError> {
        let path = self
            .ingest
            .join(format!("new-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let file = OutFile::create(&path, size).map_err(ImageError::io("create", &path))?;
        Ok(Ingest {
            file,
            path,
            hash: Sha256::new(),
            written: 0,
            keep: false,
        })
    }

    /// Moves a checked ingest to its place.
    pub(crate) fn publish(&self, ingest: &mut Ingest, digest: &Digest) -> Result<(), ImageError> {
        let target = self.path(digest);
        ingest
            .file
            .finish()
            .map_err(ImageError::io("write", &target))?;
        std::fs::rename(&ingest.path, &target).map_err(ImageError::io("create", &target))?;
        ingest.keep = true;
        Ok(())
    }

    /// All complete blobs.
    pub(crate) fn list(&self) -> Result<Vec<Digest>, ImageError> {
        Ok(read_dir(&self.blobs)?
            .iter()
            .filter_map(|name| format!("sha256:{name}").parse().ok())
            .collect())
    }

    /// All partial blobs that can be resumed.
    pub(crate) fn list_partial(&self) -> Result<Vec<Digest>, ImageError> {
        Ok(read_dir(&self.ingest)?
            .iter()
            .filter_map(|name| format!("sha256:{name}").parse().ok())
            .collect())
    }

    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), ImageError> {
        remove_file(&self.path(digest))
    }

    pub(crate) fn remove_partial(&self, digest: &Digest) -> Result<(), ImageError> {
        remove_file(&self.ingest.join(digest.hex()))
    }
}

/// A blob on its way in. Dropped without being published it disappears, unless it is resumable.
#[derive(Debug)]
pub(crate) struct Ingest {
    file: OutFile,
    path: PathBuf,
    hash: Sha256,
    written: u64,
    keep: bool,
}

impl Ingest {
    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.written
    }

    /// A second handle to the bytes so far, at their beginning.
    pub(crate) fn reopen(&self) -> Result<File, ImageError> {
        File::open(&self.path).map_err(ImageError::io("open", &self.path))
    }

    /// The digest of the bytes so far.
    pub(crate) fn digest(&self) -> Digest {
        finish(self.hash.clone())
    }

    /// Forgets all bytes.
    pub(crate) fn restart(&mut self) -> Result<(), ImageError> {
        self.file =
            OutFile::create(&self.path, 0).map_err(ImageError::io("truncate", &self.path))?;
        self.hash = Sha256::new();
        self.written = 0;
        Ok(())
    }

    /// Removes the file when the ingest is dropped.
    pub(crate) fn discard(&mut self) {
        self.keep = false;
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a partial blob");
        }
    }
}

/// The digest of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(bytes);
    finish(hash)
}

pub(crate) fn finish(hash: Sha256) -> Digest {
    Digest::from_sha256(&hash.finalize().into())
}

fn remove_file(path: &Path) -> Result<(), ImageError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ImageError::io("remove", path)(source))
        }
        _ => Ok(()),
    }
}

/// The names in a directory; other than UTF-8 is not ours.
pub(crate) fn read_dir(path: &Path) -> Result<Vec<String>, ImageError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(ImageError::io("read", path))? {
        let entry = entry.map_err(ImageError::io("read", path))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}
