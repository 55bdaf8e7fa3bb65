//! Versions of the API, and the headers every answer carries.

use wharf_api_types::ApiVersion;
use wharf_engine::system::COMPATIBLE_VERSION;
use wharf_fault::{Error, Result};

/// Splits `/v1.41/containers/json` into the version and `/containers/json`; a path without prefix
/// means the newest version.
pub(crate) fn split_path(path: &str) -> Result<(ApiVersion, &str)> {
    let Some(rest) = path.strip_prefix("/v") else {
        return Ok((ApiVersion::NEWEST, path));
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let text = &rest[..end];
    // `/volumes` is no version.
    if text.is_empty()
        || !text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return Ok((ApiVersion::NEWEST, path));
    }
    let version: ApiVersion = text
        .parse()
        .map_err(|_| Error::invalid(format!("invalid API version format: {text}")))?;
    if version < ApiVersion::OLDEST {
        return Err(Error::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            ApiVersion::OLDEST
        )));
    }
    if version > ApiVersion::NEWEST {
        return Err(Error::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            ApiVersion::NEWEST
        )));
    }
    Ok((version, &rest[end..]))
}

/// Name and value of the headers every answer carries.
pub(crate) fn common_headers(experimental: bool) -> [(&'static str, String); 4] {
    [
        ("Api-Version", ApiVersion::NEWEST.to_string()),
        ("Docker-Experimental", experimental.to_string()),
        ("Ostype", "linux".to_owned()),
        ("Server", format!("Docker/{COMPATIBLE_VERSION} (linux)")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_split_off() {
        let split = |path| split_path(path).map_err(|error| error.to_string());
        assert_eq!(split("/v1.41/info"), Ok((ApiVersion::new(41), "/info")));
        assert_eq!(split("/info"), Ok((ApiVersion::NEWEST, "/info")));
        assert_eq!(split("/volumes"), Ok((ApiVersion::NEWEST, "/volumes")));
        assert_eq!(split("/version"), Ok((ApiVersion::NEWEST, "/version")));
        assert_eq!(
            split("/v1.56/info").unwrap_err(),
            "client version 1.56 is too new. Maximum supported API version is 1.55"
        );
        assert_eq!(
            split("/v1.23/info").unwrap_err(),
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        assert!(split("/v1.2.3/info").is_err());
        assert!(split("/v1/info").is_err());
    }
}
