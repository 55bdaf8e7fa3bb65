//! Ports: from `80/tcp` and its bindings to what the network publishes, and back.

use std::collections::BTreeMap;

use wharf_api_types::container::{ContainerConfig, HostConfig};
use wharf_api_types::port::{PortBinding as WireBinding, PortMap, PortSummary};
use wharf_fault::{Error, Result};
use wharf_network::{PortBinding, PortMapping, Protocol};

/// `80`, `80/tcp`, `53/udp`.
pub(super) fn parse_port(text: &str) -> Result<(u16, Protocol)> {
    let invalid = || Error::invalid(format!("invalid port specification: \"{text}\""));
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => return Err(Error::invalid(format!("invalid proto: {other}"))),
    };
    match parse_number(number) {
        Some(number) if number > 0 => Ok((number, protocol)),
        _ => Err(invalid()),
    }
}

fn parse_number(text: &str) -> Option<u16> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Host address and inclusive host port range of a binding; 0 is any port.
pub(super) fn parse_binding(binding: &WireBinding) -> Result<(Option<std::net::IpAddr>, u16, u16)> {
    let ip = match binding.host_ip.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| Error::invalid(format!("invalid IP address: {text}")))?,
        ),
    };
    let invalid = || {
        Error::invalid(format!(
            "invalid port specification: \"{}\"",
            binding.host_port
        ))
    };
    let (first, last) = match binding.host_port.as_str() {
        "" => (0, 0),
        text => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            (
                parse_number(first).ok_or_else(invalid)?,
                parse_number(last).ok_or_else(invalid)?,
            )
        }
    };
    if last < first {
        return Err(invalid());
    }
    Ok((ip, first, last))
}

/// What the network is to publish when the container starts.
pub(super) fn mappings(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<PortMapping>> {
    let mut mappings = Vec::new();
    for (port, bindings) in &host.port_bindings {
        let (container_port, protocol) = parse_port(port)?;
        for binding in bindings.iter().flatten() {
            let (host_ip, host_port, host_port_end) = parse_binding(binding)?;
            mappings.push(PortMapping {
                container_port,
                protocol,
                host_ip,
                host_port,
                host_port_end,
            });
        }
    }
    if host.publish_all_ports {
        for port in config.exposed_ports.keys() {
            let (container_port, protocol) = parse_port(port)?;
            let taken = mappings
                .iter()
                .any(|m| m.container_port == container_port && m.protocol == protocol);
            if !taken {
                mappings.push(PortMapping {
                    container_port,
                    protocol,
                    host_ip: None,
                    host_port: 0,
                    host_port_end: 0,
                });
            }
        }
    }
    Ok(mappings)
}

/// `NetworkSettings.Ports` of a running container: published ports, and exposed ones with null.
pub(super) fn to_wire(config: &ContainerConfig, published: &[PortBinding]) -> PortMap {
    let mut map: PortMap = config
        .exposed_ports
        .keys()
        .map(|port| (canonical(port), None))
        .collect();
    for binding in published {
        let key = format!("{}/{}", binding.container_port, binding.protocol.as_str());
        map.entry(key)
            .or_default()
            .get_or_insert_default()
            .push(WireBinding {
                host_ip: binding.host_ip.to_string(),
                host_port: binding.host_port.to_string(),
            });
    }
    map
}

/// `80` is `80/tcp`.
pub(super) fn canonical(port: &str) -> String {
    match parse_port(port) {
        Ok((number, protocol)) => format!("{number}/{}", protocol.as_str()),
        Err(_) => port.to_owned(),
    }
}

/// The `PORTS` column's data.
pub(super) fn summary(config: &ContainerConfig, published: &[PortBinding]) -> Vec<PortSummary> {
    let mut rows = Vec::new();
    let mut by_port: BTreeMap<(u16, &'static str), Vec<&PortBinding>> = BTreeMap::new();
    for port in config.exposed_ports.keys() {
        if let Ok((number, protocol)) = parse_port(port) {
            by_port.entry((number, protocol.as_str())).or_default();
        }
    }
    for binding in published {
        by_port
            .entry((binding.container_port, binding.protocol.as_str()))
            .or_default()
            .push(binding);
    }
    for ((private_port, protocol), bindings) in by_port {
        let r#type = protocol.to_owned();
        if bindings.is_empty() {
            rows.push(PortSummary {
                private_port,
                r#type: r#type.clone(),
                ..PortSummary::default()
            });
        }
        for binding in bindings {
            rows.push(PortSummary {
                ip: binding.host_ip.to_string(),
                private_port,
                public_port: binding.host_port,
                r#type: r#type.clone(),
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ports_are_checked() {
        assert_eq!(parse_port("80").unwrap(), (80, Protocol::Tcp));
        assert_eq!(parse_port("53/udp").unwrap(), (53, Protocol::Udp));
        for bad in ["", "0", "x", "65536", "-1", "80/icmp", "+80"] {
            assert!(parse_port(bad).is_err(), "{bad}");
        }
        let binding = |ip: &str, port: &str| WireBinding {
            host_ip: ip.into(),
            host_port: port.into(),
        };
        assert_eq!(
            parse_binding(&binding("", "8000-8010")).unwrap(),
            (None, 8000, 8010)
        );
        assert!(parse_binding(&binding("", "2-1")).is_err());
        assert!(parse_binding(&binding("nowhere", "1")).is_err());
    }

    #[test]
    fn publish_all_adds_what_is_not_bound() {
        let mut config = ContainerConfig::default();
        config
            .exposed_ports
            .insert("80/tcp".into(), wharf_api_types::container::Empty {});
        config
            .exposed_ports
            .insert("81".into(), wharf_api_types::container::Empty {});
        let mut host = HostConfig {
            publish_all_ports: true,
            ..HostConfig::default()
        };
        host.port_bindings.insert(
            "80/tcp".into(),
            Some(vec![WireBinding {
                host_ip: "".into(),
                host_port: "8080".into(),
            }]),
        );
        let mappings = mappings(&config, &host).unwrap();
        assert_eq!(
            mappings
                .iter()
                .map(|m| (m.container_port, m.host_port))
                .collect::<Vec<_>>(),
            [(80, 8080), (81, 0)]
        );
        let wire = to_wire(&config, &[]);
        assert_eq!(wire["81/tcp"], None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_port_or_an_error(text in ".*", host in ".*") {
            drop(parse_port(&text));
            drop(parse_binding(&WireBinding { host_ip: text, host_port: host }));
        }

        #[test]
        fn ranges_are_in_order(first in any::<u16>(), last in any::<u16>()) {
            let binding = WireBinding { host_ip: String::new(), host_port: format!("{first}-{last}") };
            match parse_binding(&binding) {
                Ok((None, a, b)) => prop_assert!(a == first && b == last && a <= b),
                Ok(_) => prop_assert!(false, "no address was given"),
                Err(_) => prop_assert!(first > last),
            }
        }
    }
}
