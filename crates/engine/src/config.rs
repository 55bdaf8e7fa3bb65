//! The daemon's configuration: `daemon.json` and flags, merged, checked, and partly reloadable.
//!
//! ```text
//! daemon.json ─▶ Settings ─┐
//!                          ├─ merge ─▶ Settings ─▶ DaemonConfig (every value known and valid)
//! flags ───────▶ Settings ─┘
//! ```
//!
//! Keys are Docker's. A key nobody knows is refused by name, as is one of Docker's that this
//! version of Wharf does not honour: nothing is accepted and ignored.

mod resolve;
mod runtimes;
mod size;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wharf_fault::{Error, Result};

pub use runtimes::{BUILT_IN_RUNTIMES, Runtime, RuntimeSetting};
pub use size::parse_bytes;

/// Settings as a file or the flags give them; `None` is "not given".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of `daemon.json`; DaemonConfig says what they mean"
)]
pub struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_insecure_tcp: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_root: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_address_pools: Option<Vec<Pool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_cgroupns_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_ipc_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_runtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_shm_size: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_ulimits: Option<BTreeMap<String, Ulimit>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_opts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_search: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec_opts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec_root: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experimental: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<BTreeMap<String, bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed_cidr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_registries: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_forward: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_masq: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_restore: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_opts: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_downloads: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_uploads: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_download_attempts: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pidfile: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_mirrors: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtimes: Option<BTreeMap<String, RuntimeSetting>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_driver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlscacert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlscert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlskey: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlsverify: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userland_proxy: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns_remap: Option<String>,
}

/// Keys of Docker's that this version of Wharf knows and does not honour.
const NOT_HONOURED: &[&str] = &[
    "allow-direct-routing",
    "api-cors-header",
    "authorization-plugins",
    "bip6",
    "bridge-accept-fwmark",
    "builder",
    "cdi-spec-dirs",
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cri-containerd",
    "default-gateway",
    "default-gateway-v6",
    "default-network-opts",
    "firewall-backend",
    "fixed-cidr-v6",
    "host-gateway-ip",
    "host-gateway-ips",
    "http-proxy",
    "https-proxy",
    "init-path",
    "ip-forward-no-drop",
    "ip6tables",
    "log-format",
    "metrics-addr",
    "min-api-version",
    "network-control-plane-mtu",
    "no-proxy",
    "node-generic-resources",
    "nri-opts",
    "oom-score-adjust",
    "proxies",
    "raw-logs",
    "rootless",
    "storage-opts",
    "swarm-default-advertise-addr",
    "userland-proxy-path",
];

/// A pool that networks without a subnet of their own are cut from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// `172.17.0.0/16`.
    pub base: String,
    /// Prefix length of each network.
    pub size: u8,
}

/// A resource limit for containers that name none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Ulimit {
    /// `nofile`; as in the key.
    #[serde(default)]
    pub name: String,
    /// The limit a process may raise to, -1 for none.
    pub hard: i64,
    /// The limit, -1 for none.
    pub soft: i64,
}

/// Everything the daemon is configured with: checked, with defaults in place.
#[derive(Debug, Clone, PartialEq)]
pub struct DaemonConfig {
    /// Listen on TCP without TLS also on addresses that are not loopback.
    pub allow_insecure_tcp: bool,
    /// Address and prefix of the default bridge; empty for the first free pool.
    pub bip: String,
    /// Name of the default bridge; empty for `docker0`, `none` for no bridge network.
    pub bridge: String,
    /// Parent of all containers' cgroups; empty for the engine's own choice.
    pub cgroup_parent: String,
    /// Everything durable.
    pub data_root: PathBuf,
    /// Log more.
    pub debug: bool,
    /// Pools that networks are cut from; empty for Docker's.
    pub default_address_pools: Vec<Pool>,
    /// `host` or `private`; empty: what fits the host's cgroup version.
    pub default_cgroupns_mode: String,
    /// `private` or `shareable`.
    pub default_ipc_mode: String,
    /// The runtime of containers that name none.
    pub default_runtime: String,
    /// Bytes of `/dev/shm`.
    pub default_shm_size: i64,
    /// Resource limits of containers that name none.
    pub default_ulimits: BTreeMap<String, Ulimit>,
    /// Name servers of containers that name none.
    pub dns: Vec<IpAddr>,
    /// Resolver options of containers that name none.
    pub dns_opts: Vec<String>,
    /// Search domains of containers that name none.
    pub dns_search: Vec<String>,
    /// Everything that dies with the machine.
    pub exec_root: PathBuf,
    /// Experimental features.
    pub experimental: bool,
    /// Switches by name.
    pub features: BTreeMap<String, bool>,
    /// Containers of the default bridge get addresses from this part of it; empty for all.
    pub fixed_cidr: String,
    /// Group that may use the unix sockets.
    pub group: String,
    /// Whether the group was named, so that a missing one is an error.
    pub group_given: bool,
    /// Addresses to listen on; empty for the default socket.
    pub hosts: Vec<String>,
    /// Containers of the default bridge reach each other.
    pub icc: bool,
    /// Run an init in containers that do not say.
    pub init: bool,
    /// Registries without TLS, by host or network.
    pub insecure_registries: Vec<String>,
    /// Host address of published ports that name none.
    pub ip: IpAddr,
    /// Switch on forwarding in the kernel.
    pub ip_forward: bool,
    /// Containers reach the outside under the host's address.
    pub ip_masq: bool,
    /// Program the firewall.
    pub iptables: bool,
    /// IPv6 on the default bridge.
    pub ipv6: bool,
    /// `key=value` labels of the daemon.
    pub labels: Vec<String>,
    /// Log driver of containers that name none.
    pub log_driver: String,
    /// `debug`, `info`, `warn`, `error` or `fatal`.
    pub log_level: String,
    /// Log options of containers that name none.
    pub log_opts: BTreeMap<String, String>,
    /// Layers pulled at a time, per pull.
    pub max_concurrent_downloads: usize,
    /// Layers pushed at a time, per push.
    pub max_concurrent_uploads: usize,
    /// Attempts at a layer.
    pub max_download_attempts: usize,
    /// MTU of bridges; 0 for the default.
    pub mtu: u32,
    /// Processes of containers gain no privileges by exec.
    pub no_new_privileges: bool,
    /// Containers get SELinux labels where the host has SELinux.
    pub selinux_enabled: bool,
    /// The daemon's pid file; empty for none.
    pub pidfile: PathBuf,
    /// Mirrors of Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// OCI runtimes beside the built-in one, by name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// File of the default seccomp profile; empty for the built-in one, `unconfined` for none.
    pub seccomp_profile: String,
    /// Seconds that containers get to stop; negative for no limit.
    pub shutdown_timeout: i64,
    /// Snapshotter; empty for the best one.
    pub storage_driver: String,
    /// Use TLS on TCP.
    pub tls: bool,
    /// Authorities of client certificates.
    pub tlscacert: PathBuf,
    /// The server's certificate.
    pub tlscert: PathBuf,
    /// The server's key.
    pub tlskey: PathBuf,
    /// systemd makes the containers' cgroups.
    pub systemd_cgroup: bool,
    /// Clients have to show a certificate.
    pub tlsverify: bool,
    /// Relay what the kernel cannot forward.
    pub userland_proxy: bool,
    /// Whose subordinate ids containers run with: `default`, `user[:group]` or `uid[:gid]`; empty for
    /// the host's own.
    pub userns_remap: String,
}

impl Default for DaemonConfig {
    fn default() -> Self {
        DaemonConfig {
            allow_insecure_tcp: false,
            bip: String::new(),
            bridge: String::new(),
            cgroup_parent: String::new(),
            data_root: PathBuf::from("/var/lib/wharf"),
            debug: false,
            default_address_pools: Vec::new(),
            default_cgroupns_mode: String::new(),
            default_ipc_mode: "private".to_owned(),
            default_runtime: "runc".to_owned(),
            default_shm_size: 64 * 1024 * 1024,
            default_ulimits: BTreeMap::new(),
            dns: Vec::new(),
            dns_opts: Vec::new(),
            dns_search: Vec::new(),
            exec_root: PathBuf::from("/run/wharf"),
            experimental: false,
            features: BTreeMap::new(),
            fixed_cidr: String::new(),
            group: "docker".to_owned(),
            group_given: false,
            hosts: Vec::new(),
            icc: true,
            init: false,
            insecure_registries: Vec::new(),
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ip_forward: true,
            ip_masq: true,
            iptables: true,
            ipv6: false,
            labels: Vec::new(),
            log_driver: "json-file".to_owned(),
            log_level: "info".to_owned(),
            log_opts: BTreeMap::new(),
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
            mtu: 0,
            no_new_privileges: false,
            selinux_enabled: false,
            pidfile: PathBuf::new(),
            registry_mirrors: Vec::new(),
            runtimes: BTreeMap::new(),
            seccomp_profile: String::new(),
            shutdown_timeout: 15,
            storage_driver: String::new(),
            tls: false,
            tlscacert: PathBuf::new(),
            tlscert: PathBuf::new(),
            tlskey: PathBuf::new(),
            systemd_cgroup: false,
            tlsverify: false,
            userland_proxy: true,
            userns_remap: String::new(),
        }
    }
}

impl Settings {
    /// Reads the text of a `daemon.json`.
    pub fn parse(text: &str) -> Result<Self> {
        // Windows editors put a byte order mark first; Docker skips it too.
        let text = text.trim_start_matches('\u{feff}');
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut object: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| Error::invalid(error.to_string()))?;
        if let Some(value) = object.remove("graph") {
            object.entry("data-root").or_insert(value);
        }
        let known = known_keys();
        let unknown: Vec<&str> = object
            .keys()
            .map(String::as_str)
            .filter(|key| !known.contains(*key) && !NOT_HONOURED.contains(key))
            .collect();
        if !unknown.is_empty() {
            return Err(Error::invalid(format!(
                "the following directives don't match any configuration option: {}",
                unknown.join(", ")
            )));
        }
        let refused: Vec<&str> = object
            .keys()
            .map(String::as_str)
            .filter(|key| NOT_HONOURED.contains(key))
            .collect();
        if !refused.is_empty() {
            return Err(Error::not_implemented(format!(
                "the following directives are not supported by this version of Wharf: {}",
                refused.join(", ")
            )));
        }
        // One key at a time, so that the error names it.
        for (key, value) in &object {
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            serde_json::from_value::<Self>(Value::Object(alone))
                .map_err(|error| Error::invalid(format!("invalid value for {key}: {error}")))?;
        }
        object.retain(|_, value| !value.is_null());
        serde_json::from_value(Value::Object(object))
            .map_err(|error| Error::invalid(error.to_string()))
    }

    /// Reads a `daemon.json`; `None` when there is none and none was asked for by name.
    pub fn load(path: &Path, required: bool) -> Result<Option<Self>> {
        let named = |error: Error| {
            let message = format!(
                "unable to configure the Docker daemon with file {}: {error}",
                path.display()
            );
            Error::new(error.kind(), message)
        };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map(Some).map_err(named),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => Ok(None),
            Err(error) => Err(named(Error::invalid(format!(
                "open {}: {error}",
                path.display()
            )))),
        }
    }

    /// Joins the settings of the flags and of the file. What both give is refused, as Docker does:
    /// nobody could say which one counts.
    pub fn merge(flags: Self, file: Self) -> Result<Self> {
        let (mut flags, mut file) = (flags.to_object(), file.to_object());
        // Docker: runtimes of both are taken.
        if let Some(Value::Object(more)) = flags.remove("runtimes") {
            match file.get_mut("runtimes") {
                Some(Value::Object(runtimes)) => runtimes.extend(more),
                _ => drop(file.insert("runtimes".to_owned(), Value::Object(more))),
            }
        }
        let conflicts: Vec<String> = flags
            .iter()
            .filter_map(|(key, flag)| {
                let file = file.get(key)?;
                Some(format!(
                    "{key}: (from flag: {}, from file: {})",
                    go_value(flag),
                    go_value(file)
                ))
            })
            .collect();
        if !conflicts.is_empty() {
            return Err(Error::invalid(format!(
                "the following directives are specified both as a flag and in the configuration file: {}",
                conflicts.join(", ")
            )));
        }
        let both: Map<String, Value> = flags.into_iter().chain(file).collect();
        serde_json::from_value(Value::Object(both))
            .map_err(|error| Error::invalid(error.to_string()))
    }

    fn to_object(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(object)) => object,
            other => unreachable!("a struct of settings is a JSON object, not {other:?}"),
        }
    }
}

/// The keys of [`Settings`].
fn known_keys() -> BTreeSet<&'static str> {
    struct Keys(BTreeSet<&'static str>);
    // The list of fields that serde derives is the only one there is.
    impl<'de> serde::Deserializer<'de> for &mut Keys {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: serde::de::Visitor<'de>>(
            self,
            _: V,
        ) -> std::result::Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom(
                "only the fields' names are wanted",
            ))
        }

        fn deserialize_struct<V: serde::de::Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> std::result::Result<V::Value, Self::Error> {
            self.0.extend(fields);
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
            unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut keys = Keys(BTreeSet::new());
    // Always an error, by design; the keys are the side effect.
    drop(Settings::deserialize(&mut keys));
    keys.0
}

/// A value as Go's `%v` prints it.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => format!(
            "[{}]",
            list.iter().map(go_value).collect::<Vec<_>>().join(" ")
        ),
        Value::Object(object) => {
            let entries: Vec<String> = object
                .iter()
                .map(|(key, value)| format!("{key}:{}", go_value(value)))
                .collect();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}

/// What [`DaemonConfig::reload`] did.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// The configuration from now on.
    pub config: DaemonConfig,
    /// Keys whose value changed.
    pub changed: Vec<&'static str>,
    /// Keys that differ in the file and take effect with the next start only.
    pub ignored: Vec<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(text: &str) -> Result<DaemonConfig> {
        DaemonConfig::resolve(Settings::parse(text)?)
    }

    fn refusal(text: &str) -> String {
        config(text).unwrap_err().to_string()
    }

    #[test]
    fn nothing_is_the_default() {
        assert_eq!(config("").unwrap(), DaemonConfig::default());
        assert_eq!(config("{}").unwrap(), DaemonConfig::default());
        assert_eq!(
            config("\u{feff}{\"debug\": null}").unwrap(),
            DaemonConfig::default()
        );
    }

    #[test]
    fn unknown_keys_are_named() {
        assert_eq!(
            refusal(r#"{"debug":true,"nope":1,"alsono":2}"#),
            "the following directives don't match any configuration option: nope, alsono"
        );
        assert!(
            refusal(r#"{"oom-score-adjust":1}"#)
                .contains("not supported by this version of Wharf: oom-score-adjust")
        );
        assert!(refusal(r#"{"debug":"yes"}"#).starts_with("invalid value for debug: "));
        assert!(!known_keys().iter().any(|key| NOT_HONOURED.contains(key)));
    }

    #[test]
    fn a_key_in_flag_and_file_is_a_conflict() {
        let flags = Settings {
            debug: Some(true),
            hosts: Some(vec!["unix:///a".into(), "tcp://b".into()]),
            ..Settings::default()
        };
        let file = Settings::parse(r#"{"debug":false,"hosts":["fd://"],"icc":false}"#).unwrap();
        assert_eq!(
            Settings::merge(flags, file.clone())
                .unwrap_err()
                .to_string(),
            "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: false), hosts: (from flag: [unix:///a tcp://b], from file: [fd://])"
        );
        let flags = Settings {
            data_root: Some("/x".into()),
            ..Settings::default()
        };
        let merged = Settings::merge(flags, file).unwrap();
        assert_eq!(
            (merged.icc, merged.data_root),
            (Some(false), Some("/x".into()))
        );
    }

    #[test]
    fn values_are_checked() {
        for (text, part) in [
            (r#"{"labels":["x"]}"#, "bad attribute format: x"),
            (r#"{"labels":["a=1","a=2"]}"#, "conflict labels for a"),
            (r#"{"log-level":"loud"}"#, "invalid logging level: loud"),
            (
                r#"{"max-concurrent-downloads":0}"#,
                "invalid max concurrent downloads: 0",
            ),
            (r#"{"mtu":-1}"#, "invalid default MTU: -1"),
            (r#"{"dns":["x"]}"#, "x is not an ip address"),
            (r#"{"ip":"x"}"#, "x"),
            (r#"{"bip":"x"}"#, "bip"),
            (r#"{"default-ipc-mode":"host"}"#, "host"),
            (r#"{"default-runtime":"kata"}"#, "kata"),
            (r#"{"storage-driver":"btrfs"}"#, "btrfs"),
            (r#"{"log-driver":"gelf"}"#, "gelf"),
            (r#"{"tlsverify":true}"#, "tlscacert"),
            (r#"{"live-restore":false}"#, "live-restore"),
            (r#"{"exec-opts":["native.cgroupdriver=none"]}"#, "none"),
            (
                r#"{"exec-opts":["native.cgroupdriver=systemd"],"cgroup-parent":"/x"}"#,
                "xxx.slice",
            ),
            (r#"{"default-shm-size":"64X"}"#, "64X"),
            (r#"{"bridge":"none"}"#, "bridge"),
            (r#"{"iptables":false}"#, "iptables"),
            (
                r#"{"features":{"containerd-snapshotter":false}}"#,
                "containerd-snapshotter=false",
            ),
            (r#"{"features":{"cdi":true}}"#, "cdi=true"),
            (r#"{"registry-mirrors":["ftp://x"]}"#, "ftp"),
            (
                r#"{"default-address-pools":[{"base":"10.0.0.0/16","size":8}]}"#,
                "10.0.0.0/16",
            ),
        ] {
            let found = refusal(text);
            assert!(found.contains(part), "{text}: {found}");
        }
        assert_eq!(
            config(r#"{"default-shm-size":"128M"}"#)
                .unwrap()
                .default_shm_size,
            128 << 20
        );
        assert_eq!(
            config(r#"{"default-shm-size":1000}"#)
                .unwrap()
                .default_shm_size,
            1000
        );
    }

    #[test]
    fn a_reload_changes_only_what_it_can() {
        let old = config(r#"{"debug":false,"icc":true}"#).unwrap();
        let new = config(r#"{"debug":true,"icc":false,"labels":["a=b"]}"#).unwrap();
        let reload = old.reload(new);
        assert_eq!(reload.changed, ["debug", "labels"]);
        assert_eq!(reload.ignored, ["icc"]);
        assert!(reload.config.debug && reload.config.icc);
    }

    proptest! {
        #[test]
        fn no_file_panics(text in ".*") {
            drop(config(&text));
        }

        #[test]
        fn no_value_panics(key in proptest::sample::select(Vec::from_iter(known_keys())), value in ".*", number: i64) {
            drop(config(&serde_json::json!({ key: value }).to_string()));
            drop(config(&serde_json::json!({ key: [value] }).to_string()));
            drop(config(&serde_json::json!({ key: number }).to_string()));
        }
    }
}
