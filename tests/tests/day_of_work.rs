//! A whole day of work with the reference client and root's engine: see [`wharf_tests::day`].

use wharf_tests::day::{self, Registries};
use wharf_tests::{Daemon, Host, docker_client, skip};

fn has_client(test: &str) -> bool {
    let found = docker_client().is_some();
    if !found {
        skip(test, "no docker client 28.x on this machine");
    }
    found
}

#[test]
fn morning_containers() {
    if has_client("morning_containers") {
        let host = Host::new();
        day::morning(&Daemon::start(&host));
    }
}

#[test]
fn noon_networks_and_volumes() {
    if has_client("noon_networks_and_volumes") {
        let host = Host::new();
        day::noon(&Daemon::start(&host));
    }
}

#[test]
fn afternoon_databases() {
    if has_client("afternoon_databases") {
        let host = Host::new();
        day::afternoon(&Daemon::start(&host));
    }
}

#[test]
fn evening_images_and_registries() {
    if has_client("evening_images_and_registries") {
        let host = Host::new();
        let registries = Registries::start(&host);
        day::evening(&Daemon::start(&host), &registries);
    }
}
