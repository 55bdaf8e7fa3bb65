//! The engine itself: version, information, disk usage.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Answer of `GET /version`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// The product.
    pub platform: PlatformName,
    /// Parts of the engine.
    pub components: Vec<Component>,
    /// Version of the engine.
    pub version: String,
    /// Newest API version served.
    pub api_version: String,
    /// Oldest API version served.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// Source revision.
    pub git_commit: String,
    /// Compiler; Docker's name of the field.
    pub go_version: String,
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub arch: String,
    /// `uname -r`.
    pub kernel_version: String,
    /// Experimental features are on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub experimental: bool,
    /// When it was built, RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_time: String,
}

/// The product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlatformName {
    /// Name.
    pub name: String,
}

/// A part of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Component {
    /// `Engine`, `runtime`, …
    pub name: String,
    /// Its version.
    pub version: String,
    /// More.
    pub details: BTreeMap<String, String>,
}

/// Answer of `GET /info`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// Made once per data root.
    #[serde(rename = "ID")]
    pub id: String,
    /// All containers.
    pub containers: i64,
    /// Running ones.
    pub containers_running: i64,
    /// Paused ones.
    pub containers_paused: i64,
    /// Others.
    pub containers_stopped: i64,
    /// Images.
    pub images: i64,
    /// Snapshotter.
    pub driver: String,
    /// About the snapshotter: pairs of name and value.
    pub driver_status: Vec<[String; 2]>,
    /// Plugins by kind.
    pub plugins: Plugins,
    /// Limits the kernel offers.
    pub memory_limit: bool,
    /// Limits the kernel offers.
    pub swap_limit: bool,
    /// Limits the kernel offers.
    pub cpu_cfs_period: bool,
    /// Limits the kernel offers.
    pub cpu_cfs_quota: bool,
    /// Limits the kernel offers.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// Limits the kernel offers.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// Limits the kernel offers.
    pub pids_limit: bool,
    /// The kernel forwards IPv4.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Bridged frames pass iptables (API below 1.50).
    #[serde(rename = "BridgeNfIptables", skip_serializing_if = "Option::is_none")]
    pub bridge_nf_iptables: Option<bool>,
    /// Bridged frames pass ip6tables (API below 1.50).
    #[serde(rename = "BridgeNfIp6tables", skip_serializing_if = "Option::is_none")]
    pub bridge_nf_ip6tables: Option<bool>,
    /// Debugging is on.
    pub debug: bool,
    /// Open files of the daemon.
    #[serde(rename = "NFd")]
    pub n_fd: i64,
    /// The kernel can be kept from killing when out of memory.
    pub oom_kill_disable: bool,
    /// Threads of the daemon; Docker's name of the field.
    #[serde(rename = "NGoroutines")]
    pub n_goroutines: i64,
    /// Now, RFC 3339.
    pub system_time: String,
    /// Default log driver.
    pub logging_driver: String,
    /// `cgroupfs`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Open event streams.
    #[serde(rename = "NEventsListener")]
    pub n_events_listener: i64,
    /// `uname -r`.
    pub kernel_version: String,
    /// Name of the distribution.
    pub operating_system: String,
    /// Version of the distribution.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// `x86_64`.
    pub architecture: String,
    /// The registry for names without one.
    pub index_server_address: String,
    /// Registries.
    pub registry_config: RegistryConfig,
    /// Processors.
    #[serde(rename = "NCPU")]
    pub n_cpu: i64,
    /// Bytes.
    pub mem_total: i64,
    /// For swarm; null.
    pub generic_resources: Option<Vec<Value>>,
    /// Data root.
    pub docker_root_dir: String,
    /// Proxy for registries.
    pub http_proxy: String,
    /// Proxy for registries.
    pub https_proxy: String,
    /// Hosts reached without proxy.
    pub no_proxy: String,
    /// Host name.
    pub name: String,
    /// The daemon's labels.
    pub labels: Vec<String>,
    /// Experimental features are on.
    pub experimental_build: bool,
    /// Version of the engine.
    pub server_version: String,
    /// Runtimes by name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The one used when none is named.
    pub default_runtime: String,
    /// Swarm.
    pub swarm: Swarm,
    /// Containers go on without the daemon: always.
    pub live_restore_enabled: bool,
    /// Windows only; empty.
    pub isolation: String,
    /// The init used by `--init`.
    pub init_binary: String,
    /// Docker's parts; ours are inside.
    pub containerd_commit: Commit,
    /// Docker's parts; ours are inside.
    pub runc_commit: Commit,
    /// Docker's parts; ours are inside.
    pub init_commit: Commit,
    /// `name=seccomp,profile=builtin`, …
    pub security_options: Vec<String>,
    /// Empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product_license: String,
    /// Pools for networks without a subnet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_address_pools: Vec<AddressPool>,
    /// How the firewall is programmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<FirewallBackend>,
    /// Directories with device descriptions.
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Vec<String>,
    /// What the user should know.
    pub warnings: Option<Vec<String>>,
}

/// Plugins by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Plugins {
    /// Volume drivers.
    pub volume: Vec<String>,
    /// Network drivers.
    pub network: Vec<String>,
    /// Authorization plugins; null.
    pub authorization: Option<Vec<String>>,
    /// Log drivers.
    pub log: Vec<String>,
}

/// Registries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RegistryConfig {
    /// Networks whose registries need no TLS.
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    /// Known registries.
    pub index_configs: BTreeMap<String, IndexInfo>,
    /// Mirrors of Docker Hub.
    pub mirrors: Vec<String>,
}

/// A known registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IndexInfo {
    /// Host.
    pub name: String,
    /// Mirrors.
    pub mirrors: Vec<String>,
    /// TLS is required.
    pub secure: bool,
    /// Docker Hub.
    pub official: bool,
}

/// A runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Runtime {
    /// Program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Additional arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime_args: Vec<String>,
}

/// Swarm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Swarm {
    /// This node.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Its address.
    pub node_addr: String,
    /// `inactive`.
    pub local_node_state: String,
    /// It is a manager.
    pub control_available: bool,
    /// What is wrong.
    pub error: String,
    /// Managers; null.
    pub remote_managers: Option<Vec<Value>>,
}

/// A source revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Commit {
    /// The revision.
    #[serde(rename = "ID")]
    pub id: String,
    /// The expected revision (API below 1.48).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expected: String,
}

/// A pool for networks without a subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AddressPool {
    /// `172.17.0.0/16`.
    pub base: String,
    /// Prefix length of each network.
    pub size: i64,
}

/// How the firewall is programmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FirewallBackend {
    /// `nftables`.
    pub driver: String,
    /// Pairs of name and value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub info: Vec<[String; 2]>,
}
