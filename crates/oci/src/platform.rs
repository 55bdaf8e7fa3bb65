//! Which operating system and processor an image is for, and which of several fits best.
//!
//! Text form `os[/architecture[/variant]]` with the aliases the `docker` command accepts
//! (`x86_64`, `aarch64`, `armhf`, …), always kept in its normal form: no variant where the
//! architecture has a default one (`amd64` is v1, `arm64` is v8), `v7` for plain `arm`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A platform text that can not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\": unknown operating system or architecture: invalid argument")]
pub struct PlatformError(String);

/// Operating system, processor and what else an image needs (image-spec image-index.md).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Processor in Go's words: `amd64`, `arm64`, ….
    #[serde(default)]
    pub architecture: String,
    /// Operating system in Go's words: `linux`.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system (Windows only).
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Features of the operating system (Windows only).
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "crate::image::null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the processor: `v7`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// From this rank on an image is for another architecture that the processor also runs.
    pub const FOREIGN_RANK: u32 = 100;

    /// The machine's own.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, "")
    }

    /// From its parts, brought to the normal form.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.to_owned(),
            ..Self::default()
        }
        .normalized()
    }

    /// Parses `linux`, `arm64`, `linux/arm/v7`; what is missing is the host's.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.len() <= 64
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(is_word) {
            return Err(error());
        }
        let host = Self::host();
        match parts[..] {
            [one] if is_known_os(one) => Ok(Self::new(one, &host.architecture, &host.variant)),
            [one] if is_known_architecture(one) => Ok(Self::new("linux", one, "")),
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(error()),
        }
    }

    /// The same in its normal form.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = self.variant.to_ascii_lowercase();
        let (architecture, variant) = match (
            self.architecture.to_ascii_lowercase().as_str(),
            variant.as_str(),
        ) {
            ("i386" | "x86", _) => ("386".to_owned(), String::new()),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64".to_owned(), String::new()),
            ("x86_64" | "x86-64", variant) => ("amd64".to_owned(), variant.to_owned()),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64".to_owned(), String::new()),
            ("aarch64", variant) => ("arm64".to_owned(), variant.to_owned()),
            ("armhf", _) => ("arm".to_owned(), "v7".to_owned()),
            ("armel", _) => ("arm".to_owned(), "v6".to_owned()),
            ("arm", "" | "7") => ("arm".to_owned(), "v7".to_owned()),
            ("arm", digit @ ("5" | "6" | "8")) => ("arm".to_owned(), format!("v{digit}")),
            (architecture, variant) => (architecture.to_owned(), variant.to_owned()),
        };
        self.architecture = architecture;
        self.variant = variant;
        self
    }

    /// How well an image for `offered` serves one who wants `self`: 0 is best, `None` not at all.
    ///
    /// A processor runs code for its lower variants (`amd64/v3` runs `amd64`), and `arm64` runs
    /// 32-bit `arm` as `amd64` runs `386`; these come after all exact ones.
    pub fn rank(&self, offered: &Self) -> Option<u32> {
        let (wanted, offered) = (self.clone().normalized(), offered.clone().normalized());
        if wanted.os != offered.os {
            return None;
        }
        let level = |platform: &Self| -> Option<u32> {
            match (platform.architecture.as_str(), platform.variant.as_str()) {
                ("amd64", "") => Some(1),
                ("arm64", "") => Some(8),
                (_, variant) => variant.strip_prefix('v')?.parse().ok(),
            }
        };
        if wanted.architecture == offered.architecture {
            if wanted.variant == offered.variant {
                return Some(0);
            }
            return match (level(&wanted), level(&offered)) {
                (Some(wanted), Some(offered)) => wanted.checked_sub(offered),
                _ => None,
            };
        }
        match (wanted.architecture.as_str(), offered.architecture.as_str()) {
            ("amd64", "386") => Some(Self::FOREIGN_RANK),
            ("arm64", "arm") => {
                Some(Self::FOREIGN_RANK + 8_u32.saturating_sub(level(&offered).unwrap_or(0)))
            }
            _ => None,
        }
    }

    /// Whether an image for `offered` is exactly for this platform.
    pub fn is_exactly(&self, offered: &Self) -> bool {
        self.rank(offered) == Some(0)
    }

    /// Whether nothing is known, as in the entries of attestation manifests.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown"
            || self.architecture == "unknown"
            || (self.os.is_empty() && self.architecture.is_empty())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

fn is_known_os(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "linux"
            | "windows"
            | "darwin"
            | "macos"
            | "freebsd"
            | "netbsd"
            | "openbsd"
            | "dragonfly"
            | "solaris"
            | "plan9"
    )
}

fn is_known_architecture(text: &str) -> bool {
    matches!(
        Platform::new("linux", text, "").architecture.as_str(),
        "386"
            | "amd64"
            | "arm"
            | "arm64"
            | "loong64"
            | "mips"
            | "mipsle"
            | "mips64"
            | "mips64le"
            | "ppc64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "wasm"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_normalised() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/amd64/v3", "linux/amd64/v3"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), normal, "{text}");
        }
        for bad in ["", "/", "linux/", "nonsense", "a/b/c/d", "li nux/amd64"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lower_variants_fit_and_higher_do_not() {
        let wanted = Platform::parse("linux/amd64/v3").unwrap();
        let rank = |text| wanted.rank(&Platform::parse(text).unwrap());
        assert_eq!(rank("linux/amd64/v3"), Some(0));
        assert_eq!(rank("linux/amd64/v2"), Some(1));
        assert_eq!(rank("linux/amd64"), Some(2));
        assert_eq!(rank("linux/amd64/v4"), None);
        assert_eq!(rank("linux/arm64"), None);
        assert_eq!(rank("windows/amd64"), None);
        assert_eq!(rank("linux/386"), Some(100));
    }
}
