//! Driver options of bridge networks: read once, refused by name when not ours.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::{NetworkError, Result};

pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(crate) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(crate) const ICC: &str = "com.docker.network.bridge.enable_icc";
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(crate) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
const GATEWAY_MODE4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const GATEWAY_MODE6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const IFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
/// Older spelling of `EnableIPv4`.
pub(crate) const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
/// Older spelling of `EnableIPv6`.
pub(crate) const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";

/// What a bridge network's options say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeOptions {
    /// The interface's name, where the user chose it.
    pub(crate) name: Option<String>,
    pub(crate) masquerade: bool,
    /// Containers of the network reach each other.
    pub(crate) icc: bool,
    /// Host address of published ports that name none.
    pub(crate) host_binding: Option<IpAddr>,
    /// Bytes.
    pub(crate) mtu: u32,
    /// The bridge gets no IPv4 address.
    pub(crate) inhibit_ipv4: bool,
    /// First part of the interfaces' names in containers.
    pub(crate) iface_prefix: String,
}

impl BridgeOptions {
    /// Reads the options; `mtu` is the one where none is named.
    pub(crate) fn parse(options: &BTreeMap<String, String>, mtu: u32) -> Result<Self> {
        let mut parsed = Self {
            name: None,
            masquerade: true,
            icc: true,
            host_binding: None,
            mtu,
            inhibit_ipv4: false,
            iface_prefix: "eth".to_owned(),
        };
        for (key, value) in options {
            match key.as_str() {
                BRIDGE_NAME => {
                    parsed.name = Some(interface_name(value)?).filter(|name| !name.is_empty())
                }
                MASQUERADE => parsed.masquerade = boolean(key, value)?,
                ICC => parsed.icc = boolean(key, value)?,
                INHIBIT_IPV4 => parsed.inhibit_ipv4 = boolean(key, value)?,
                DEFAULT_BRIDGE | ENABLE_IPV4 | ENABLE_IPV6 => drop(boolean(key, value)?),
                HOST_BINDING => {
                    let address = value.parse().map_err(|_| {
                        NetworkError::invalid(format!(
                            "failed to parse {key} value: invalid IP address \"{value}\""
                        ))
                    })?;
                    parsed.host_binding = Some(address);
                }
                MTU => {
                    parsed.mtu = value
                        .parse()
                        .ok()
                        .filter(|mtu| *mtu == 0 || (68..=65535).contains(mtu))
                        .ok_or_else(|| {
                            NetworkError::invalid(format!(
                                "failed to parse {key} value: invalid MTU \"{value}\""
                            ))
                        })?;
                    if parsed.mtu == 0 {
                        parsed.mtu = mtu;
                    }
                }
                IFACE_PREFIX => {
                    // Room for a number must stay.
                    if value.is_empty() || value.len() > 12 {
                        return Err(NetworkError::invalid(format!(
                            "invalid {key} value \"{value}\""
                        )));
                    }
                    parsed.iface_prefix = interface_name(value)?;
                }
                GATEWAY_MODE4 | GATEWAY_MODE6 if value.is_empty() || value == "nat" => {}
                GATEWAY_MODE4 | GATEWAY_MODE6 => {
                    return Err(NetworkError::Unsupported(format!(
                        "gateway mode \"{value}\" ({key}) is not supported; only \"nat\" is"
                    )));
                }
                _ => {
                    return Err(NetworkError::Unsupported(format!(
                        "network option \"{key}\" is not supported by the bridge driver"
                    )));
                }
            }
        }
        Ok(parsed)
    }
}

/// Go's `strconv.ParseBool`.
fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(NetworkError::invalid(format!(
            "failed to parse {key} value: strconv.ParseBool: parsing \"{value}\": invalid syntax"
        ))),
    }
}

/// Checks an interface's name as the kernel does.
pub(crate) fn interface_name(name: &str) -> Result<String> {
    let valid = name.len() < 16
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':' && byte != b'%');
    if valid {
        Ok(name.to_owned())
    } else {
        Err(NetworkError::invalid(format!(
            "invalid interface name \"{name}\""
        )))
    }
}

/// Boolean options that stand for a field of the request, such as [`ENABLE_IPV6`].
pub(crate) fn flag(options: &BTreeMap<String, String>, key: &str) -> Result<Option<bool>> {
    options
        .get(key)
        .map(|value| boolean(key, value))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<BridgeOptions> {
        let options = options
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        BridgeOptions::parse(&options, 1500)
    }

    #[test]
    fn options_are_read_and_unknown_ones_named() {
        let parsed = parse(&[
            (ICC, "false"),
            (MTU, "1400"),
            (BRIDGE_NAME, "br0"),
            (GATEWAY_MODE4, "nat"),
        ])
        .unwrap();
        assert_eq!(
            (parsed.icc, parsed.mtu, parsed.name.as_deref()),
            (false, 1400, Some("br0"))
        );
        for (key, value) in [
            (ICC, "maybe"),
            (MTU, "-1"),
            (MTU, "70000"),
            (BRIDGE_NAME, "a-name-that-is-too-long"),
            (BRIDGE_NAME, "a/b"),
            (GATEWAY_MODE4, "routed"),
            ("com.docker.network.bridge.trusted_host_interfaces", "eth0"),
        ] {
            let message = parse(&[(key, value)]).unwrap_err().to_string();
            assert!(
                message.contains(key) || message.contains(value),
                "{message}"
            );
        }
    }
}
