//! Container ids and the names users give to objects.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::random::hex_id;

/// A string that is not what its place asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 64 lower-case hex digits.
    #[error("invalid container ID `{0}`: 64 hexadecimal digits expected")]
    ContainerId(String),
    /// Docker's wording, which clients match on.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    ContainerName(String),
    /// Docker's wording for volumes.
    #[error(
        "\"{0}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    VolumeName(String),
}

/// The 64-digit id of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// A new random id.
    pub fn random() -> Self {
        Self(hex_id())
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, as shown in tables and used as the default host name.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for ContainerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let valid =
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::ContainerId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ContainerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ContainerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Checks a container name (without the leading slash): `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn validate_container_name(name: &str) -> Result<(), IdError> {
    if is_name(name) && name.len() > 1 {
        Ok(())
    } else {
        Err(IdError::ContainerName(name.to_owned()))
    }
}

/// Checks a volume name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn validate_volume_name(name: &str) -> Result<(), IdError> {
    if is_name(name) && name.len() > 1 {
        Ok(())
    } else {
        Err(IdError::VolumeName(name.to_owned()))
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 255
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_parse_and_differ() {
        let one = ContainerId::random();
        assert_eq!(one.as_str().parse::<ContainerId>().unwrap(), one);
        assert_ne!(one, ContainerId::random());
    }

    #[test]
    fn names_follow_docker() {
        for good in ["ab", "a1", "web-1", "A_b.c"] {
            assert!(validate_container_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", "a/b", "a b", "ü1"] {
            assert!(validate_container_name(bad).is_err(), "{bad}");
        }
    }
}
