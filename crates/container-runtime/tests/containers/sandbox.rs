//! A root file system of busybox, and running containers on it.

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, WaitOptions, waitpid};
use wharf_container_runtime::{ContainerConfig, RootFilesystem, Running, StartError, Stdio};
use wharf_oci::runtime::Spec;
use wharf_seccomp::{Machine, Profile, Program};

/// One directory for all tests, removed at the end.
pub(crate) struct Sandbox {
    top: tempfile::TempDir,
    filter: Program,
    next: Cell<u32>,
}

/// What a container did.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit code, 128 + n for a signal.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A container's own layer and its configuration, to be changed before it is run.
pub(crate) struct Prepared {
    pub(crate) config: ContainerConfig,
    pub(crate) upper: PathBuf,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        // Those of programs that were killed.
        remove_cgroups(|pid| !Path::new("/proc").join(pid.to_string()).exists());
        let top = tempfile::tempdir().unwrap();
        let lower = top.path().join("lower");
        for directory in ["bin", "etc", "tmp", "root", "proc", "sys", "dev", "var/www"] {
            fs::create_dir_all(lower.join(directory)).unwrap();
        }
        fs::copy("/bin/busybox", lower.join("bin/busybox")).unwrap();
        let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(list.stdout)
            .unwrap()
            .lines()
            .filter(|applet| *applet != "busybox")
        {
            symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        fs::write(
            lower.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n",
        )
        .unwrap();
        fs::write(
            lower.join("etc/group"),
            "root:x:0:\nweb:x:33:\nadm:x:4:web\ndisk:x:6:\n",
        )
        .unwrap();
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let filter = Profile::docker_default()
            .resolve(
                &wharf_oci::defaults::CAPABILITIES,
                Machine::native(&release),
            )
            .unwrap();
        let filter = wharf_seccomp::compile(&filter).unwrap();
        Self {
            top,
            filter,
            next: Cell::new(0),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.top.path()
    }

    /// The whole block device containers' layers are on.
    pub(crate) fn block_device(&self) -> Option<(i64, i64)> {
        let device = rustix::fs::stat(self.path()).ok()?.st_dev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let path = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        let whole = if path.join("partition").exists() {
            path.parent()?.to_owned()
        } else {
            path
        };
        let (major, minor) = fs::read_to_string(whole.join("dev"))
            .ok()?
            .trim()
            .split_once(':')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    fn number(&self) -> u32 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    /// A new directory.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(format!("{name}-{}", self.number()));
        fs::create_dir(&path).unwrap();
        path
    }

    /// A container as Docker would start it, running `arguments`.
    pub(crate) fn container(&self, arguments: &[&str]) -> Prepared {
        let own = self.directory("container");
        let (upper, work) = (own.join("upper"), own.join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let mut spec: Spec = wharf_oci::defaults::spec();
        spec.hostname = Some("box".to_owned());
        let process = spec.process.as_mut().unwrap();
        process.args = arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        process.env.push("HOME=/root".to_owned());
        spec.linux.as_mut().unwrap().cgroups_path = Some(format!(
            "/{CGROUP_PREFIX}{}/{}",
            std::process::id(),
            self.number()
        ));
        let config = ContainerConfig {
            spec,
            rootfs: RootFilesystem::Overlay {
                lower: vec![self.path().join("lower")],
                upper: upper.clone(),
                work,
                options: Vec::new(),
            },
            seccomp: Some(self.filter.clone()),
            ..ContainerConfig::default()
        };
        Prepared { config, upper }
    }

    /// Runs a shell script in a container as Docker would start it.
    pub(crate) fn shell(&self, script: &str) -> Outcome {
        self.container(&["sh", "-c", script]).run()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        remove_cgroups(|pid| pid == std::process::id());
        // What tests have mounted in it, in this program's own namespace.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let targets = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1).map(Path::new));
        for target in targets.filter(|target| target.starts_with(self.top.path())) {
            // Below another that is gone by now it is gone, too.
            let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
        }
        let removed = fs::remove_dir_all(self.top.path());
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

const CGROUP_PREFIX: &str = "wharf-runtime-test-";

/// Removes what containers of test programs have left of their cgroups, also where a test failed in
/// the middle of one.
fn remove_cgroups(of: impl Fn(u32) -> bool) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hierarchies = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (target, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup").then_some(target)
    });
    for hierarchy in hierarchies {
        for entry in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name
                .to_str()
                .and_then(|name| name.strip_prefix(CGROUP_PREFIX));
            if pid.and_then(|pid| pid.parse().ok()).is_some_and(&of) {
                remove_tree(&entry.path());
            }
        }
    }
}

/// Removes a cgroup and those below it, as far as no process is in them.
fn remove_tree(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

impl Prepared {
    pub(crate) fn process(&mut self) -> &mut wharf_oci::runtime::Process {
        self.config.spec.process.as_mut().unwrap()
    }

    pub(crate) fn linux(&mut self) -> &mut wharf_oci::runtime::Linux {
        self.config.spec.linux.as_mut().unwrap()
    }

    /// Runs it to its end.
    pub(crate) fn run(&self) -> Outcome {
        self.try_run().unwrap()
    }

    pub(crate) fn try_run(&self) -> Result<Outcome, StartError> {
        let (stdio, output) = pipes();
        let running = wharf_container_runtime::run(&self.config, Vec::new(), stdio)?;
        Ok(finish(running, output))
    }

    pub(crate) fn start(&self) -> (Running, [std::io::PipeReader; 2]) {
        let (stdio, output) = pipes();
        (
            wharf_container_runtime::run(&self.config, Vec::new(), stdio).unwrap(),
            output,
        )
    }

    /// As [`start`](Self::start), with something to read.
    pub(crate) fn start_with_input(&self, input: OwnedFd) -> (Running, [std::io::PipeReader; 2]) {
        let (stdio, output) = pipes();
        let stdio = match stdio {
            Stdio::Streams([_, out, err]) => Stdio::Streams([input, out, err]),
            Stdio::Terminal => Stdio::Terminal,
        };
        (
            wharf_container_runtime::run(&self.config, Vec::new(), stdio).unwrap(),
            output,
        )
    }

    /// The error of a container that does not start.
    pub(crate) fn error(&self) -> StartError {
        let error = self.try_run().unwrap_err();
        if let Some(path) = &self.config.spec.linux.as_ref().unwrap().cgroups_path {
            let left = wharf_container_runtime::Cgroup::at(path)
                .unwrap()
                .processes();
            assert!(left.unwrap().is_empty(), "a failed start leaves nothing");
        }
        error
    }
}

/// What a privileged process asks for.
pub(crate) fn all_capabilities() -> wharf_oci::runtime::Capabilities {
    let all = wharf_sys::capability::Capabilities::ALL;
    wharf_oci::defaults::capabilities(&all.names().collect::<Vec<_>>())
}

/// Standard streams: nothing to read, and two pipes.
pub(crate) fn pipes() -> (Stdio, [std::io::PipeReader; 2]) {
    let null = fs::File::open("/dev/null").unwrap();
    let (out, out_writer) = std::io::pipe().unwrap();
    let (err, err_writer) = std::io::pipe().unwrap();
    (
        Stdio::Streams([null.into(), out_writer.into(), err_writer.into()]),
        [out, err],
    )
}

/// Reads the output of a container, reaps it and removes its cgroup.
pub(crate) fn finish(running: Running, [mut out, mut err]: [std::io::PipeReader; 2]) -> Outcome {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    out.read_to_string(&mut stdout).unwrap();
    err.read_to_string(&mut stderr).unwrap();
    let code = reap(running.pid);
    if let Some(cgroup) = &running.cgroup {
        cgroup.remove().unwrap();
    }
    Outcome {
        code,
        stdout,
        stderr,
    }
}

/// A process of the test's that does `work`. It ends with the test program at the latest: one that went on
/// would keep its output open, and whoever reads that waiting.
pub(crate) fn fork(work: impl FnOnce() -> u8) -> rustix::process::Pid {
    wharf_sys::clone::fork(|| {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
        work()
    })
    .unwrap()
}

/// Waits for a process: its exit code, 128 + n for a signal.
pub(crate) fn reap(pid: rustix::process::Pid) -> i32 {
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        .unwrap()
}

/// Kills a container and removes its cgroup.
pub(crate) fn end(running: Running) {
    wharf_container_runtime::kill(&running, Signal::KILL).unwrap();
    reap(running.pid);
    running.cgroup.unwrap().remove().unwrap();
}

/// Reads from a terminal until the other end is closed.
pub(crate) fn read_terminal(master: OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    // A terminal whose other end is closed answers EIO.
    while let Ok(count @ 1..) = rustix::io::read(&master, &mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}
