//! From a request to a network's record: everything decided, nothing done yet.

use std::net::IpAddr;

use crate::config::{AddressPool, Config};
use crate::error::{NetworkError, Result};
use crate::ipam;
use crate::network::{Driver, Network, NetworkSpec, SubnetConfig, SubnetRequest};
use crate::options::{
    self, BRIDGE_NAME, BridgeOptions, DEFAULT_BRIDGE, HOST_BINDING, ICC, MASQUERADE, MTU,
};
use crate::subnet::Subnet;

/// What a plan depends on beside the request.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a Config,
    /// Subnets of the host and of other networks; automatic choice avoids them.
    pub(crate) taken: &'a [Subnet],
    /// Subnets of this daemon's other networks; requests must not meet them.
    pub(crate) ours: &'a [Subnet],
    /// Where IPv6 subnets are cut from.
    pub(crate) ula: AddressPool,
}

/// The names of the networks every daemon has.
pub(crate) const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// Decides everything about a new user-defined network.
pub(crate) fn user_network(
    mut spec: NetworkSpec,
    surroundings: &Surroundings<'_>,
) -> Result<Network> {
    check_name(&spec.name)?;
    match spec.driver.as_str() {
        "" | "bridge" => {}
        "host" | "null" => {
            return Err(NetworkError::Conflict(format!(
                "only one instance of \"{}\" network is allowed",
                spec.driver
            )));
        }
        "overlay" => {
            return Err(NetworkError::Unsupported(
                "This node is not a swarm manager. Overlay networks need a swarm, which is not supported yet"
                    .to_owned(),
            ));
        }
        other => return Err(NetworkError::UnknownDriver(other.to_owned())),
    }
    if !matches!(spec.ipam_driver.as_str(), "" | "default") {
        return Err(NetworkError::UnknownDriver(spec.ipam_driver));
    }
    if let Some(option) = spec.ipam_options.keys().next() {
        return Err(NetworkError::Unsupported(format!(
            "IPAM option \"{option}\" is not supported by the default IPAM driver"
        )));
    }
    for (key, value) in &surroundings.config.default_network_options {
        spec.options
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    if spec.options.contains_key(DEFAULT_BRIDGE) {
        return Err(NetworkError::invalid(format!(
            "option {DEFAULT_BRIDGE} belongs to the default bridge"
        )));
    }
    let parsed = BridgeOptions::parse(&spec.options, surroundings.config.mtu)?;
    let ipv4 = spec
        .ipv4
        .or(options::flag(&spec.options, options::ENABLE_IPV4)?)
        .unwrap_or(true);
    let ipv6 = spec
        .ipv6
        .or(options::flag(&spec.options, options::ENABLE_IPV6)?)
        .unwrap_or(false);
    if !ipv4 && !ipv6 {
        return Err(NetworkError::invalid("IPv4 or IPv6 must be enabled"));
    }
    let subnets = subnets(&spec.subnets, ipv4, ipv6, surroundings)?;
    let named = |family| {
        spec.subnets.iter().any(|request| {
            request
                .subnet
                .is_some_and(|subnet| subnet.is_ipv4() == family)
        })
    };
    let id = wharf_ids::hex_id();
    let bridge = parsed.name.unwrap_or_else(|| format!("br-{}", &id[..12]));
    Ok(Network {
        id,
        name: spec.name,
        created: jiff::Timestamp::now().to_string(),
        driver: Driver::Bridge,
        ipv4,
        ipv6,
        ipam_options: spec.ipam_options,
        subnets,
        subnet4_configured: named(true),
        subnet6_configured: named(false),
        internal: spec.internal,
        attachable: spec.attachable,
        options: spec.options,
        labels: spec.labels,
        bridge,
        predefined: false,
    })
}

fn check_name(name: &str) -> Result<()> {
    if PREDEFINED.contains(&name) || name == "default" {
        return Err(NetworkError::PredefinedCreate(name.to_owned()));
    }
    if name.trim().is_empty() {
        return Err(NetworkError::invalid("invalid network name: name is empty"));
    }
    if name.len() > 255 || name.chars().any(|c| c.is_control() || c == '/') {
        return Err(NetworkError::invalid(format!(
            "invalid network name: {}",
            name.escape_default()
        )));
    }
    Ok(())
}

fn subnets(
    requests: &[SubnetRequest],
    ipv4: bool,
    ipv6: bool,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<SubnetConfig>> {
    let mut configs: Vec<SubnetConfig> = Vec::new();
    let mut without_subnet = None;
    for request in requests {
        let Some(subnet) = request.subnet else {
            if request.ip_range.is_some() {
                return Err(NetworkError::invalid(
                    "invalid network config:\nip-range needs a subnet",
                ));
            }
            without_subnet = Some(request);
            continue;
        };
        if !(if subnet.is_ipv4() { ipv4 } else { ipv6 }) {
            let family = if subnet.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(NetworkError::invalid(format!(
                "invalid network config:\ninvalid subnet {subnet}: {family} has not been enabled"
            )));
        }
        if configs
            .iter()
            .any(|config| config.subnet.is_ipv4() == subnet.is_ipv4())
        {
            return Err(NetworkError::invalid(
                "bridge driver does not support more than one subnet of a family",
            ));
        }
        if surroundings
            .ours
            .iter()
            .any(|other| other.overlaps(&subnet))
        {
            return Err(NetworkError::PoolOverlap);
        }
        configs.push(subnet_config(subnet, request)?);
    }
    for family in [true, false] {
        let wanted = if family { ipv4 } else { ipv6 };
        if wanted
            && !configs
                .iter()
                .any(|config| config.subnet.is_ipv4() == family)
        {
            let subnet = automatic(family, surroundings)?;
            let mut request = SubnetRequest::default();
            // A gateway without a subnet can fit the chosen one only by chance.
            if let Some(given) =
                without_subnet.filter(|given| given.gateway.is_some_and(|g| g.is_ipv4() == family))
            {
                request = given.clone();
            }
            configs.push(subnet_config(subnet, &request)?);
        }
    }
    configs.sort_by_key(|config| !config.subnet.is_ipv4());
    Ok(configs)
}

/// A subnet nobody uses, from the default pools.
pub(crate) fn automatic(ipv4: bool, surroundings: &Surroundings<'_>) -> Result<Subnet> {
    let configured = &surroundings.config.address_pools;
    let mut pools: Vec<AddressPool> = configured
        .iter()
        .copied()
        .filter(|pool| pool.base.is_ipv4() == ipv4)
        .collect();
    if pools.is_empty() {
        pools = if ipv4 {
            ipam::default_pools()
        } else {
            vec![surroundings.ula]
        };
    }
    ipam::choose(&pools, ipv4, surroundings.taken).ok_or(NetworkError::PoolsExhausted)
}

/// Checks a request against its subnet and fills in the gateway.
pub(crate) fn subnet_config(subnet: Subnet, request: &SubnetRequest) -> Result<SubnetConfig> {
    let mut problems = Vec::new();
    if let Some(range) = request.ip_range {
        if range.is_ipv4() != subnet.is_ipv4() || !subnet.contains(range.base()) {
            problems.push(format!(
                "invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"
            ));
        } else if range.prefix() < subnet.prefix() {
            problems.push(format!(
                "invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"
            ));
        }
    }
    if let Some(gateway) = request.gateway
        && !subnet.contains(gateway)
    {
        problems.push(format!(
            "invalid gateway {gateway}: parent subnet {subnet} doesn't contain this address"
        ));
    }
    for address in request
        .aux_addresses
        .values()
        .filter(|address| !subnet.contains(**address))
    {
        problems
            .push(format!("invalid auxiliary address {address}: parent subnet {subnet} doesn't contain this address"));
    }
    if !problems.is_empty() {
        return Err(NetworkError::Invalid(format!(
            "invalid network config:\n{}",
            problems.join("\n")
        )));
    }
    let gateway = match request.gateway {
        Some(gateway) => gateway,
        None => default_gateway(subnet, request).ok_or_else(|| {
            NetworkError::invalid(format!("subnet {subnet} has no room for a gateway"))
        })?,
    };
    Ok(SubnetConfig {
        subnet,
        ip_range: request.ip_range,
        gateway,
        aux_addresses: request.aux_addresses.clone(),
    })
}

/// The first address that may be given out.
fn default_gateway(subnet: Subnet, request: &SubnetRequest) -> Option<IpAddr> {
    let range = request.ip_range.unwrap_or(subnet);
    let used: Vec<IpAddr> = request.aux_addresses.values().copied().collect();
    let host_bits = if subnet.is_ipv4() { 32 } else { 128 } - subnet.prefix();
    (0..=u128::try_from(used.len()).ok()? + 1)
        .filter_map(|n| range.nth(n))
        .find(|address| (host_bits <= 1 || *address != subnet.base()) && !used.contains(address))
}

/// The default bridge's record; `old` is the one of an earlier run, kept where it still fits.
pub(crate) fn default_bridge(
    old: Option<Network>,
    bridge: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Network> {
    let config = surroundings.config;
    let kept = |ipv4: bool| {
        old.as_ref()
            .and_then(|network| network.subnet(ipv4))
            .filter(|kept| {
                !surroundings
                    .taken
                    .iter()
                    .any(|other| other.overlaps(&kept.subnet))
            })
            .map(|kept| kept.subnet)
    };
    let mut request = SubnetRequest::default();
    let subnet = match config.bip {
        Some((address, prefix)) => {
            request.gateway = Some(IpAddr::V4(address));
            Subnet::containing(IpAddr::V4(address), prefix)
                .ok_or_else(|| NetworkError::invalid(format!("invalid bip {address}/{prefix}")))?
        }
        None => kept(true).map_or_else(|| automatic(true, surroundings), Ok)?,
    };
    request.ip_range = config.fixed_cidr.map(Subnet::V4);
    let mut subnets = vec![subnet_config(subnet, &request)?];
    if config.ipv6 {
        let subnet6 = match config.fixed_cidr_v6 {
            Some(net) => Subnet::V6(net),
            None => kept(false).map_or_else(|| automatic(false, surroundings), Ok)?,
        };
        subnets.push(subnet_config(subnet6, &SubnetRequest::default())?);
    }
    let binding = config
        .default_binding
        .map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
    let options = [
        (DEFAULT_BRIDGE, "true".to_owned()),
        (ICC, config.icc.to_string()),
        (MASQUERADE, config.ip_masq.to_string()),
        (HOST_BINDING, binding),
        (BRIDGE_NAME, bridge.to_owned()),
        (MTU, config.mtu.to_string()),
    ];
    Ok(Network {
        options: options
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
        subnets,
        ipv6: config.ipv6,
        bridge: bridge.to_owned(),
        ..predefined("bridge", Driver::Bridge, old)
    })
}

/// A predefined network's record, with its id and date of birth from an earlier run.
pub(crate) fn predefined(name: &str, driver: Driver, old: Option<Network>) -> Network {
    let (id, created) = match old {
        Some(old) => (old.id, old.created),
        None => (wharf_ids::hex_id(), jiff::Timestamp::now().to_string()),
    };
    Network {
        id,
        name: name.to_owned(),
        created,
        driver,
        ipv4: true,
        ipv6: false,
        ipam_options: std::collections::BTreeMap::new(),
        subnets: Vec::new(),
        subnet4_configured: false,
        subnet6_configured: false,
        internal: false,
        attachable: false,
        options: std::collections::BTreeMap::new(),
        labels: std::collections::BTreeMap::new(),
        bridge: String::new(),
        predefined: true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn plan(spec: NetworkSpec, taken: &[&str], ours: &[&str]) -> Result<Network> {
        let parse = |list: &[&str]| {
            list.iter()
                .map(|text| text.parse().unwrap())
                .collect::<Vec<Subnet>>()
        };
        let config = Config::default();
        let (taken, ours) = (parse(taken), parse(ours));
        let ula = ipam::ula_pool([1, 2, 3, 4, 5]);
        user_network(
            spec,
            &Surroundings {
                config: &config,
                taken: &taken,
                ours: &ours,
                ula,
            },
        )
    }

    fn spec(name: &str) -> NetworkSpec {
        NetworkSpec {
            name: name.to_owned(),
            ..NetworkSpec::default()
        }
    }

    fn with_subnet(subnet: &str) -> SubnetRequest {
        SubnetRequest {
            subnet: Some(subnet.parse().unwrap()),
            ..SubnetRequest::default()
        }
    }

    #[test]
    fn a_plain_network_takes_the_first_free_pool() {
        let network = plan(spec("net"), &["172.17.0.0/16", "172.18.0.0/16"], &[]).unwrap();
        assert_eq!(network.subnets[0].subnet.to_string(), "172.19.0.0/16");
        assert_eq!(network.subnets[0].gateway.to_string(), "172.19.0.1");
        assert_eq!(network.bridge, format!("br-{}", &network.id[..12]));
        assert!(!network.subnet4_configured);
    }

    #[test]
    fn both_families_are_planned() {
        let network = plan(
            NetworkSpec {
                ipv6: Some(true),
                ..spec("net")
            },
            &[],
            &[],
        )
        .unwrap();
        assert_eq!(network.subnets[1].subnet.to_string(), "fd01:203:405::/64");
        assert_eq!(network.subnets[1].gateway.to_string(), "fd01:203:405::1");
    }

    #[test]
    fn requests_are_refused_in_dockers_words() {
        let message =
            |spec: NetworkSpec, ours: &[&str]| plan(spec, &[], ours).unwrap_err().to_string();
        assert_eq!(
            message(spec("bridge"), &[]),
            "operation is not permitted on predefined bridge network "
        );
        assert_eq!(
            message(
                NetworkSpec {
                    subnets: vec![with_subnet("10.0.0.0/8")],
                    ..spec("a")
                },
                &["10.1.0.0/16"]
            ),
            "invalid pool request: Pool overlaps with other one on this address space"
        );
        let outside = SubnetRequest {
            gateway: Some("10.1.0.1".parse().unwrap()),
            ..with_subnet("10.0.0.0/16")
        };
        assert_eq!(
            message(
                NetworkSpec {
                    subnets: vec![outside],
                    ..spec("a")
                },
                &[]
            ),
            "invalid network config:\ninvalid gateway 10.1.0.1: parent subnet 10.0.0.0/16 doesn't contain this address"
        );
        assert_eq!(
            message(
                NetworkSpec {
                    driver: "macvlan".to_owned(),
                    ..spec("a")
                },
                &[]
            ),
            "could not find plugin macvlan in v1 plugin registry: plugin not found"
        );
        assert!(message(spec(""), &[]).contains("empty"));
    }

    #[test]
    fn the_default_bridge_keeps_id_and_subnet_across_runs() {
        let config = Config::default();
        let ula = ipam::ula_pool([0; 5]);
        let around = |taken| Surroundings {
            config: &config,
            taken,
            ours: &[],
            ula,
        };
        let first = default_bridge(None, "docker0", &around(&[])).unwrap();
        assert_eq!(first.subnets[0].subnet.to_string(), "172.17.0.0/16");
        let again = default_bridge(Some(first.clone()), "docker0", &around(&[])).unwrap();
        assert_eq!(
            (again.id, again.subnets),
            (first.id.clone(), first.subnets.clone())
        );
        let taken = ["172.17.0.0/24".parse().unwrap()];
        let moved = default_bridge(Some(first.clone()), "docker0", &around(&taken)).unwrap();
        assert_eq!(
            (moved.id, moved.subnets[0].subnet.to_string()),
            (first.id, "172.18.0.0/16".to_owned())
        );
        assert_eq!(moved.options.get(MTU).map(String::as_str), Some("1500"));
    }

    #[test]
    fn the_gateway_avoids_auxiliary_addresses() {
        let aux = BTreeMap::from([("a".to_owned(), "10.0.0.1".parse().unwrap())]);
        let request = SubnetRequest {
            aux_addresses: aux,
            ..with_subnet("10.0.0.0/24")
        };
        let config = subnet_config("10.0.0.0/24".parse().unwrap(), &request).unwrap();
        assert_eq!(config.gateway.to_string(), "10.0.0.2");
    }
}
