//! Answer of `GET /info`.

use std::collections::BTreeMap;

use wharf_api_types::system::{
    AddressPool, Commit, FirewallBackend, IndexInfo, Info, Plugins, RegistryConfig, Runtime, Swarm,
};
use wharf_api_types::time;
use wharf_fault::Result;

use super::{COMPATIBLE_VERSION, WHARF_VERSION, engine_id, host};
use crate::Engine;
use crate::config::{BUILT_IN_RUNTIMES, DaemonConfig};
use crate::container::Confinement;

impl Engine {
    /// The engine, its host and its settings.
    pub fn info(&self) -> Result<Info> {
        let daemon = self.settings();
        let counts = self.containers.counts();
        let rootless = self.config.rootless.as_ref();
        let cgroups = match rootless {
            Some(rootless) => host::delegated(rootless.cgroup_parent.as_deref().ok()),
            None => host::cgroups(),
        };
        let own_cgroup = rootless.map(|rootless| &rootless.cgroup_parent);
        let without_cgroups = own_cgroup.is_some_and(|parent| parent.is_err());
        let (operating_system, os_version) = host::distribution();
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        let environment = |name: &str| std::env::var(name).unwrap_or_default();
        let commit = || Commit {
            id: format!("wharf {WHARF_VERSION}"),
            expected: String::new(),
        };
        let mut warnings = Vec::new();
        for (there, what) in [
            (cgroups.memory, "No memory limit support"),
            (cgroups.swap, "No swap limit support"),
            (cgroups.cpu, "No cpu cfs quota support"),
            (cgroups.cpuset, "No cpuset support"),
            (cgroups.pids, "No pids limit support"),
        ] {
            if !there {
                warnings.push(format!("WARNING: {what}"));
            }
        }
        match own_cgroup {
            Some(Err(reason)) => warnings.push(format!(
                "WARNING: Running in rootless-mode without cgroups. Limits are discarded: {reason}"
            )),
            Some(Ok(parent)) => warnings.extend(host::kept_back(parent)),
            None => {}
        }
        if let Some(Err(reason)) = rootless.map(|rootless| &rootless.uplink) {
            warnings.push(format!(
                "WARNING: Containers have no network to the outside: {reason}"
            ));
        }
        Ok(Info {
            id: engine_id(&self.store)?,
            containers: counts.running + counts.paused + counts.stopped,
            containers_running: counts.running,
            containers_paused: counts.paused,
            containers_stopped: counts.stopped,
            images: self.images.count(),
            driver: "overlay2".to_owned(),
            driver_status: vec![
                ["Supports d_type".to_owned(), "true".to_owned()],
                ["Using metacopy".to_owned(), "false".to_owned()],
                ["Native Overlay Diff".to_owned(), "true".to_owned()],
            ],
            plugins: Plugins {
                volume: words(&["local"]),
                network: words(&["bridge", "host", "null"]),
                authorization: None,
                log: words(&["json-file", "local", "none"]),
            },
            memory_limit: cgroups.memory,
            swap_limit: cgroups.swap,
            cpu_cfs_period: cgroups.cpu,
            cpu_cfs_quota: cgroups.cpu,
            cpu_shares: cgroups.cpu,
            cpu_set: cgroups.cpuset,
            pids_limit: cgroups.pids,
            ipv4_forwarding: host::sysctl_is_on("net/ipv4/ip_forward"),
            debug: daemon.debug,
            n_fd: host::count_own("fd"),
            oom_kill_disable: cgroups.memory && cgroups.version == "1",
            n_goroutines: host::count_own("task"),
            system_time: time::now(),
            logging_driver: daemon.log_driver.clone(),
            cgroup_driver: if without_cgroups {
                "none"
            } else if daemon.systemd_cgroup {
                "systemd"
            } else {
                "cgroupfs"
            }
            .to_owned(),
            cgroup_version: cgroups.version.to_owned(),
            n_events_listener: i64::try_from(self.events.listeners()).unwrap_or(i64::MAX),
            kernel_version: host::kernel_version(),
            operating_system,
            os_version,
            os_type: "linux".to_owned(),
            architecture: host::machine(),
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            registry_config: registries(&daemon),
            n_cpu: host::cpu_count(),
            mem_total: host::memory_total(),
            docker_root_dir: self.config.data_root.display().to_string(),
            http_proxy: environment("HTTP_PROXY"),
            https_proxy: environment("HTTPS_PROXY"),
            no_proxy: environment("NO_PROXY"),
            name: host::name(),
            labels: daemon.labels.clone(),
            experimental_build: daemon.experimental,
            server_version: COMPATIBLE_VERSION.to_owned(),
            runtimes: runtimes(&daemon),
            default_runtime: daemon.default_runtime.clone(),
            swarm: Swarm {
                local_node_state: "inactive".to_owned(),
                ..Swarm::default()
            },
            live_restore_enabled: true,
            init_binary: "docker-init".to_owned(),
            containerd_commit: commit(),
            runc_commit: commit(),
            init_commit: commit(),
            security_options: security_options(
                &daemon,
                cgroups.version,
                self.containers.confinement(),
                rootless.is_some(),
            ),
            default_address_pools: daemon
                .default_address_pools
                .iter()
                .map(|pool| AddressPool {
                    base: pool.base.clone(),
                    size: i64::from(pool.size),
                })
                .collect(),
            firewall_backend: Some(FirewallBackend {
                driver: "nftables".to_owned(),
                info: Vec::new(),
            }),
            warnings: Some(warnings),
            ..Info::default()
        })
    }
}

/// What confines containers here, in Docker's words and order.
fn security_options(
    daemon: &DaemonConfig,
    cgroup_version: &str,
    confinement: Confinement,
    rootless: bool,
) -> Vec<String> {
    let profile = match daemon.seccomp_profile.as_str() {
        "" => "builtin",
        other => other,
    };
    let own_cgroups = daemon.default_cgroupns_mode == "private"
        || daemon.default_cgroupns_mode.is_empty() && cgroup_version == "2";
    let seccomp = format!("name=seccomp,profile={profile}");
    [
        (confinement.apparmor, "name=apparmor"),
        (true, seccomp.as_str()),
        (confinement.selinux, "name=selinux"),
        (confinement.remaps_users, "name=userns"),
        (rootless, "name=rootless"),
        (own_cgroups, "name=cgroupns"),
        (daemon.no_new_privileges, "name=no-new-privileges"),
    ]
    .into_iter()
    .filter(|(there, _)| *there)
    .map(|(_, name)| name.to_owned())
    .collect()
}

/// The configured runtimes, and the built-in one under the names nobody took.
fn runtimes(daemon: &DaemonConfig) -> BTreeMap<String, Runtime> {
    let built_in = BUILT_IN_RUNTIMES.iter().map(|name| {
        let runtime = Runtime {
            path: "wharf".to_owned(),
            runtime_args: Vec::new(),
        };
        ((*name).to_owned(), runtime)
    });
    let configured = daemon.runtimes.iter().map(|(name, runtime)| {
        let runtime = Runtime {
            path: runtime.path.display().to_string(),
            runtime_args: runtime.arguments.clone(),
        };
        (name.clone(), runtime)
    });
    built_in.chain(configured).collect()
}

fn registries(daemon: &DaemonConfig) -> RegistryConfig {
    let hub = IndexInfo {
        name: "docker.io".to_owned(),
        mirrors: daemon.registry_mirrors.clone(),
        secure: true,
        official: true,
    };
    let mut config = RegistryConfig {
        insecure_registry_cidrs: Vec::new(),
        index_configs: BTreeMap::from([("docker.io".to_owned(), hub)]),
        mirrors: daemon.registry_mirrors.clone(),
    };
    for registry in &daemon.insecure_registries {
        if registry.contains('/') {
            config.insecure_registry_cidrs.push(registry.clone());
        } else {
            let index = IndexInfo {
                name: registry.clone(),
                ..IndexInfo::default()
            };
            config.index_configs.insert(registry.clone(), index);
        }
    }
    // Always: nobody can listen in on the loopback interface.
    config
        .insecure_registry_cidrs
        .extend(["::1/128".to_owned(), "127.0.0.0/8".to_owned()]);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_options_follow_docker() {
        let daemon = DaemonConfig::default();
        let none = Confinement {
            apparmor: false,
            selinux: false,
            remaps_users: false,
        };
        let all = Confinement {
            apparmor: true,
            selinux: true,
            remaps_users: true,
        };
        assert_eq!(
            security_options(&daemon, "1", none, false),
            ["name=seccomp,profile=builtin"]
        );
        let unconfined = DaemonConfig {
            seccomp_profile: "unconfined".to_owned(),
            no_new_privileges: true,
            ..DaemonConfig::default()
        };
        assert_eq!(
            security_options(&unconfined, "2", all, true),
            [
                "name=apparmor",
                "name=seccomp,profile=unconfined",
                "name=selinux",
                "name=userns",
                "name=rootless",
                "name=cgroupns",
                "name=no-new-privileges"
            ]
        );
    }
}
