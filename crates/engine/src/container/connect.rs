//! Networks of a container that exists already: connect and disconnect.

use std::sync::Arc;

use wharf_api_types::endpoint::EndpointSettings;
use wharf_fault::{Error, Result};
use wharf_network::Change;
use wharf_shim_protocol::Request;

use super::endpoints;
use super::live::Container;
use super::start::write_container_file;
use crate::Engine;

impl Engine {
    /// Adds a network to a container, running or not; durable when this returns.
    pub async fn connect_network(
        &self,
        network: &str,
        container: &str,
        settings: EndpointSettings,
    ) -> Result<()> {
        let container = self.containers.find(container)?;
        let network = self
            .networks
            .driver()
            .find(network)
            .map_err(Error::from_fault)?;
        let _op = container.op.lock().await;
        {
            let cell = container.read();
            let mode = &cell.record.host_config.network_mode;
            let refused = |text: &str| Err(Error::new(wharf_fault::Kind::Forbidden, text));
            if mode.starts_with("container:") {
                return refused(
                    "container sharing network namespace with another container or host cannot be connected to any other network",
                );
            }
            if mode == "host" || network.name == "host" {
                return refused(
                    "cannot attach container to host network or container is already attached to host network",
                );
            }
            if mode == "none" || network.name == "none" {
                return refused(
                    "container cannot be connected to multiple networks with one of the networks in private (none) mode",
                );
            }
            if cell.record.networks.contains_key(&network.name) {
                let name = &cell.record.name;
                return refused(&format!(
                    "endpoint with name {name} already exists in network {}",
                    network.name
                ));
            }
        }
        let settings = EndpointSettings {
            network_id: network.id.clone(),
            ..settings
        };
        let request = endpoints::to_request(&network.name, &settings)?;
        self.networks
            .driver()
            .check_endpoint(&request)
            .map_err(Error::from_fault)?;
        let pid = u32::try_from(container.pid()).unwrap_or(0);
        if pid > 0 {
            let (driver, id) = (self.networks.driver().clone(), container.id.to_string());
            let change = crate::networks::blocking(move || {
                driver
                    .connect(&id, pid, &request)
                    .map_err(Error::from_fault)
            })
            .await?;
            self.network_changed(&container, change).await?;
        }
        container
            .write()
            .record
            .networks
            .insert(network.name.clone(), settings);
        self.containers.persist_now(&container).await?;
        let driver = network.driver.as_str();
        crate::networks::publish(
            self,
            "connect",
            &network.id,
            &network.name,
            driver,
            Some(container.id.as_str()),
        );
        Ok(())
    }

    /// Takes a container out of a network; durable when this returns.
    pub async fn disconnect_network(
        &self,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<()> {
        let found = self.containers.find(container);
        let network = self
            .networks
            .driver()
            .find(network)
            .map_err(Error::from_fault)?;
        let container = match found {
            Ok(container) => container,
            Err(_) if force => return Ok(()),
            Err(error) => return Err(error),
        };
        let _op = container.op.lock().await;
        {
            let cell = container.read();
            if cell.record.host_config.network_mode == "host" {
                return Err(Error::new(
                    wharf_fault::Kind::Forbidden,
                    "container cannot be disconnected from host network or connected to host network",
                ));
            }
            if !cell.record.networks.contains_key(&network.name) {
                return Err(Error::new(
                    wharf_fault::Kind::Forbidden,
                    format!(
                        "container {} is not connected to network {}",
                        container.id, network.name
                    ),
                ));
            }
        }
        let pid = u32::try_from(container.pid()).unwrap_or(0);
        if pid > 0 {
            let (driver, id, name) = (
                self.networks.driver().clone(),
                container.id.to_string(),
                network.name.clone(),
            );
            let change = crate::networks::blocking(move || {
                driver
                    .disconnect(&id, pid, &name)
                    .map_err(Error::from_fault)
            })
            .await?;
            self.network_changed(&container, change).await?;
        }
        container.write().record.networks.remove(&network.name);
        self.containers.persist_now(&container).await?;
        let driver = network.driver.as_str();
        crate::networks::publish(
            self,
            "disconnect",
            &network.id,
            &network.name,
            driver,
            Some(container.id.as_str()),
        );
        Ok(())
    }

    /// Books what a live change did: endpoints, ports, files, name server sockets.
    async fn network_changed(&self, container: &Arc<Container>, change: Change) -> Result<()> {
        let link = {
            let mut cell = container.write();
            let Some(run) = &mut cell.run else {
                return Ok(());
            };
            write_container_file(&run.run_dir.join("hosts"), &change.files.hosts)?;
            write_container_file(&run.run_dir.join("resolv.conf"), &change.files.resolv_conf)?;
            if let Some(request) = &mut run.kept.network {
                request.endpoints = change
                    .endpoints
                    .iter()
                    .map(|endpoint| endpoint.request.clone())
                    .collect();
            }
            run.kept.endpoints = change.endpoints;
            run.kept.ports = change.ports;
            run.kept.write(&run.run_dir)?;
            run.link.clone()
        };
        for (number, socket) in change.dns_sockets.into_iter().enumerate() {
            link.command(
                Request::Hold {
                    name: format!("dns{number}"),
                },
                &[socket],
            )
            .await
            .map_err(Error::from)?;
        }
        Ok(())
    }
}
