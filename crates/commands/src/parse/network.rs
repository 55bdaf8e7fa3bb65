//! `--network`: a name, or `name=NET,alias=A,ip=…,driver-opt=k=v,gw-priority=1`.

use super::{csv, names};

/// One network a container is attached to, with the settings of its endpoint.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name or ID of the network, or a mode such as `host`.
    pub target: String,
    /// Further names on this network.
    pub aliases: Vec<String>,
    /// Links to other containers, `name[:alias]`.
    pub links: Vec<String>,
    /// Fixed IPv4 address.
    pub ip: String,
    /// Fixed IPv6 address.
    pub ip6: String,
    /// Fixed MAC address.
    pub mac: String,
    /// Link-local addresses.
    pub link_local: Vec<String>,
    /// Options for the driver.
    pub driver_options: Vec<(String, String)>,
    /// Which network is the gateway: the highest wins.
    pub gateway_priority: i64,
}

/// Parses one `--network`.
pub fn parse(text: &str) -> Result<Attachment, String> {
    let mut out = Attachment::default();
    if !is_long(text) {
        out.target = text.to_owned();
        return Ok(out);
    }
    for field in csv::fields(text)? {
        let invalid = || format!("invalid field {field}");
        let (key, value) = field
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(invalid)?;
        let (key, value) = (key.trim().to_lowercase(), value.trim().to_lowercase());
        match key.as_str() {
            "name" => out.target = value,
            "alias" => out.aliases.push(value),
            "ip" => out.ip = value,
            "ip6" => out.ip6 = value,
            "mac-address" if names::is_mac(&value) => out.mac = value,
            "mac-address" => return Err(format!("{value} is not a valid mac address")),
            "link-local-ip" => out.link_local.push(value),
            "driver-opt" => out.driver_options.push(driver_option(&value)?),
            "gw-priority" => {
                out.gateway_priority = value.parse().map_err(|_| {
                    format!(
                        "invalid gw-priority ({value}): {}",
                        crate::matches::parse_int(&value).err().unwrap_or_default()
                    )
                })?;
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if out.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(out)
}

/// `key=value` of a driver option.
pub fn driver_option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok((key.trim().to_lowercase(), value.trim().to_lowercase()))
        }
        _ => Err("invalid key value pair format in driver options".to_owned()),
    }
}

/// Whether the text contains a `word=word`, which a name cannot.
fn is_long(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices('=').any(|(at, _)| {
        text[..at].chars().next_back().is_some_and(word)
            && text[at + 1..].chars().next().is_some_and(word)
    })
}

/// A check of one `--network`.
pub fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        assert_eq!(parse("host").unwrap().target, "host");
        let long = parse("name=n,alias=a,alias=b,ip=1.2.3.4,driver-opt=x=y,gw-priority=5").unwrap();
        assert_eq!(
            (
                long.target.as_str(),
                long.aliases.len(),
                long.gateway_priority
            ),
            ("n", 2, 5)
        );
        assert_eq!(long.driver_options, [("x".to_owned(), "y".to_owned())]);
        assert_eq!(
            parse("alias=a").unwrap_err(),
            "network name/id is not specified"
        );
        assert_eq!(parse("name=n,foo=1").unwrap_err(), "invalid field key foo");
        assert!(parse("name=n,mac-address=zz").is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a-z0-9=,\".-]{0,30}") {
            let _ = parse(&text);
        }
    }
}
