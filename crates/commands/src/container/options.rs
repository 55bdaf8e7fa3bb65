//! The flags of `run` and `create`, and the request body they become.
//!
//! Only what was asked for is put into the body: the engine knows the defaults, and a short body
//! is quick to read.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::command::Flag;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::bind::Volume;
use crate::parse::network::Attachment;
use crate::parse::ports::Ports;
use crate::parse::{bind, blkio, device, env, mount, names, network, restart, size, ulimit};
use crate::terminal;

/// Flags of both commands.
pub(super) const SHARED: &[Flag] = &[
    Flag::list("add-host", "Add a custom host-to-IP mapping (host:ip)").check(names::check_extra_host),
    Flag::map("annotation", "Add an annotation to the container (passed through to the OCI runtime)").default("map[]"),
    Flag::list("attach", "Attach to STDIN, STDOUT or STDERR").short('a').check(names::check_attach),
    Flag::uint16("blkio-weight", "Block IO (relative weight), between 10 and 1000, or 0 to disable").default("0"),
    Flag::list("blkio-weight-device", "Block IO weight (relative device weight)").default("[]").check(blkio::check_weight),
    Flag::list("cap-add", "Add Linux capabilities"),
    Flag::list("cap-drop", "Drop Linux capabilities"),
    Flag::string("cgroup-parent", "Optional parent cgroup for the container"),
    Flag::string("cgroupns", "Cgroup namespace to use (host|private)\n'host':    Run the container in the Docker host's cgroup namespace\n'private': Run the container in its own private cgroup namespace\n'':        Use the cgroup namespace as configured by the\n           default-cgroupns-mode option on the daemon (default)"),
    Flag::string("cidfile", "Write the container ID to the file"),
    Flag::int("cpu-count", "CPU count (Windows only)"),
    Flag::int("cpu-percent", "CPU percent (Windows only)"),
    Flag::int("cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag::int("cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag::int("cpu-rt-period", "Limit CPU real-time period in microseconds"),
    Flag::int("cpu-rt-runtime", "Limit CPU real-time runtime in microseconds"),
    Flag::int("cpu-shares", "CPU shares (relative weight)").short('c'),
    Flag::custom("cpus", "decimal", "Number of CPUs").check(check_cpus),
    Flag::string("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag::string("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag::list("device", "Add a host device to the container"),
    Flag::list("device-cgroup-rule", "Add a rule to the cgroup allowed devices list").check(check_device_rule),
    Flag::list("device-read-bps", "Limit read rate (bytes per second) from a device").default("[]").check(blkio::check_bytes),
    Flag::list("device-read-iops", "Limit read rate (IO per second) from a device").default("[]").check(blkio::check_operations),
    Flag::list("device-write-bps", "Limit write rate (bytes per second) to a device").default("[]").check(blkio::check_bytes),
    Flag::list("device-write-iops", "Limit write rate (IO per second) to a device").default("[]").check(blkio::check_operations),
    Flag::bool("disable-content-trust", "Skip image verification").default("true"),
    Flag::list("dns", "Set custom DNS servers").check(names::check_ip),
    Flag::list("dns-option", "Set DNS options"),
    Flag::list("dns-search", "Set custom DNS search domains").check(names::check_dns_search),
    Flag::string("domainname", "Container NIS domain name"),
    Flag::string("entrypoint", "Overwrite the default ENTRYPOINT of the image"),
    Flag::list("env", "Set environment variables").short('e').check(env::check),
    Flag::list("env-file", "Read in a file of environment variables"),
    Flag::list("expose", "Expose a port or a range of ports"),
    Flag::custom("gpus", "gpu-request", "GPU devices to add to the container ('all' to pass all GPUs)"),
    Flag::list("group-add", "Add additional groups to join"),
    Flag::string("health-cmd", "Command to run to check health"),
    Flag::duration("health-interval", "Time between running the check (ms|s|m|h)").default("0s"),
    Flag::int("health-retries", "Consecutive failures needed to report unhealthy"),
    Flag::duration("health-start-interval", "Time between running the check during the start period (ms|s|m|h)").default("0s"),
    Flag::duration("health-start-period", "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)").default("0s"),
    Flag::duration("health-timeout", "Maximum time to allow one check to run (ms|s|m|h)").default("0s"),
    Flag::bool("help", "Print usage"),
    Flag::string("hostname", "Container host name").short('h'),
    Flag::bool("init", "Run an init inside the container that forwards signals and reaps processes"),
    Flag::bool("interactive", "Keep STDIN open even if not attached").short('i'),
    Flag::bytes("io-maxbandwidth", "Maximum IO bandwidth limit for the system drive (Windows only)"),
    Flag::uint("io-maxiops", "Maximum IOps limit for the system drive (Windows only)"),
    Flag::string("ip", "IPv4 address (e.g., 172.30.100.104)"),
    Flag::string("ip6", "IPv6 address (e.g., 2001:db8::33)"),
    Flag::string("ipc", "IPC mode to use"),
    Flag::string("isolation", "Container isolation technology"),
    Flag::bytes("kernel-memory", "Kernel memory limit"),
    Flag::list("label", "Set meta data on a container").short('l').check(names::check_label),
    Flag::list("label-file", "Read in a line delimited file of labels"),
    Flag::list("link", "Add link to another container").check(names::check_link),
    Flag::list("link-local-ip", "Container IPv4/IPv6 link-local addresses"),
    Flag::string("log-driver", "Logging driver for the container"),
    Flag::list("log-opt", "Log driver options"),
    Flag::string("mac-address", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Flag::bytes("memory", "Memory limit").short('m'),
    Flag::bytes("memory-reservation", "Memory soft limit"),
    Flag::custom("memory-swap", "bytes", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap").check(check_swap),
    Flag::int("memory-swappiness", "Tune container memory swappiness (0 to 100)").default("-1"),
    Flag::many("mount", "mount", "Attach a filesystem mount to the container").check(check_mount),
    Flag::string("name", "Assign a name to the container"),
    Flag::many("network", "network", "Connect a container to a network").check(network::check),
    Flag::list("network-alias", "Add network-scoped alias for the container"),
    Flag::bool("no-healthcheck", "Disable any container-specified HEALTHCHECK"),
    Flag::bool("oom-kill-disable", "Disable OOM Killer"),
    Flag::int("oom-score-adj", "Tune host's OOM preferences (-1000 to 1000)"),
    Flag::string("pid", "PID namespace to use"),
    Flag::int("pids-limit", "Tune container pids limit (set -1 for unlimited)"),
    Flag::string("platform", "Set platform if server is multi-platform capable"),
    Flag::bool("privileged", "Give extended privileges to this container"),
    Flag::list("publish", "Publish a container's port(s) to the host").short('p'),
    Flag::bool("publish-all", "Publish all exposed ports to random ports").short('P'),
    Flag::bool("quiet", "Suppress the pull output").short('q'),
    Flag::bool("read-only", "Mount the container's root filesystem as read only"),
    Flag::string("restart", "Restart policy to apply when a container exits").default("no"),
    Flag::bool("rm", "Automatically remove the container and its associated anonymous volumes when it exits"),
    Flag::string("runtime", "Runtime to use for this container"),
    Flag::list("security-opt", "Security Options"),
    Flag::bytes("shm-size", "Size of /dev/shm"),
    Flag::string("stop-signal", "Signal to stop the container"),
    Flag::int("stop-timeout", "Timeout (in seconds) to stop a container"),
    Flag::list("storage-opt", "Storage driver options for the container"),
    Flag::map("sysctl", "Sysctl options").default("map[]").check(names::check_sysctl),
    Flag::list("tmpfs", "Mount a tmpfs directory"),
    Flag::bool("tty", "Allocate a pseudo-TTY").short('t'),
    Flag::many("ulimit", "ulimit", "Ulimit options").default("[]").check(ulimit::check),
    Flag::bool("use-api-socket", "Bind mount Docker API socket and required auth"),
    Flag::string("user", "Username or UID (format: <name|uid>[:<group|gid>])").short('u'),
    Flag::string("userns", "User namespace to use"),
    Flag::string("uts", "UTS namespace to use"),
    Flag::list("volume", "Bind mount a volume").short('v'),
    Flag::string("volume-driver", "Optional volume driver for the container"),
    Flag::list("volumes-from", "Mount volumes from the specified container(s)"),
    Flag::string("workdir", "Working directory inside the container").short('w'),
    // Older spellings.
    Flag::many("net", "network", "Connect a container to a network").check(network::check).hidden(),
    Flag::list("net-alias", "Add network-scoped alias for the container").hidden(),
    Flag::list("dns-opt", "Set DNS options").hidden(),
];

/// Puts two tables together.
pub(super) const fn join<const N: usize>(a: &[Flag], b: &[Flag]) -> [Flag; N] {
    assert!(a.len() + b.len() == N, "the tables fill the result");
    let mut out = [a[0]; N];
    let mut at = 0;
    while at < N {
        out[at] = if at < a.len() { a[at] } else { b[at - a.len()] };
        at += 1;
    }
    out
}

/// What the flags ask for.
#[derive(Debug)]
pub(super) struct Spec {
    /// The body of the create request.
    pub(super) body: Map<String, Value>,
    /// Which streams are attached: input, output, error.
    pub(super) attach: [bool; 3],
    /// A terminal was asked for.
    pub(super) tty: bool,
    /// The container is removed when it exits.
    pub(super) auto_remove: bool,
    /// Image as written.
    pub(super) image: String,
    /// `--name`.
    pub(super) name: String,
    /// `--platform`.
    pub(super) platform: String,
    /// `--pull`.
    pub(super) pull: Pull,
    /// `--quiet`.
    pub(super) quiet: bool,
    /// `--cidfile`.
    pub(super) cid_file: Option<PathBuf>,
}

/// When the image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pull {
    Always,
    Missing,
    Never,
}

/// Reads the flags; wrong ones are named.
///
/// `proxies` are the variables the configuration file sets in every container.
pub(super) fn parse(m: &Matches, proxies: &[(String, String)]) -> Outcome<Spec> {
    let pull = match m.str("pull") {
        "" | "missing" => Pull::Missing,
        "always" => Pull::Always,
        "never" => Pull::Never,
        other => {
            return fail(format!(
                "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
            ));
        }
    };
    refuse_missing(m)?;
    let stdin = m.bool("interactive");
    let tty = m.bool("tty");
    let streams: Vec<String> = m
        .list("attach")
        .iter()
        .map(|stream| stream.to_lowercase())
        .collect();
    let named = |stream: &str| streams.iter().any(|one| one == stream);
    let attach = if streams.is_empty() {
        [stdin, true, true]
    } else {
        [stdin || named("stdin"), named("stdout"), named("stderr")]
    };

    let mut config = Config::default();
    let [attach_in, attach_out, attach_err] = attach;
    config.flag("AttachStdin", attach_in);
    config.flag("AttachStdout", attach_out);
    config.flag("AttachStderr", attach_err);
    config.flag("Tty", tty);
    config.flag("OpenStdin", stdin);
    config.flag("StdinOnce", stdin && attach_in);
    for (key, flag) in [
        ("Hostname", "hostname"),
        ("Domainname", "domainname"),
        ("User", "user"),
        ("WorkingDir", "workdir"),
        ("StopSignal", "stop-signal"),
    ] {
        config.text(key, m.str(flag));
    }
    if m.given("stop-timeout") {
        config.put(
            "StopTimeout",
            json!(m.int("stop-timeout").unwrap_or_default()),
        );
    }
    config.list("Env", environment(m, proxies)?);
    config.pairs("Labels", labels(m)?);
    config.text("Image", &m.args[0]);
    config.list("Cmd", m.args[1..].to_vec());
    if let Some(entrypoint) = m.last("entrypoint") {
        // An empty one removes the image's.
        config.put("Entrypoint", json!([entrypoint]));
    }
    if let Some(health) = health(m)? {
        config.put("Healthcheck", health);
    }
    let mac = m.str("mac-address");
    if !mac.is_empty() && !names::is_mac(mac) {
        return fail(format!("{mac} is not a valid mac address"));
    }

    let mut host = Config::default();
    volumes(m, &mut config, &mut host)?;
    ports(m, &mut config, &mut host)?;
    resources(m, &mut host)?;
    isolation(m, &mut host)?;
    let endpoints = networks(m, &mut host)?;
    if tty && let Some((rows, columns)) = terminal::size() {
        host.put("ConsoleSize", json!([rows, columns]));
    }

    // Docker sends these as empty lists, and `inspect` shows what was sent.
    for key in ALWAYS_LISTS {
        host.0.entry(*key).or_insert_with(|| json!([]));
    }
    let auto_remove = m.bool("rm");
    if let Some(policy) = restart::parse(m.str("restart")).map_err(Failure::new)? {
        if auto_remove && policy["Name"] != "no" {
            return fail("conflicting options: cannot specify both --restart and --rm");
        }
        host.put("RestartPolicy", policy);
    }
    host.flag("AutoRemove", auto_remove);
    let cid_file = Some(m.str("cidfile"))
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    host.text("ContainerIDFile", m.str("cidfile"));

    let mut body = config.0;
    body.insert("HostConfig".to_owned(), Value::Object(host.0));
    if !endpoints.is_empty() {
        body.insert(
            "NetworkingConfig".to_owned(),
            json!({"EndpointsConfig": endpoints}),
        );
    }
    Ok(Spec {
        body,
        attach,
        tty,
        auto_remove,
        image: m.args[0].clone(),
        name: m.str("name").to_owned(),
        platform: platform(m)?,
        pull,
        quiet: m.bool("quiet"),
        cid_file,
    })
}

/// Lists of the host configuration that are never absent.
const ALWAYS_LISTS: &[&str] = &[
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
    "Devices",
    "Ulimits",
];

/// Options Docker has and Wharf does not have yet.
fn refuse_missing(m: &Matches) -> Outcome {
    for flag in ["gpus", "use-api-socket"] {
        if m.given(flag) {
            return fail(format!("--{flag} is not available yet"));
        }
    }
    crate::image::refuse_content_trust(m)
}

/// Flags that mean something on Windows only, refused in Docker's words.
pub(super) fn refuse_windows_only(m: &Matches) -> Outcome {
    let given = ["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"]
        .into_iter()
        .filter(|flag| m.given(flag));
    let lines: Vec<String> = given
        .map(|flag| {
            format!("\"--{flag}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux")
        })
        .collect();
    if lines.is_empty() {
        Ok(())
    } else {
        fail(lines.join("\n"))
    }
}

fn environment(m: &Matches, proxies: &[(String, String)]) -> Outcome<Vec<String>> {
    let lookup = |name: &str| std::env::var(name).ok();
    let mut out = Vec::new();
    for path in m.list("env-file") {
        out.extend(env::file(path, &read(path)?, lookup).map_err(Failure::new)?);
    }
    // The last `-e` of a name wins; what comes from a file stays in front of it.
    let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
    let given = m.list("env");
    for (at, text) in given.iter().enumerate() {
        if !given[at + 1..]
            .iter()
            .any(|later| name(later) == name(text))
        {
            out.push(env::with_value(text, lookup));
        }
    }
    for (key, value) in proxies {
        if !given.iter().any(|text| name(text) == *key) {
            out.push(format!("{key}={value}"));
        }
    }
    Ok(out)
}

fn labels(m: &Matches) -> Outcome<Vec<(String, String)>> {
    let mut out = Vec::new();
    for path in m.list("label-file") {
        out.extend(env::label_file(path, &read(path)?).map_err(Failure::new)?);
    }
    out.extend(m.list("label").into_iter().map(str::to_owned));
    Ok(out.iter().map(|text| env::pair(text)).collect())
}

fn platform(m: &Matches) -> Outcome<String> {
    let text = match m.str("platform") {
        "" => crate::cli::env("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        given => given.to_owned(),
    };
    let part = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-()".contains(c))
    };
    if !text.is_empty() && (text.split('/').count() > 3 || !text.split('/').all(part)) {
        return fail(format!(
            "error parsing specified platform: \"{text}\": cannot parse platform specifier: invalid argument"
        ));
    }
    Ok(text)
}

fn health(m: &Matches) -> Outcome<Option<Value>> {
    let names = ["interval", "timeout", "start-period", "start-interval"];
    let keys = ["Interval", "Timeout", "StartPeriod", "StartInterval"];
    let command = m.str("health-cmd");
    let retries = m.int("health-retries").unwrap_or(0);
    let mut out = Config::default();
    let mut negative = None;
    for (name, key) in names.iter().zip(keys) {
        let value = m.nanoseconds(&format!("health-{name}")).unwrap_or(0);
        if value < 0 {
            negative.get_or_insert(*name);
        }
        out.number(key, value);
    }
    if retries < 0 {
        negative.get_or_insert("retries");
    }
    out.number("Retries", retries);
    let wanted = !command.is_empty() || !out.0.is_empty();
    if m.bool("no-healthcheck") {
        if wanted {
            return fail("--no-healthcheck conflicts with --health-* options");
        }
        return Ok(Some(json!({"Test": ["NONE"]})));
    }
    if let Some(name) = negative {
        return fail(format!("--health-{name} cannot be negative"));
    }
    if !command.is_empty() {
        out.put("Test", json!(["CMD-SHELL", command]));
    }
    Ok(wanted.then(|| Value::Object(out.0)))
}

fn volumes(m: &Matches, config: &mut Config, host: &mut Config) -> Outcome {
    // Only a relative source needs the directory.
    let relative = m.given("volume") || m.given("mount");
    let directory = if relative {
        std::env::current_dir().ok()
    } else {
        None
    }
    .unwrap_or_else(|| PathBuf::from("/"));
    let mut binds: Vec<String> = Vec::new();
    let mut anonymous = Map::new();
    for spec in m.list("volume") {
        match bind::parse(spec, &directory).map_err(Failure::new)? {
            Volume::Anonymous(target) => drop(anonymous.insert(target, json!({}))),
            Volume::Bind(text) if !binds.contains(&text) => binds.push(text),
            Volume::Bind(_) => {}
        }
    }
    host.list("Binds", binds);
    config.object("Volumes", anonymous);
    let mounts: Result<Vec<Value>, String> = m
        .list("mount")
        .into_iter()
        .map(|text| mount::parse(text, &directory))
        .collect();
    host.values("Mounts", mounts.map_err(Failure::new)?);
    let tmpfs = m.list("tmpfs").into_iter().map(|text| {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        (path.to_owned(), options.to_owned())
    });
    host.pairs("Tmpfs", tmpfs.collect());
    host.texts("VolumesFrom", m, "volumes-from");
    host.text("VolumeDriver", m.str("volume-driver"));
    let storage = m.list("storage-opt").into_iter().map(|text| {
        text.split_once('=')
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .ok_or_else(|| Failure::new("invalid storage option"))
    });
    host.pairs("StorageOpt", storage.collect::<Outcome<_>>()?);
    Ok(())
}

fn ports(m: &Matches, config: &mut Config, host: &mut Config) -> Outcome {
    let mut ports = Ports::default();
    for spec in m.list("publish") {
        ports.publish(spec).map_err(Failure::new)?;
    }
    let mut published = Map::new();
    for (port, bindings) in &ports.0 {
        let bindings = bindings
            .iter()
            .map(|b| json!({"HostIp": b.host_ip, "HostPort": b.host_port}));
        published.insert(port.clone(), Value::Array(bindings.collect()));
    }
    for spec in m.list("expose") {
        ports.expose(spec).map_err(Failure::new)?;
    }
    config.object(
        "ExposedPorts",
        ports
            .0
            .keys()
            .map(|port| (port.clone(), json!({})))
            .collect(),
    );
    host.object("PortBindings", published);
    host.flag("PublishAllPorts", m.bool("publish-all"));
    Ok(())
}

fn resources(m: &Matches, host: &mut Config) -> Outcome {
    let swappiness = m.int("memory-swappiness").unwrap_or(-1);
    if swappiness != -1 {
        if !(0..=100).contains(&swappiness) {
            return fail(format!(
                "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
            ));
        }
        host.put("MemorySwappiness", json!(swappiness));
    }
    for (key, flag) in [
        ("Memory", "memory"),
        ("MemoryReservation", "memory-reservation"),
        ("KernelMemory", "kernel-memory"),
        ("ShmSize", "shm-size"),
    ] {
        host.number(key, m.bytes(flag).unwrap_or(0));
    }
    if let Some(swap) = m
        .last("memory-swap")
        .and_then(|text| size::parse_swap(text).ok())
    {
        host.number("MemorySwap", swap);
    }
    for (key, flag) in [
        ("CpuShares", "cpu-shares"),
        ("CpuPeriod", "cpu-period"),
        ("CpuQuota", "cpu-quota"),
        ("CpuRealtimePeriod", "cpu-rt-period"),
        ("CpuRealtimeRuntime", "cpu-rt-runtime"),
        ("PidsLimit", "pids-limit"),
        ("BlkioWeight", "blkio-weight"),
        ("OomScoreAdj", "oom-score-adj"),
    ] {
        host.number(key, m.int(flag).unwrap_or(0));
    }
    if let Some(nano) = m.last("cpus").and_then(|text| nano_cpus(text).ok()) {
        host.number("NanoCpus", nano);
    }
    for (key, flag) in [
        ("CpusetCpus", "cpuset-cpus"),
        ("CpusetMems", "cpuset-mems"),
        ("CgroupParent", "cgroup-parent"),
    ] {
        host.text(key, m.str(flag));
    }
    host.flag("OomKillDisable", m.bool("oom-kill-disable"));
    type Parse = fn(&str) -> Result<Value, String>;
    let tables: [(&str, &str, Parse); 5] = [
        ("BlkioWeightDevice", "blkio-weight-device", blkio::weight),
        ("BlkioDeviceReadBps", "device-read-bps", blkio::bytes),
        ("BlkioDeviceWriteBps", "device-write-bps", blkio::bytes),
        ("BlkioDeviceReadIOps", "device-read-iops", blkio::operations),
        (
            "BlkioDeviceWriteIOps",
            "device-write-iops",
            blkio::operations,
        ),
    ];
    for (key, flag, parse) in tables {
        let values: Result<Vec<Value>, String> = m.list(flag).into_iter().map(parse).collect();
        host.values(key, values.map_err(Failure::new)?);
    }
    // The last limit of a name wins.
    let mut limits = std::collections::BTreeMap::new();
    for text in m.list("ulimit") {
        let limit = ulimit::parse(text).map_err(Failure::new)?;
        limits.insert(limit.name.clone(), limit);
    }
    host.values(
        "Ulimits",
        limits
            .into_values()
            .map(|l| json!({"Name": l.name, "Hard": l.hard, "Soft": l.soft}))
            .collect(),
    );
    let mut nodes = Vec::new();
    let mut cdi = Vec::new();
    for text in m.list("device") {
        match device::parse(text).map_err(Failure::new)? {
            device::Device::Node(node) => nodes.push(node),
            device::Device::Cdi(name) => cdi.push(name),
        }
    }
    host.values("Devices", nodes);
    if !cdi.is_empty() {
        host.put(
            "DeviceRequests",
            json!([{"Driver": "cdi", "DeviceIDs": cdi}]),
        );
    }
    host.texts("DeviceCgroupRules", m, "device-cgroup-rule");
    Ok(())
}

fn isolation(m: &Matches, host: &mut Config) -> Outcome {
    let shared = |mode: &str, also_container: bool| {
        matches!(mode, "" | "host")
            || (also_container
                && mode
                    .strip_prefix("container:")
                    .is_some_and(|name| !name.is_empty()))
    };
    if !shared(m.str("pid"), true) {
        return fail("--pid: invalid PID mode");
    }
    if !shared(m.str("uts"), false) {
        return fail("--uts: invalid UTS mode");
    }
    if !shared(m.str("userns"), false) {
        return fail("--userns: invalid USER mode");
    }
    if !matches!(m.str("cgroupns"), "" | "host" | "private") {
        return fail("--cgroupns: invalid CGROUP mode");
    }
    for (key, flag) in [
        ("PidMode", "pid"),
        ("UTSMode", "uts"),
        ("UsernsMode", "userns"),
        ("CgroupnsMode", "cgroupns"),
        ("IpcMode", "ipc"),
        ("Isolation", "isolation"),
        ("Runtime", "runtime"),
    ] {
        host.text(key, m.str(flag));
    }
    host.flag("Privileged", m.bool("privileged"));
    host.flag("ReadonlyRootfs", m.bool("read-only"));
    if m.given("init") {
        host.put("Init", json!(m.bool("init")));
    }
    for (key, flag) in [("CapAdd", "cap-add"), ("CapDrop", "cap-drop")] {
        host.list(
            key,
            m.list(flag).into_iter().map(names::capability).collect(),
        );
    }
    host.texts("GroupAdd", m, "group-add");
    host.pairs(
        "Sysctls",
        m.list("sysctl").into_iter().map(env::pair).collect(),
    );
    host.pairs(
        "Annotations",
        m.list("annotation").into_iter().map(env::pair).collect(),
    );
    logging(m, host)?;
    security(m, host)
}

fn logging(m: &Matches, host: &mut Config) -> Outcome {
    let driver = m.str("log-driver");
    let options: Vec<(String, String)> = m.list("log-opt").into_iter().map(env::pair).collect();
    if driver == "none" && !options.is_empty() {
        return fail("invalid logging opts for driver none");
    }
    if !driver.is_empty() || !options.is_empty() {
        let mut log = Config::default();
        log.put("Type", json!(driver));
        log.pairs("Config", options);
        host.put("LogConfig", Value::Object(log.0));
    }
    Ok(())
}

/// `--security-opt`: profiles are files of the caller, so they are read here.
fn security(m: &Matches, host: &mut Config) -> Outcome {
    let mut out = Vec::new();
    for text in m.list("security-opt") {
        if text == "systempaths=unconfined" {
            // Empty lists mean none; absent ones would mean the defaults.
            host.put("MaskedPaths", json!([]));
            host.put("ReadonlyPaths", json!([]));
            continue;
        }
        // Docker still reads the form with a colon.
        let pair = text.split_once('=').or_else(|| text.split_once(':'));
        let Some((key, value)) = pair else {
            if text != "no-new-privileges" {
                return fail(format!("Invalid --security-opt: \"{text}\""));
            }
            out.push(text.to_owned());
            continue;
        };
        if key == "seccomp" && !matches!(value, "unconfined" | "builtin") {
            let content = fs::read(value).map_err(|error| {
                Failure::new(format!(
                    "opening seccomp profile ({value}) failed: open {value}: {}",
                    reason(&error)
                ))
            })?;
            let profile: Value = serde_json::from_slice(&content).map_err(|error| {
                Failure::new(format!(
                    "compacting json for seccomp profile ({value}) failed: {error}"
                ))
            })?;
            out.push(format!("seccomp={profile}"));
        } else {
            out.push(text.to_owned());
        }
    }
    host.list("SecurityOpt", out);
    Ok(())
}

/// The networks and the settings of their endpoints.
fn networks(m: &Matches, host: &mut Config) -> Outcome<Map<String, Value>> {
    host.list(
        "Dns",
        m.list("dns")
            .into_iter()
            .map(|text| text.trim().to_owned())
            .collect(),
    );
    let both = |a: &str, b: &str| {
        m.list(a)
            .into_iter()
            .chain(m.list(b))
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    host.list("DnsOptions", both("dns-option", "dns-opt"));
    host.texts("DnsSearch", m, "dns-search");
    let hosts: Result<Vec<String>, String> = m
        .list("add-host")
        .into_iter()
        .map(names::extra_host)
        .collect();
    host.list("ExtraHosts", hosts.map_err(Failure::new)?);
    host.texts("Links", m, "link");

    let attachments: Result<Vec<Attachment>, String> = both("network", "net")
        .iter()
        .map(|text| network::parse(text))
        .collect();
    let mut attachments = attachments.map_err(Failure::new)?;
    if attachments.is_empty() {
        attachments.push(Attachment {
            target: "default".to_owned(),
            ..Attachment::default()
        });
    }
    let user_defined = |target: &str| {
        !matches!(target, "default" | "bridge" | "host" | "none")
            && !target.starts_with("container:")
    };
    let defined = attachments
        .iter()
        .filter(|a| user_defined(&a.target))
        .count();
    apply_short_flags(
        m,
        &mut attachments[0],
        both("network-alias", "net-alias"),
        user_defined,
    )?;
    if defined > 0 && defined < attachments.len() {
        return fail(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        );
    }
    host.text("NetworkMode", &attachments[0].target);
    let alone = attachments.len() == 1;
    let mut endpoints = Map::new();
    for attachment in &attachments {
        let endpoint = endpoint(attachment, user_defined)?;
        if alone && endpoint.is_empty() {
            continue;
        }
        if endpoints
            .insert(attachment.target.clone(), Value::Object(endpoint))
            .is_some()
        {
            return fail(format!(
                "network \"{}\" is specified multiple times",
                attachment.target
            ));
        }
    }
    Ok(endpoints)
}

/// `--ip`, `--network-alias` and the like belong to the first network.
fn apply_short_flags(
    m: &Matches,
    first: &mut Attachment,
    aliases: Vec<String>,
    user_defined: impl Fn(&str) -> bool,
) -> Outcome {
    let conflict = |flag: &str, what: &str| {
        fail(format!(
            "conflicting options: cannot specify both --{flag} and per-network {what}"
        ))
    };
    if !aliases.is_empty() {
        if !first.aliases.is_empty() {
            return conflict("network-alias", "alias");
        }
        first.aliases = aliases;
    }
    // On the default bridge a link is a matter of the whole container.
    if user_defined(&first.target) {
        first.links = m.list("link").into_iter().map(str::to_owned).collect();
    }
    for (flag, slot, what) in [
        ("ip", &mut first.ip, "IPv4 address"),
        ("ip6", &mut first.ip6, "IPv6 address"),
        ("mac-address", &mut first.mac, "MAC address"),
    ] {
        let given = m.str(flag).trim();
        if given.is_empty() {
            continue;
        }
        if !slot.is_empty() {
            return conflict(flag, what);
        }
        given.clone_into(slot);
    }
    let link_local = m.list("link-local-ip");
    if !link_local.is_empty() {
        if !first.link_local.is_empty() {
            return conflict("link-local-ip", "link-local IP addresses");
        }
        first.link_local = link_local.into_iter().map(str::to_owned).collect();
    }
    Ok(())
}

fn endpoint(a: &Attachment, user_defined: impl Fn(&str) -> bool) -> Outcome<Map<String, Value>> {
    if !user_defined(&a.target) {
        if !a.aliases.is_empty() {
            return fail("network-scoped aliases are only supported for user-defined networks");
        }
        if !a.links.is_empty() {
            return fail("links are only supported for user-defined networks");
        }
    }
    let mut out = Config::default();
    let mut addresses = Config::default();
    addresses.text("IPv4Address", &a.ip);
    addresses.text("IPv6Address", &a.ip6);
    addresses.list("LinkLocalIPs", a.link_local.clone());
    out.object("IPAMConfig", addresses.0);
    out.list("Aliases", a.aliases.clone());
    out.list("Links", a.links.clone());
    out.text("MacAddress", &a.mac);
    out.pairs("DriverOpts", a.driver_options.clone());
    out.number("GwPriority", a.gateway_priority);
    Ok(out.0)
}

/// `--cpus` in billionths; Go reads it as a rational number, so `1/2` is fine.
pub(super) fn nano_cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let number = |part: &str| {
        part.parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())
            .ok_or_else(bad)
    };
    let value = match text.split_once('/') {
        Some((a, b)) => number(a)? / number(b)?,
        None => number(text)?,
    };
    let nano = value * 1e9;
    if !nano.is_finite() || nano.abs() >= 9e18 {
        return Err(bad());
    }
    if (nano - nano.round()).abs() > 1e-3 {
        return Err("value is too precise".to_owned());
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the range was checked above"
    )]
    Ok(nano.round() as i64)
}

/// A check of `--cpus`.
pub(super) fn check_cpus(text: &str) -> Result<(), String> {
    nano_cpus(text).map(drop)
}

/// A check of `--memory-swap`.
pub(super) fn check_swap(text: &str) -> Result<(), String> {
    size::parse_swap(text).map(drop)
}

/// A check of `--mount`; the directory is irrelevant for whether it is well formed.
pub(super) fn check_mount(text: &str) -> Result<(), String> {
    mount::parse(text, Path::new("/")).map(drop)
}

/// A check of `--device-cgroup-rule`: `c 1:3 rwm`.
pub(super) fn check_device_rule(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split(' ').collect();
    let number =
        |part: &str| part == "*" || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let good = matches!(parts.as_slice(), [kind, node, mode]
        if matches!(*kind, "a" | "b" | "c")
            && node.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
            && (1..=3).contains(&mode.len()) && mode.chars().all(|c| "rwm".contains(c)));
    if good {
        Ok(())
    } else {
        Err(format!("invalid device cgroup format '{text}'"))
    }
}

fn read(path: &str) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(|error| Failure::new(format!("open {path}: {}", reason(&error))))
}

/// The kernel's words for an error, as Go prints them.
pub(super) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

fn fail<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Failure::new(message))
}

/// A JSON object that takes only what says something.
#[derive(Debug, Default)]
struct Config(Map<String, Value>);

impl Config {
    fn put(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    fn flag(&mut self, key: &str, on: bool) {
        if on {
            self.put(key, json!(true));
        }
    }

    fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.put(key, json!(text));
        }
    }

    fn number(&mut self, key: &str, number: i64) {
        if number != 0 {
            self.put(key, json!(number));
        }
    }

    fn list(&mut self, key: &str, list: Vec<String>) {
        if !list.is_empty() {
            self.put(key, json!(list));
        }
    }

    fn values(&mut self, key: &str, list: Vec<Value>) {
        if !list.is_empty() {
            self.put(key, Value::Array(list));
        }
    }

    fn object(&mut self, key: &str, map: Map<String, Value>) {
        if !map.is_empty() {
            self.put(key, Value::Object(map));
        }
    }

    fn pairs(&mut self, key: &str, pairs: Vec<(String, String)>) {
        self.object(
            key,
            pairs
                .into_iter()
                .map(|(k, v)| (k, Value::String(v)))
                .collect(),
        );
    }

    fn texts(&mut self, key: &str, m: &Matches, flag: &str) {
        self.list(key, m.list(flag).into_iter().map(str::to_owned).collect());
    }
}
