//! The systemd driver: on the machine's own systemd where it has one, else with somebody on a bus
//! of our own who stands in for it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use wharf_container_runtime::Cgroup;
use wharf_oci::runtime::{Cpu, Memory, Pids, Resources};

use crate::Test;
use crate::sandbox::{Sandbox, end};

pub(crate) const TESTS: &[Test] = &[
    ("containers_live_in_scopes_of_systemd", scope),
    ("paths_that_are_no_units_are_refused", no_unit),
];

/// Runs this program again for [`TESTS`], with a systemd to talk to; whether all went well.
pub(crate) fn run_with_systemd(program: &Path, flag: &str, wanted: &[String]) -> bool {
    let mut again = Command::new(program);
    again.arg(flag).args(wanted);
    if Path::new("/run/systemd/system").is_dir() {
        return again.status().unwrap().success();
    }
    match StandIn::start() {
        Ok(stand_in) => again
            .env("DBUS_SYSTEM_BUS_ADDRESS", &stand_in.address)
            .status()
            .unwrap()
            .success(),
        Err(reason) => {
            crate::skip_all(TESTS, wanted, &reason);
            true
        }
    }
}

/// A bus and somebody on it.
struct StandIn {
    children: Vec<Child>,
    address: String,
    _folder: tempfile::TempDir,
}

impl StandIn {
    fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address=1"])
            .arg(format!(
                "--address=unix:path={}/bus",
                folder.path().display()
            ))
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("no dbus-daemon: {error}"))?;
        let mut stand_in = Self {
            children: vec![bus],
            address: String::new(),
            _folder: folder,
        };
        stand_in.address = first_line(&mut stand_in.children[0]);
        let split = Path::new("/sys/fs/cgroup/systemd");
        let top = if split.is_dir() {
            split
        } else {
            Path::new("/sys/fs/cgroup")
        };
        let systemd = Command::new("/usr/bin/python3")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../systemd/tests/fake_systemd.py"
            ))
            .env("DBUS_SESSION_BUS_ADDRESS", &stand_in.address)
            .env("FAKE_CGROUPS", top)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("no python3: {error}"))?;
        stand_in.children.push(systemd);
        if first_line(&mut stand_in.children[1]).contains("ready") {
            Ok(stand_in)
        } else {
            Err("python3-dbus or python3-gi is missing".to_owned())
        }
    }
}

/// What a child says first; the rest it may go on writing to a pipe that nobody empties.
fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let output = child.stdout.as_mut().unwrap();
    BufReader::with_capacity(1, output)
        .read_line(&mut line)
        .unwrap();
    line.trim().to_owned()
}

impl Drop for StandIn {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn scope(sandbox: &Sandbox) {
    let slice = format!("wharftest{}.slice", std::process::id());
    let script = "cat /proc/self/cgroup; echo end; sleep 1000";
    let mut container = sandbox.container(&["sh", "-c", script]);
    container.config.systemd_cgroup = true;
    container.linux().cgroups_path = Some(format!("{slice}:test:one"));
    let devices = container
        .linux()
        .resources
        .as_ref()
        .unwrap()
        .devices
        .clone();
    container.linux().resources = Some(Resources {
        devices,
        memory: Some(Memory {
            limit: Some(64 << 20),
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            quota: Some(50_000),
            period: Some(100_000),
            ..Cpu::default()
        }),
        pids: Some(Pids { limit: Some(44) }),
        ..Resources::default()
    });
    let (running, [out, _err]) = container.start();
    let lines: Vec<String> = BufReader::new(out)
        .lines()
        .map(Result::unwrap)
        .take_while(|line| line != "end")
        .collect();
    let path = format!("/{slice}/test-one.scope");
    for line in lines
        .iter()
        .filter(|line| !line.starts_with("0::/") || lines.len() == 1)
    {
        assert!(line.ends_with(&path), "{lines:?}");
    }
    let cgroup = running.cgroup.as_ref().unwrap();
    assert_eq!(cgroup.path(), path);
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.memory.limit, stats.pids.limit), (64 << 20, 44));
    let unit = Cgroup::of_unit(&path).unwrap();
    unit.update(&Resources {
        pids: Some(Pids { limit: Some(55) }),
        ..Resources::default()
    })
    .unwrap();
    assert_eq!(cgroup.stats().unwrap().pids.limit, 55);
    cgroup.pause().unwrap();
    cgroup.resume().unwrap();
    end(running);
    let gone = Cgroup::at(&path).unwrap();
    assert!(gone.stats().is_err());
    Cgroup::at(&slice).unwrap().remove_if_unused();
}

fn no_unit(sandbox: &Sandbox) {
    for (path, complaint) in [
        ("/wharf/x", "slice:prefix:name"),
        ("a/b.slice:x:y", "no name for a systemd slice"),
        ("system.slice:x:../y", "no name for a systemd unit"),
    ] {
        let mut container = sandbox.container(&["true"]);
        container.config.systemd_cgroup = true;
        container.linux().cgroups_path = Some(path.to_owned());
        let error = container.try_run().unwrap_err().to_string();
        assert!(error.contains(complaint), "{path}: {error}");
    }
}
