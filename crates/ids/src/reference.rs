//! Image references: `[registry/]path[:tag][@digest]`, normalised as Docker does.
//!
//! The grammar is the one of the distribution project (`reference` package):
//!
//! ```text
//! reference  := name [ ":" tag ] [ "@" digest ]
//! name       := [ domain "/" ] component *( "/" component )
//! domain     := host [ ":" port ]            host: name, IPv4 or [IPv6]
//! component  := alnum *( separator alnum )   alnum: [a-z0-9]+, separator: . | _ | __ | -+
//! tag        := [A-Za-z0-9_] *127[A-Za-z0-9_.-]
//! ```
//!
//! A first component is a domain only when it contains a dot or a colon, has an upper-case letter
//! or is `localhost`; otherwise the name belongs to Docker Hub (`docker.io`), where a single
//! component lives below `library/`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, DigestError};

/// The registry of names that carry none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of names that carry none.
pub const DEFAULT_TAG: &str = "latest";

const OFFICIAL_PREFIX: &str = "library/";
/// Longest repository name, domain included, in bytes.
const NAME_LENGTH_MAX: usize = 255;
/// Longest tag in bytes.
const TAG_LENGTH_MAX: usize = 128;

/// A string that is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Docker's wording.
    #[error("invalid reference format")]
    Format,
    /// Docker's wording.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// Docker's wording.
    #[error("repository name must have at least one component")]
    Empty,
    /// Docker's wording.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// Docker's wording for a name that could be an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    HexName(String),
    /// The part after `@`; only sha256 is known here.
    #[error("invalid reference format: {0}")]
    Digest(#[from] DigestError),
}

/// A normalised image reference: `busybox` is `docker.io/library/busybox`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    /// Registry host with optional port: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// Repository path inside the registry: `library/busybox`.
    pub path: String,
    /// Tag, when given.
    pub tag: Option<String>,
    /// Digest, when given.
    pub digest: Option<Digest>,
}

impl ImageRef {
    /// Parses what a user typed and normalises it; a missing tag stays missing.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Format);
        }
        if is_hex_id(text) {
            return Err(ReferenceError::HexName(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (domain, remainder) = split_domain(rest);
        let (path, tag) = match remainder.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remainder, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(path.to_owned()));
        }
        if !is_path(path) || tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Format);
        }
        let registry = match domain {
            None | Some("index.docker.io") => DEFAULT_REGISTRY.to_owned(),
            Some(domain) if is_domain(domain) => domain.to_owned(),
            Some(_) => return Err(ReferenceError::Format),
        };
        let path = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{OFFICIAL_PREFIX}{path}")
        } else {
            path.to_owned()
        };
        let reference = Self {
            registry,
            path,
            tag: tag.map(str::to_owned),
            digest,
        };
        // The domain does not count: registries bound the repository's path.
        if reference.path.len() > NAME_LENGTH_MAX {
            return Err(ReferenceError::TooLong);
        }
        Ok(reference)
    }

    /// The same with the tag `latest` where neither a tag nor a digest was given.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The repository alone: neither tag nor digest.
    #[must_use]
    pub fn repository(&self) -> Self {
        Self {
            tag: None,
            digest: None,
            ..self.clone()
        }
    }

    /// Registry and path: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// Registry and path as users read it: `busybox`, `user/app`, `localhost:5000/app`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        let short = match self.path.strip_prefix(OFFICIAL_PREFIX) {
            // `library/a/b` is not an official image: shortened it would be the user `a`'s.
            Some(short) if !short.contains('/') => short,
            _ => &self.path,
        };
        // `docker.io/a.b/c` shortened would be the image `c` of a registry `a.b`.
        match Self::parse(short) {
            Ok(read) if read.registry == self.registry && read.path == self.path => {
                short.to_owned()
            }
            _ => self.name(),
        }
    }

    /// The whole reference as users read it: `busybox:1.36`, `busybox@sha256:…`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
    }
}

/// Whether `tag` may follow the colon of a reference.
pub fn is_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    tag.len() <= TAG_LENGTH_MAX
        && bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Canonical form: `docker.io/library/busybox:1.36`.
impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(reference: ImageRef) -> Self {
        reference.to_string()
    }
}

fn split_domain(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, text),
    }
}

fn is_hex_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_component)
}

fn is_component(component: &str) -> bool {
    let is_alnum = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = component.as_bytes();
    if !bytes.first().is_some_and(is_alnum) || !bytes.last().is_some_and(is_alnum) {
        return false;
    }
    // Between alphanumeric runs stand one dot, one or two underscores, or any number of dashes.
    bytes.split(is_alnum).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = if let Some(rest) = domain.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else {
            return false;
        };
        let valid =
            !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return false,
        };
        (valid, port)
    } else {
        let (host, port) = match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        };
        (host.split('.').all(is_domain_label), port)
    };
    host && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_domain_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999";

    fn canonical(text: &str) -> String {
        ImageRef::parse(text).unwrap().to_string()
    }

    #[test]
    fn names_are_normalised() {
        for (typed, full) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("user/app", "docker.io/user/app"),
            ("docker.io/busybox", "docker.io/library/busybox"),
            ("index.docker.io/user/app", "docker.io/user/app"),
            ("library/busybox", "docker.io/library/busybox"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app"),
            ("[::1]:5000/app:x", "[::1]:5000/app:x"),
            ("[2001:db8::1]/app", "[2001:db8::1]/app"),
            ("quay.io/org/app:v1.0_x-y", "quay.io/org/app:v1.0_x-y"),
            ("Foo/app", "Foo/app"),
            ("a__b/c--d/e.f", "docker.io/a__b/c--d/e.f"),
            ("app:UPPER", "docker.io/library/app:UPPER"),
        ] {
            assert_eq!(canonical(typed), full, "{typed}");
        }
    }

    #[test]
    fn digests_are_kept_beside_tags() {
        let reference = ImageRef::parse(&format!("busybox:1@sha256:{HEX}")).unwrap();
        assert_eq!(reference.tag.as_deref(), Some("1"));
        assert_eq!(reference.familiar(), format!("busybox:1@sha256:{HEX}"));
        assert_eq!(reference.repository().familiar(), "busybox");
    }

    #[test]
    fn familiar_forms() {
        for (typed, short) in [
            ("docker.io/library/busybox:latest", "busybox:latest"),
            ("docker.io/user/app", "user/app"),
            ("docker.io/library/a/b", "library/a/b"),
            ("localhost:5000/busybox", "localhost:5000/busybox"),
        ] {
            assert_eq!(ImageRef::parse(typed).unwrap().familiar(), short, "{typed}");
        }
    }

    #[test]
    fn bad_references_are_refused_in_dockers_words() {
        for bad in [
            "",
            ":",
            "a:",
            "@",
            "a@",
            "/a",
            "a/",
            "a//b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a:-x",
            "a b",
            "ü",
            "a:b:c",
            "a.b:x/c",
            "[::1/app",
            "[zz]/app",
            ".a/b",
            "a.-b/c",
            "a:\u{0}",
            "a@sha256:12",
            "a:b@sha256:12",
            "localhost:5000",
            "http://x/y",
        ] {
            if bad == "localhost:5000" {
                // A repository `localhost` with the tag 5000, as in Docker.
                assert_eq!(canonical(bad), "docker.io/library/localhost:5000");
                continue;
            }
            let error = ImageRef::parse(bad).unwrap_err().to_string();
            assert!(
                error.starts_with("invalid reference format"),
                "{bad}: {error}"
            );
        }
        assert_eq!(
            ImageRef::parse("Busybox").unwrap_err().to_string(),
            "invalid reference format: repository name (Busybox) must be lowercase"
        );
        assert_eq!(
            ImageRef::parse("docker.io/user/App:1")
                .unwrap_err()
                .to_string(),
            "invalid reference format: repository name (user/App) must be lowercase"
        );
        assert_eq!(
            ImageRef::parse(HEX).unwrap_err().to_string(),
            format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")
        );
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(ImageRef::parse(&format!("x/{}", "a".repeat(253))).is_ok());
        assert_eq!(
            ImageRef::parse(&format!("x/{}", "a".repeat(254))),
            Err(ReferenceError::TooLong)
        );
        assert!(ImageRef::parse(&format!("x:{}", "a".repeat(128))).is_ok());
        assert!(ImageRef::parse(&format!("x:{}", "a".repeat(129))).is_err());
    }

    #[test]
    fn latest_is_the_default_tag() {
        assert_eq!(
            ImageRef::parse("a").unwrap().or_latest().familiar(),
            "a:latest"
        );
        assert_eq!(
            ImageRef::parse("a:b").unwrap().or_latest().familiar(),
            "a:b"
        );
        let by_digest = format!("a@sha256:{HEX}");
        assert_eq!(
            ImageRef::parse(&by_digest).unwrap().or_latest().familiar(),
            by_digest
        );
    }

    #[test]
    fn a_familiar_name_never_means_another_image() {
        for text in [
            "docker.io/index.docker.io/z",
            "docker.io/a.b/c",
            "docker.io/localhost/x",
            "docker.io/library/a/b",
        ] {
            let reference = ImageRef::parse(text).unwrap();
            assert_eq!(
                ImageRef::parse(&reference.familiar()).unwrap(),
                reference,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,300}") {
            if let Ok(reference) = ImageRef::parse(&text) {
                prop_assert_eq!(&ImageRef::parse(&reference.to_string()).unwrap(), &reference);
            }
        }

        #[test]
        fn printed_forms_parse_to_the_same(
            domain in "(|localhost/|localhost:[0-9]{1,5}/|[a-z]{1,5}\\.[a-z]{2,3}(:[0-9]{1,5})?/|\\[[0-9a-f]{0,4}::[0-9a-f]{1,4}\\](:[0-9]{1,3})?/)",
            path in "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,3})?(/[a-z0-9]{1,6}){0,3}",
            tag in "(|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})",
        ) {
            let reference = ImageRef::parse(&format!("{domain}{path}{tag}")).unwrap();
            prop_assert_eq!(&ImageRef::parse(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&ImageRef::parse(&reference.familiar()).unwrap(), &reference);
        }
    }
}
