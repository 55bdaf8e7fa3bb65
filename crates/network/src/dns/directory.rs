//! Who has which name in which network.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Semaphore;

use crate::files::ExtServer;

/// Forwarded queries of all containers at a time, as Docker's 1024.
const IN_FLIGHT_MAX: usize = 1024;

/// A container's place among a network's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    /// Container name first, then aliases, short id, hostname.
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Default)]
struct Zone {
    /// By container id.
    members: HashMap<String, Member>,
    /// Lower-case name to container ids.
    names: HashMap<String, BTreeSet<String>>,
}

/// The names of all networks.
#[derive(Debug)]
pub(crate) struct Directory {
    zones: RwLock<HashMap<String, Zone>>,
    /// Places for forwarded queries.
    pub(super) in_flight: Semaphore,
}

/// What one container can resolve.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// Its user-defined networks in the order they are asked.
    pub(crate) networks: Vec<ScopeNetwork>,
    /// Where other queries go; empty means nowhere.
    pub(crate) servers: Vec<ExtServer>,
    /// The user set ndots above 0: single labels stay here.
    pub(crate) keep_single_labels: bool,
}

/// One network a container can resolve names in.
#[derive(Debug, Clone)]
pub(crate) struct ScopeNetwork {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Links on this network: alias to the linked container's name or id.
    pub(crate) links: Vec<(String, String)>,
}

/// What is known about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) ipv4: Vec<Ipv4Addr>,
    pub(crate) ipv6: Vec<Ipv6Addr>,
}

impl Directory {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            zones: RwLock::default(),
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
        })
    }

    /// Adds or replaces a container's names in a network.
    pub(crate) fn insert(&self, network: &str, container: &str, member: Member) {
        let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        let zone = zones.entry(network.to_owned()).or_default();
        zone.forget(container);
        for name in &member.names {
            zone.names
                .entry(name.to_lowercase())
                .or_default()
                .insert(container.to_owned());
        }
        zone.members.insert(container.to_owned(), member);
    }

    /// Forgets a container's names in a network.
    pub(crate) fn remove(&self, network: &str, container: &str) {
        let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(zone) = zones.get_mut(network) {
            zone.forget(container);
            if zone.members.is_empty() {
                zones.remove(network);
            }
        }
    }

    /// The addresses behind a name, as a container with this scope sees it: in each of its
    /// networks the name itself, then `name.network` split at every dot.
    pub(crate) fn resolve(&self, scope: &Scope, name: &str) -> Option<Found> {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        let name = name.trim_end_matches('.').to_lowercase();
        let in_network = |network: &ScopeNetwork, name: &str| {
            let zone = zones.get(&network.id)?;
            let linked = network
                .links
                .iter()
                .find(|(alias, _)| alias.eq_ignore_ascii_case(name));
            let target =
                linked.map_or_else(|| name.to_owned(), |(_, target)| target.to_lowercase());
            zone.find(&target)
        };
        if let Some(found) = scope
            .networks
            .iter()
            .find_map(|network| in_network(network, &name))
        {
            return Some(found);
        }
        name.match_indices('.')
            .map(|(dot, _)| (&name[..dot], &name[dot + 1..]))
            .find_map(|(host, network_name)| {
                scope
                    .networks
                    .iter()
                    .filter(|network| network.name.eq_ignore_ascii_case(network_name))
                    .find_map(|network| in_network(network, host))
            })
    }

    /// `name.network` of an address in one of the scope's networks.
    pub(crate) fn reverse(&self, scope: &Scope, address: IpAddr) -> Option<String> {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        scope.networks.iter().find_map(|network| {
            let zone = zones.get(&network.id)?;
            let member = zone.members.values().find(|member| match address {
                IpAddr::V4(v4) => member.ipv4 == Some(v4),
                IpAddr::V6(v6) => member.ipv6 == Some(v6),
            })?;
            Some(format!("{}.{}", member.names.first()?, network.name))
        })
    }
}

impl Zone {
    fn forget(&mut self, container: &str) {
        let Some(old) = self.members.remove(container) else {
            return;
        };
        for name in old.names {
            let name = name.to_lowercase();
            if let Some(ids) = self.names.get_mut(&name) {
                ids.remove(container);
                if ids.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
    }

    /// By name, or by full id (links name containers so).
    fn find(&self, name: &str) -> Option<Found> {
        let mut found = Found {
            ipv4: Vec::new(),
            ipv6: Vec::new(),
        };
        let mut known = false;
        let ids = self.names.get(name);
        let members = ids
            .into_iter()
            .flatten()
            .filter_map(|id| self.members.get(id))
            .chain(self.members.get(name));
        for member in members {
            known = true;
            found.ipv4.extend(member.ipv4);
            found.ipv6.extend(member.ipv6);
        }
        known.then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(networks: &[(&str, &str)]) -> Scope {
        let networks = networks
            .iter()
            .map(|(id, name)| ScopeNetwork {
                id: (*id).to_owned(),
                name: (*name).to_owned(),
                links: vec![("Database".to_owned(), "db".to_owned())],
            })
            .collect();
        Scope {
            networks,
            ..Scope::default()
        }
    }

    fn member(ip: &str, names: &[&str]) -> Member {
        Member {
            ipv4: Some(ip.parse().unwrap()),
            ipv6: None,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn names_aliases_links_and_networks() {
        let directory = Directory::new();
        directory.insert("n1", "c1", member("10.0.0.2", &["db", "shared"]));
        directory.insert("n1", "c2", member("10.0.0.3", &["Web", "shared"]));
        directory.insert("n2", "c3", member("10.1.0.2", &["other"]));
        let one = scope(&[("n1", "front.end")]);
        let resolve =
            |scope: &Scope, name: &str| directory.resolve(scope, name).map(|found| found.ipv4);
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        assert_eq!(resolve(&one, "DB."), Some(vec![ip("10.0.0.2")]));
        assert_eq!(resolve(&one, "web"), Some(vec![ip("10.0.0.3")]));
        assert_eq!(resolve(&one, "shared").unwrap().len(), 2);
        assert_eq!(resolve(&one, "database"), Some(vec![ip("10.0.0.2")]));
        assert_eq!(resolve(&one, "web.front.end"), Some(vec![ip("10.0.0.3")]));
        assert_eq!(resolve(&one, "web.end"), None);
        assert_eq!(resolve(&one, "other"), None);
        assert_eq!(
            resolve(&scope(&[("n1", "a"), ("n2", "b")]), "other"),
            Some(vec![ip("10.1.0.2")])
        );
        assert_eq!(
            directory
                .reverse(&one, "10.0.0.3".parse().unwrap())
                .unwrap(),
            "Web.front.end"
        );
        directory.remove("n1", "c2");
        assert_eq!(resolve(&one, "web"), None);
        assert_eq!(resolve(&one, "shared"), Some(vec![ip("10.0.0.2")]));
    }
}
