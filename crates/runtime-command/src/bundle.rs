//! A bundle: a directory with `config.json` and, usually, the root file system.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use wharf_oci::runtime::Spec;

use crate::error::{Error, Result};

const CONFIG: &str = "config.json";

/// A bundle, read. The process's working directory is the bundle.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) path: PathBuf,
    /// The document as it was written.
    pub(crate) text: Vec<u8>,
    pub(crate) spec: Spec,
    /// The root file system, absolute.
    pub(crate) rootfs: PathBuf,
}

impl Bundle {
    /// Enters and reads the bundle at `path`, the working directory if there is none.
    pub(crate) fn enter(path: Option<&str>) -> Result<Self> {
        if let Some(path) = path.filter(|path| !path.is_empty()) {
            std::env::set_current_dir(path).map_err(Error::file("chdir", path))?;
        }
        let path = std::env::current_dir().map_err(Error::system("working directory"))?;
        let text = match std::fs::read(CONFIG) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoConfig);
            }
            other => other.map_err(Error::file("read", path.join(CONFIG)))?,
        };
        let spec: Spec = parse(&text)?;
        check_version(&spec.oci_version)?;
        let root = spec.root.as_ref().map(|root| root.path.as_path());
        let rootfs = match root {
            Some(root) if !root.as_os_str().is_empty() => path.join(root),
            _ => return Err(Error::Refused("root.path must be specified".into())),
        };
        let rootfs = std::fs::canonicalize(&rootfs).map_err(Error::file("rootfs", &rootfs))?;
        if !rootfs.is_dir() {
            return Err(Error::Refused(format!(
                "rootfs {:?} is not a directory",
                rootfs.display().to_string()
            )));
        }
        Ok(Self {
            path,
            text,
            spec,
            rootfs,
        })
    }
}

/// Reads a document. Programs in Go write what is empty as null, sometimes: that is the same as
/// absent.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    match serde_json::from_slice(text) {
        Ok(value) => Ok(value),
        Err(first) => {
            let failed = || Error::json(CONFIG)(first);
            let Ok(mut value) = serde_json::from_slice::<Value>(text) else {
                return Err(failed());
            };
            remove_nulls(&mut value);
            // By way of text: a reader of the tree would be as big again as the one of text.
            let text = value.to_string();
            serde_json::from_slice(text.as_bytes()).map_err(|_| failed())
        }
    }
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(remove_nulls);
        }
        Value::Array(members) => members.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// The specification's versions with the same major number are compatible, pre-releases of the
/// first one included.
fn check_version(version: &str) -> Result<()> {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = numbers.split('.');
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
    let (major, minor, patch) = (
        number(parts.next()),
        number(parts.next()),
        number(parts.next()),
    );
    match (major, minor, patch, parts.next()) {
        (Some(1), Some(_), Some(_), None) => Ok(()),
        (Some(_), Some(_), Some(_), None) => Err(Error::Refused(format!(
            "unsupported ociVersion {version:?}: only 1.x is supported"
        ))),
        _ => Err(Error::Refused(format!(
            "ociVersion {version:?} is not a version"
        ))),
    }
}

/// A path of the caller's, made absolute before the working directory changes.
pub(crate) fn absolute(path: &str) -> Result<PathBuf> {
    std::path::absolute(Path::new(path)).map_err(Error::file("path", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_checked() {
        for good in ["1.0.0", "1.0.2-dev", "1.3.0", "1.9.9+x"] {
            check_version(good).unwrap();
        }
        for wrong in ["", "1", "2.0.0", "0.9.0", "1.0", "x.y.z", "1.0.0.0"] {
            assert!(check_version(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn null_is_absent() {
        let spec: Spec = parse(
            br#"{"ociVersion":"1.0.0","mounts":null,"process":{"cwd":"/","user":{"uid":0,"gid":0,"additionalGids":null}}}"#,
        )
        .unwrap();
        assert!(spec.mounts.is_empty());
        assert!(parse::<Spec>(b"{\"mounts\":5}").is_err());
        assert!(parse::<Spec>(b"{").is_err());
    }
}
