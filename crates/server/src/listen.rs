//! Listening sockets: `unix://path`, `tcp://host:port` (with or without TLS), `fd://` (given by
//! systemd).

use std::fs::File;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Gid;
use rustix::net::sockopt;
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use wharf_fault::{Fault, Kind};

/// Port of `tcp://` addresses without one: without TLS, with TLS.
const DEFAULT_PORTS: (u16, u16) = (2375, 2376);

/// Why an address can not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No address of a known form.
    #[error("unable to parse docker host `{0}`")]
    Address(String),
    /// Anyone who reaches the port would be root on this host.
    #[error(
        "refusing to listen on {0} without TLS: whoever reaches it is root on this host; use --tlsverify with certificates, a loopback address, or allow it with --allow-insecure-tcp"
    )]
    Insecure(SocketAddr),
    /// The socket cannot be made.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another daemon answers there.
    #[error("cannot listen on {0}: another daemon is listening there")]
    Taken(String),
    /// The group that may use the socket does not exist.
    #[error("group {0} not found")]
    Group(String),
    /// Nothing was passed by systemd.
    #[error("no sockets found via socket activation: make sure the service was started by systemd")]
    NoSystemdSockets,
}

impl Fault for ListenError {
    fn kind(&self) -> Kind {
        match self {
            Self::Address(_) | Self::Insecure(_) | Self::Group(_) => Kind::InvalidParameter,
            Self::Taken(_) => Kind::Conflict,
            Self::Bind { .. } | Self::NoSystemdSockets => Kind::System,
        }
    }
}

/// An address of `--host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `unix:///run/docker.sock`
    Unix(PathBuf),
    /// `tcp://127.0.0.1:2375`; the host may be a name.
    Tcp(String),
    /// `fd://` or `fd://*`: all sockets systemd passed; `fd://3` and `fd://name`: one of them.
    Systemd(String),
}

impl Address {
    /// Parses an address; a missing port is 2376 with TLS and 2375 without.
    pub fn parse(text: &str, tls: bool) -> Result<Self, ListenError> {
        let wrong = || ListenError::Address(text.to_owned());
        let (scheme, rest) = match text.split_once("://") {
            Some(parts) => parts,
            // As Docker: a bare `host:port` is tcp.
            None if text.contains(':') => ("tcp", text),
            None => return Err(wrong()),
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "fd" => Ok(Self::Systemd(rest.to_owned())),
            "tcp" => {
                let port = if tls {
                    DEFAULT_PORTS.1
                } else {
                    DEFAULT_PORTS.0
                };
                let rest = rest.strip_suffix('/').unwrap_or(rest);
                let bracketed_alone = rest.starts_with('[') && rest.ends_with(']');
                let (host, port) = match rest.rsplit_once(':') {
                    Some((host, number)) if !bracketed_alone => {
                        (host, number.parse().map_err(|_| wrong())?)
                    }
                    _ => (rest, port),
                };
                if host.contains('/') {
                    return Err(wrong());
                }
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                Ok(Self::Tcp(format!("{host}:{port}")))
            }
            _ => Err(wrong()),
        }
    }
}

/// A socket clients can connect to.
#[derive(Debug)]
pub struct Listener {
    pub(crate) kind: ListenerKind,
    address: String,
}

pub(crate) enum ListenerKind {
    /// Removes its file when dropped, if it made it.
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "removes the socket's file when dropped")] Option<SocketFile>,
    ),
    Tcp(TcpListener, Option<TlsAcceptor>),
}

impl std::fmt::Debug for ListenerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(..) => f.write_str("unix"),
            Self::Tcp(_, None) => f.write_str("tcp"),
            Self::Tcp(_, Some(_)) => f.write_str("tls"),
        }
    }
}

impl Listener {
    /// The address as the log names it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The TCP address, for listeners asked for port 0.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.kind {
            ListenerKind::Tcp(listener, _) => listener.local_addr().ok(),
            ListenerKind::Unix(..) => None,
        }
    }

    /// A unix socket at `path`, mode 0660, owned by root and the group `gid`. A socket left by a
    /// daemon that is gone is replaced, one that answers is not.
    pub async fn unix(path: &Path, gid: Option<u32>) -> Result<Self, ListenError> {
        let address = format!("unix://{}", path.display());
        let failed = |source: io::Error| ListenError::Bind {
            address: address.clone(),
            source,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        if let Ok(metadata) = std::fs::symlink_metadata(path) {
            if !metadata.file_type().is_socket() {
                return Err(failed(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is a file that is no socket",
                )));
            }
            match tokio::net::UnixStream::connect(path).await {
                // Nobody listens: its daemon was killed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Also one that is too busy to answer.
                Ok(_) | Err(_) => return Err(ListenError::Taken(address)),
            }
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        // Bound under a name nobody looks for and put in place when owner and mode are right, so
        // that nobody connects before.
        let draft = Draft::beside(path).map_err(failed)?;
        let listener = UnixListener::bind(draft.path()).map_err(failed)?;
        let placed = std::fs::set_permissions(draft.path(), std::fs::Permissions::from_mode(0o660))
            .and_then(|()| match gid {
                Some(gid) => Ok(rustix::fs::chownat(
                    rustix::fs::CWD,
                    draft.path(),
                    None,
                    Some(Gid::from_raw(gid)),
                    rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
                )?),
                None => Ok(()),
            })
            .and_then(|()| std::fs::rename(draft.path(), path));
        if let Err(source) = placed {
            draft.remove();
            return Err(failed(source));
        }
        let file = SocketFile::new(path);
        Ok(Self {
            kind: ListenerKind::Unix(listener, file),
            address,
        })
    }

    /// TCP sockets at `host:port`: one per address the name has. Without TLS only loopback
    /// addresses are accepted, unless `allow_insecure`.
    pub async fn tcp(
        host_port: &str,
        tls: Option<Arc<rustls::ServerConfig>>,
        allow_insecure: bool,
    ) -> Result<Vec<Self>, ListenError> {
        let scheme = if tls.is_some() { "tls" } else { "tcp" };
        let name = host_port.to_owned();
        let resolved =
            tokio::task::spawn_blocking(move || name.to_socket_addrs().map(Vec::from_iter)).await;
        let addresses = resolved
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|source| ListenError::Bind {
                address: format!("{scheme}://{host_port}"),
                source,
            })?;
        let mut listeners = Vec::new();
        for address in addresses {
            if tls.is_none() && !address.ip().is_loopback() {
                if !allow_insecure {
                    return Err(ListenError::Insecure(address));
                }
                tracing::warn!(%address, "listening without TLS: whoever reaches this address is root on this host");
            }
            let listener =
                TcpListener::bind(address)
                    .await
                    .map_err(|source| ListenError::Bind {
                        address: format!("{scheme}://{address}"),
                        source,
                    })?;
            let bound = listener.local_addr().unwrap_or(address);
            listeners.push(Self {
                kind: ListenerKind::Tcp(listener, tls.clone().map(TlsAcceptor::from)),
                address: format!("{scheme}://{bound}"),
            });
        }
        Ok(listeners)
    }

    /// Sockets passed by systemd. `sockets` are the inherited descriptors with their names
    /// (`LISTEN_FDS`, `LISTEN_FDNAMES`), in order; `which` is what follows `fd://`.
    pub fn systemd(
        which: &str,
        sockets: Vec<(String, OwnedFd)>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<Vec<Self>, ListenError> {
        /// The first inherited descriptor's number.
        const FIRST: usize = 3;
        let mut listeners = Vec::new();
        for (index, (name, socket)) in sockets.into_iter().enumerate() {
            let number = (index + FIRST).to_string();
            if !matches!(which, "" | "*") && which != number && which != name {
                continue;
            }
            let address = format!("fd://{number}");
            let failed = |source: io::Error| ListenError::Bind {
                address: address.clone(),
                source,
            };
            let domain =
                sockopt::socket_domain(socket.as_fd()).map_err(|error| failed(error.into()))?;
            let kind = if domain == rustix::net::AddressFamily::UNIX {
                let listener = std::os::unix::net::UnixListener::from(socket);
                listener.set_nonblocking(true).map_err(failed)?;
                ListenerKind::Unix(UnixListener::from_std(listener).map_err(failed)?, None)
            } else {
                let listener = std::net::TcpListener::from(socket);
                listener.set_nonblocking(true).map_err(failed)?;
                let listener = TcpListener::from_std(listener).map_err(failed)?;
                ListenerKind::Tcp(listener, tls.clone().map(TlsAcceptor::from))
            };
            listeners.push(Self { kind, address });
        }
        if listeners.is_empty() {
            Err(ListenError::NoSystemdSockets)
        } else {
            Ok(listeners)
        }
    }
}

/// The number of the group that may use the socket. `required` says whether a group that does not
/// exist is an error (it was named by the user) or not (it is the default).
pub fn socket_group(name: &str, required: bool) -> Result<Option<u32>, ListenError> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    // Read directly: the C library's lookup may load plug-ins, which a static binary can not.
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    match found {
        None if required => Err(ListenError::Group(name.to_owned())),
        found => Ok(found),
    }
}

/// A socket's file before it is put in place. Named through its folder's descriptor: a socket's
/// address is at most 108 bytes, and the final name alone may take all of them.
struct Draft {
    _folder: File,
    path: PathBuf,
}

impl Draft {
    fn beside(path: &Path) -> io::Result<Self> {
        let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
        let name = format!(
            "/proc/self/fd/{}/.wharf-{}",
            folder.as_raw_fd(),
            std::process::id()
        );
        let draft = Self {
            _folder: folder,
            path: PathBuf::from(name),
        };
        // Of a process of the same number that was killed.
        draft.remove();
        Ok(draft)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) {
        drop(std::fs::remove_file(&self.path));
    }
}

/// A socket's file; removed on drop when it is still the one that was made.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device_inode: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> Option<Self> {
        Some(Self {
            path: path.to_owned(),
            device_inode: device_inode(path)?,
        })
    }
}

fn device_inode(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::lstat(path).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The next daemon may already have put its own socket there.
        if device_inode(&self.path) == Some(self.device_inode) {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        let read = |text, tls| Address::parse(text, tls).map_err(|error| error.to_string());
        assert_eq!(
            read("unix:///run/x.sock", false),
            Ok(Address::Unix("/run/x.sock".into()))
        );
        assert_eq!(
            read("tcp://", false),
            Ok(Address::Tcp("127.0.0.1:2375".into()))
        );
        assert_eq!(
            read("tcp://0.0.0.0", true),
            Ok(Address::Tcp("0.0.0.0:2376".into()))
        );
        assert_eq!(
            read("tcp://[::1]", false),
            Ok(Address::Tcp("[::1]:2375".into()))
        );
        assert_eq!(
            read("tcp://[::1]:99", false),
            Ok(Address::Tcp("[::1]:99".into()))
        );
        assert_eq!(
            read("localhost:99", false),
            Ok(Address::Tcp("localhost:99".into()))
        );
        assert_eq!(read("fd://", false), Ok(Address::Systemd(String::new())));
        for bad in [
            "",
            "x",
            "unix://rel",
            "npipe:////./pipe/x",
            "tcp://a:b",
            "tcp://a:70000",
            "tcp://h:1/path",
        ] {
            assert!(read(bad, false).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn tcp_without_tls_is_for_loopback_only() {
        let error = Listener::tcp("0.0.0.0:0", None, false).await.unwrap_err();
        assert!(matches!(error, ListenError::Insecure(_)), "{error}");
        assert!(Listener::tcp("127.0.0.1:0", None, false).await.is_ok());
    }

    #[tokio::test]
    async fn the_longest_possible_address_works() {
        let folder = tempfile::tempdir().unwrap();
        let room = 107 - folder.path().as_os_str().len() - 1;
        let path = folder.path().join("s".repeat(room));
        let listener = Listener::unix(&path, None).await.unwrap();
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
        drop(listener);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.sock");
        // A daemon that was killed leaves its file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::unix(&path, None).await.unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        let second = Listener::unix(&path, None).await.unwrap_err();
        assert!(matches!(second, ListenError::Taken(_)), "{second}");
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert!(Listener::unix(&path, None).await.is_err());
        assert!(path.exists());
    }
}
