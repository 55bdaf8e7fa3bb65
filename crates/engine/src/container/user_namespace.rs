//! The user namespace of a container: decided when it is made, made anew at each start.
//!
//! The daemon makes user and network namespace together, so that the network belongs to the
//! container's root: without that `ping`, `sysctl` and a mount of `/sys` would be refused inside.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::thread::ThreadNameSpaceType;
use wharf_api_types::container::{CreateContainer, HostConfig};
use wharf_container_runtime::{StartError, user_namespace};
use wharf_fault::{Error, Fault as _, Result};
use wharf_sys::user_namespace::Holder;

use super::live::{Cell, Container};
use super::mounts::MountRecord;
use super::record::ContainerRecord;
use crate::Engine;
use crate::user_namespaces::{IdMaps, Mode, MountMap, Reserved};

/// How far `container:` is followed: nobody chains that many.
const CHAIN_MAX: usize = 64;

/// What a start needs to know.
#[derive(Debug)]
pub(super) struct UserNamespace {
    /// The mapping.
    pub maps: IdMaps,
    /// Another container's namespace that is joined.
    joined: Option<OwnedFd>,
}

/// Namespaces that no process is in yet.
#[derive(Debug)]
pub(super) struct Made {
    /// The user namespace.
    pub user: OwnedFd,
    /// A network namespace that belongs to it.
    pub network: Option<OwnedFd>,
}

/// The mode of a record or a request.
fn mode(host: &HostConfig) -> Result<Mode> {
    Mode::parse(&host.userns_mode).map_err(Error::invalid)
}

/// Namespaces taken over from other containers.
fn shared(host: &HostConfig) -> impl Iterator<Item = (&'static str, &str)> {
    [
        ("network", &host.network_mode),
        ("PID", &host.pid_mode),
        ("IPC", &host.ipc_mode),
    ]
    .into_iter()
    .filter_map(|(what, mode)| Some((what, mode.strip_prefix("container:")?)))
}

/// Docker's conflicts: what the host's namespaces own, a root of another namespace has no rights
/// over.
fn check_conflicts(host: &HostConfig) -> Result<()> {
    if host.privileged {
        return Err(Error::invalid(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        ));
    }
    if host.network_mode == "host" {
        return Err(Error::invalid(
            "cannot share the host's network namespace when user namespaces are enabled",
        ));
    }
    if host.pid_mode == "host" {
        return Err(Error::invalid(
            "cannot share the host PID namespace when user namespaces are enabled",
        ));
    }
    Ok(())
}

/// `keep-id`: the program runs as the caller unless told otherwise. Before the image's user is
/// filled in.
pub(super) fn default_user(request: &mut CreateContainer) -> Result<()> {
    if let Mode::KeepId(keep) = mode(&request.host_config)?
        && request.config.user.is_empty()
        && let Some(user) = keep.user()
    {
        request.config.user = user;
    }
    Ok(())
}

/// What each mount that asks for one is mapped by.
pub(super) fn mount_maps<'a>(
    mounts: &'a [MountRecord],
    container: Option<&IdMaps>,
) -> Result<Vec<(&'a str, IdMaps)>> {
    let asking = mounts
        .iter()
        .filter_map(|mount| Some((mount.destination.as_str(), mount.id_map.as_deref()?)));
    asking
        .map(|(destination, text)| {
            let maps = MountMap::parse(text).and_then(|map| map.resolve(container));
            maps.map(|maps| (destination, maps))
                .map_err(|why| Error::invalid(format!("mount {destination}: {why}")))
        })
        .collect()
}

impl Engine {
    /// Completes the `keep-id` of a client that did not say who calls: `uid` and `gid` as this
    /// process sees them.
    pub fn name_caller(&self, host: &mut HostConfig, uid: u32, gid: u32) {
        if let Ok(Mode::KeepId(keep)) = mode(host)
            && let Some(options) = self.containers.user_namespaces.caller(&keep, uid, gid)
        {
            let separator = if host.userns_mode.contains(':') {
                ','
            } else {
                ':'
            };
            host.userns_mode = format!("{}{separator}{options}", host.userns_mode);
        }
    }

    /// Checks the mode of a container that is being made and gives it its ids.
    pub(super) fn settle_user_namespace(&self, host: &mut HostConfig) -> Result<Option<Reserved>> {
        let mode = mode(host)?;
        let namespaces = &self.containers.user_namespaces;
        let has_one = match &mode {
            Mode::Host => false,
            Mode::Daemon => namespaces.remap().is_some(),
            Mode::Container(name) => {
                // A client takes "not found" for the image's.
                let other = (self.containers.find(name))
                    .map_err(|error| Error::invalid(error.to_string()))?;
                // Kept by id: the name may change.
                host.userns_mode = format!("container:{}", other.id);
                self.id_maps(&other).is_some()
            }
            Mode::Auto(_) | Mode::KeepId(_) | Mode::Private(_)
                if self.config.rootless.is_some() =>
            {
                // Layers would have to be idmapped, and their file system belongs to the host's root.
                return Err(Error::invalid(format!(
                    "--userns={}: the kernel lets root alone map the IDs of layers, so an ordinary user's containers share the user's own namespace (--userns=host), in which root is the user",
                    host.userns_mode
                )));
            }
            Mode::Auto(_) | Mode::KeepId(_) | Mode::Private(_) => {
                if let Some((what, _)) = shared(host).next() {
                    return Err(Error::invalid(format!(
                        "conflicting options: a container that shares another's {what} namespace shares its user namespace too: use --userns=container:NAME"
                    )));
                }
                true
            }
        };
        if has_one {
            check_conflicts(host)?;
        }
        namespaces.assign(&mode, || {
            // A running one may hold a range that is no longer on anybody's record: it joined the namespace of
            // a container that is gone.
            let maps = |container: Arc<Container>| {
                let cell = container.read();
                let held = cell.run.as_ref().and_then(|run| run.kept.id_maps.clone());
                cell.record.id_maps.clone().into_iter().chain(held)
            };
            self.containers
                .registry
                .all()
                .into_iter()
                .flat_map(maps)
                .collect()
        })
    }

    /// The mapping of a container's present run, or of its next as far as is known now.
    pub(super) fn id_maps(&self, container: &Container) -> Option<IdMaps> {
        let wanted = match &*container.read() {
            Cell { run: Some(run), .. } => return run.kept.id_maps.clone(),
            Cell { record, .. } => record.clone_for_id_maps(),
        };
        self.id_maps_wanted(wanted)
    }

    /// The mapping a mode without ids of its own leads to.
    pub(super) fn id_maps_of_mode(&self, mode: &str) -> Option<IdMaps> {
        self.id_maps_wanted(WantedMaps {
            mode: mode.to_owned(),
            maps: None,
        })
    }

    fn id_maps_wanted(&self, mut wanted: WantedMaps) -> Option<IdMaps> {
        for _ in 0..CHAIN_MAX {
            match Mode::parse(&wanted.mode) {
                Ok(Mode::Host) | Err(_) => return None,
                Ok(Mode::Daemon) => {
                    return wanted
                        .maps
                        .or_else(|| self.containers.user_namespaces.remap().cloned());
                }
                Ok(Mode::Auto(_) | Mode::KeepId(_) | Mode::Private(_)) => return wanted.maps,
                Ok(Mode::Container(other)) => {
                    let other = self.containers.find(&other).ok()?;
                    wanted = match &*other.read() {
                        Cell { run: Some(run), .. } => return run.kept.id_maps.clone(),
                        Cell { record, .. } => record.clone_for_id_maps(),
                    };
                }
            }
        }
        None
    }

    /// Decides which namespace a container starts in; changes nothing.
    pub(super) fn plan_user_namespace(
        &self,
        record: &ContainerRecord,
    ) -> Result<Option<UserNamespace>> {
        let host = &record.host_config;
        let own = |maps: &Option<IdMaps>| {
            maps.clone()
                .map(|maps| UserNamespace { maps, joined: None })
        };
        let planned = match mode(host)? {
            Mode::Host => None,
            Mode::Container(other) => self.join(&other)?,
            Mode::Auto(_) | Mode::KeepId(_) | Mode::Private(_) => own(&record.id_maps),
            // The remap it was made under: another setting must not make it the host's root.
            Mode::Daemon => match (self.id_maps_wanted(record.clone_for_id_maps()), shared(host).next()) {
                (None, _) => None,
                (remap, None) => own(&remap),
                // Docker: to share one of these, containers must share the user namespace too.
                (Some(_), Some((what, other))) => Some(self.join(other)?.ok_or_else(|| {
                    Error::invalid(format!(
                        "cannot share the {what} namespace of a container in the host's user namespace when user namespaces are enabled"
                    ))
                })?),
            },
        };
        let Some(namespace) = planned else {
            return Ok(None);
        };
        check_conflicts(host)?;
        for (what, other) in shared(host) {
            let other = self.containers.find(other)?;
            let theirs = super::start::namespace_of(&other, "user", "user")?;
            if !namespace.is(&theirs)? {
                return Err(Error::invalid(format!(
                    "conflicting options: the container shares the {what} namespace of {}, but not its user namespace: use --userns=container:{}",
                    other.name(),
                    other.name()
                )));
            }
        }
        Ok(Some(namespace))
    }

    fn join(&self, other: &str) -> Result<Option<UserNamespace>> {
        let other = self.containers.find(other)?;
        let joined = super::start::namespace_of(&other, "user", "user")?;
        let maps = self.id_maps(&other);
        Ok(maps.map(|maps| UserNamespace {
            maps,
            joined: Some(joined),
        }))
    }
}

/// What decides a stopped container's mapping.
#[derive(Debug)]
struct WantedMaps {
    mode: String,
    maps: Option<IdMaps>,
}

impl ContainerRecord {
    fn clone_for_id_maps(&self) -> WantedMaps {
        WantedMaps {
            mode: self.host_config.userns_mode.clone(),
            maps: self.id_maps.clone(),
        }
    }
}

impl UserNamespace {
    /// Whether `other` is the namespace that is joined.
    fn is(&self, other: &OwnedFd) -> Result<bool> {
        let number = |fd: &OwnedFd| {
            rustix::fs::fstat(fd)
                .map(|stat| (stat.st_dev, stat.st_ino))
                .map_err(|errno| {
                    Error::system("cannot look at a user namespace")
                        .caused_by(std::io::Error::from(errno))
                })
        };
        match &self.joined {
            Some(joined) => Ok(number(joined)? == number(other)?),
            None => Ok(false),
        }
    }

    /// Makes the namespace, or takes the other container's; with a network namespace that belongs
    /// to it if `network` is asked for.
    pub(super) fn make(&mut self, network: bool) -> Result<Made> {
        const FAILED: &str = "cannot make the container's user namespace";
        if let Some(user) = self.joined.take() {
            let failed = |errno: rustix::io::Errno| {
                Error::system("cannot make a network in another container's user namespace")
                    .caused_by(std::io::Error::from(errno))
            };
            let network_of = || {
                let holder = Holder::inside(user.as_fd(), ThreadNameSpaceType::NETWORK)?;
                holder.namespace("net")
            };
            let network = network.then(network_of).transpose().map_err(failed)?;
            return Ok(Made { user, network });
        }
        let failed = |error: StartError| {
            let kind = error.kind();
            Error::new(kind, FAILED).caused_by(error)
        };
        let (uids, gids) = (self.maps.uids.to_oci(), self.maps.gids.to_oci());
        let maps =
            wharf_container_runtime::IdMaps::new("user namespace", &uids, &gids).map_err(failed)?;
        let (user, network) = if network {
            let (user, network) = user_namespace::create_with_network(&maps).map_err(failed)?;
            (user, Some(network))
        } else {
            (user_namespace::create(&maps).map_err(failed)?, None)
        };
        Ok(Made { user, network })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_owns_is_not_shared() {
        let with = |change: fn(&mut HostConfig)| {
            let mut host = HostConfig::default();
            change(&mut host);
            check_conflicts(&host).map_err(|error| error.to_string())
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(
            with(|host| host.privileged = true).unwrap_err(),
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode"
        );
        assert_eq!(
            with(|host| host.network_mode = "host".into()).unwrap_err(),
            "cannot share the host's network namespace when user namespaces are enabled"
        );
        assert_eq!(
            with(|host| host.pid_mode = "host".into()).unwrap_err(),
            "cannot share the host PID namespace when user namespaces are enabled"
        );
    }

    #[test]
    fn namespaces_are_made_with_their_mapping() {
        let maps = |text: &str| {
            crate::user_namespaces::IdMap::new(vec![
                crate::user_namespaces::Extent::parse(text).unwrap(),
            ])
            .unwrap()
        };
        let mut namespace = UserNamespace {
            maps: IdMaps {
                uids: maps("0:700000:10"),
                gids: maps("0:800000:10"),
            },
            joined: None,
        };
        let Ok(made) = namespace.make(true) else {
            return wharf_tests::skip(
                "namespaces_are_made_with_their_mapping",
                "user namespaces need root",
            );
        };
        let own = rustix::fs::stat("/proc/self/ns/net").unwrap().st_ino;
        let network = made.network.unwrap();
        assert_ne!(rustix::fs::fstat(&network).unwrap().st_ino, own);
        // Another network namespace in the same user namespace.
        let mut second = UserNamespace {
            maps: namespace.maps.clone(),
            joined: Some(made.user.try_clone().unwrap()),
        };
        assert!(second.is(&made.user).unwrap() && !second.is(&network).unwrap());
        let other = second.make(true).unwrap().network.unwrap();
        assert_ne!(
            rustix::fs::fstat(&other).unwrap().st_ino,
            rustix::fs::fstat(&network).unwrap().st_ino
        );
    }
}
