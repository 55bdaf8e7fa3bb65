//! The part of the cgroup hierarchy that a user's containers live in.
//!
//! Only systemd can give an ordinary user one: a scope of the user's own systemd, delegated. The
//! keeper is put into one as soon as it starts, and the scope goes when the last process has left it:
//!
//! ```text
//! user@1000.service/app.slice/wharf-KEEPER.scope
//!   ├─ keeper      the keeper and the network program
//!   ├─ daemon      daemons and their shims
//!   └─ ID          a container each
//! ```
//!
//! Daemon and shims must be in there, too: a process is moved, or born, into another cgroup only by
//! somebody who may write to the first cgroup that is above both. A session's is not.

use std::path::{Path, PathBuf};

use wharf_fault::chain;
use wharf_systemd::{Bus, Manager, Value};

use crate::subordinate;

/// Where cgroups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// No limit.
const INFINITY: u64 = u64::MAX;

/// Where the keeper is.
const KEEPER: &str = "keeper";

/// Where daemons and shims are.
const DAEMON: &str = "daemon";

/// Has a scope made around the calling process, the keeper. Its path from the hierarchy's root, or
/// why there is none and what to do about it.
pub(crate) fn make() -> Result<String, String> {
    if !Path::new(MOUNT).join("cgroup.controllers").exists() {
        return Err(
            "this system's cgroups are version 1, which are not for ordinary users; root changes that with the kernel argument systemd.unified_cgroup_hierarchy=1"
                .to_owned(),
        );
    }
    let pid = std::process::id();
    let unit = format!("wharf-{pid}.scope");
    let properties = [
        (
            "Description",
            Value::Text("Wharf containers of this user".to_owned()),
        ),
        ("PIDs", Value::Numbers(vec![pid])),
        ("Delegate", Value::Bool(true)),
        // For all containers together; each has its own.
        ("TasksMax", Value::U64(INFINITY)),
        ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
    ];
    systemd()?
        .start_transient_unit(&unit, &properties)
        .map_err(|error| chain(&error))?;
    let path = own()
        .filter(|path| path.ends_with(&unit))
        .ok_or_else(|| format!("systemd has made {unit} but has not put this process into it"))?;
    // A cgroup that hands controllers down has no processes of its own.
    for name in [KEEPER, DAEMON] {
        let directory = directory(&path).join(name);
        std::fs::create_dir(&directory).map_err(|error| failed(&directory, &error))?;
    }
    enter(&directory(&path).join(KEEPER))?;
    Ok(path)
}

/// Moves the calling process, a daemon, into the scope at `path`.
pub(crate) fn join(path: &str) -> Result<(), String> {
    let place = directory(path).join(DAEMON);
    // Whoever was started by the user's systemd may do it alone.
    if own().is_some_and(|own| own.starts_with(path)) || enter(&place).is_ok() {
        return Ok(());
    }
    let unit = path.rsplit('/').next().unwrap_or_default();
    systemd()?
        .attach_processes(unit, &format!("/{DAEMON}"), &[std::process::id()])
        .map_err(|error| chain(&error))
}

fn systemd() -> Result<Manager, String> {
    Manager::connect(Bus::User).map_err(|error| {
        let uid = rustix::process::getuid().as_raw();
        let name = subordinate::account(uid).map_or_else(|| uid.to_string(), |it| it.name);
        format!(
            "this user's systemd does not answer ({}); root starts it with: loginctl enable-linger {name}",
            chain(&error)
        )
    })
}

fn directory(path: &str) -> PathBuf {
    Path::new(MOUNT).join(path.trim_start_matches('/'))
}

/// Moves the calling process, which has one thread.
fn enter(directory: &Path) -> Result<(), String> {
    let file = directory.join("cgroup.procs");
    std::fs::write(&file, "0").map_err(|error| failed(&file, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Where the calling process is on the unified hierarchy.
fn own() -> Option<String> {
    let list = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    list.lines()
        .find_map(|line| line.strip_prefix("0::").map(str::to_owned))
}
