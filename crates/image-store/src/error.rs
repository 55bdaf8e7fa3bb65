//! What can go wrong with images, in Docker's words where clients see them.

use std::io;
use std::path::{Path, PathBuf};

use wharf_fault::{Fault, Kind};
use wharf_ids::{Digest, DigestError, ReferenceError};
use wharf_oci::image::DocumentError;
use wharf_oci::platform::PlatformError;
use wharf_state::StateError;

/// A failure of the image store.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text is no image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The text is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The text is no platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// Nothing goes by that name or id. Docker's wording.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// Several images begin with that id. Docker's wording.
    #[error("ambiguous reference")]
    Ambiguous,
    /// The image exists, but not for the platform asked for. Docker's wording.
    #[error(
        "image with reference {reference} was found but does not provide the specified platform ({platform})"
    )]
    NoSuchPlatform {
        /// As the user typed it.
        reference: String,
        /// What was asked for.
        platform: String,
    },
    /// The image can not be removed. Docker's wording.
    #[error("conflict: unable to delete {reference} ({}) - {message}", if *.forceable { "must be forced" } else { "cannot be forced" })]
    InUse {
        /// Name or short id.
        reference: String,
        /// Whether `force` helps.
        forceable: bool,
        /// Why.
        message: String,
    },
    /// A tag was asked to point to something that is not an image name.
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    /// A blob is needed that is not in the store.
    #[error("content {0} is not in the image store")]
    MissingContent(Digest),
    /// A blob's bytes are not what its digest says.
    #[error("content digest mismatch: {expected} was expected, {found} was found")]
    DigestMismatch {
        /// By the descriptor.
        expected: Digest,
        /// By the bytes.
        found: Digest,
    },
    /// A blob's length is not what its descriptor says.
    #[error("content {digest} has {found} bytes, {expected} were expected")]
    SizeMismatch {
        /// Which blob.
        digest: Digest,
        /// By the descriptor.
        expected: u64,
        /// By the bytes.
        found: u64,
    },
    /// A layer's uncompressed bytes are not what the image configuration says.
    #[error("layer {layer}: diff id {expected} was expected, {found} was found")]
    DiffIdMismatch {
        /// The layer's blob.
        layer: Digest,
        /// By the configuration.
        expected: Digest,
        /// By the bytes.
        found: Digest,
    },
    /// A manifest, index or configuration is not valid.
    #[error("{digest}: invalid image document")]
    Document {
        /// Which blob.
        digest: Digest,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// Manifest and configuration do not belong together.
    #[error("manifest {manifest} has {layers} layers, its configuration {diff_ids}")]
    LayerCount {
        /// The manifest.
        manifest: Digest,
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// The content is an artifact or an attestation, not an image.
    #[error("{0} is not a container image")]
    NotAnImage(Digest),
    /// A record of a layer archive that is not safe or not understood.
    #[error("invalid layer archive: entry \"{entry}\": {problem}")]
    Entry {
        /// The entry's name, shortened and made printable.
        entry: String,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// A layer archive that is not a tar stream.
    #[error("invalid layer archive: {0}")]
    Archive(ArchiveProblem),
    /// An entry of a layer archive could not be created.
    #[error("cannot unpack \"{entry}\" ({operation})")]
    Unpack {
        /// The entry's name, shortened and made printable.
        entry: String,
        /// The system call.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An entry belongs to somebody who does not exist in an ordinary user's namespace.
    #[error(
        "cannot unpack \"{entry}\": it belongs to {uid}:{gid}, and this user has too few subordinate ids for that; root gives more with usermod --add-subuids and --add-subgids"
    )]
    NoSuchId {
        /// The entry's name, shortened and made printable.
        entry: String,
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// Bytes that should be decompressed are damaged, or the source failed.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// What was given to `load` is no image archive. Docker's wording.
    #[error("unrecognized image format")]
    UnrecognizedArchive,
    /// What was given to `load` is an image archive with something missing or wrong.
    #[error("invalid image archive: {0}")]
    ImageArchive(String),
    /// Writing the archive of `save` failed.
    #[error("cannot write the image archive")]
    Save(#[source] io::Error),
    /// A `--change` instruction of `import` that is not valid.
    #[error("{0}")]
    Change(String),
    /// A filter of `prune` or `list` that is not valid.
    #[error("{0}")]
    Filter(String),
    /// The kernel refuses overlay mounts on this file system.
    #[error("the overlay snapshotter does not work on `{path}`")]
    OverlayUnsupported {
        /// The data root.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A container has no file system here.
    #[error("container {0} has no read-write layer")]
    NoContainerLayer(String),
    /// An image's layers are not unpacked.
    #[error("the layers of image {0} are not unpacked")]
    NotUnpacked(Digest),
    /// A file of the store could not be used.
    #[error("cannot {action} `{path}`")]
    Io {
        /// The verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The metadata store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// Another thread that worked on the same image panicked.
    #[error("the {0} thread ended unexpectedly")]
    ThreadLost(&'static str),
}

/// Why an archive entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// `..` above the layer's root.
    #[error("the path leads outside of the layer")]
    PathOutside,
    /// No name where one is needed.
    #[error("the path is empty")]
    EmptyPath,
    /// A path longer than the kernel's bound.
    #[error("the path is longer than 4095 bytes")]
    PathTooLong,
    /// A NUL byte inside a path.
    #[error("the path contains a NUL byte")]
    NulInPath,
    /// The root can only be a directory.
    #[error("the layer's root is not a directory")]
    RootNotDirectory,
    /// A hard link's target is outside, missing or no path.
    #[error("the hard link's target \"{0}\" is not in the layer")]
    LinkTarget(String),
    /// A symbolic link without target.
    #[error("the symbolic link has no target")]
    EmptyLink,
    /// A whiteout whose name is not a file name.
    #[error("the whiteout names no file")]
    BadWhiteout,
    /// Symbolic links that lead in circles.
    #[error("too many symbolic links in the path")]
    LinkLoop,
    /// A parent of the path is a file.
    #[error("a parent of the path is not a directory")]
    ParentNotDirectory,
    /// A number that does not fit its field.
    #[error("the {0} is out of range")]
    Number(&'static str),
    /// A kind of record that a layer can not contain.
    #[error("entries of type {0} are not supported")]
    Type(String),
    /// A sparse map that makes no sense.
    #[error("the sparse file map is not valid")]
    SparseMap,
}

/// Why an archive as a whole is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveProblem {
    /// The stream ends within a record.
    #[error("unexpected end")]
    Truncated,
    /// A record's checksum is wrong: no tar archive, or a damaged one.
    #[error("invalid tar header")]
    Header,
    /// An extended header that can not be parsed.
    #[error("malformed extended header")]
    ExtendedHeader,
    /// An extended header above the bound.
    #[error("the extended headers of an entry are larger than 1 MiB")]
    ExtendedHeaderTooLarge,
    /// More entries than the bound.
    #[error("more than {0} entries")]
    TooManyEntries(u64),
}

impl ImageError {
    /// For `map_err` on file operations of the store itself.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl Fault for ImageError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSuchImage(_)
            | Self::Ambiguous
            | Self::NoSuchPlatform { .. }
            | Self::NoContainerLayer(_) => Kind::NotFound,
            Self::InUse { .. } => Kind::Conflict,
            Self::Reference(_)
            | Self::Digest(_)
            | Self::Platform(_)
            | Self::TagWithDigest
            | Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::DiffIdMismatch { .. }
            | Self::Document { .. }
            | Self::LayerCount { .. }
            | Self::NotAnImage(_)
            | Self::Entry { .. }
            | Self::Archive(_)
            | Self::Read(_)
            | Self::UnrecognizedArchive
            | Self::ImageArchive(_)
            | Self::Change(_)
            | Self::Filter(_) => Kind::InvalidParameter,
            Self::MissingContent(_)
            | Self::NotUnpacked(_)
            | Self::Unpack { .. }
            | Self::NoSuchId { .. }
            | Self::Save(_)
            | Self::OverlayUnsupported { .. }
            | Self::Io { .. }
            | Self::State(_)
            | Self::ThreadLost(_) => Kind::System,
        }
    }
}

/// An archive entry's name as messages show it: bounded and without control characters.
pub(crate) fn printable(name: &[u8]) -> String {
    const LENGTH_MAX: usize = 200;
    let text = String::from_utf8_lossy(&name[..name.len().min(LENGTH_MAX)]);
    let mut text: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if name.len() > LENGTH_MAX {
        text.push('…');
    }
    text
}
