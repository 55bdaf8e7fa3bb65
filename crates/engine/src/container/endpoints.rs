//! Between the API's endpoint settings, what the network crate is asked, and what inspect shows.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wharf_api_types::container::{CreateContainer, HostConfig};
use wharf_api_types::endpoint::EndpointSettings;
use wharf_fault::{Error, Result};
use wharf_network::{
    AttachRequest, DnsSettings, Endpoint, EndpointRequest, LegacyLink, Mode, NetworkError, Networks,
};

use super::record::ContainerRecord;
use super::{ports, validate};

/// `default` and nothing mean the default bridge.
pub(super) fn normalize_mode(mode: &str) -> String {
    match mode {
        "" | "default" => "bridge".to_owned(),
        other => other.to_owned(),
    }
}

/// Whether the mode names networks and not a namespace of somebody else.
pub(super) fn has_endpoints(mode: &str) -> bool {
    mode != "host" && mode != "none" && !mode.starts_with("container:")
}

/// The endpoints of a new container by network name, checked.
pub(super) fn of_request(
    request: &CreateContainer,
    networks: &Networks,
) -> Result<BTreeMap<String, EndpointSettings>> {
    let mode = request.host_config.network_mode.as_str();
    let wanted = &request.networking_config.endpoints_config;
    if mode.starts_with("container:") {
        if !wanted.is_empty() {
            return Err(Error::invalid(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        return Ok(BTreeMap::new());
    }
    let primary = if request.config.network_disabled {
        "none"
    } else {
        mode
    };
    let primary_network = find(networks, primary)?;
    let is_primary = |key: &str| {
        key == "default" && primary == "bridge"
            || key == primary
            || primary_network
                .as_ref()
                .is_some_and(|network| key == network.name || key == network.id)
    };
    let mut primary_settings = wanted
        .iter()
        .find(|(key, _)| is_primary(key))
        .and_then(|(_, settings)| settings.clone())
        .unwrap_or_default();
    if !request.config.mac_address.is_empty() && primary_settings.mac_address.is_empty() {
        primary_settings
            .mac_address
            .clone_from(&request.config.mac_address);
    }
    if primary_network
        .as_ref()
        .is_some_and(wharf_network::Network::is_user_defined)
    {
        // `--link` on a user-defined network is an alias there.
        let links = request.host_config.links.iter().flatten().cloned();
        let mut all = primary_settings.links.take().unwrap_or_default();
        all.extend(links);
        primary_settings.links = (!all.is_empty()).then_some(all);
    }
    let mut endpoints = BTreeMap::new();
    add(&mut endpoints, networks, primary, primary_settings)?;
    for (key, settings) in wanted.iter().filter(|(key, _)| !is_primary(key)) {
        if !has_endpoints(mode) {
            return Err(Error::invalid(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        add(
            &mut endpoints,
            networks,
            key,
            settings.clone().unwrap_or_default(),
        )?;
    }
    Ok(endpoints)
}

/// A network; `None` where there is no such one. Docker looks for it only when the container
/// starts, and a client takes "not found" at create for a missing image.
fn find(networks: &Networks, reference: &str) -> Result<Option<wharf_network::Network>> {
    match networks.find(reference) {
        Ok(network) => Ok(Some(network)),
        Err(NetworkError::NotFound(_)) => Ok(None),
        Err(error) => Err(Error::from_fault(error)),
    }
}

fn add(
    endpoints: &mut BTreeMap<String, EndpointSettings>,
    networks: &Networks,
    reference: &str,
    settings: EndpointSettings,
) -> Result<()> {
    let mut settings = clean(settings);
    let name = match find(networks, reference)? {
        Some(network) => {
            settings.network_id.clone_from(&network.id);
            if has_endpoints(&network.name) {
                networks
                    .check_endpoint(&to_request(&network.name, &settings)?)
                    .map_err(Error::from_fault)?;
            }
            network.name
        }
        None => reference.to_owned(),
    };
    endpoints.insert(name, settings);
    Ok(())
}

/// Only what a user may ask for; addresses that were given out come from the network.
fn clean(settings: EndpointSettings) -> EndpointSettings {
    EndpointSettings {
        ipam_config: settings.ipam_config,
        links: settings.links,
        aliases: settings.aliases,
        mac_address: settings.mac_address,
        driver_opts: settings.driver_opts,
        gw_priority: settings.gw_priority,
        ..EndpointSettings::default()
    }
}

/// What the network crate is asked for one endpoint.
pub(super) fn to_request(network: &str, settings: &EndpointSettings) -> Result<EndpointRequest> {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let parse = |text: &str, what: &str| -> Result<Option<IpAddr>> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| {
            Error::invalid(format!(
                "invalid endpoint settings: invalid {what} address: {text}"
            ))
        })
    };
    let ipv4: Option<Ipv4Addr> = match parse(&ipam.ipv4_address, "IPv4")? {
        Some(IpAddr::V4(address)) => Some(address),
        Some(other) => {
            return Err(Error::invalid(format!(
                "invalid endpoint settings: invalid IPv4 address: {other}"
            )));
        }
        None => None,
    };
    let ipv6: Option<Ipv6Addr> = match parse(&ipam.ipv6_address, "IPv6")? {
        Some(IpAddr::V6(address)) => Some(address),
        Some(other) => {
            return Err(Error::invalid(format!(
                "invalid endpoint settings: invalid IPv6 address: {other}"
            )));
        }
        None => None,
    };
    let mut link_local = Vec::new();
    for text in ipam.link_local_ips.iter().flatten() {
        link_local.extend(parse(text, "link-local")?);
    }
    let mac = match settings.mac_address.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| Error::invalid(format!("invalid MAC address: {text}")))?,
        ),
    };
    let mut links = Vec::new();
    for link in settings.links.iter().flatten() {
        let (name, alias) = validate::parse_link(link)?;
        links.push((name.to_owned(), alias.to_owned()));
    }
    Ok(EndpointRequest {
        network: network.to_owned(),
        ipv4,
        ipv6,
        link_local,
        mac,
        aliases: settings.aliases.clone().unwrap_or_default(),
        links,
        gateway_priority: i32::try_from(settings.gw_priority).map_err(|_| {
            Error::invalid(format!(
                "invalid gateway priority: {}",
                settings.gw_priority
            ))
        })?,
        driver_options: settings.driver_opts.clone().unwrap_or_default(),
    })
}

/// Everything the network crate has to know about a starting container; `None` for `container:`.
pub(super) fn attach_request(
    record: &ContainerRecord,
    links: Vec<LegacyLink>,
) -> Result<Option<AttachRequest>> {
    let host = &record.host_config;
    let mode = match host.network_mode.as_str() {
        mode if mode.starts_with("container:") => return Ok(None),
        "host" => Mode::Host,
        "none" => Mode::None,
        _ if record.networks.is_empty() => Mode::None,
        _ => Mode::Endpoints,
    };
    let mut endpoints = Vec::new();
    if mode == Mode::Endpoints {
        // The network of `--network` first: it decides about eth0 where priorities are equal.
        let first = record.networks.get_key_value(&host.network_mode);
        let others = record
            .networks
            .iter()
            .filter(|(name, _)| **name != host.network_mode);
        for (name, settings) in first.into_iter().chain(others) {
            endpoints.push(to_request(name, settings)?);
        }
    }
    Ok(Some(AttachRequest {
        container_id: record.id.to_string(),
        container_name: record.name.clone(),
        hostname: record.config.hostname.clone(),
        domainname: record.config.domainname.clone(),
        mode,
        endpoints,
        // Published ports mean nothing without an endpoint; `create` has warned.
        ports: if mode == Mode::Endpoints {
            ports::mappings(&record.config, host)?
        } else {
            Vec::new()
        },
        dns: dns(host)?,
        extra_hosts: host.extra_hosts.clone().unwrap_or_default(),
        links,
    }))
}

fn dns(host: &HostConfig) -> Result<DnsSettings> {
    let mut servers = Vec::new();
    for text in host.dns.iter().flatten() {
        servers.push(
            text.parse()
                .map_err(|_| Error::invalid(format!("invalid DNS server: {text}")))?,
        );
    }
    Ok(DnsSettings {
        servers,
        options: host.dns_options.clone().unwrap_or_default(),
        search: host.dns_search.clone().unwrap_or_default(),
    })
}

/// An endpoint as inspect shows it: what was asked for, and what it got while the container runs.
pub(super) fn to_wire(settings: &EndpointSettings, live: Option<&Endpoint>) -> EndpointSettings {
    let Some(live) = live else {
        return EndpointSettings {
            mac_address: settings.mac_address.clone(),
            ..settings.clone()
        };
    };
    let (ip_address, ip_prefix_len) = live.ipv4.map_or((String::new(), 0), |(ip, len)| {
        (ip.to_string(), i64::from(len))
    });
    let (global_ipv6_address, global_ipv6_prefix_len) =
        live.ipv6.map_or((String::new(), 0), |(ip, len)| {
            (ip.to_string(), i64::from(len))
        });
    EndpointSettings {
        network_id: live.network_id.clone(),
        endpoint_id: live.endpoint_id.clone(),
        mac_address: live.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        gateway: live.gateway4.map(|ip| ip.to_string()).unwrap_or_default(),
        ip_address,
        ip_prefix_len,
        ipv6_gateway: live.gateway6.map(|ip| ip.to_string()).unwrap_or_default(),
        global_ipv6_address,
        global_ipv6_prefix_len,
        dns_names: (!live.dns_names.is_empty()).then(|| live.dns_names.clone()),
        ..settings.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api_types::endpoint::EndpointIpamConfig;

    #[test]
    fn endpoint_settings_are_checked() {
        let with = |ipv4: &str, mac: &str| EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: ipv4.into(),
                ..EndpointIpamConfig::default()
            }),
            mac_address: mac.into(),
            ..EndpointSettings::default()
        };
        let good = to_request("net", &with("10.0.0.9", "02:42:00:00:00:01")).unwrap();
        assert_eq!(good.ipv4, Some("10.0.0.9".parse().unwrap()));
        assert!(
            to_request("net", &with("nine", ""))
                .unwrap_err()
                .to_string()
                .contains("invalid IPv4 address: nine")
        );
        assert!(to_request("net", &with("::1", "")).is_err());
        assert!(
            to_request("net", &with("", "02:42"))
                .unwrap_err()
                .to_string()
                .contains("invalid MAC address")
        );
    }
}
