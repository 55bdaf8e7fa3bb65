//! Where the engine is: the address forms of `DOCKER_HOST` and `-H`.
//!
//! | form | meaning |
//! |---|---|
//! | `unix:///run/wharf.sock` | a unix socket |
//! | `tcp://host[:port][/prefix]`, `http://`, `https://` | TCP; port 2375, or 2376 with TLS |
//! | `ssh://[user@]host[:port][/socket]` | the `ssh` program running `system dial-stdio` there |
//! | `fd://` | refused: only a daemon listens on inherited descriptors |

use std::fmt;
use std::path::PathBuf;

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A unix socket at this path.
    Unix(PathBuf),
    /// A TCP address.
    Tcp {
        /// Name or address, without the brackets of IPv6.
        host: String,
        /// TCP port.
        port: u16,
        /// Path in front of every request, empty or starting with `/`.
        prefix: String,
        /// Written as `https://`, so TLS is not optional.
        https: bool,
    },
    /// A machine reached with the `ssh` program.
    Ssh {
        /// Login name, if given.
        user: Option<String>,
        /// Name or address.
        host: String,
        /// Port of the ssh server, if given.
        port: Option<u16>,
        /// Socket of the engine on that machine, if given.
        socket: Option<String>,
    },
}

/// An address that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No `scheme://` in front.
    #[error("unable to parse docker host `{0}`")]
    NoScheme(String),
    /// A scheme the client has no transport for.
    #[error("protocol not available: `{0}`")]
    Scheme(String),
    /// The part after the scheme is wrong.
    #[error("invalid bind address format: {0}")]
    Address(String),
}

impl Host {
    /// Parses one address; `tls` chooses the default port of TCP.
    ///
    /// A bare path or `host:port` is accepted as `-H` accepts it: a leading `/` is a unix socket,
    /// `:port`, `host` and `host:port` are TCP.
    pub fn parse(text: &str, tls: bool) -> Result<Self, HostError> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.starts_with('/') {
                return Ok(Self::Unix(PathBuf::from(text)));
            }
            if text.is_empty() {
                return Err(HostError::NoScheme(text.to_owned()));
            }
            return tcp(text, rest_port(tls), false);
        };
        match scheme {
            "unix" if rest.starts_with('/') && !rest.contains('\0') => {
                Ok(Self::Unix(PathBuf::from(rest)))
            }
            "unix" => Err(HostError::Address(text.to_owned())),
            "tcp" | "http" => tcp(rest, rest_port(tls), false),
            "https" => tcp(rest, 2376, true),
            "ssh" => ssh(rest),
            other => Err(HostError::Scheme(other.to_owned())),
        }
    }
}

fn rest_port(tls: bool) -> u16 {
    if tls { 2376 } else { 2375 }
}

fn tcp(rest: &str, default_port: u16, https: bool) -> Result<Host, HostError> {
    let (authority, prefix) = match rest.find('/') {
        Some(slash) => (&rest[..slash], rest[slash..].trim_end_matches('/')),
        None => (rest, ""),
    };
    if authority.contains('@') || !prefix.chars().all(|c| c.is_ascii_graphic()) {
        return Err(HostError::Address(rest.to_owned()));
    }
    let (host, port) = split_port(authority).ok_or_else(|| HostError::Address(rest.to_owned()))?;
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok(Host::Tcp {
        host: host.to_owned(),
        port: port.unwrap_or(default_port),
        prefix: prefix.to_owned(),
        https,
    })
}

fn ssh(rest: &str) -> Result<Host, HostError> {
    let bad = || HostError::Address(rest.to_owned());
    let (authority, path) = match rest.find('/') {
        Some(slash) => (&rest[..slash], &rest[slash..]),
        None => (rest, ""),
    };
    let (user, address) = match authority.rsplit_once('@') {
        // A password cannot be handed to ssh.
        Some((user, _)) if user.is_empty() || user.contains(':') => return Err(bad()),
        Some((user, address)) => (Some(user.to_owned()), address),
        None => (None, authority),
    };
    let (host, port) = split_port(address).ok_or_else(bad)?;
    // What starts with a dash would be read as an option by ssh.
    let option_like = |text: &str| text.starts_with('-');
    if host.is_empty() || option_like(host) || user.as_deref().is_some_and(option_like) {
        return Err(bad());
    }
    let socket = (!path.is_empty() && path != "/").then(|| path.to_owned());
    Ok(Host::Ssh {
        user,
        host: host.to_owned(),
        port,
        socket,
    })
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`; `None` when it is none of these.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(inside) = authority.strip_prefix('[') {
        let (host, after) = inside.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None if after.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match authority.split_once(':') {
        None => Some((authority, None)),
        Some((_, port)) if port.contains(':') => None,
        Some((host, "")) => Some((host, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp {
                host,
                port,
                prefix,
                https,
            } => {
                let scheme = if *https { "https" } else { "tcp" };
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}{prefix}")
                } else {
                    write!(f, "{scheme}://{host}:{port}{prefix}")
                }
            }
            Self::Ssh {
                user,
                host,
                port,
                socket,
            } => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                if host.contains(':') {
                    write!(f, "[{host}]")?
                } else {
                    f.write_str(host)?
                }
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                f.write_str(socket.as_deref().unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(host: &str, port: u16, prefix: &str) -> Host {
        Host::Tcp {
            host: host.into(),
            port,
            prefix: prefix.into(),
            https: false,
        }
    }

    #[test]
    fn known_forms_parse() {
        assert_eq!(
            Host::parse("unix:///run/x.sock", false),
            Ok(Host::Unix("/run/x.sock".into()))
        );
        assert_eq!(
            Host::parse("/run/x.sock", false),
            Ok(Host::Unix("/run/x.sock".into()))
        );
        assert_eq!(
            Host::parse("tcp://10.0.0.1", false),
            Ok(tcp("10.0.0.1", 2375, ""))
        );
        assert_eq!(
            Host::parse("tcp://10.0.0.1", true),
            Ok(tcp("10.0.0.1", 2376, ""))
        );
        assert_eq!(
            Host::parse("tcp://[::1]:99/api/", false),
            Ok(tcp("::1", 99, "/api"))
        );
        assert_eq!(Host::parse(":2375", false), Ok(tcp("127.0.0.1", 2375, "")));
        assert_eq!(
            Host::parse("ssh://me@box:22", false),
            Ok(Host::Ssh {
                user: Some("me".into()),
                host: "box".into(),
                port: Some(22),
                socket: None
            })
        );
    }

    #[test]
    fn wrong_forms_are_refused() {
        for text in [
            "",
            "ftp://x",
            "fd://",
            "unix://",
            "unix://relative",
            "tcp://a:b",
            "tcp://u@h",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://-l@h",
            "ssh://u:p@h",
            "tcp://[::1",
            "tcp://::1",
        ] {
            assert!(Host::parse(text, false).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_prints_what_it_read(text in "(unix|tcp|ssh|https)?(://)?[-a-z0-9@:/\\[\\].]{0,30}") {
            if let Ok(host) = Host::parse(&text, false) {
                prop_assert_eq!(Host::parse(&host.to_string(), false), Ok(host));
            }
        }
    }
}
