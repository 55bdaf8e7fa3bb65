//! Everything about one container, as the API shows it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use wharf_api_types::container::{
    ContainerInspect, ContainerState, DriverData, IdMappings, LegacyNetworkSettings,
    NetworkSettings,
};
use wharf_api_types::endpoint::EndpointSettings;
use wharf_api_types::time;
use wharf_fault::{Error, Result};
use wharf_network::Endpoint;

use super::live::{Cell, Container};
use super::record::{ContainerRecord, State};
use super::{endpoints, ports};
use crate::Engine;

/// The storage driver's name in answers.
pub(super) const DRIVER: &str = "overlay2";

impl Engine {
    /// A container in full; `size` measures its files.
    pub async fn container_inspect(&self, reference: &str, size: bool) -> Result<ContainerInspect> {
        let container = self.containers.find(reference)?;
        let (size_rw, size_root_fs) = if size {
            self.sizes(&container).await?
        } else {
            (None, None)
        };
        // Before the container's lock: the sessions' lock comes first everywhere.
        let exec_ids = container.read().execs.clone();
        let exec_ids = self.running_execs(&exec_ids);
        let id_mappings = self.id_maps(&container).map(|maps| IdMappings {
            uid_map: maps.uids.to_wire(),
            gid_map: maps.gids.to_wire(),
        });
        let cell = container.read();
        let record = &cell.record;
        let file = |name: &str| match &cell.run {
            Some(run) if run.kept.network.is_some() => run.run_dir.join(name).display().to_string(),
            _ => String::new(),
        };
        Ok(ContainerInspect {
            id: record.id.to_string(),
            created: time::rfc3339_nano(record.created_at),
            path: record.path.clone(),
            args: record.args.clone(),
            state: ContainerState {
                id_mappings,
                ..state(&record.state, &cell)
            },
            image: record.image_id.clone(),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            log_path: self.log_path(record),
            name: record.slash_name(),
            restart_count: i64::from(record.state.restart_count),
            driver: DRIVER.to_owned(),
            platform: record.image.os.clone(),
            mount_label: record.labels.mount.clone(),
            process_label: record.labels.process.clone(),
            app_armor_profile: super::apparmor::shown(
                self.containers.host.apparmor,
                &record.host_config,
            )?,
            exec_ids,
            host_config: record.host_config.clone(),
            graph_driver: self.graph_driver(record),
            size_rw,
            size_root_fs,
            mounts: record
                .mounts
                .iter()
                .map(|mount| mount.to_wire(|name| self.volumes.path(name).display().to_string()))
                .collect(),
            config: record.config.clone(),
            network_settings: network_settings(&cell),
            image_manifest_descriptor: record.manifest.clone(),
            ..ContainerInspect::default()
        })
    }

    fn graph_driver(&self, record: &ContainerRecord) -> Option<DriverData> {
        let layer = self.images.store().container_layer(&record.id).ok()?;
        let lower: Vec<String> = layer
            .lower
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let data = BTreeMap::from([
            ("ID".to_owned(), record.id.to_string()),
            ("LowerDir".to_owned(), lower.join(":")),
            ("UpperDir".to_owned(), layer.upper.display().to_string()),
            ("WorkDir".to_owned(), layer.work.display().to_string()),
        ]);
        Some(DriverData {
            data: Some(data),
            name: DRIVER.to_owned(),
        })
    }

    /// Bytes of the container's own layer and of the whole root file system.
    pub(super) async fn sizes(&self, container: &Container) -> Result<(Option<i64>, Option<i64>)> {
        let (store, id) = (self.images.store().clone(), container.id.clone());
        let measured = tokio::task::spawn_blocking(move || {
            Ok::<_, wharf_image_store::ImageError>((
                store.container_rw_bytes(&id)?,
                store.container_root_bytes(&id)?,
            ))
        });
        let (own, all) = measured
            .await
            .map_err(|source| Error::system("cannot measure a container").caused_by(source))?
            .map_err(Error::from_fault)?;
        let bytes = |bytes: u64| Some(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok((bytes(own), bytes(all)))
    }
}

fn state(state: &State, cell: &Cell) -> ContainerState {
    let mut exits: Vec<_> = state.ends.iter().map(super::ending::End::to_wire).collect();
    let at = |at: Option<Timestamp>| at.map_or_else(|| time::ZERO.to_owned(), time::rfc3339_nano);
    ContainerState {
        status: state.status().to_owned(),
        running: state.is_running(),
        paused: state.paused,
        restarting: state.restarting,
        oom_killed: state.oom_killed,
        dead: state.phase == super::record::Phase::Dead,
        pid: i64::from(state.pid),
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: at(state.started_at),
        finished_at: at(state.finished_at),
        health: cell
            .health
            .as_ref()
            .map(super::health::HealthState::to_wire),
        id_mappings: None,
        last_exit: exits.pop().map(Box::new),
        earlier_exits: exits,
    }
}

/// Endpoints by network name: what was asked for, and what a running container got.
pub(super) fn networks(cell: &Cell) -> BTreeMap<String, EndpointSettings> {
    let live: &[Endpoint] = cell.run.as_ref().map_or(&[], |run| &run.kept.endpoints);
    let wire = |(name, settings): (&String, &EndpointSettings)| {
        let live = live.iter().find(|endpoint| endpoint.network_name == *name);
        (name.clone(), endpoints::to_wire(settings, live))
    };
    cell.record.networks.iter().map(wire).collect()
}

fn network_settings(cell: &Cell) -> NetworkSettings {
    let record = &cell.record;
    let networks = networks(cell);
    let bridge = networks.get("bridge").cloned().unwrap_or_default();
    let legacy = LegacyNetworkSettings {
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        ipv6_gateway: bridge.ipv6_gateway,
        mac_address: bridge.mac_address,
        ..LegacyNetworkSettings::default()
    };
    let (sandbox_id, sandbox_key, ports) = match &cell.run {
        Some(run) if run.kept.network.is_some() => (
            run.kept.sandbox_id.clone(),
            format!("/proc/{}/ns/net", record.state.pid),
            ports::to_wire(&record.config, &run.kept.ports),
        ),
        _ => Default::default(),
    };
    NetworkSettings {
        legacy: Some(legacy),
        sandbox_id,
        sandbox_key,
        ports,
        networks,
    }
}
