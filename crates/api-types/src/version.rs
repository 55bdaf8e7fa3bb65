//! Versions of the API: 1.24 to 1.55, negotiated per request by the `/v1.NN` prefix of the path.

use std::fmt;
use std::str::FromStr;

/// An API version `1.<minor>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// The number before the dot; 1 in every version there is.
    pub major: u32,
    /// The number after the dot.
    pub minor: u32,
}

/// A string that is no version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionError(pub String);

impl fmt::Display for VersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid API version `{}`: expected major.minor", self.0)
    }
}

impl std::error::Error for VersionError {}

impl ApiVersion {
    /// The oldest version served.
    pub const OLDEST: Self = Self::new(24);
    /// The newest version served, and the one of requests without a prefix.
    pub const NEWEST: Self = Self::new(55);

    /// `1.<minor>`.
    pub const fn new(minor: u32) -> Self {
        Self { major: 1, minor }
    }

    /// Whether this is `1.<minor>` or newer.
    pub fn at_least(self, minor: u32) -> bool {
        self >= Self::new(minor)
    }
}

impl FromStr for ApiVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let number = |part: &str| {
            let digits =
                !part.is_empty() && part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit());
            if digits { part.parse().ok() } else { None }
        };
        text.split_once('.')
            .and_then(|(major, minor)| {
                Some(Self {
                    major: number(major)?,
                    minor: number(minor)?,
                })
            })
            .ok_or_else(|| VersionError(text.to_owned()))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_number() {
        let nine: ApiVersion = "1.9".parse().unwrap();
        assert!(nine < ApiVersion::OLDEST);
        assert_eq!("1.41".parse::<ApiVersion>().unwrap().to_string(), "1.41");
        for bad in ["", "1", "1.", ".1", "1.2.3", "1.x", "-1.2", "1.99999999"] {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
        }
    }
}
