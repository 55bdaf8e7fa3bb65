//! The client's configuration file, `~/.docker/config.json`: credentials, default formats, extra
//! headers. Docker's file is shared with Docker's client, so what is not understood here is kept
//! as it is when the file is written back.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::outcome::{Failure, Outcome};

/// The configuration as read.
#[derive(Debug, Default, Clone)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    root: Map<String, Value>,
}

/// The directory of the configuration: `DOCKER_CONFIG`, or `.docker` in the home directory.
pub(crate) fn default_directory() -> PathBuf {
    match std::env::var_os("DOCKER_CONFIG") {
        Some(directory) if !directory.is_empty() => PathBuf::from(directory),
        _ => home().join(".docker"),
    }
}

fn home() -> PathBuf {
    match std::env::var_os("HOME") {
        Some(home) if !home.is_empty() => PathBuf::from(home),
        _ => PathBuf::from("/"),
    }
}

impl ConfigFile {
    /// Reads `config.json` of `directory`; an absent file is an empty configuration.
    pub(crate) fn load(directory: &Path) -> Outcome<Self> {
        let path = directory.join("config.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    path,
                    root: Map::new(),
                });
            }
            Err(error) => {
                return Err(Failure::new(format!(
                    "loading config file: {}: {error}",
                    path.display()
                )));
            }
        };
        match serde_json::from_slice(&text) {
            Ok(Value::Object(root)) => Ok(Self { path, root }),
            Ok(_) => Err(Failure::new(format!(
                "parsing config file ({}): not a JSON object",
                path.display()
            ))),
            Err(_) if text.iter().all(u8::is_ascii_whitespace) => Ok(Self {
                path,
                root: Map::new(),
            }),
            Err(error) => Err(Failure::new(format!(
                "parsing config file ({}): {error}",
                path.display()
            ))),
        }
    }

    /// Where it is or will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A text setting; empty when absent.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.root
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The entries of an object of texts.
    pub(crate) fn texts(&self, key: &str) -> Vec<(String, String)> {
        let entries = self
            .root
            .get(key)
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        entries
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect()
    }

    /// A setting of any shape.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.root.get(key)
    }

    /// An object setting, made when absent.
    pub(crate) fn object_mut(&mut self, key: &str) -> &mut Map<String, Value> {
        let entry = self
            .root
            .entry(key)
            .or_insert_with(|| Value::Object(Map::new()));
        if !entry.is_object() {
            *entry = Value::Object(Map::new());
        }
        match entry {
            Value::Object(map) => map,
            _ => unreachable!("it was made an object above"),
        }
    }

    /// Writes the file back: a new file moved over the old one, readable by its owner only.
    pub(crate) fn save(&self) -> io::Result<()> {
        // A symbolic link stays one: the file it points to is replaced.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let directory = target.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        let temporary = directory.join(format!(".config.json.{}", std::process::id()));
        let mut text = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(
            &mut text,
            serde_json::ser::PrettyFormatter::with_indent(b"\t"),
        );
        serde::Serialize::serialize(&self.root, &mut serializer).map_err(io::Error::other)?;
        let written = (|| {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&text)?;
            if let Ok(old) = fs::metadata(&target) {
                // Best effort: only root can give a file away.
                let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
            }
            fs::rename(&temporary, &target)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_settings_survive_a_save() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("config.json"),
            r#"{"auths":{},"plugins":{"x":{"y":"z"}},"HttpHeaders":{"A":"b"}}"#,
        )
        .unwrap();
        let mut config = ConfigFile::load(dir.path()).unwrap();
        assert_eq!(
            config.texts("HttpHeaders"),
            [("A".to_owned(), "b".to_owned())]
        );
        config.object_mut("auths").insert("r".into(), Value::Null);
        config.save().unwrap();
        let again = ConfigFile::load(dir.path()).unwrap();
        assert!(
            again
                .get("plugins")
                .is_some_and(|plugins| plugins["x"]["y"] == "z")
        );
        assert!(
            again
                .get("auths")
                .unwrap()
                .as_object()
                .unwrap()
                .contains_key("r")
        );
    }

    #[test]
    fn an_absent_file_is_empty_and_a_broken_one_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ConfigFile::load(dir.path()).unwrap().text("psFormat"), "");
        fs::write(dir.path().join("config.json"), "{").unwrap();
        assert!(ConfigFile::load(dir.path()).is_err());
    }
}
