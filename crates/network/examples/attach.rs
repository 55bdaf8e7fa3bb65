//! How long the network of a starting container takes, in a network namespace of its own.
//!
//! `cargo run --release -p wharf-network --example attach`, as root. Prints medians in
//! microseconds: with a ready namespace, with published ports, on a user-defined network, without
//! a pool, and the release.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement for people to read"
)]

use std::time::{Duration, Instant};

use wharf_network::{
    AttachRequest, Config, DnsSettings, EndpointRequest, Mode, NetworkSpec, Networks, PortMapping,
    Protocol,
};
use wharf_state::Store;

const ROUNDS: usize = 200;

fn main() {
    std::thread::spawn(|| {
        wharf_sys::netns::unshare_network().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        for pool_size in [4, 0] {
            let store = Store::open(&folder.path().join(format!("{pool_size}.redb"))).unwrap();
            let config = Config {
                pool_size,
                ..Config::default()
            };
            let networks = Networks::open(store, config, runtime.handle().clone()).unwrap();
            networks.reconcile(Vec::new());
            networks
                .create(NetworkSpec {
                    name: "net".to_owned(),
                    ..NetworkSpec::default()
                })
                .unwrap();
            for (what, network, ports) in [
                ("bridge", "bridge", 0),
                ("bridge, 2 ports", "bridge", 2),
                ("user network", "net", 0),
                ("none", "none", 0),
            ] {
                measure(
                    &networks,
                    &format!("pool {pool_size}, {what}"),
                    network,
                    ports,
                );
            }
            networks.tear_down().unwrap();
        }
    })
    .join()
    .unwrap();
}

fn measure(networks: &Networks, what: &str, network: &str, ports: u16) {
    let (mut prepared, mut released) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let request = AttachRequest {
            container_id: format!("{round:064x}"),
            container_name: format!("c{round}"),
            hostname: "host".to_owned(),
            domainname: String::new(),
            mode: if network == "none" {
                Mode::None
            } else {
                Mode::Endpoints
            },
            endpoints: vec![EndpointRequest {
                network: network.to_owned(),
                ..EndpointRequest::default()
            }],
            ports: (0..ports)
                .map(|n| PortMapping {
                    container_port: 80 + n,
                    protocol: Protocol::Tcp,
                    host_ip: None,
                    host_port: 0,
                    host_port_end: 0,
                })
                .collect(),
            dns: DnsSettings::default(),
            extra_hosts: Vec::new(),
            links: Vec::new(),
        };
        // A container's life, in which the pool is filled again.
        std::thread::sleep(Duration::from_millis(6));
        let start = Instant::now();
        let sandbox = networks.prepare(&request).unwrap();
        prepared.push(start.elapsed());
        drop(sandbox);
        let start = Instant::now();
        networks.release(&request.container_id);
        released.push(start.elapsed());
    }
    prepared.sort();
    released.sort();
    let at = |sorted: &[Duration], part: usize| sorted[sorted.len() * part / 100].as_micros();
    println!(
        "{what:28} prepare p50 {:6} p95 {:6}   release p50 {:5} p95 {:5}   (µs)",
        at(&prepared, 50),
        at(&prepared, 95),
        at(&released, 50),
        at(&released, 95)
    );
}
