//! Legacy links on the default bridge: environment and `/etc/hosts` lines of the other container.

use std::net::IpAddr;

use wharf_fault::{Error, Result};
use wharf_network::LegacyLink;

use super::ports::parse_port;
use super::record::ContainerRecord;
use super::validate::parse_link;
use crate::Engine;

/// What links bring into a container.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Environment.
    pub env: Vec<String>,
    /// Lines of `/etc/hosts`.
    pub hosts: Vec<LegacyLink>,
}

impl Engine {
    /// Looks the linked containers up; they have to run.
    pub(super) fn links_of(&self, record: &ContainerRecord) -> Result<Links> {
        let mut links = Links::default();
        if record.host_config.network_mode != "bridge" {
            return Ok(links);
        }
        for link in record.host_config.links.iter().flatten() {
            let (name, alias) = parse_link(link)?;
            let other = self.containers.find(name)?;
            let cell = other.read();
            let address = cell.run.as_ref().and_then(|run| {
                run.kept
                    .endpoints
                    .iter()
                    .find(|endpoint| endpoint.network_name == "bridge")
                    .and_then(|endpoint| endpoint.ipv4)
            });
            let Some((address, _)) = address else {
                return Err(Error::invalid(format!(
                    "Cannot link to a non running container: /{} AS /{}/{alias}",
                    cell.record.name, record.name
                )));
            };
            links.env.extend(environment(
                &record.name,
                alias,
                address.into(),
                &cell.record,
            ));
            links.hosts.push(LegacyLink {
                address: address.into(),
                names: vec![
                    alias.to_owned(),
                    cell.record.config.hostname.clone(),
                    cell.record.name.clone(),
                ],
            });
        }
        Ok(links)
    }
}

/// `DB_NAME`, `DB_PORT`, `DB_PORT_5432_TCP…`, `DB_ENV_…` (daemon/links/links.go).
fn environment(parent: &str, alias: &str, address: IpAddr, child: &ContainerRecord) -> Vec<String> {
    let prefix = alias.to_ascii_uppercase().replace('-', "_");
    let mut ports: Vec<(u16, &'static str)> = child
        .config
        .exposed_ports
        .keys()
        .filter_map(|port| parse_port(port).ok())
        .map(|(number, protocol)| (number, protocol.as_str()))
        .collect();
    // TCP first, then by number.
    ports.sort_by_key(|(number, protocol)| (*protocol != "tcp", *number));
    let mut env = Vec::new();
    if let Some((number, protocol)) = ports.first() {
        env.push(format!("{prefix}_PORT={protocol}://{address}:{number}"));
    }
    for (number, protocol) in &ports {
        let key = format!("{prefix}_PORT_{number}_{}", protocol.to_ascii_uppercase());
        env.push(format!("{key}={protocol}://{address}:{number}"));
        env.push(format!("{key}_ADDR={address}"));
        env.push(format!("{key}_PORT={number}"));
        env.push(format!("{key}_PROTO={protocol}"));
    }
    env.push(format!("{prefix}_NAME=/{parent}/{alias}"));
    for variable in child.config.env.iter().flatten() {
        let Some((key, value)) = variable.split_once('=') else {
            continue;
        };
        // Docker leaves out what every container has.
        if !matches!(key, "HOME" | "PATH") {
            env.push(format!("{prefix}_ENV_{key}={value}"));
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api_types::container::{ContainerConfig, Empty};

    #[test]
    fn link_environment_is_dockers() {
        let mut config = ContainerConfig {
            env: Some(vec!["PATH=/bin".into(), "USER=x".into()]),
            ..ContainerConfig::default()
        };
        config.exposed_ports.insert("53/udp".into(), Empty {});
        config.exposed_ports.insert("5432/tcp".into(), Empty {});
        let child = ContainerRecord {
            id: wharf_ids::ContainerId::random(),
            name: "db".into(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            image_id: String::new(),
            image: Default::default(),
            manifest: None,
            path: String::new(),
            args: Vec::new(),
            config,
            host_config: Default::default(),
            networks: Default::default(),
            mounts: Vec::new(),
            id_maps: None,
            labels: Default::default(),
            state: Default::default(),
        };
        let env = environment("web", "my-db", "172.17.0.2".parse().unwrap(), &child);
        assert_eq!(env[0], "MY_DB_PORT=tcp://172.17.0.2:5432");
        assert_eq!(env[1], "MY_DB_PORT_5432_TCP=tcp://172.17.0.2:5432");
        assert!(env.contains(&"MY_DB_NAME=/web/my-db".to_owned()));
        assert!(env.contains(&"MY_DB_ENV_USER=x".to_owned()));
        assert!(!env.iter().any(|variable| variable.contains("ENV_PATH")));
    }
}
