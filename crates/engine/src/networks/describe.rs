//! A network's record in Docker's JSON.

use std::collections::BTreeMap;

use wharf_api_types::network::{EndpointResource, Ipam, IpamConfig, Network as ApiNetwork};
use wharf_network::{Driver, NetworkEndpoint, NetworkView, SubnetConfig};

/// `containers` says whether the answer lists them.
pub(super) fn network(view: &NetworkView, containers: bool) -> ApiNetwork {
    let network = &view.network;
    let config = match network.driver {
        Driver::Bridge => Some(network.subnets.iter().map(subnet).collect()),
        Driver::Host | Driver::Null => None,
    };
    ApiNetwork {
        name: network.name.clone(),
        id: network.id.clone(),
        created: network.created.clone(),
        scope: "local".to_owned(),
        driver: network.driver.as_str().to_owned(),
        enable_ipv4: Some(network.ipv4),
        enable_ipv6: network.ipv6,
        ipam: Ipam {
            driver: "default".to_owned(),
            // Docker prints null for the predefined networks and an empty object for others.
            options: if network.predefined {
                None
            } else {
                Some(network.ipam_options.clone())
            },
            config,
        },
        internal: network.internal,
        attachable: network.attachable,
        containers: containers.then(|| endpoints(view)),
        options: network.options.clone(),
        labels: network.labels.clone(),
        ..ApiNetwork::default()
    }
}

fn subnet(config: &SubnetConfig) -> IpamConfig {
    IpamConfig {
        subnet: config.subnet.to_string(),
        ip_range: config
            .ip_range
            .map(|range| range.to_string())
            .unwrap_or_default(),
        gateway: config.gateway.to_string(),
        auxiliary_addresses: config
            .aux_addresses
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
    }
}

fn endpoints(view: &NetworkView) -> BTreeMap<String, EndpointResource> {
    view.endpoints
        .iter()
        .map(|endpoint| (endpoint.container_id.clone(), resource(endpoint)))
        .collect()
}

fn resource(endpoint: &NetworkEndpoint) -> EndpointResource {
    EndpointResource {
        name: endpoint.container_name.clone(),
        endpoint_id: endpoint.endpoint_id.clone(),
        mac_address: endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        ipv4_address: endpoint
            .ipv4
            .map(|(address, prefix)| format!("{address}/{prefix}"))
            .unwrap_or_default(),
        ipv6_address: endpoint
            .ipv6
            .map(|(address, prefix)| format!("{address}/{prefix}"))
            .unwrap_or_default(),
    }
}
