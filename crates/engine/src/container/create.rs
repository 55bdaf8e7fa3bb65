//! Making a container: check, merge with the image, make volumes, commit.
//!
//! Nothing is left of a container whose creation failed or was not acknowledged: volumes that were
//! made for it are removed, its directories are orphans which the next start of the engine clears.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use wharf_api_types::container::{ContainerCreated, CreateContainer, HostConfig};
use wharf_api_types::volume::VolumeCreate;
use wharf_fault::{Error, Result};
use wharf_ids::ContainerId;
use wharf_image_store::Image;
use wharf_oci::platform::Platform;
use wharf_state::Batch;

use super::live::Container;
use super::mounts::{MountRecord, MountSource};
use super::record::{ContainerRecord, ImageSource, State, TABLE};
use super::seccomp::SeccompCache;
use super::selinux::Labels;
use super::{
    apparmor, endpoints, image_defaults, limits, mounts, names, security, spec, validate,
    volume_intent,
};
use crate::Engine;
use crate::user_namespaces::{IdMaps, Reserved};
use crate::volumes::{ANONYMOUS_LABEL, VolumeHold};

/// A volume made for the container that is being made.
struct NewVolume {
    name: String,
    remove_on_failure: bool,
    _hold: VolumeHold,
}

impl Engine {
    /// Makes a container; it is durable when this returns.
    pub async fn container_create(
        &self,
        mut request: CreateContainer,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<ContainerCreated> {
        let id = self.new_container_id(&request);
        let reserved = self
            .reserve(name, &id)
            .inspect_err(|_| self.discard_next_id(&id))?;
        self.promise_ahead(&request, &id);
        let result = self
            .create_reserved(&mut request, &id, reserved.clone(), platform)
            .await;
        match result {
            Ok(warnings) => Ok(ContainerCreated {
                id: id.to_string(),
                warnings,
            }),
            Err(error) => {
                self.containers.registry.release_name(&reserved);
                self.forget_ahead(&id);
                self.discard_next_id(&id);
                Err(error)
            }
        }
    }

    fn reserve(&self, name: &str, id: &ContainerId) -> Result<String> {
        let registry = &self.containers.registry;
        let name = match name.strip_prefix('/').unwrap_or(name) {
            "" => names::generate(|name| registry.is_taken(name)),
            name => name.to_owned(),
        };
        registry.reserve_name(&name, id)?;
        Ok(name)
    }

    async fn create_reserved(
        &self,
        request: &mut CreateContainer,
        id: &ContainerId,
        name: String,
        platform: Option<&Platform>,
    ) -> Result<Vec<String>> {
        validate::config(&request.config)?;
        let image = self
            .images
            .store()
            .resolve_platform(&request.config.image, platform)
            .map_err(Error::from_fault)?;
        let image = self.unpacked(image).await?;
        let (warnings, reserved) = self.settle(request, id, &image)?;
        let networks = endpoints::of_request(request, self.networks.driver())?;
        let volumes_of_image = request.config.volumes.clone().unwrap_or_default();
        let mut mounts = mounts::merge(
            &request.host_config,
            &volumes_of_image,
            |container| {
                Ok(self
                    .containers
                    .find(container)?
                    .read()
                    .record
                    .mounts
                    .clone())
            },
            |path| Path::new(path).exists(),
        )?;
        refuse_subpaths(&mounts)?;
        let id_maps = reserved.as_ref().map(|held| IdMaps::clone(&held.maps));
        self.check_mount_maps(&request.host_config, id_maps.as_ref(), &mounts)?;
        let labels = self.labels(&request.host_config)?;
        let made = self.make_volumes(&mut mounts, &image).await?;
        let (path, args) = image_defaults::command(&request.config);
        let record = ContainerRecord {
            id: id.clone(),
            name,
            created_at: Timestamp::now(),
            image_id: image.id.to_string(),
            image: ImageSource {
                digest: image.id.to_string(),
                os: "linux".to_owned(),
            },
            manifest: serde_json::to_value(&image.manifest).ok(),
            path,
            args,
            config: std::mem::take(&mut request.config),
            host_config: std::mem::take(&mut request.host_config),
            networks,
            mounts,
            id_maps,
            labels,
            state: State::default(),
        };
        if let Err(error) = self.commit_new(&record, &image, &made).await {
            self.unmake_volumes(made).await;
            return Err(error);
        }
        let container = Arc::new(Container::new(record));
        self.containers.registry.insert(Arc::clone(&container));
        // From here on the record says whose these ids are.
        drop(reserved);
        self.events.publish(
            "container",
            "create",
            id.as_str(),
            container.event_attributes([]),
        );
        Ok(warnings)
    }

    /// The SELinux labels of a new container.
    fn labels(&self, host: &HostConfig) -> Result<Labels> {
        let Some(selinux) = &self.containers.host.selinux else {
            return Ok(Labels::default());
        };
        let options = security::parse(host)?.labels;
        // Who sees the host's processes or memory is not confined, as in Docker; who sees another
        // container's has its label.
        let unconfined = host.privileged || host.ipc_mode == "host" || host.pid_mode == "host";
        let mut like = None;
        for mode in [&host.ipc_mode, &host.pid_mode] {
            if let Some(other) = mode.strip_prefix("container:") {
                let label = self
                    .containers
                    .find(other)?
                    .read()
                    .record
                    .labels
                    .process
                    .clone();
                if like.as_ref().is_some_and(|like| *like != label) {
                    return Err(Error::invalid(
                        "--ipc and --pid are those of containers with different SELinux labels",
                    ));
                }
                like = Some(label);
            }
        }
        let all = self.containers.registry.all();
        let taken: Vec<String> = all
            .iter()
            .map(|container| container.read().record.labels.process.clone())
            .collect();
        let taken = taken.iter().map(String::as_str);
        Ok(selinux.labels(&options, unconfined, like.as_deref(), taken))
    }

    /// Merges, normalises and checks everything that is no mount and no network.
    fn settle(
        &self,
        request: &mut CreateContainer,
        id: &ContainerId,
        image: &Image,
    ) -> Result<(Vec<String>, Option<Reserved>)> {
        let facts = &self.containers.host;
        let daemon = &self.config.daemon;
        let defaults = &image.config.config;
        request.host_config.network_mode =
            endpoints::normalize_mode(&request.host_config.network_mode);
        if request.config.network_disabled {
            request.host_config.network_mode = "none".to_owned();
        }
        validate::combinations(request)?;
        super::user_namespace::default_user(request)?;
        image_defaults::merge(&mut request.config, defaults)?;
        validate::config(&request.config)?;
        let CreateContainer {
            config,
            host_config: host,
            ..
        } = request;
        security::normalize_capabilities(host)?;
        let settings = self.settings();
        validate::host_config(host, &settings)?;
        let options = security::parse(host)?;
        SeccompCache::check(&options.seccomp)?;
        apparmor::check(facts.apparmor, &options.apparmor)?;
        if facts.selinux.is_none() && options.labels.wants_labels() {
            return Err(Error::invalid(
                "--security-opt label=… cannot be honoured: SELinux is not enabled, on this host or for this daemon (selinux-enabled)",
            ));
        }
        let mut warnings = Vec::new();
        if host.memory > 0 && host.memory_swap == 0 {
            // Docker: as much swap as memory.
            host.memory_swap = host.memory.saturating_mul(2);
        }
        if host.pids_limit.is_some_and(|limit| limit <= 0) {
            host.pids_limit = None;
        }
        if host.oom_kill_disable.is_none() && !facts.limits.cgroup_v2 {
            host.oom_kill_disable = Some(false);
        }
        warnings.extend(limits::check(host, &facts.limits, limits::Limits::New)?);
        if host.network_mode == "host" && !host.port_bindings.is_empty() {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
        }
        if host.shm_size == 0 {
            host.shm_size = daemon.default_shm_size;
        }
        if host.ipc_mode.is_empty() {
            host.ipc_mode.clone_from(&daemon.default_ipc_mode);
        }
        if host.cgroupns_mode.is_empty() {
            let fitting = if facts.limits.cgroup_v2 && !host.privileged {
                "private"
            } else {
                "host"
            };
            host.cgroupns_mode = if daemon.default_cgroupns_mode.is_empty() {
                fitting
            } else {
                &daemon.default_cgroupns_mode
            }
            .to_owned();
        }
        if host.runtime.is_empty() {
            host.runtime.clone_from(&settings.default_runtime);
        }
        if host.log_config.r#type.is_empty() {
            host.log_config.r#type.clone_from(&daemon.log_driver);
        }
        if host.log_config.r#type == daemon.log_driver {
            for (key, value) in &daemon.log_opts {
                host.log_config
                    .config
                    .entry(key.clone())
                    .or_insert_with(|| value.clone());
            }
        }
        super::logs::check_options(host)?;
        if host.restart_policy.name.is_empty() {
            host.restart_policy.name = "no".to_owned();
        }
        if host.restart_policy.name != "no"
            && let Some(rootless) = &self.config.rootless
        {
            warnings.extend(rootless.session_warning());
        }
        if let Some(rootless) = &facts.rootless {
            warnings.extend(rootless.take_back(host, facts.limits.cpu));
        }
        if !host.privileged {
            let masked = &mut host.masked_paths;
            *masked = Some(
                masked
                    .take()
                    .unwrap_or_else(|| spec::masked_paths(&facts.throttle_dirs)),
            );
            let readonly = &mut host.readonly_paths;
            *readonly = Some(readonly.take().unwrap_or_else(spec::readonly_paths));
        }
        for reference in [
            &mut host.network_mode,
            &mut host.ipc_mode,
            &mut host.pid_mode,
        ] {
            if let Some(name) = reference.strip_prefix("container:") {
                // Kept by id: the name may change.
                let other = self.containers.find(name)?;
                *reference = format!("container:{}", other.id);
            }
        }
        let reserved = self.settle_user_namespace(host)?;
        normalize_links(host, |name| self.containers.find(name).map(drop))?;
        if config.hostname.is_empty() {
            config.hostname = match host.network_mode.strip_prefix("container:") {
                Some(other) => self
                    .containers
                    .find(other)?
                    .read()
                    .record
                    .config
                    .hostname
                    .clone(),
                None if host.network_mode == "host" || host.uts_mode == "host" => {
                    facts.hostname.clone()
                }
                None => id.short().to_owned(),
            };
        }
        Ok((warnings, reserved))
    }

    /// Mounts that map ids must be able to.
    fn check_mount_maps(
        &self,
        host: &HostConfig,
        own: Option<&IdMaps>,
        mounts: &[MountRecord],
    ) -> Result<()> {
        let found;
        let maps = match own {
            Some(maps) => Some(maps),
            None => {
                found = self.id_maps_of_mode(&host.userns_mode);
                found.as_ref()
            }
        };
        super::user_namespace::mount_maps(mounts, maps).map(drop)
    }

    /// Makes the volumes that do not exist and fills new and empty ones from the image.
    async fn make_volumes(
        &self,
        mounts: &mut [MountRecord],
        image: &Image,
    ) -> Result<Vec<NewVolume>> {
        let mut made = Vec::new();
        for mount in mounts {
            let destination = mount.destination.clone();
            if let Err(error) = self
                .make_volume(mount, &destination, image, &mut made)
                .await
            {
                self.unmake_volumes(made).await;
                return Err(error);
            }
        }
        Ok(made)
    }

    async fn make_volume(
        &self,
        mount: &mut MountRecord,
        destination: &str,
        image: &Image,
        made: &mut Vec<NewVolume>,
    ) -> Result<()> {
        let MountSource::Volume {
            name,
            driver,
            options,
            labels,
            copy,
            ..
        } = &mut mount.source
        else {
            return Ok(());
        };
        let mut request = VolumeCreate {
            name: name.clone(),
            driver: driver.clone(),
            driver_opts: options.clone(),
            labels: labels.clone(),
            ..VolumeCreate::default()
        };
        if request.name.is_empty() {
            request.name = wharf_ids::hex_id();
            request
                .labels
                .insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        if self.volumes.get(&request.name).is_none() {
            let mut batch = Batch::new();
            volume_intent::note(&mut batch, &request.name);
            super::commit(&self.store, batch).await?;
        }
        let (volume, created) = self.volumes.ensure(&self.events, &request).await?;
        let hold = self.volumes.hold(&volume.name);
        name.clone_from(&volume.name);
        made.push(NewVolume {
            name: volume.name.clone(),
            remove_on_failure: created,
            _hold: hold,
        });
        if *copy && volume.options.is_none() {
            let layers = self
                .images
                .store()
                .image_layers(image)
                .map_err(Error::from_fault)?;
            let (place, directory) = (destination.to_owned(), PathBuf::from(&volume.mountpoint));
            let copied = tokio::task::spawn_blocking(move || {
                super::copy_up::fill(&layers, &place, &directory)
            })
            .await;
            let failed = || {
                Error::system(format!(
                    "failed to populate volume {} from {destination}",
                    volume.name
                ))
            };
            copied
                .map_err(|source| failed().caused_by(source))?
                .map_err(|source| failed().caused_by(source))?;
        }
        Ok(())
    }

    /// Images for other machines are not unpacked before somebody wants to run them.
    async fn unpacked(&self, image: Arc<Image>) -> Result<Arc<Image>> {
        if image.unpacked {
            return Ok(image);
        }
        let store = self.images.store().clone();
        crate::networks::blocking(move || store.ensure_unpacked(&image).map_err(Error::from_fault))
            .await
    }

    async fn unmake_volumes(&self, made: Vec<NewVolume>) {
        for volume in made {
            let NewVolume {
                name,
                remove_on_failure,
                _hold: hold,
            } = volume;
            drop(hold);
            if remove_on_failure && let Err(error) = self.volumes.remove(self, &name, true).await {
                tracing::warn!(%error, volume = %name, "cannot remove the volume of a container that was not made");
            }
        }
    }

    async fn commit_new(
        &self,
        record: &ContainerRecord,
        image: &Image,
        made: &[NewVolume],
    ) -> Result<()> {
        let directory = self.containers.directory(&record.id);
        make_private_dir(&directory).map_err(|source| {
            Error::system(format!("cannot create {}", directory.display())).caused_by(source)
        })?;
        let mut batch = record.batch();
        let store = self.images.store();
        let prepared = store
            .prepare_container(&record.id, image, &mut batch)
            .map_err(Error::from_fault);
        let result = match prepared {
            Ok(_) => {
                batch.put(TABLE, record.id.as_str(), record);
                let first = forget_notes(record, made, &mut batch);
                let first = match first {
                    Some(first) => super::commit(&self.store, first).await,
                    None => Ok(()),
                };
                match first {
                    Ok(()) => super::commit(&self.store, batch).await,
                    failed => failed,
                }
            }
            Err(error) => Err(error),
        };
        if result.is_err() {
            if let Err(error) = store.discard_container(&record.id) {
                tracing::warn!(%error, container.id = %record.id, "cannot discard the layer of a container that was not made");
            }
            drop(std::fs::remove_dir_all(&directory));
        }
        result
    }
}

/// From now on the new volumes have an owner. The anonymous ones of a record that a power cut takes
/// along stay noted: they go with it. Returns what has to be durable before that record is made.
fn forget_notes(record: &ContainerRecord, made: &[NewVolume], batch: &mut Batch) -> Option<Batch> {
    if !record.host_config.auto_remove {
        for volume in made {
            volume_intent::forget(batch, &volume.name);
        }
        return None;
    }
    let mut durable = None;
    for NewVolume { name, .. } in made {
        if record
            .anonymous_volumes()
            .all(|anonymous| anonymous != name)
        {
            volume_intent::forget(durable.get_or_insert_default(), name);
        }
    }
    durable
}

/// Owner only; containers' users see the single files bound into them.
pub(super) fn make_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o710)
        .create(path)
}

fn refuse_subpaths(mounts: &[MountRecord]) -> Result<()> {
    let subpath = |mount: &MountRecord| matches!(&mount.source, MountSource::Volume { subpath, .. } if !subpath.is_empty());
    match mounts.iter().find(|mount| subpath(mount)) {
        Some(mount) => Err(Error::not_implemented(format!(
            "VolumeOptions.Subpath (volume-subpath) is not supported by this version of Wharf: mount {}",
            mount.destination
        ))),
        None => Ok(()),
    }
}

/// Links on the default bridge must lead to containers that exist.
fn normalize_links(host: &mut HostConfig, exists: impl Fn(&str) -> Result<()>) -> Result<()> {
    for link in host.links.iter().flatten() {
        let (name, _) = validate::parse_link(link)?;
        exists(name).map_err(|error| {
            Error::invalid(format!("could not get container for {name}: {error}"))
        })?;
    }
    Ok(())
}
