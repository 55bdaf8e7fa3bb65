//! Forwarding between interfaces: switched on where a network needs it.
//!
//! A host that forwarded nothing before must not become a router for its neighbours by it. So
//! that this is still known after a restart of the daemon, the store remembers in which boot and
//! network namespace it was us who switched it on.

use serde::{Deserialize, Serialize};
use wharf_state::{Batch, Store};

use crate::config::Config;
use crate::error::{NetworkError, Result};
use crate::netns::Worker;
use crate::network::Driver;
use crate::networks::{State, store_error};
use crate::nft::Options;
use crate::sysctl;

const META: &str = "network-meta";

/// Where we switched forwarding on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Switched {
    boot_id: String,
    netns: u64,
}

/// The families whose forwarding is our doing, so that foreign traffic has to be kept from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guard {
    ipv4: bool,
    ipv6: bool,
}

impl Guard {
    /// The firewall's options that follow.
    pub(crate) fn options(self, config: &Config) -> Options {
        Options {
            direct_routing: config.allow_direct_routing,
            guard4: self.ipv4,
            guard6: self.ipv6,
            relayed: config.bridge_namespace.is_some(),
        }
    }
}

/// Switches forwarding on if a network needs it and the configuration allows it.
pub(crate) fn enable(
    store: &Store,
    config: &Config,
    worker: &Worker,
    state: &State,
) -> Result<Guard> {
    let needed = |ipv6: bool| {
        config.ip_forward
            && state.networks.values().any(|live| {
                live.record.driver == Driver::Bridge
                    && !live.record.internal
                    && (!ipv6 || live.record.ipv6)
            })
    };
    Ok(Guard {
        ipv4: family(
            store,
            worker,
            "forwarding4",
            &["ipv4/ip_forward"],
            needed(false),
        )?,
        ipv6: family(
            store,
            worker,
            "forwarding6",
            &["ipv6/conf/default/forwarding", "ipv6/conf/all/forwarding"],
            needed(true),
        )?,
    })
}

/// Switches one family on where needed; whether it was us, now or earlier.
fn family(
    store: &Store,
    worker: &Worker,
    key: &str,
    paths: &'static [&'static str],
    needed: bool,
) -> Result<bool> {
    let failed = |source| store_error("forwarding state", source);
    let here = here(worker)
        .map_err(|source| NetworkError::kernel("identify the network namespace", source))?;
    let earlier = store
        .get::<Switched>(META, key)
        .map_err(failed)?
        .is_some_and(|switched| switched == here);
    let mut switched = false;
    for path in paths.iter().filter(|_| needed) {
        switched |= worker
            .at_home(|| {
                let off = sysctl::read(path)? == "0";
                if off {
                    sysctl::Settings::open().set(path, "1")?;
                }
                Ok(off)
            })
            .map_err(|source| NetworkError::kernel(format!("switch net/{path} on"), source))?;
    }
    if switched && !earlier {
        let mut batch = Batch::new();
        batch.put(META, key, &here);
        store.commit(batch).map_err(failed)?;
    }
    Ok(switched || earlier)
}

fn here(worker: &Worker) -> std::io::Result<Switched> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned();
    let netns = rustix::fs::fstat(worker.home())?.st_ino;
    Ok(Switched { boot_id, netns })
}
