//! Namespaces, capabilities, security profiles and the log: what a container may and who sees it.

use std::fs;

use serde_json::{Value, json};

use super::object::Object;
use super::{fail, reason};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::{env, names};

pub(super) fn isolation(m: &Matches, host: &mut Object) -> Outcome {
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
    if !matches!(m.str("cgroupns"), "" | "host" | "private") {
        return fail("--cgroupns: invalid CGROUP mode");
    }
    for (key, flag) in [
        ("PidMode", "pid"),
        ("UTSMode", "uts"),
        ("CgroupnsMode", "cgroupns"),
        ("IpcMode", "ipc"),
        ("Isolation", "isolation"),
        ("Runtime", "runtime"),
    ] {
        host.text(key, m.str(flag));
    }
    host.text("UsernsMode", &user_namespace(m)?);
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

/// `--userns`, or the options that spell a mapping out. What they mean is the engine's business,
/// apart from who is calling: that only we know.
fn user_namespace(m: &Matches) -> Outcome<String> {
    let given = m.str("userns");
    let mut mapping: Vec<String> = Vec::new();
    for (flag, key) in [("uidmap", "uidmapping"), ("gidmap", "gidmapping")] {
        // Several may be in one, as in Podman.
        let ranges = m.list(flag).into_iter().flat_map(|list| list.split(','));
        mapping.extend(ranges.map(|range| format!("{key}={range}")));
    }
    for name in ["subuidname", "subgidname"] {
        if !m.str(name).is_empty() {
            mapping.push(format!("{name}={}", m.str(name)));
        }
    }
    if !mapping.is_empty() {
        if !given.is_empty() {
            return fail(
                "conflicting options: --userns and --uidmap, --gidmap, --subuidname or --subgidname",
            );
        }
        return Ok(format!("private:{}", mapping.join(",")));
    }
    let (kind, options) = given.split_once(':').unwrap_or((given, ""));
    if !matches!(
        (kind, options),
        ("" | "host", "")
            | (
                "auto" | "keep-id" | "private" | "container" | "ns" | "nomap",
                _
            )
    ) {
        return fail("--userns: invalid USER mode");
    }
    if kind != "keep-id" || options.contains("host-") {
        return Ok(given.to_owned());
    }
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let separator = if options.is_empty() { "" } else { "," };
    Ok(format!(
        "keep-id:{options}{separator}host-uid={},host-gid={}",
        uid.as_raw(),
        gid.as_raw()
    ))
}

fn logging(m: &Matches, host: &mut Object) -> Outcome {
    let driver = m.str("log-driver");
    let options: Vec<(String, String)> = m.list("log-opt").into_iter().map(env::pair).collect();
    if driver == "none" && !options.is_empty() {
        return fail("invalid logging opts for driver none");
    }
    if !driver.is_empty() || !options.is_empty() {
        let mut log = Object::default();
        log.put("Type", json!(driver));
        log.pairs("Config", options);
        host.put("LogConfig", Value::Object(log.0));
    }
    Ok(())
}

/// `--security-opt`: profiles are files of the caller, so they are read here.
fn security(m: &Matches, host: &mut Object) -> Outcome {
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
