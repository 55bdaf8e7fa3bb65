//! What a container mounts for a volume.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};

use wharf_fault::{Error, Result};

/// What a container mounts for a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A directory, to be bound.
    Directory(PathBuf),
    /// A mount the container makes itself, in the words of the OCI runtime specification.
    Mount {
        /// File system type; `bind` for a directory or file of the host.
        fs_type: String,
        /// Device, directory or remote path.
        source: String,
        /// Mount options: flags and data.
        options: Vec<String>,
        /// The volume's directory, as inspect shows it.
        directory: PathBuf,
    },
}

impl VolumeSource {
    /// The volume's directory on the host, as inspect shows it.
    pub fn directory(&self) -> &Path {
        match self {
            Self::Directory(directory) | Self::Mount { directory, .. } => directory,
        }
    }
}

/// From the `local` driver's `type`, `device` and `o`.
pub(super) async fn from_options(
    name: &str,
    directory: &Path,
    options: &BTreeMap<String, String>,
) -> Result<VolumeSource> {
    let get = |key: &str| options.get(key).map_or("", String::as_str);
    let (fs_type, device) = (get("type"), get("device"));
    if fs_type.is_empty() && device.is_empty() {
        return Ok(VolumeSource::Directory(directory.to_owned()));
    }
    let mut mount_options: Vec<String> = get("o")
        .split(',')
        .filter(|option| !option.is_empty())
        .map(str::to_owned)
        .collect();
    let is_bind = mount_options
        .iter()
        .any(|option| matches!(option.as_str(), "bind" | "rbind"));
    if matches!(fs_type, "nfs" | "nfs4" | "cifs") {
        resolve_addr(name, &mut mount_options).await?;
    }
    if is_bind && !tokio::fs::try_exists(device).await.unwrap_or(false) {
        return Err(Error::system(format!(
            "error while mounting volume '{directory}': failed to mount local volume: mount {device}:{directory}, flags: 0x1000: no such file or directory",
            directory = directory.display()
        )));
    }
    Ok(VolumeSource::Mount {
        fs_type: if is_bind {
            "bind".to_owned()
        } else {
            fs_type.to_owned()
        },
        source: device.to_owned(),
        options: mount_options,
        directory: directory.to_owned(),
    })
}

/// The kernel wants addresses: a host name in `addr=` is looked up at each use.
async fn resolve_addr(volume: &str, options: &mut [String]) -> Result<()> {
    for option in options {
        let Some(host) = option.strip_prefix("addr=") else {
            continue;
        };
        if host.parse::<std::net::IpAddr>().is_ok() {
            continue;
        }
        let question = (host.to_owned(), 0);
        let answer = tokio::task::spawn_blocking(move || {
            question.to_socket_addrs().map(|mut found| found.next())
        })
        .await;
        let failed = || {
            Error::system(format!(
                "error resolving passed in network volume address of {volume}: {host}"
            ))
        };
        let address = match answer {
            Ok(Ok(Some(address))) => address.ip(),
            Ok(Ok(None)) => return Err(failed()),
            Ok(Err(source)) => return Err(failed().caused_by(source)),
            Err(source) => return Err(failed().caused_by(source)),
        };
        *option = format!("addr={address}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[tokio::test]
    async fn options_become_a_mount() {
        let directory = Path::new("/v/_data");
        let tmpfs = options(&[
            ("type", "tmpfs"),
            ("device", "tmpfs"),
            ("o", "size=1m,uid=5"),
        ]);
        assert_eq!(
            from_options("v", directory, &tmpfs).await.unwrap(),
            VolumeSource::Mount {
                fs_type: "tmpfs".into(),
                source: "tmpfs".into(),
                options: vec!["size=1m".into(), "uid=5".into()],
                directory: directory.into(),
            }
        );
        let bind = options(&[("type", "none"), ("device", "/"), ("o", "bind")]);
        let VolumeSource::Mount {
            fs_type, source, ..
        } = from_options("v", directory, &bind).await.unwrap()
        else {
            panic!("a bind is a mount");
        };
        assert_eq!((fs_type.as_str(), source.as_str()), ("bind", "/"));
        let missing = options(&[("type", "none"), ("device", "/no/such"), ("o", "bind")]);
        assert!(from_options("v", directory, &missing).await.is_err());
        let nfs = options(&[
            ("type", "nfs"),
            ("device", ":/x"),
            ("o", "addr=localhost,rw"),
        ]);
        let VolumeSource::Mount { options, .. } = from_options("v", directory, &nfs).await.unwrap()
        else {
            panic!("nfs is a mount");
        };
        assert!(
            matches!(options[0].as_str(), "addr=127.0.0.1" | "addr=::1"),
            "{options:?}"
        );
    }
}
