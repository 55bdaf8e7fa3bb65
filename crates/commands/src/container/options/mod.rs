//! The flags of `run` and `create` become the body of a create request.
//!
//! Only what was asked for is put into the body: the engine knows the defaults, and a short body
//! is quick to read.

mod flags;
mod isolation;
mod networks;
mod object;
mod resources;

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

pub(super) use self::flags::{SHARED, check_cpus, check_swap, join};
use self::object::Object;
pub(super) use self::resources::nano_cpus;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::bind::Volume;
use crate::parse::ports::Ports;
use crate::parse::{bind, env, mount, names, restart};
use crate::terminal;

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

    let mut config = Object::default();
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

    let mut host = Object::default();
    volumes(m, &mut config, &mut host)?;
    ports(m, &mut config, &mut host)?;
    resources::resources(m, &mut host)?;
    isolation::isolation(m, &mut host)?;
    let endpoints = networks::networks(m, &mut host)?;
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
    let mut out = Object::default();
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

fn volumes(m: &Matches, config: &mut Object, host: &mut Object) -> Outcome {
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

fn ports(m: &Matches, config: &mut Object, host: &mut Object) -> Outcome {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(words: &[&str]) -> Result<Spec, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let m = crate::matches::parse(SHARED, words, false)?;
        parse(&m, &[]).map_err(|failure| failure.text().to_owned())
    }

    /// The body without the lists that are always there.
    fn body(words: &[&str]) -> Value {
        let mut body = spec(words).unwrap().body;
        if let Some(host) = body.get_mut("HostConfig").and_then(Value::as_object_mut) {
            host.retain(|key, value| {
                !(ALWAYS_LISTS.contains(&key.as_str()) && *value == json!([]))
            });
        }
        Value::Object(body)
    }

    fn error(words: &[&str]) -> String {
        spec(words).unwrap_err()
    }

    #[test]
    fn user_namespaces_are_asked_for() {
        let mode = |words: &[&str]| {
            let mut all = words.to_vec();
            all.push("x");
            body(&all)["HostConfig"]["UsernsMode"]
                .as_str()
                .map(str::to_owned)
        };
        for given in ["host", "auto", "auto:size=5", "container:web"] {
            assert_eq!(mode(&["--userns", given]).as_deref(), Some(given));
        }
        assert_eq!(mode(&[]), None);
        assert_eq!(
            mode(&[
                "--uidmap",
                "0:5:1,1:9:1",
                "--uidmap",
                "2:6:1",
                "--subgidname",
                "bob"
            ])
            .as_deref(),
            Some("private:uidmapping=0:5:1,uidmapping=1:9:1,uidmapping=2:6:1,subgidname=bob")
        );
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        let me = format!("host-uid={},host-gid={}", uid.as_raw(), gid.as_raw());
        assert_eq!(mode(&["--userns=keep-id"]), Some(format!("keep-id:{me}")));
        assert_eq!(
            mode(&["--userns=keep-id:uid=5,gid=6"]),
            Some(format!("keep-id:uid=5,gid=6,{me}"))
        );
        assert_eq!(
            mode(&["--userns=keep-id:host-uid=5,host-gid=6"]).as_deref(),
            Some("keep-id:host-uid=5,host-gid=6")
        );
        assert_eq!(
            error(&["--userns", "bogus", "x"]),
            "--userns: invalid USER mode"
        );
        assert_eq!(
            error(&["--userns", "auto", "--uidmap", "0:1:1", "x"]),
            "conflicting options: --userns and --uidmap, --gidmap, --subuidname or --subgidname"
        );
    }

    #[test]
    fn only_what_was_asked_for_is_sent() {
        assert_eq!(
            body(&["x"]),
            json!({"AttachStdout": true, "AttachStderr": true, "Image": "x", "HostConfig": {"NetworkMode": "default"}})
        );
        assert_eq!(
            body(&["-i", "-e", "A=1", "-e", "A=2", "x", "sh", "-c", "true"]),
            json!({
                "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "OpenStdin": true, "StdinOnce": true,
                "Env": ["A=2"], "Image": "x", "Cmd": ["sh", "-c", "true"], "HostConfig": {"NetworkMode": "default"},
            })
        );
    }

    #[test]
    fn every_option_finds_its_place() {
        let sent = body(&[
            "-v",
            "/a:/b",
            "-v",
            "/anon",
            "--mount",
            "type=bind,src=/a,dst=/c,ro",
            "--tmpfs",
            "/t:size=1m",
            "-p",
            "127.0.0.1::99",
            "-p",
            "80:80",
            "--expose",
            "5",
            "-l",
            "x=y",
            "-l",
            "z",
            "--add-host",
            "h:1.2.3.4",
            "--ulimit",
            "nofile=1:2",
            "--ulimit",
            "core=0",
            "--device",
            "/dev/zero:/dev/z:r",
            "-m",
            "64m",
            "--memory-swap",
            "-1",
            "--cpus",
            "1.5",
            "--cap-add",
            "sys_admin",
            "--restart",
            "on-failure:3",
            "--log-opt",
            "max-size=1m",
            "--security-opt",
            "systempaths=unconfined",
            "--health-cmd",
            "true",
            "--health-interval",
            "5s",
            "--stop-timeout",
            "0",
            "--init=false",
            "--network",
            "n1",
            "--network-alias",
            "al",
            "--ip",
            "1.2.3.4",
            "--entrypoint",
            "",
            "x",
        ]);
        assert_eq!(
            sent,
            json!({
                "AttachStdout": true, "AttachStderr": true, "StopTimeout": 0, "Labels": {"x": "y", "z": ""}, "Image": "x",
                "Entrypoint": [""], "Healthcheck": {"Interval": 5_000_000_000_i64, "Test": ["CMD-SHELL", "true"]},
                "Volumes": {"/anon": {}}, "ExposedPorts": {"5/tcp": {}, "80/tcp": {}, "99/tcp": {}},
                "HostConfig": {
                    "Binds": ["/a:/b"], "Mounts": [{"Type": "bind", "Source": "/a", "Target": "/c", "ReadOnly": true}],
                    "Tmpfs": {"/t": "size=1m"},
                    "PortBindings": {
                        "80/tcp": [{"HostIp": "", "HostPort": "80"}],
                        "99/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
                    },
                    "Memory": 67_108_864, "MemorySwap": -1, "NanoCpus": 1_500_000_000,
                    "Ulimits": [{"Name": "core", "Hard": 0, "Soft": 0}, {"Name": "nofile", "Hard": 2, "Soft": 1}],
                    "Devices": [{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/z", "CgroupPermissions": "r"}],
                    "Init": false, "CapAdd": ["CAP_SYS_ADMIN"], "LogConfig": {"Type": "", "Config": {"max-size": "1m"}},
                    "MaskedPaths": [], "ReadonlyPaths": [], "ExtraHosts": ["h:1.2.3.4"], "NetworkMode": "n1",
                    "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
                },
                "NetworkingConfig": {"EndpointsConfig": {"n1": {"IPAMConfig": {"IPv4Address": "1.2.3.4"}, "Aliases": ["al"]}}},
            })
        );
    }

    #[test]
    fn proxies_stand_behind_what_the_user_sets() {
        let m = Matches::of(SHARED, &["-e", "http_proxy=mine", "x"]).unwrap();
        let proxies = [
            ("HTTP_PROXY".to_owned(), "p".to_owned()),
            ("http_proxy".to_owned(), "p".to_owned()),
        ];
        let sent = parse(&m, &proxies).unwrap().body;
        assert_eq!(sent["Env"], json!(["http_proxy=mine", "HTTP_PROXY=p"]));
    }

    #[test]
    fn contradictions_are_named() {
        for (words, message) in [
            (
                &["--rm", "--restart", "always", "x"][..],
                "conflicting options: cannot specify both --restart and --rm",
            ),
            (
                &["--no-healthcheck", "--health-cmd", "a", "x"],
                "--no-healthcheck conflicts with --health-* options",
            ),
            (
                &["--health-retries", "-1", "x"],
                "--health-retries cannot be negative",
            ),
            (
                &["--network", "a", "--network", "host", "x"],
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ),
            (
                &["--network", "a", "--network", "a", "x"],
                "network \"a\" is specified multiple times",
            ),
            (
                &["--network", "name=a,ip=1.1.1.1", "--ip", "2.2.2.2", "x"],
                "conflicting options: cannot specify both --ip and per-network IPv4 address",
            ),
            (
                &["--network-alias", "a", "x"],
                "network-scoped aliases are only supported for user-defined networks",
            ),
            (
                &["--memory-swappiness", "200", "x"],
                "invalid value: 200. Valid memory swappiness range is 0-100",
            ),
            (&["--pid", "foo", "x"], "--pid: invalid PID mode"),
            (
                &["--log-driver", "none", "--log-opt", "a=b", "x"],
                "invalid logging opts for driver none",
            ),
            (
                &["--security-opt", "foo", "x"],
                "Invalid --security-opt: \"foo\"",
            ),
            (
                &["--security-opt", "seccomp=/nonexistent/p", "x"],
                "opening seccomp profile (/nonexistent/p) failed: open /nonexistent/p: no such file or directory",
            ),
            (
                &["--env-file", "/nonexistent/e", "x"],
                "open /nonexistent/e: no such file or directory",
            ),
            (
                &["--mac-address", "zz", "x"],
                "zz is not a valid mac address",
            ),
            (&["--gpus", "all", "x"], "--gpus is not available yet"),
            (
                &["--platform", "a/b/c/d", "x"],
                "error parsing specified platform: \"a/b/c/d\": cannot parse platform specifier: invalid argument",
            ),
        ] {
            assert_eq!(error(words), message, "{words:?}");
        }
    }
}
