//! A host of a test's own: network, mount and process namespaces that end with the test.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::output::{Output, run};

/// How long a test may have its host. The longest take a tenth of it here, images that are made for the first
/// time included; a test that hangs is to say so before CI's own time is over.
const LIFE_MAX: Duration = Duration::from_secs(1800);

/// For a test to end once everything on its host has.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// The sandbox. Dropping it ends every process inside, however they got there.
#[derive(Debug)]
pub struct Host {
    /// `unshare`, parent of the sandbox's PID 1; its end kills that one.
    holder: Child,
    init_pid: u32,
    /// Scratch space on a real disk, removed at the end.
    folder: tempfile::TempDir,
    /// Ends the host when its time is over; done when the sender is gone. Answers whether it had to.
    guard: Option<(mpsc::Sender<()>, JoinHandle<bool>)>,
}

impl Host {
    /// A host with loopback up, an empty `/run`, and no other network. When the test has not done with it in
    /// half an hour, it ends, and the test fails.
    pub fn new() -> Self {
        let mut host = Self::without_limit();
        host.end_after(LIFE_MAX);
        host
    }

    /// The same for what may take any time.
    pub fn without_limit() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("wharf-test-")
            .tempdir_in(scratch_root())
            .expect("scratch is writable");
        let ready = folder.path().join("ready");
        let script = format!(
            "set -e; ip link set lo up; mount -t tmpfs tmpfs /run; mkdir -p /run/lock; \
             mkdir -p {lib} /var/lib/wharf; mount --bind {lib} /var/lib/wharf; touch {ready}; exec tini -s -- sleep infinity",
            lib = folder.path().join("var-lib-wharf").display(),
            ready = ready.display(),
        );
        let fifo = folder.path().join("ready");
        run(command("mkfifo", &[&fifo.display().to_string()]), None).ok();
        let script = script.replace(
            &format!("touch {}", ready.display()),
            &format!("echo > {}", ready.display()),
        );
        // It ends with us, too, when nobody is left to drop it.
        let holder = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--ipc",
                "--uts",
                "--fork",
                "--kill-child=SIGKILL",
                "--mount-proc",
                "sh",
                "-c",
                &script,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv and unshare (util-linux) are installed");
        // Opening the pipe waits until the script has done its set-up.
        let line = std::fs::read_to_string(&fifo).expect("the sandbox comes up");
        assert_eq!(line, "\n", "the sandbox's set-up failed");
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let init_pid = std::fs::read_to_string(children)
            .ok()
            .and_then(|list| {
                list.split_whitespace()
                    .next()
                    .and_then(|pid| pid.parse().ok())
            })
            .expect("unshare --fork has one child");
        Self {
            holder,
            init_pid,
            folder,
            guard: None,
        }
    }

    /// Ends the host, and with it whatever a test can wait for, when `life` is over.
    fn end_after(&mut self, life: Duration) {
        let init = self.init();
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test").to_owned();
        let (sender, done) = mpsc::channel();
        let guard = std::thread::spawn(move || {
            let over = Err(mpsc::RecvTimeoutError::Timeout);
            if done.recv_timeout(life) != over {
                return false;
            }
            eprintln!(
                "{test}: not done after {} s: its host is ended",
                life.as_secs()
            );
            if let Some(init) = init {
                // It may have ended already.
                let _ = pidfd_send_signal(init, Signal::KILL);
            }
            if done.recv_timeout(LAST_WORDS) == over {
                eprintln!("{test}: it waits for something else: the test program is ended");
                std::process::abort();
            }
            true
        });
        self.guard = Some((sender, guard));
    }

    /// The sandbox's PID 1.
    fn init(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.init_pid).unwrap_or(0));
        pidfd_open(pid?, PidfdFlags::empty()).ok()
    }

    /// Scratch folder, the same path inside and outside.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file or folder name in the scratch folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `program` set up to run inside; add arguments and run it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.init_pid.to_string(),
                "--net",
                "--mount",
                "--pid",
                "--ipc",
                "--uts",
                "--",
            ])
            .arg(program)
            // The machine's own engine settings must not leak into the tests.
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .env("DOCKER_CONFIG", self.folder.path().join("docker-config"))
            .env("HOME", self.folder.path());
        command
    }

    /// Runs a shell line inside.
    pub fn sh(&self, line: &str) -> Output {
        let mut command = self.command("sh");
        command.arg("-c").arg(line);
        run(command, None)
    }

    /// Runs a shell line inside again and again until it succeeds: for what comes a moment later.
    #[track_caller]
    pub fn eventually(&self, line: &str) -> Output {
        crate::waiting::succeeds(line, || self.sh(line))
    }

    /// Fetches a page from inside; again and again while nobody answers, as a user's browser would.
    #[track_caller]
    pub fn fetch(&self, url: &str) -> Output {
        self.eventually(&format!(
            "curl --silent --show-error --fail --globoff --max-time 20 '{url}'"
        ))
    }

    /// The cgroup below which this host's daemons put their containers.
    pub fn cgroup_parent(&self) -> String {
        let name = self
            .folder
            .path()
            .file_name()
            .expect("a scratch folder has a name");
        format!("/{}", name.to_string_lossy())
    }

    /// The sandbox's PID 1 as seen from outside.
    pub fn init_pid(&self) -> u32 {
        self.init_pid
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // `--kill-child` ends PID 1 with unshare, and the kernel everything else with PID 1.
        if let Some(init) = self.init() {
            // It may have ended already.
            let _ = pidfd_send_signal(init, Signal::KILL);
        }
        drop(self.holder.wait());
        remove_cgroups(&self.cgroup_parent());
        let had_to_end = self.guard.take().is_some_and(|(sender, guard)| {
            drop(sender);
            guard.join().unwrap_or(true)
        });
        if had_to_end && !std::thread::panicking() {
            panic!("the test was not done with its host in time");
        }
    }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Overlay needs a real file system below it, so not every `/tmp` will do.
fn scratch_root() -> PathBuf {
    std::env::var_os("WHARF_TEST_SCRATCH").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// Removes the cgroups that daemons of this host made: their processes died with PID 1, the empty
/// directories outlive them.
fn remove_cgroups(parent: &str) {
    for hierarchy in cgroup_hierarchies() {
        remove_tree(&hierarchy.join(parent.trim_start_matches('/')));
    }
}

/// The mount points of all cgroup hierarchies.
pub fn cgroup_hierarchies() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
            kind.starts_with("cgroup").then(|| PathBuf::from(target))
        })
        .collect()
}

fn remove_tree(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    drop(std::fs::remove_dir(path));
}
