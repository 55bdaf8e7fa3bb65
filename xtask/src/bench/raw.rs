//! OCI runtimes by their command line, without an engine: `run` of a bundle, and `exec` in it.
//!
//! The bundle is as `runc spec` writes it, on a plain directory, with a cgroup and without a terminal.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::measure::Samples;
use super::report::Table;

/// The runtimes, ours first: the program and its first arguments.
fn runtimes() -> [(PathBuf, &'static [&'static str]); 3] {
    [
        (wharf_tests::wharf_binary(), &["runtime"]),
        (PathBuf::from("crun"), &["--cgroup-manager", "cgroupfs"]),
        (PathBuf::from("runc"), &[]),
    ]
}

pub(crate) fn columns() -> Vec<String> {
    ["wharf runtime", "crun", "runc"].map(str::to_owned).into()
}

pub(crate) fn measure(
    folder: &Path,
    cgroup_parent: &str,
    runs: usize,
    table: &mut Table,
) -> Result<(), String> {
    // crun refuses a hybrid cgroup mount.
    drop(
        Command::new("umount")
            .arg("/sys/fs/cgroup/unified")
            .stderr(Stdio::null())
            .status(),
    );
    let bundle = folder.join("bundle");
    make_bundle(&bundle).map_err(|error| format!("{}: {error}", bundle.display()))?;
    let variants: [(&str, bool); 2] = [("run true", false), ("run true, network namespace", true)];
    for (name, network) in variants {
        let mut samples = Samples::new(3);
        for round in 0..runs + 2 {
            for (n, (program, arguments)) in runtimes().iter().enumerate() {
                let id = format!("raw-{n}-{round}");
                write_config(&bundle, cgroup_parent, &id, network, &["/bin/true"])?;
                let root = folder.join(format!("raw-state-{n}"));
                let start = Instant::now();
                call(
                    program,
                    arguments,
                    &root,
                    &["run", "--bundle"],
                    &bundle,
                    &id,
                )?;
                // The first rounds fill caches.
                if round >= 2 {
                    samples.add(n, start.elapsed().as_secs_f64() * 1000.0);
                }
            }
        }
        table.latency(name, samples);
    }
    exec(folder, &bundle, cgroup_parent, runs, table)
}

fn exec(
    folder: &Path,
    bundle: &Path,
    cgroup_parent: &str,
    runs: usize,
    table: &mut Table,
) -> Result<(), String> {
    let ids: Vec<String> = (0..3).map(|n| format!("raw-exec-{n}")).collect();
    for (n, (program, arguments)) in runtimes().iter().enumerate() {
        write_config(
            bundle,
            cgroup_parent,
            &ids[n],
            true,
            &["/bin/sleep", "1000"],
        )?;
        let root = folder.join(format!("raw-state-{n}"));
        let words = ["run", "--detach", "--bundle"];
        call(program, arguments, &root, &words, bundle, &ids[n])?;
    }
    let mut samples = Samples::new(3);
    for _ in 0..runs {
        for (n, (program, arguments)) in runtimes().iter().enumerate() {
            let root = folder.join(format!("raw-state-{n}"));
            let start = Instant::now();
            succeed(
                Command::new(program)
                    .args(*arguments)
                    .arg("--root")
                    .arg(&root)
                    .args(["exec", &ids[n], "/bin/true"]),
            )?;
            samples.add(n, start.elapsed().as_secs_f64() * 1000.0);
        }
    }
    table.latency("exec true", samples);
    let mut samples = Samples::new(3);
    for (n, (program, arguments)) in runtimes().iter().enumerate() {
        let root = folder.join(format!("raw-state-{n}"));
        let start = Instant::now();
        succeed(
            Command::new(program)
                .args(*arguments)
                .arg("--root")
                .arg(&root)
                .args(["delete", "--force", &ids[n]]),
        )?;
        samples.add(n, start.elapsed().as_secs_f64() * 1000.0);
    }
    table.latency("delete --force (once)", samples);
    Ok(())
}

fn call(
    program: &Path,
    arguments: &[&str],
    root: &Path,
    words: &[&str],
    bundle: &Path,
    id: &str,
) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).arg("--root").arg(root);
    succeed(command.args(words).arg(bundle).arg(id))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    // Files and not pipes: a detached container would hold a pipe open.
    let null = || Stdio::null();
    let status = command
        .stdin(null())
        .stdout(null())
        .stderr(null())
        .status()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}"))
    }
}

fn make_bundle(bundle: &Path) -> std::io::Result<()> {
    let root = bundle.join("rootfs");
    for directory in ["bin", "proc", "dev", "sys", "etc"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    for name in ["true", "sleep"] {
        std::fs::copy("/bin/busybox", root.join("bin").join(name))?;
    }
    Ok(())
}

fn write_config(
    bundle: &Path,
    cgroup_parent: &str,
    id: &str,
    network: bool,
    program: &[&str],
) -> Result<(), String> {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
    if network {
        namespaces.push("network");
    }
    let namespaces: Vec<Value> = namespaces
        .into_iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": program,
            "env": ["PATH=/bin", "TERM=xterm", "HOME=/"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": format!("/{cgroup_parent}/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    std::fs::write(bundle.join("config.json"), config.to_string())
        .map_err(|error| error.to_string())
}
