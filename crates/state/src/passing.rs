//! Records that need not outlive the machine's run: small files, best on a file system in memory.
//!
//! ```text
//! <directory>/<key>     {"<table>": <record>, …}
//! ```
//!
//! Everything known under one key is one file, replaced as a whole: it is there or not, whenever a
//! process is killed. Nothing waits for a disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::value::RawValue;

use crate::{Change, StateError};

/// Ends the name of a file that is still being written.
const STAGED: &str = ".tmp";

/// A record's table and JSON, by key.
type Tables = BTreeMap<String, Box<RawValue>>;

#[derive(Debug)]
pub(crate) struct Passing {
    directory: PathBuf,
    /// Files are read, changed and replaced.
    turn: Mutex<()>,
}

impl Passing {
    /// Uses `directory`, which is made if need be. What was not completely written is removed.
    pub(crate) fn open(directory: &Path) -> Result<Self, StateError> {
        let failed = |source| file_error(directory, source);
        fs::create_dir_all(directory).map_err(failed)?;
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().map(|name| name.to_string_lossy());
            if name.is_some_and(|name| name.ends_with(STAGED)) {
                fs::remove_file(&path).map_err(|source| file_error(&path, source))?;
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            turn: Mutex::new(()),
        })
    }

    /// One record.
    pub(crate) fn get(&self, table: &str, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        let Some(path) = self.path(key) else {
            return Ok(None);
        };
        let mut tables = read(&path)?;
        Ok(tables.remove(table).map(into_bytes))
    }

    /// All records of a table.
    pub(crate) fn list(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        let failed = |source| file_error(&self.directory, source);
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(STAGED) {
                continue;
            }
            if let Some(record) = read(&entry.path())?.remove(table) {
                records.push((name, into_bytes(record)));
            }
        }
        Ok(records)
    }

    /// Makes `changes`, key by key.
    pub(crate) fn apply(&self, changes: Vec<Change>) -> Result<(), StateError> {
        let mut by_key: BTreeMap<String, Vec<Change>> = BTreeMap::new();
        for change in changes {
            by_key.entry(change.key.clone()).or_default().push(change);
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, changes) in by_key {
            let path = self.path(&key).ok_or_else(|| {
                file_error(
                    &self.directory.join(&key),
                    io::Error::from(ErrorKind::InvalidInput),
                )
            })?;
            let mut tables = read(&path)?;
            for Change { table, value, .. } in changes {
                match value {
                    Some(json) => drop(tables.insert(table.to_owned(), from_bytes(&path, json)?)),
                    None => drop(tables.remove(table)),
                }
            }
            replace(&path, &tables).map_err(|source| file_error(&path, source))?;
        }
        Ok(())
    }

    /// Where the records of `key` are; nowhere if it is no plain name.
    fn path(&self, key: &str) -> Option<PathBuf> {
        let plain = !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        plain.then(|| self.directory.join(key))
    }
}

fn read(path: &Path) -> Result<Tables, StateError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Tables::new()),
        Err(source) => return Err(file_error(path, source)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(tables) => Ok(tables),
        // The machine went down before it was on a disk: it had not to outlive that.
        Err(_) => {
            fs::remove_file(path).map_err(|source| file_error(path, source))?;
            Ok(Tables::new())
        }
    }
}

fn replace(path: &Path, tables: &Tables) -> io::Result<()> {
    if tables.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let mut staged = path.as_os_str().to_owned();
    staged.push(STAGED);
    fs::write(&staged, serde_json::to_vec(tables)?)?;
    fs::rename(&staged, path)
}

fn from_bytes(path: &Path, json: Vec<u8>) -> Result<Box<RawValue>, StateError> {
    String::from_utf8(json)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
        .and_then(|json| RawValue::from_string(json).map_err(io::Error::from))
        .map_err(|source| file_error(path, source))
}

fn into_bytes(value: Box<RawValue>) -> Vec<u8> {
    Box::<str>::from(value).into_string().into_bytes()
}

fn file_error(path: &Path, source: io::Error) -> StateError {
    StateError::Passing {
        path: path.display().to_string(),
        source,
    }
}
