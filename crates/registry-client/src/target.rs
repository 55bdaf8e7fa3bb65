//! Addresses: which host and port a request goes to, with or without TLS.

use std::fmt;

use crate::error::Error;

/// Longest address a registry may send us to, in bytes.
const LENGTH_MAX: usize = 8 << 10;

/// The absolute address of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query, beginning with `/`.
    pub(crate) path: String,
}

impl Target {
    /// Parses an absolute `http` or `https` address.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let bad = |why: &str| {
            Error::Protocol(format!(
                "{why} in address {:?}",
                shorten(url.split('?').next().unwrap_or_default())
            ))
        };
        if url.len() > LENGTH_MAX {
            return Err(bad("too many characters"));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("no scheme"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(bad("unknown scheme")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) if rest.as_bytes()[at] == b'?' => (&rest[..at], format!("/{}", &rest[at..])),
            Some(at) => (&rest[..at], rest[at..].to_owned()),
            None => (rest, "/".to_owned()),
        };
        if authority.contains('@') {
            return Err(bad("user name"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| bad("bad host or port"))?;
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        // Checked here once, so that making requests out of it never fails.
        if path.parse::<hyper::Uri>().is_err() {
            return Err(bad("bad character"));
        }
        Ok(Self {
            tls,
            host: host.to_ascii_lowercase(),
            port,
            path,
        })
    }

    /// The address a `Location` header names, seen from here.
    pub(crate) fn join(&self, location: &str) -> Result<Self, Error> {
        if location.contains("://") {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.tls { "https" } else { "http" };
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let path = match location.strip_prefix('/') {
            Some(_) => location.to_owned(),
            None => {
                let own = self.path.split('?').next().unwrap_or_default();
                let directory = own.rfind('/').map_or("/", |at| &own[..=at]);
                format!("{directory}{location}")
            }
        };
        Self::parse(
            &Self {
                path,
                ..self.clone()
            }
            .to_string(),
        )
    }

    /// The same host with another path.
    pub(crate) fn with_path(&self, path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..self.clone()
        }
    }

    /// Whether requests to `other` may carry what is meant for us.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    /// Host and, unless it is the scheme's own, port: the `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl Target {
    /// For messages and logs: without the query, which may be a signature.
    pub(crate) fn shown(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        self.with_path(path).to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Splits `host`, `host:port`, `[v6]:port`; the host loses its brackets.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            match tail.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if tail.is_empty() => (host, None),
                None => return None,
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_v6 = authority.starts_with('[');
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.is_empty() || host.len() > 253 || !(is_v6 || host.bytes().all(valid)) {
        return None;
    }
    match port {
        None | Some("") => Some((host, None)),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            Some((host, Some(port.parse().ok().filter(|port| *port != 0)?)))
        }
        Some(_) => None,
    }
}

/// The beginning of a text somebody else sent, for a message.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// `text` as a value in the query part of an address.
pub(crate) fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte.into());
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_and_put_together() {
        for (url, shown) in [
            ("https://reg.example/v2/", "https://reg.example/v2/"),
            ("https://REG.example:443/v2/#x", "https://reg.example/v2/"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/"),
            ("http://[::1]:5000/v2/?a=b", "http://[::1]:5000/v2/?a=b"),
            ("https://a?x=1", "https://a/?x=1"),
        ] {
            assert_eq!(Target::parse(url).unwrap().to_string(), shown);
        }
        for url in [
            "ftp://a/",
            "a/b",
            "https://",
            "https:///x",
            "https://a:b/",
            "https://a:70000/",
            "https://u:p@a/",
            "https://a/b c",
            "https://[::1/",
            "https://a\u{e4}/",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn locations_are_seen_from_the_address_that_sent_them() {
        let base = Target::parse("https://reg.example/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, joined) in [
            ("/v2/b", "https://reg.example/v2/b"),
            ("c?d", "https://reg.example/v2/a/blobs/uploads/c?d"),
            ("//other.example/z", "https://other.example/z"),
            ("http://plain.example/z", "http://plain.example/z"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), joined);
        }
        assert!(base.join("/a b").is_err());
    }
}
