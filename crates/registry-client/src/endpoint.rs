//! Where a registry's name leads to, and how far its host is trusted.
//!
//! - Everything is HTTPS with verified certificates, but for
//! - loopback addresses, `localhost` and the registries listed as insecure: there TLS without
//!   verification is tried first and plain HTTP next;
//! - Docker Hub's name leads to another host, after the mirrors.

use std::net::IpAddr;

use crate::error::Error;
use crate::options::Options;
use crate::target::{Target, split_port};

/// The host behind `docker.io`.
const HUB_HOST: &str = "registry-1.docker.io";

/// Names of Docker Hub that users and credential files have.
const HUB_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Whether `registry` names Docker Hub.
pub(crate) fn is_hub(registry: &str) -> bool {
    HUB_NAMES.contains(&registry)
}

/// How a connection to a host is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Trust {
    /// TLS with a certificate we can verify.
    Verified,
    /// TLS with any certificate.
    AnyCertificate,
    /// No TLS.
    Plain,
}

/// One place that may serve a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Address of the API's root, without `/v2/`.
    pub(crate) base: Target,
    pub(crate) trust: Trust,
    /// A mirror: it gets no credentials, and its failures lead to the next endpoint.
    pub(crate) mirror: bool,
}

impl Endpoint {
    /// The address of `/v2/<path>`.
    pub(crate) fn api(&self, path: &str) -> Target {
        let root = self.base.path.trim_end_matches('/');
        self.base.with_path(format!("{root}/v2/{path}"))
    }
}

/// A network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix = prefix.parse().ok()?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= max).then_some(Self { address, prefix })
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - self.prefix;
                (u32::from(own) ^ u32::from(other))
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - self.prefix;
                (u128::from(own) ^ u128::from(other))
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

/// The rules that say which hosts are trusted how, and the mirrors.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    insecure_hosts: Vec<String>,
    insecure_networks: Vec<Network>,
    mirrors: Vec<Target>,
}

impl Directory {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let mut insecure_hosts = Vec::new();
        let mut insecure_networks = Vec::new();
        for entry in &options.insecure_registries {
            let bare = entry
                .strip_prefix("https://")
                .or_else(|| entry.strip_prefix("http://"))
                .unwrap_or(entry)
                .trim_end_matches('/');
            if let Some(network) = Network::parse(entry) {
                insecure_networks.push(network);
            } else if split_port(bare).is_some() {
                insecure_hosts.push(bare.to_ascii_lowercase());
            } else {
                return Err(Error::Invalid(format!(
                    "insecure registry {entry} is not valid"
                )));
            }
        }
        let mut mirrors = Vec::new();
        for entry in &options.mirrors {
            let url = if entry.contains("://") {
                entry.clone()
            } else {
                format!("https://{entry}")
            };
            match Target::parse(&url) {
                Ok(target) if !target.path.contains('?') => mirrors.push(target),
                _ => {
                    return Err(Error::Invalid(format!(
                        "registry mirror {entry} is not valid"
                    )));
                }
            }
        }
        Ok(Self {
            insecure_hosts,
            insecure_networks,
            mirrors,
        })
    }

    /// Whether TLS may be unverified or absent for this host.
    pub(crate) async fn is_insecure(&self, host: &str, port: u16) -> bool {
        if host == "localhost" || host.ends_with(".localhost") {
            return true;
        }
        let with_port = |listed: &String| {
            split_port(listed).is_some_and(|(name, listed_port)| {
                name == host && listed_port.is_none_or(|listed_port| listed_port == port)
            })
        };
        if self.insecure_hosts.iter().any(with_port) {
            return true;
        }
        let in_network = |address: IpAddr| {
            self.insecure_networks
                .iter()
                .any(|network| network.contains(address))
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return address.is_loopback() || in_network(address);
        }
        if self.insecure_networks.is_empty() {
            return false;
        }
        // A listed network trusts the names that lead into it, as Docker does. Not those that also
        // lead elsewhere: whoever answers for a name could add an address to have its registry
        // spoken to without TLS (CVE-2026-92543). Loopback addresses were not listed by anybody.
        match tokio::net::lookup_host((host, port)).await {
            Ok(addresses) => lead_into(addresses.map(|address| address.ip()), in_network),
            Err(_) => false,
        }
    }

    /// Where to look for a registry, in order. `writing` leaves out the mirrors.
    pub(crate) async fn endpoints(
        &self,
        registry: &str,
        writing: bool,
    ) -> Result<Vec<Endpoint>, Error> {
        let mut endpoints = Vec::new();
        if is_hub(registry) {
            for mirror in self.mirrors.iter().filter(|_| !writing) {
                let trust = match (
                    mirror.tls,
                    self.is_insecure(&mirror.host, mirror.port).await,
                ) {
                    (true, false) => Trust::Verified,
                    (true, true) => Trust::AnyCertificate,
                    (false, _) => Trust::Plain,
                };
                endpoints.push(Endpoint {
                    base: mirror.clone(),
                    trust,
                    mirror: true,
                });
            }
            let base = Target {
                tls: true,
                host: HUB_HOST.to_owned(),
                port: 443,
                path: "/".to_owned(),
            };
            endpoints.push(Endpoint {
                base,
                trust: Trust::Verified,
                mirror: false,
            });
            return Ok(endpoints);
        }
        let (host, port) = split_port(registry)
            .ok_or_else(|| Error::Invalid(format!("invalid registry host {registry:?}")))?;
        let host = host.to_ascii_lowercase();
        let base = |tls: bool| Target {
            tls,
            host: host.clone(),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            path: "/".to_owned(),
        };
        if self.is_insecure(&host, port.unwrap_or(443)).await {
            for (tls, trust) in [(true, Trust::AnyCertificate), (false, Trust::Plain)] {
                endpoints.push(Endpoint {
                    base: base(tls),
                    trust,
                    mirror: false,
                });
            }
        } else {
            endpoints.push(Endpoint {
                base: base(true),
                trust: Trust::Verified,
                mirror: false,
            });
        }
        Ok(endpoints)
    }
}

/// Whether there are addresses, and all of them are `listed`.
fn lead_into(addresses: impl Iterator<Item = IpAddr>, listed: impl Fn(IpAddr) -> bool) -> bool {
    let mut addresses = addresses.peekable();
    addresses.peek().is_some() && addresses.all(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(insecure: &[&str], mirrors: &[&str]) -> Directory {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        let options = Options {
            insecure_registries: list(insecure),
            mirrors: list(mirrors),
            ..Options::default()
        };
        Directory::new(&options).unwrap()
    }

    async fn shown(directory: &Directory, registry: &str, writing: bool) -> Vec<String> {
        let endpoints = directory.endpoints(registry, writing).await.unwrap();
        let show = |endpoint: &Endpoint| format!("{:?} {}", endpoint.trust, endpoint.api("x"));
        endpoints.iter().map(show).collect()
    }

    #[tokio::test]
    async fn only_loopback_and_listed_hosts_are_insecure() {
        let plain = directory(&[], &[]);
        assert_eq!(
            shown(&plain, "reg.example", false).await,
            ["Verified https://reg.example/v2/x"]
        );
        assert_eq!(
            shown(&plain, "127.8.0.1:5000", false).await,
            [
                "AnyCertificate https://127.8.0.1:5000/v2/x",
                "Plain http://127.8.0.1:5000/v2/x"
            ]
        );
        assert_eq!(
            shown(&plain, "localhost", false).await,
            [
                "AnyCertificate https://localhost/v2/x",
                "Plain http://localhost/v2/x"
            ]
        );
        assert_eq!(shown(&plain, "[::1]:5000", false).await.len(), 2);
        assert_eq!(shown(&plain, "10.1.2.3:5000", false).await.len(), 1);

        let listed = directory(
            &["10.1.0.0/16", "reg.example:5000", "http://other.example/"],
            &[],
        );
        assert_eq!(shown(&listed, "10.1.2.3:5000", false).await.len(), 2);
        assert_eq!(shown(&listed, "10.2.2.3:5000", false).await.len(), 1);
        assert_eq!(shown(&listed, "reg.example:5000", false).await.len(), 2);
        assert_eq!(shown(&listed, "other.example", false).await.len(), 2);
    }

    /// CVE-2026-92543 (moby): one address in a trusted network was enough, and loopback was one.
    #[test]
    fn cve_2026_92543_every_address_of_a_name_must_be_trusted() {
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        let leads = |addresses: &[&str]| {
            lead_into(
                addresses.iter().map(|address| address.parse().unwrap()),
                trusted,
            )
        };
        assert!(leads(&["10.1.2.3", "10.1.2.4"]));
        assert!(!leads(&["10.1.2.3", "203.0.113.1"]));
        assert!(!leads(&["127.0.0.1"]));
        assert!(!leads(&[]));
    }

    #[tokio::test]
    async fn mirrors_serve_pulls_from_docker_hub_only() {
        let directory = directory(&[], &["mirror.example/prefix", "http://127.0.0.1:5000"]);
        assert_eq!(
            shown(&directory, "docker.io", false).await,
            [
                "Verified https://mirror.example/prefix/v2/x",
                "Plain http://127.0.0.1:5000/v2/x",
                "Verified https://registry-1.docker.io/v2/x"
            ]
        );
        assert_eq!(shown(&directory, "docker.io", true).await.len(), 1);
        assert_eq!(shown(&directory, "reg.example", false).await.len(), 1);
    }

    #[test]
    fn bad_entries_are_named() {
        let options = Options {
            insecure_registries: vec!["a b".to_owned()],
            ..Options::default()
        };
        let error = Directory::new(&options).unwrap_err().to_string();
        assert_eq!(error, "insecure registry a b is not valid");
        let options = Options {
            mirrors: vec!["ftp://x".to_owned()],
            ..Options::default()
        };
        assert!(
            Directory::new(&options)
                .unwrap_err()
                .to_string()
                .contains("ftp://x")
        );
    }
}
