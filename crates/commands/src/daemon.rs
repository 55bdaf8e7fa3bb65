//! The flags of `daemon`: their help, and how they become the keys of a `daemon.json`.
//!
//! The daemon itself is not here: the binary composes it. It gets the flags in the form of the
//! configuration file, so that there is one set of keys, checks and messages for both.

use serde_json::{Map, Value, json};

use crate::cli::{print, say_error};
use crate::command::{Args, Command, Flag, Kind};
use crate::outcome::Failure;
use crate::{help, matches};

/// What the command line of a daemon says.
#[derive(Debug, Default, PartialEq)]
pub struct DaemonFlags {
    /// The flags given, as keys of a `daemon.json`.
    pub settings: Map<String, Value>,
    /// `--config-file`, when given.
    pub config_file: Option<String>,
    /// `--ready-fd`: an inherited descriptor that gets the line `ready` once clients are served.
    pub ready_fd: Option<i32>,
    /// `--validate`: check the configuration and end.
    pub validate: bool,
}

static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "Run the engine",
    long: Some("Run the engine that containers, images, networks and volumes live in"),
    aliases: &[],
    args: Args::None,
    flags: &[
        Flag::many(
            "add-runtime",
            "runtime",
            "Register an additional OCI compatible runtime",
        )
        .default("[]"),
        Flag::bool(
            "allow-insecure-tcp",
            "Listen on TCP without TLS also on addresses that are not loopback",
        ),
        Flag::string("bip", "IP address for the default bridge"),
        Flag::string(
            "bridge",
            "Attach containers to a network bridge; 'none' for no default bridge",
        )
        .short('b'),
        Flag::string("cgroup-parent", "Set parent cgroup for all containers"),
        Flag::string(
            "config-file",
            "Daemon configuration file; an ordinary user's is\n$XDG_CONFIG_HOME/wharf/daemon.json, below ~/.config if unset",
        )
        .default("/etc/wharf/daemon.json"),
        Flag::string(
            "data-root",
            "Root directory of persistent state; an ordinary user's is\n$XDG_DATA_HOME/wharf, below ~/.local/share if unset",
        )
        .default("/var/lib/wharf"),
        Flag::bool("debug", "Enable debug mode").short('D'),
        Flag::many(
            "default-address-pool",
            "pool-options",
            "Default address pools for networks",
        ),
        Flag::string(
            "default-cgroupns-mode",
            "Default mode for containers cgroup namespace (host | private)",
        ),
        Flag::string(
            "default-ipc-mode",
            "Default mode for containers ipc (shareable | private)",
        )
        .default("private"),
        Flag::string("default-runtime", "Default OCI runtime for containers").default("runc"),
        Flag::custom(
            "default-shm-size",
            "bytes",
            "Default shm size for containers",
        )
        .default("64MiB"),
        Flag::many("default-ulimit", "ulimit", "Default ulimits for containers"),
        Flag::list("dns", "DNS server to use"),
        Flag::list("dns-opt", "DNS options to use"),
        Flag::list("dns-search", "DNS search domains to use"),
        Flag::string(
            "exec-root",
            "Root directory for execution state files; an ordinary user's is\n$XDG_RUNTIME_DIR/wharf",
        )
        .default("/run/wharf"),
        Flag::bool("experimental", "Enable experimental features"),
        Flag::map("feature", "Enable feature in the daemon"),
        Flag::string("fixed-cidr", "IPv4 subnet for the default bridge network"),
        Flag::string("graph", "").short('g').hidden(),
        Flag::string("group", "Group for the unix socket")
            .short('G')
            .default("docker"),
        Flag::list("host", "Daemon socket(s) to connect to").short('H'),
        Flag::bool(
            "icc",
            "Enable inter-container communication for the default bridge network",
        )
        .default("true"),
        Flag::bool(
            "init",
            "Run an init in the container to forward signals and reap processes",
        ),
        Flag::list(
            "insecure-registry",
            "Registry to use without certificate verification",
        ),
        Flag::custom(
            "ip",
            "ip",
            "Host IP for port publishing from the default bridge network",
        )
        .default("0.0.0.0"),
        Flag::bool("ip-forward", "Enable IP forwarding in system configuration").default("true"),
        Flag::bool(
            "ip-masq",
            "Enable IP masquerading for the default bridge network",
        )
        .default("true"),
        Flag::bool("iptables", "Enable addition of firewall rules").default("true"),
        Flag::bool(
            "ipv6",
            "Enable IPv6 networking for the default bridge network",
        ),
        Flag::list("label", "Set key=value labels to the daemon"),
        Flag::bool(
            "live-restore",
            "Containers always outlive the daemon; only 'true' is accepted",
        ),
        Flag::string("log-driver", "Default driver for container logs").default("json-file"),
        Flag::string(
            "log-level",
            "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\")",
        )
        .short('l')
        .default("info"),
        Flag::map("log-opt", "Default log driver options for containers"),
        Flag::int(
            "max-concurrent-downloads",
            "Set the max concurrent downloads",
        )
        .default("3"),
        Flag::int("max-concurrent-uploads", "Set the max concurrent uploads").default("5"),
        Flag::int(
            "max-download-attempts",
            "Set the max download attempts for each pull",
        )
        .default("5"),
        Flag::int("mtu", "Set the MTU for the default bridge network").default("1500"),
        Flag::bool(
            "no-new-privileges",
            "Set no-new-privileges by default for new containers",
        ),
        Flag::string(
            "pidfile",
            "Path to use for daemon PID file; an ordinary user's is\n$XDG_RUNTIME_DIR/wharf.pid",
        )
        .short('p')
            .default("/run/wharf.pid"),
        Flag::int(
            "ready-fd",
            "Descriptor that gets the line 'ready' once clients are served",
        ),
        Flag::list("registry-mirror", "Preferred registry mirror"),
        Flag::string(
            "seccomp-profile",
            "Path to seccomp profile. Set to \"unconfined\" to disable the default profile",
        )
        .default("builtin"),
        Flag::bool(
            "selinux-enabled",
            "Give containers SELinux labels where the host has SELinux",
        ),
        Flag::int("shutdown-timeout", "Set the default shutdown timeout").default("15"),
        Flag::string("storage-driver", "Storage driver to use").short('s'),
        Flag::bool("tls", "Use TLS; implied by --tlsverify"),
        Flag::string("tlscacert", "Trust certs signed only by this CA"),
        Flag::string("tlscert", "Path to TLS certificate file"),
        Flag::string("tlskey", "Path to TLS key file"),
        Flag::bool("tlsverify", "Use TLS and verify the remote"),
        Flag::bool(
            "userland-proxy",
            "Relay published ports where the kernel cannot",
        )
        .default("true"),
        Flag::string(
            "userns-remap",
            "User/Group setting for user namespaces: 'default', user[:group] or uid[:gid]\nwith entries in /etc/subuid and /etc/subgid",
        ),
        Flag::bool("validate", "Validate daemon configuration and exit"),
    ],
    interspersed: true,
    run: |_, _| Err(Failure::new("the daemon is started by the program itself")),
};

/// Reads the words after `daemon`. `Err` holds the exit status; what was wrong (or the help) is
/// already printed.
pub fn daemon_flags(words: Vec<String>, program: &str) -> Result<DaemonFlags, u8> {
    let refuse = |message: String| {
        say_error(&format!("{message}\nSee '{program} daemon --help'."));
        Err(1)
    };
    let parsed = match matches::parse(COMMAND.flags, words, true) {
        Ok(parsed) => parsed,
        Err(message) => return refuse(message),
    };
    if parsed.help {
        let text = help::command(
            program,
            &format!("{program} daemon"),
            &COMMAND,
            help::width(),
        );
        drop(print(&text));
        return Err(0);
    }
    if let Some(extra) = parsed.args.first() {
        return refuse(format!(
            "\"{program} daemon\" accepts no arguments: {extra}"
        ));
    }
    let mut flags = DaemonFlags {
        config_file: parsed.last("config-file").map(str::to_owned),
        ready_fd: parsed
            .int("ready-fd")
            .and_then(|number| i32::try_from(number).ok()),
        validate: parsed.bool("validate"),
        ..DaemonFlags::default()
    };
    for flag in COMMAND.flags.iter().filter(|flag| parsed.given(flag.name)) {
        let key = match flag.name {
            "config-file" | "ready-fd" | "validate" => continue,
            "graph" => "data-root",
            "host" => "hosts",
            "label" => "labels",
            "dns-opt" => "dns-opts",
            "insecure-registry" => "insecure-registries",
            "registry-mirror" => "registry-mirrors",
            "log-opt" => "log-opts",
            "feature" => "features",
            "add-runtime" => "runtimes",
            "default-ulimit" => "default-ulimits",
            "default-address-pool" => "default-address-pools",
            other => other,
        };
        let value = match (flag.name, flag.kind) {
            ("feature", _) => switches(&parsed.list(flag.name)),
            ("add-runtime", _) => runtimes(&parsed.list(flag.name)),
            ("default-ulimit", _) => ulimits(&parsed.list(flag.name)),
            ("default-address-pool", _) => parsed
                .list(flag.name)
                .iter()
                .map(|text| pool(text))
                .collect(),
            (_, Kind::Bool) => Ok(Value::Bool(parsed.bool(flag.name))),
            (_, Kind::Int) => Ok(json!(parsed.int(flag.name))),
            (_, Kind::List("map")) => pairs(&parsed.list(flag.name)),
            (_, Kind::List(_)) => Ok(json!(parsed.list(flag.name))),
            _ => Ok(json!(parsed.str(flag.name))),
        };
        match value {
            Ok(value) => drop(flags.settings.insert(key.to_owned(), value)),
            Err(reason) => {
                return refuse(format!(
                    "invalid argument for \"{}\" flag: {reason}",
                    flag.spelled()
                ));
            }
        }
    }
    Ok(flags)
}

fn pairs(values: &[&str]) -> Result<Value, String> {
    let mut object = Map::new();
    for value in values {
        let (key, value) = value
            .split_once('=')
            .ok_or_else(|| format!("`{value}` must be formatted as key=value"))?;
        object.insert(key.to_owned(), Value::String(value.to_owned()));
    }
    Ok(Value::Object(object))
}

fn switches(values: &[&str]) -> Result<Value, String> {
    let mut object = Map::new();
    for value in values {
        let (key, on) = value.split_once('=').unwrap_or((value, "true"));
        object.insert(key.to_owned(), Value::Bool(matches::parse_bool(on)?));
    }
    Ok(Value::Object(object))
}

/// `crun=/usr/bin/crun`, in the form of the file.
fn runtimes(values: &[&str]) -> Result<Value, String> {
    let mut object = Map::new();
    for value in values {
        let (name, path) = value
            .split_once('=')
            .ok_or_else(|| format!("invalid runtime argument: {value}"))?;
        let (name, path) = (name.trim().to_lowercase(), path.trim());
        if path.is_empty() {
            return Err(format!("runtime path cannot be empty: {value}"));
        }
        if name.is_empty() {
            return Err(format!("runtime name cannot be empty: {value}"));
        }
        if object.contains_key(&name) {
            return Err(format!("runtime '{name}' was already defined"));
        }
        object.insert(name, json!({"path": path}));
    }
    Ok(Value::Object(object))
}

/// `nofile=1024:2048`, in the form of the file.
fn ulimits(values: &[&str]) -> Result<Value, String> {
    let mut object = Map::new();
    for value in values {
        let number = |text: &str| {
            text.parse::<i64>()
                .map_err(|_| format!("invalid ulimit value `{text}` in `{value}`"))
        };
        let (name, limits) = value
            .split_once('=')
            .ok_or_else(|| format!("invalid ulimit argument: {value}"))?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        object.insert(
            name.to_owned(),
            json!({"Name": name, "Hard": number(hard)?, "Soft": number(soft)?}),
        );
    }
    Ok(Value::Object(object))
}

/// `base=172.80.0.0/16,size=24`, in the form of the file.
fn pool(text: &str) -> Result<Value, String> {
    let (mut base, mut size) = (None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("base", value)) => base = Some(value),
            Some(("size", value)) => size = value.parse::<u8>().ok(),
            _ => {
                return Err(format!(
                    "invalid field `{field}` in `{text}`: base=NETWORK/BITS,size=BITS expected"
                ));
            }
        }
    }
    match (base, size) {
        (Some(base), Some(size)) => Ok(json!({"base": base, "size": size})),
        _ => Err(format!("`{text}` needs base and size")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &[&str]) -> Result<DaemonFlags, u8> {
        daemon_flags(
            words.iter().map(|word| (*word).to_owned()).collect(),
            "wharf",
        )
    }

    #[test]
    fn flags_become_keys_of_the_file() {
        let found = flags(&[
            "-D",
            "-H",
            "unix:///x",
            "--host=tcp://127.0.0.1:1",
            "-g",
            "/data",
            "--icc=false",
            "--mtu",
            "1400",
            "--log-opt",
            "max-size=1m",
            "--default-ulimit",
            "nofile=1:2",
            "--default-address-pool",
            "base=10.0.0.0/8,size=24",
            "--config-file",
            "/c",
            "--ready-fd=3",
        ])
        .unwrap();
        let expected = json!({
            "data-root": "/data", "debug": true, "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}],
            "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 2, "Soft": 1}},
            "hosts": ["unix:///x", "tcp://127.0.0.1:1"], "icc": false, "log-opts": {"max-size": "1m"}, "mtu": 1400,
        });
        assert_eq!(Value::Object(found.settings), expected);
        assert_eq!(found.config_file.as_deref(), Some("/c"));
        assert_eq!(found.ready_fd, Some(3));
    }

    #[test]
    fn wrong_flags_are_refused() {
        for words in [
            &["--nope"][..],
            &["extra"],
            &["--log-opt", "x"],
            &["--default-ulimit", "nofile=x"],
            &["--default-address-pool", "x"],
        ] {
            assert_eq!(flags(words), Err(1), "{words:?}");
        }
    }
}
