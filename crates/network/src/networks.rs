//! The networks of one daemon: the API the engine uses, and what it works on.
//!
//! All calls block for at most some milliseconds (netlink, one store commit for create and
//! remove); async callers on the start path may call [`Networks::prepare`] in place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::runtime::Handle;
use wharf_state::{Batch, Store};

use crate::attach::{AttachRequest, Change, EndpointRequest, LiveContainer, Sandbox};
use crate::bridge;
use crate::config::Config;
use crate::dns;
use crate::error::{NetworkError, Result};
use crate::instance::Instance;
use crate::ipam::{self, Addresses};
use crate::netlink::{Requests, Socket};
use crate::netns::{Pool, Worker};
use crate::network::{Driver, Network, NetworkEndpoint, NetworkSpec, NetworkView};
use crate::nft::{Element, Firewall};
use crate::options::BridgeOptions;
use crate::plan::{self, PREDEFINED, Surroundings};
use crate::ports::{Bridges, PortTable};
use crate::sandbox::{Attached, Bare, OnBridge};
use crate::subnet::Subnet;
use crate::sysctl::Ipv6Switch;
use crate::{answers, forwarding, reconcile, sandbox};

const TABLE: &str = "networks";
const META: &str = "network-meta";

/// The networks of one daemon; clones share them.
#[derive(Debug, Clone)]
pub struct Networks {
    inner: Arc<Inner>,
}

/// Everything the parts of this crate share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) instance: Instance,
    pub(crate) store: Store,
    pub(crate) runtime: Handle,
    /// rtnetlink in the daemon's namespace.
    pub(crate) host: Mutex<Socket>,
    /// Answers without waiting for what goes on over `host`.
    pub(crate) lookup: Socket,
    pub(crate) worker: Worker,
    pub(crate) firewall: Arc<Firewall>,
    pub(crate) state: Mutex<State>,
    /// Held while networks are made or removed.
    changing: Mutex<()>,
    pub(crate) ports: Arc<PortTable>,
    pub(crate) dns: Arc<dns::Directory>,
    pub(crate) on_bridge: OnceLock<Pool<OnBridge>>,
    /// Without and with the embedded DNS server's sockets; started when first needed.
    pub(crate) bare: [OnceLock<Pool<Bare>>; 2],
    ula: crate::config::AddressPool,
    /// Whether the daemon's namespace has IPv6.
    pub(crate) ipv6: Ipv6Switch,
}

/// What is there now.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By id.
    pub(crate) networks: BTreeMap<String, Live>,
    /// By container id.
    pub(crate) containers: HashMap<String, Arc<Mutex<Attached>>>,
}

/// A network in use.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) record: Arc<Network>,
    pub(crate) options: Arc<BridgeOptions>,
    pub(crate) addresses4: Option<Addresses>,
    pub(crate) addresses6: Option<Addresses>,
    /// The bridge's index; 0 for host and none.
    pub(crate) bridge: u32,
    /// Endpoints of running containers by container id.
    pub(crate) endpoints: BTreeMap<String, NetworkEndpoint>,
}

impl Live {
    fn new(record: Network, options: BridgeOptions, bridge: u32) -> Self {
        let addresses = |ipv4| record.subnet(ipv4).map(Addresses::new);
        Self {
            addresses4: addresses(true),
            addresses6: addresses(false),
            record: Arc::new(record),
            options: Arc::new(options),
            bridge,
            endpoints: BTreeMap::new(),
        }
    }

    pub(crate) fn addresses(&mut self, ipv4: bool) -> Option<&mut Addresses> {
        if ipv4 {
            self.addresses4.as_mut()
        } else {
            self.addresses6.as_mut()
        }
    }
}

/// A guard over data that is changed in whole steps, so it is usable after a panic elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// A network by full id, name or unique id prefix, in this order.
    pub(crate) fn find(&self, reference: &str) -> Result<&Live> {
        if let Some(live) = self.networks.get(reference) {
            return Ok(live);
        }
        let named = |name: &str| self.networks.values().find(|live| live.record.name == name);
        // `default` is how clients spell the default bridge in a container's network mode.
        if let Some(live) =
            named(reference).or_else(|| (reference == "default").then(|| named("bridge")).flatten())
        {
            return Ok(live);
        }
        let mut matches = self
            .networks
            .values()
            .filter(|live| live.record.id.starts_with(reference));
        match (
            matches.next().filter(|_| !reference.is_empty()),
            matches.count(),
        ) {
            (None, _) => Err(NetworkError::NotFound(reference.to_owned())),
            (Some(live), 0) => Ok(live),
            (Some(_), others) => Err(NetworkError::Ambiguous {
                name: reference.to_owned(),
                count: others + 1,
                by: "ID prefix",
            }),
        }
    }
}

impl Networks {
    /// Opens the networks kept in `store`: makes the default bridge, restores the bridges and the
    /// nft table, removes what an earlier daemon left without owner. Background work (relays,
    /// DNS) runs on `runtime`. Containers that are still running are taken over by
    /// [`Networks::reconcile`], which must be called once, before the first `prepare`.
    pub fn open(store: Store, config: Config, runtime: Handle) -> Result<Self> {
        let instance = Instance::new(config.instance.as_deref())?;
        let worker = Worker::start(config.bridge_namespace.as_ref())
            .map_err(|source| NetworkError::kernel("start the network namespace thread", source))?;
        let (mut host, lookup) = worker
            .at_home(|| Ok((Socket::route()?, Socket::route()?)))
            .map_err(|source| NetworkError::kernel("open a netlink socket", source))?;
        let mut bridges = None;
        if let Some(namespace) = &config.bridge_namespace {
            let mut requests = Requests::new();
            requests.up("lo");
            host.execute(requests)
                .map_err(|refused| NetworkError::kernel("bring loopback up", refused))?;
            let client_addresses = match answers::lead_back(&mut host) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%error, "containers will not see the addresses of their ports' clients");
                    false
                }
            };
            bridges = Some(Bridges {
                namespace: Arc::clone(namespace),
                client_addresses,
            });
        }
        let ula = ula_pool(&store)?;
        let mut records = Vec::new();
        for (_, record) in store
            .list::<Network>(TABLE)
            .map_err(|source| store_error("list", source))?
        {
            records.push(record);
        }
        let predefined = predefined_records(&mut host, &config, &instance, &records, ula)?;
        let mut batch = Batch::new();
        for record in &predefined {
            batch.put(TABLE, record.id.clone(), record);
        }
        store
            .commit(batch)
            .map_err(|source| store_error("bridge", source))?;
        records.retain(|record| !record.predefined);
        records.splice(0..0, predefined);

        let alias = instance.alias();
        let mut state = State::default();
        let mut elements = BTreeSet::new();
        for record in records {
            let options = BridgeOptions::parse(&record.options, config.mtu)?;
            let mut index = 0;
            if record.driver == Driver::Bridge {
                match bridge::ensure(&mut host, &worker, &record, &options, &alias) {
                    Ok((made, _)) => index = made,
                    // One network in a bad way must not keep the others from working.
                    Err(error) if record.is_user_defined() => {
                        tracing::error!(network = %record.name, error = %wharf_fault::chain(&error), "cannot restore network");
                    }
                    Err(error) => return Err(error),
                }
                elements.extend(bridge::elements(&record, &options));
            }
            state
                .networks
                .insert(record.id.clone(), Live::new(record, options, index));
        }
        let guard = forwarding::enable(&store, &config, &worker, &state)?;
        let rules = guard.options(&config);
        let table = instance.table();
        let firewall = worker
            .at_home(move || Firewall::open(&table, rules, elements))
            .map_err(|source| NetworkError::kernel("set up the nftables table", source))?;
        let (watched, handle) = (Arc::clone(&firewall), runtime.clone());
        worker
            .at_home(move || watched.watch(&handle))
            .map_err(|source| NetworkError::kernel("watch the nftables ruleset", source))?;
        let dns = dns::Directory::new();
        let ipv6 = Ipv6Switch::open();
        let inner = Inner {
            ports: PortTable::new(
                runtime.clone(),
                config.userland_proxy,
                ipv6.clone(),
                bridges,
            ),
            ipv6,
            config,
            instance,
            store,
            runtime,
            host: Mutex::new(host),
            lookup,
            worker,
            firewall,
            state: Mutex::new(state),
            changing: Mutex::new(()),
            dns,
            on_bridge: OnceLock::new(),
            bare: [OnceLock::new(), OnceLock::new()],
            ula,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Takes over the containers that outlived the last daemon (their addresses, host ports, nft
    /// elements and names) and removes everything else this instance left in the kernel. Returns
    /// the ids of those that could not be taken over and why. Starts the pools.
    pub fn reconcile(&self, live: Vec<LiveContainer>) -> Vec<(String, NetworkError)> {
        reconcile::reconcile(&self.inner, live)
    }

    /// Goes on answering DNS queries on the sockets a shim kept for `container_id`.
    pub fn resume_dns(&self, container_id: &str, sockets: Vec<OwnedFd>) -> Result<()> {
        reconcile::resume_dns(&self.inner, container_id, sockets)
    }

    /// Makes a network; it is durable when this returns.
    pub fn create(&self, spec: NetworkSpec) -> Result<Network> {
        let inner = &*self.inner;
        let _changing = lock(&inner.changing);
        let ours: Vec<Subnet> = {
            let state = inner.state();
            if state
                .networks
                .values()
                .any(|live| live.record.name == spec.name)
                && !PREDEFINED.contains(&spec.name.as_str())
            {
                return Err(NetworkError::NameTaken(spec.name));
            }
            state
                .networks
                .values()
                .flat_map(|live| live.record.subnets.iter().map(|config| config.subnet))
                .collect()
        };
        let mut taken = taken_subnets(&mut lock(&inner.host), 0)?;
        taken.extend(&ours);
        let surroundings = Surroundings {
            config: &inner.config,
            taken: &taken,
            ours: &ours,
            ula: inner.ula,
        };
        let record = plan::user_network(spec, &surroundings)?;
        let options = BridgeOptions::parse(&record.options, inner.config.mtu)?;
        if inner
            .state()
            .networks
            .values()
            .any(|live| live.record.bridge == record.bridge)
        {
            return Err(NetworkError::Conflict(format!(
                "cannot create network {} ({}): bridge name {} is in use by another network",
                record.id, record.name, record.bridge
            )));
        }
        let (index, made) = bridge::ensure(
            &mut lock(&inner.host),
            &inner.worker,
            &record,
            &options,
            &inner.instance.alias(),
        )?;
        let elements = bridge::elements(&record, &options);
        let done = inner
            .firewall
            .add(&elements)
            .map_err(|source| {
                NetworkError::kernel(
                    format!("add network {} to the firewall", record.name),
                    source,
                )
            })
            .and_then(|()| {
                let mut batch = Batch::new();
                batch.put(TABLE, record.id.clone(), &record);
                inner
                    .store
                    .commit(batch)
                    .map_err(|source| store_error(&record.name, source))
            });
        if let Err(error) = done {
            drop(inner.firewall.remove(&elements));
            if made {
                drop(inner.delete_link(index));
            }
            return Err(error);
        }
        let mut state = inner.state();
        state
            .networks
            .insert(record.id.clone(), Live::new(record.clone(), options, index));
        let guard = forwarding::enable(&inner.store, &inner.config, &inner.worker, &state)?;
        drop(state);
        inner
            .firewall
            .set_options(guard.options(&inner.config))
            .map_err(|source| NetworkError::kernel("change the nftables table", source))?;
        Ok(record)
    }

    /// Removes a network by name, id or id prefix and returns what it was.
    pub fn remove(&self, reference: &str) -> Result<Network> {
        let inner = &*self.inner;
        let _changing = lock(&inner.changing);
        let (record, options, index) = {
            let mut state = inner.state();
            let live = state.find(reference)?;
            let record = Arc::clone(&live.record);
            if record.predefined {
                return Err(NetworkError::PredefinedRemove(record.name.clone()));
            }
            if !live.endpoints.is_empty() {
                let endpoints: Vec<String> = live
                    .endpoints
                    .values()
                    .map(|endpoint| {
                        format!(
                            "name:{:?} id:{:?}",
                            endpoint.container_name,
                            short(&endpoint.endpoint_id)
                        )
                    })
                    .collect();
                return Err(NetworkError::ActiveEndpoints {
                    name: record.name.clone(),
                    id: record.id.clone(),
                    endpoints: endpoints.join(", "),
                });
            }
            // Out of sight first: no container can join what is being taken down.
            let live = state
                .networks
                .remove(&record.id)
                .ok_or_else(|| NetworkError::NotFound(reference.to_owned()))?;
            (record, live.options, live.bridge)
        };
        let mut batch = Batch::new();
        batch.delete(TABLE, record.id.clone());
        if let Err(source) = inner.store.commit(batch) {
            let live = Live::new((*record).clone(), (*options).clone(), index);
            inner.state().networks.insert(record.id.clone(), live);
            return Err(store_error(&record.name, source));
        }
        // From here on it is gone; what the kernel refuses to give up now is an orphan that the
        // next start removes.
        if let Err(error) = inner.firewall.remove(&bridge::elements(&record, &options)) {
            tracing::warn!(network = %record.name, error = %error, "cannot remove network from the firewall");
        }
        if let Err(error) = inner.delete_link(index) {
            tracing::warn!(network = %record.name, error = %error, "cannot remove bridge");
        }
        Ok((*record).clone())
    }

    /// A network by full id, name or unique id prefix.
    pub fn find(&self, reference: &str) -> Result<Network> {
        Ok((*self.inner.state().find(reference)?.record).clone())
    }

    /// The same with the endpoints of its running containers.
    pub fn inspect(&self, reference: &str) -> Result<NetworkView> {
        Ok(view(self.inner.state().find(reference)?))
    }

    /// All networks with the endpoints of their running containers, oldest first.
    pub fn list(&self) -> Vec<NetworkView> {
        let mut views: Vec<NetworkView> = self.inner.state().networks.values().map(view).collect();
        views.sort_by(|one, other| one.network.created.cmp(&other.network.created));
        views
    }

    /// Checks what can be checked before a container starts: that the network exists, that
    /// addresses, aliases and options are allowed there. Returns the network.
    pub fn check_endpoint(&self, request: &EndpointRequest) -> Result<Network> {
        let state = self.inner.state();
        let live = state.find(&request.network)?;
        sandbox::check_endpoint(&live.record, request)?;
        Ok((*live.record).clone())
    }

    /// Makes the network of a starting container. On failure nothing of it is left.
    pub fn prepare(&self, request: &AttachRequest) -> Result<Sandbox> {
        sandbox::prepare(&self.inner, request, None)
    }

    /// The same in the new and empty namespace `netns`: one that belongs to the container's user
    /// namespace, so that the container's root may do there what a root may. [`Mode::Host`] has
    /// no use for it.
    ///
    /// [`Mode::Host`]: crate::Mode::Host
    pub fn prepare_in(&self, request: &AttachRequest, netns: OwnedFd) -> Result<Sandbox> {
        sandbox::prepare(&self.inner, request, Some(netns))
    }

    /// Adds a network to a running container; `pid` is one of its processes.
    pub fn connect(
        &self,
        container_id: &str,
        pid: u32,
        request: &EndpointRequest,
    ) -> Result<Change> {
        sandbox::connect(&self.inner, container_id, pid, request)
    }

    /// Takes a running container out of a network.
    pub fn disconnect(&self, container_id: &str, pid: u32, network: &str) -> Result<Change> {
        sandbox::disconnect(&self.inner, container_id, pid, network)
    }

    /// Tells the networks a running container's new name.
    pub fn rename(&self, container_id: &str, name: &str) {
        sandbox::rename(&self.inner, container_id, name);
    }

    /// Gives back what a container that ended had: addresses, ports, elements, names. Nothing
    /// happens for an unknown container.
    pub fn release(&self, container_id: &str) {
        sandbox::release(&self.inner, container_id);
    }

    /// Removes everything this instance has in the kernel: bridges, table, what is left of
    /// sandboxes. For an instance that goes away for good, such as a test's.
    pub fn tear_down(&self) -> Result<()> {
        let inner = &*self.inner;
        let _changing = lock(&inner.changing);
        let failed = |source| NetworkError::kernel("remove network interfaces", source);
        let links = lock(&inner.host).links().map_err(failed)?;
        let alias = inner.instance.alias();
        for link in links.iter().filter(|link| link.alias == alias) {
            inner.delete_link(link.index).map_err(failed)?;
        }
        inner
            .firewall
            .delete()
            .map_err(|source| NetworkError::kernel("remove the nftables table", source))
    }
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The index of a network's bridge; one that somebody removed is made again.
    pub(crate) fn bridge_of(&self, network: &Network) -> Result<u32> {
        let (known, options) = {
            let state = self.state();
            let live = state.find(&network.id)?;
            (live.bridge, Arc::clone(&live.options))
        };
        if self
            .lookup
            .index_of(&network.bridge)
            .is_ok_and(|index| index == known)
        {
            return Ok(known);
        }
        tracing::warn!(network = %network.name, bridge = %network.bridge, "the bridge was removed; making it again");
        let mut host = lock(&self.host);
        let (index, _) = bridge::ensure(
            &mut host,
            &self.worker,
            network,
            &options,
            &self.instance.alias(),
        )?;
        drop(host);
        if let Some(live) = self.state().networks.get_mut(&network.id) {
            live.bridge = index;
        }
        if network.is_default_bridge()
            && let Some(pool) = self.on_bridge.get()
        {
            for stale in pool.drain() {
                sandbox::discard_on_bridge(self, stale);
            }
        }
        Ok(index)
    }

    fn delete_link(&self, index: u32) -> std::io::Result<()> {
        if index == 0 {
            return Ok(());
        }
        let mut requests = Requests::new();
        requests.delete_link(index);
        match lock(&self.host).execute(requests) {
            Err(refused)
                if refused.error.raw_os_error()
                    != Some(rustix::io::Errno::NODEV.raw_os_error()) =>
            {
                Err(refused.error)
            }
            _ => Ok(()),
        }
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

pub(crate) fn store_error(name: &str, source: wharf_state::StateError) -> NetworkError {
    NetworkError::Store {
        name: name.to_owned(),
        source,
    }
}

fn view(live: &Live) -> NetworkView {
    NetworkView {
        network: (*live.record).clone(),
        endpoints: live.endpoints.values().cloned().collect(),
    }
}

/// Subnets in use on the host: its addresses and routes but for those on the interface `except`.
fn taken_subnets(host: &mut Socket, except: u32) -> Result<Vec<Subnet>> {
    let failed = |source| NetworkError::kernel("list the host's addresses and routes", source);
    let mut taken: Vec<Subnet> = host
        .addresses()
        .map_err(failed)?
        .into_iter()
        .filter(|(index, address, _)| *index != except && !address.is_loopback())
        .filter_map(|(_, address, prefix)| Subnet::containing(address, prefix))
        .collect();
    let routes = host.routes().map_err(failed)?;
    taken.extend(
        routes
            .iter()
            .filter(|route| except == 0 || route.output != except)
            .map(|route| route.destination),
    );
    Ok(taken)
}

/// This host's own range of unique local addresses, chosen once.
fn ula_pool(store: &Store) -> Result<crate::config::AddressPool> {
    const KEY: &str = "ula";
    let failed = |source| store_error("IPv6 prefix", source);
    let global_id = match store.get::<[u8; 5]>(META, KEY).map_err(failed)? {
        Some(kept) => kept,
        None => {
            let fresh = wharf_ids::random_bytes::<5>();
            let mut batch = Batch::new();
            batch.put(META, KEY, &fresh);
            store.commit(batch).map_err(failed)?;
            fresh
        }
    };
    Ok(ipam::ula_pool(global_id))
}

fn predefined_records(
    host: &mut Socket,
    config: &Config,
    instance: &Instance,
    records: &[Network],
    ula: crate::config::AddressPool,
) -> Result<Vec<Network>> {
    let old = |name: &str| {
        records
            .iter()
            .find(|record| record.predefined && record.name == name)
            .cloned()
    };
    let name = bridge_name(host, config, instance)?;
    let look_up = |host: &mut Socket| {
        host.link_named(&name)
            .map_err(|source| NetworkError::kernel(format!("look up bridge {name}"), source))
    };
    let index = look_up(host)?.map_or(0, |link| link.index);
    let mut taken = taken_subnets(host, index)?;
    let users: Vec<Subnet> = records
        .iter()
        .filter(|record| !record.predefined)
        .flat_map(|record| record.subnets.iter().map(|config| config.subnet))
        .collect();
    taken.extend(&users);
    let surroundings = Surroundings {
        config,
        taken: &taken,
        ours: &users,
        ula,
    };
    Ok(vec![
        plan::default_bridge(old("bridge"), &name, &surroundings)?,
        plan::predefined("host", Driver::Host, old("host")),
        plan::predefined("none", Driver::Null, old("none")),
    ])
}

/// The default bridge's name: the first of its candidates that is free or ours.
fn bridge_name(host: &mut Socket, config: &Config, instance: &Instance) -> Result<String> {
    if let Some(name) = &config.bridge {
        if name == "none" {
            return Err(NetworkError::Unsupported(
                "running without the default bridge (bridge \"none\") is not supported".to_owned(),
            ));
        }
        return crate::options::interface_name(name);
    }
    let candidates = instance.bridge_names();
    for name in &candidates {
        let link = host
            .link_named(name)
            .map_err(|source| NetworkError::kernel(format!("look up bridge {name}"), source))?;
        if link.is_none_or(|link| link.alias == instance.alias()) {
            return Ok(name.clone());
        }
    }
    Err(NetworkError::Conflict(format!(
        "bridge names {} belong to somebody else",
        candidates.join(" and ")
    )))
}

/// Elements of all networks that are there.
pub(crate) fn network_elements(state: &State) -> Vec<Element> {
    state
        .networks
        .values()
        .filter(|live| live.record.driver == Driver::Bridge)
        .flat_map(|live| bridge::elements(&live.record, &live.options))
        .collect()
}
