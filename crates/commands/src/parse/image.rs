//! Image names: what users write, the full form registries know, and the short form people read.

/// A name with its registry, repository, tag and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Registry: `docker.io` when none was written.
    pub domain: String,
    /// Repository: `library/busybox` for `busybox`.
    pub path: String,
    /// Tag, if written.
    pub tag: Option<String>,
    /// Digest, if written.
    pub digest: Option<String>,
}

/// The registry of names without one.
pub const HUB: &str = "docker.io";

impl Named {
    /// Parses a name; the message is the one Docker gives.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = || "invalid reference format".to_owned();
        if is_hex_id(text) {
            return Err(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            ));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(invalid()),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // A colon before a slash belongs to the registry's port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        let (domain, path) = match name.split_once('/') {
            Some((domain, path)) if is_domain(domain) => (domain, path.to_owned()),
            _ => (HUB, name.to_owned()),
        };
        let domain = if domain == "index.docker.io" {
            HUB
        } else {
            domain
        };
        let path = if domain == HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path
        };
        if path.split('/').any(|part| !is_path_component(part)) {
            if path.chars().any(|c| c.is_ascii_uppercase())
                && path.to_lowercase().split('/').all(is_path_component)
            {
                return Err("invalid reference format: repository name (".to_owned()
                    + &path
                    + ") must be lowercase");
            }
            return Err(invalid());
        }
        if domain.len() + path.len() + 1 > 255 {
            return Err("repository name must not be more than 255 characters".to_owned());
        }
        Ok(Self {
            domain: domain.to_owned(),
            path,
            tag,
            digest,
        })
    }

    /// The same with the tag `latest` when there is neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// Registry and repository: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The short name without tag: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != HUB {
            return self.name();
        }
        match self.path.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The short form with tag and digest.
    pub fn familiar(&self) -> String {
        let mut out = self.familiar_name();
        if let Some(tag) = &self.tag {
            out = out + ":" + tag;
        }
        if let Some(digest) = &self.digest {
            out = out + "@" + digest;
        }
        out
    }

    /// The full form with tag and digest.
    pub fn full(&self) -> String {
        let mut out = self.name();
        if let Some(tag) = &self.tag {
            out = out + ":" + tag;
        }
        if let Some(digest) = &self.digest {
            out = out + "@" + digest;
        }
        out
    }

    /// What the API calls the tag: the digest, or the tag.
    pub fn api_tag(&self) -> &str {
        self.digest
            .as_deref()
            .or(self.tag.as_deref())
            .unwrap_or_default()
    }
}

fn is_hex_id(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
            && algorithm
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+.-_".contains(c))
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128
        && text.starts_with(word)
        && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// Whether what stands before the first slash is a registry and not part of the repository.
fn is_domain(text: &str) -> bool {
    text == "localhost"
        || text.contains('.')
        || text.contains(':')
        || text.chars().any(|c| c.is_ascii_uppercase())
}

/// Lower case letters and digits, joined by `.`, `_`, `__` or dashes.
fn is_path_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !text.starts_with(plain) || !text.ends_with(plain) {
        return false;
    }
    text.split(plain).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.chars().all(|c| c == '-')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_completed_and_shortened() {
        for (text, full, familiar) in [
            (
                "busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            ("a/b:1", "docker.io/a/b:1", "a/b:1"),
            (
                "localhost:5000/x",
                "localhost:5000/x:latest",
                "localhost:5000/x:latest",
            ),
            (
                "docker.io/library/x",
                "docker.io/library/x:latest",
                "x:latest",
            ),
            ("r.io/a/b/c:t", "r.io/a/b/c:t", "r.io/a/b/c:t"),
        ] {
            let named = Named::parse(text).unwrap().or_latest();
            assert_eq!(
                (named.full().as_str(), named.familiar().as_str()),
                (full, familiar)
            );
        }
    }

    #[test]
    fn wrong_names_are_refused() {
        assert_eq!(
            Named::parse("Foo").unwrap_err(),
            "invalid reference format: repository name (library/Foo) must be lowercase"
        );
        for text in [
            "",
            ":",
            "a b",
            "a:b:c d",
            "a@sha256:xx",
            "-a",
            "a/",
            "a//b",
            "a..b",
        ] {
            assert!(Named::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_short_form_means_the_same(text in "([a-z0-9.]{1,8}(:[0-9]{1,4})?/)?[a-z0-9_./-]{1,12}(:[a-z0-9.]{1,5})?") {
            if let Ok(named) = Named::parse(&text) {
                prop_assert_eq!(Named::parse(&named.familiar()), Ok(named));
            }
        }
    }
}
