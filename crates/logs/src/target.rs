//! Where a container's output goes: the driver, its file and its limits.
//!
//! A [`LogTarget`] is what is left after all options are parsed, templates expanded and labels
//! chosen (see [`crate::options`]). It travels to the shim inside the start message and tells a
//! reader which files to open.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The log drivers that keep a file the shim writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// One JSON object per line, Docker's default.
    JsonFile,
    /// Length-prefixed protobuf records, compressed when rotated.
    Local,
    /// Nothing is kept and nothing can be read back.
    None,
}

impl Driver {
    /// The name users write after `--log-driver`.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::None => "none",
        }
    }
}

/// A resolved log destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTarget {
    /// Which format.
    pub driver: Driver,
    /// The current file; rotated ones lie beside it with `.1`, `.2` … (and `.gz`). Empty for `none`.
    pub path: PathBuf,
    /// Rotate when the file has reached this many bytes; unbounded if absent.
    pub max_size: Option<u64>,
    /// How many files are kept, the current one included; at least 1.
    pub max_files: u32,
    /// Whether rotated files are compressed with gzip.
    pub compress: bool,
    /// Extra attributes (chosen labels and environment, the tag) written with every line.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attrs: BTreeMap<String, String>,
}

impl LogTarget {
    /// The target that drops everything.
    pub fn none() -> Self {
        Self {
            driver: Driver::None,
            path: PathBuf::new(),
            max_size: None,
            max_files: 1,
            compress: false,
            attrs: BTreeMap::new(),
        }
    }
}
