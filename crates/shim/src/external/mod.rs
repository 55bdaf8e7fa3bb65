//! A container that another OCI runtime runs: `runc`, `crun`, `runsc` or any program with their
//! command line.
//!
//! ```text
//! bundle ──create──▶ (pid file, terminal) ──start──▶ running ──exec, kill, pause …──▶ delete --force
//! ```
//!
//! The runtime's program ends after every command; what it leaves behind becomes our child,
//! because we are a subreaper, so ends are seen as those of our own processes. Commands are waited
//! for: they take a moment, and what the container writes meanwhile waits in its pipes.
//!
//! - [`command`]: the program, its command line and its complaints.
//! - [`console`]: the terminal that a runtime hands over.

mod command;
mod console;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, set_child_subreaper, wait,
};
use wharf_container_runtime::{Cgroup, IdMaps, NamespaceFd, Shown, Stdio, shield};
use wharf_oci::runtime::{ConsoleSize, NamespaceKind, Process as OciProcess, Resources, Spec};
use wharf_shim_protocol::{ExecStart, Failure, FailureKind, Restore, Start, Target};
use wharf_sys::signal::{SignalFd, SignalSet};

use crate::bundle::Bundle;
use crate::launch::{no_streams, stdio, terminal_streams};
use crate::process::{Process, Streams};
use command::{Collector, Complaint, Program};
use console::ConsoleSocket;

/// `SIGCHLD`.
const CHILD: i32 = 17;

/// What Docker's daemon and containerd put before a runtime's words.
const CREATE_FAILED: &str =
    "failed to create task for container: failed to create shim task: OCI runtime create failed: ";
const START_FAILED: &str = "failed to start task for container: OCI runtime start failed: ";
const EXEC_FAILED: &str = "OCI runtime exec failed: ";

/// The container, as far as we know it.
#[derive(Debug)]
pub(crate) struct External {
    id: String,
    run_dir: PathBuf,
    program: Program,
    bundle: Bundle,
    /// Where the runtime put it, for limits, statistics and what its death leaves.
    pub(crate) cgroup: Option<Cgroup>,
    /// The document names them by our descriptors, and a checkpoint looks there again.
    namespaces: Vec<NamespaceFd>,
    /// Tells that a child has ended.
    children: SignalFd,
}

impl External {
    /// Creates and starts the container of a start message.
    pub(crate) fn start(
        start: &mut Start,
        namespaces: Vec<NamespaceFd>,
    ) -> Result<(Self, Process), Failure> {
        let system = |what: &str, errno: Errno| {
            Failure::new(FailureKind::System, format!("{what}: {errno}"))
        };
        let runtime = start.runtime.take().ok_or_else(|| {
            Failure::new(FailureKind::InvalidParameter, "no runtime's program given")
        })?;
        // Before the first child: it inherits whom its orphans go to.
        set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| system("cannot become the parent of the container", errno))?;
        let children = SignalFd::new(SignalSet::of(&[CHILD]))
            .map_err(|errno| system("cannot wait for children", errno))?;
        let program = Program::open(runtime, &start.run_dir)?;
        let mut document = std::mem::take(&mut *start.spec);
        let cgroups_path = document
            .linux
            .as_ref()
            .and_then(|linux| linux.cgroups_path.clone());
        let systemd_cgroup = start.systemd_cgroup;
        let find_cgroup = move || {
            let path = cgroups_path.as_deref()?;
            if systemd_cgroup {
                Cgroup::of_new_unit(path).ok()
            } else if path.starts_with('/') {
                Cgroup::at(path).ok()
            } else {
                None
            }
        };
        let shown = shown(&document, &namespaces)?;
        let mut bundle = Bundle::make(&start.run_dir, &start.rootfs, false, shown)?;
        bundle.complete(&mut document, &namespaces, start)?;
        let container = Self {
            id: start.id.clone(),
            run_dir: start.run_dir.clone(),
            program,
            bundle,
            cgroup: None,
            namespaces,
            children,
        };
        let process = document.process.unwrap_or_default();
        let launched = container.launch(&process, start.open_stdin, start.restore.as_ref());
        let (pid, pidfd, streams) = match launched {
            Ok(launched) => launched,
            Err(failure) => {
                container.bury(find_cgroup());
                return Err(failure);
            }
        };
        let main = Process::new(Target::Main, pid, pidfd, streams, start.stdin_once);
        let cgroup = find_cgroup();
        Ok((
            Self {
                cgroup,
                ..container
            },
            main,
        ))
    }

    /// `create` and `start`, or `restore`.
    fn launch(
        &self,
        process: &OciProcess,
        open_stdin: bool,
        restore: Option<&Restore>,
    ) -> Result<(Pid, OwnedFd, Streams), Failure> {
        let pid_file = self.run_dir.join("init.pid");
        let bundle = self.bundle.path().display().to_string();
        let directories = restore
            .map(|restore| [&restore.images, &restore.work].map(|path| path.display().to_string()));
        let mut words = vec!["create", "--bundle", bundle.as_str()];
        if let Some([images, work]) = &directories {
            words[0] = "restore";
            words.extend(["--detach", "--image-path", images, "--work-path", work]);
        }
        let program = process.args.first().map_or("", String::as_str);
        let (pid, streams) = self
            .run_with_streams(
                &words,
                &pid_file,
                process.terminal,
                open_stdin,
                process.console_size,
            )
            .map_err(|error| error.into_failure(CREATE_FAILED, program))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| {
            Failure::new(
                FailureKind::System,
                format!(
                    "{CREATE_FAILED}no process {}: {errno}",
                    pid.as_raw_nonzero()
                ),
            )
        })?;
        if restore.is_none() {
            self.program
                .run(&["start", &self.id], None)
                .map_err(|complaint| failure(&complaint, START_FAILED, program))?;
        }
        Ok((pid, pidfd, streams))
    }

    /// Runs a command of the runtime that leaves a process behind, whose streams we hold.
    fn run_with_streams(
        &self,
        words: &[&str],
        pid_file: &Path,
        terminal: bool,
        open_stdin: bool,
        size: Option<ConsoleSize>,
    ) -> Result<(Pid, Streams), LaunchError> {
        let (theirs, mut ours) =
            stdio(terminal, open_stdin).map_err(|error| LaunchError::Failed(no_streams(&error)))?;
        let theirs = match theirs {
            Stdio::Streams([stdin, stdout, stderr]) => {
                let stdin = shield(stdin)
                    .map_err(|errno| LaunchError::Failed(no_streams(&errno.into())))?;
                let streams = [stdin, stdout, stderr];
                self.bundle.give_streams(&streams)?;
                Stdio::Streams(streams)
            }
            terminal @ Stdio::Terminal => terminal,
        };
        let console = match &theirs {
            Stdio::Terminal => Some(ConsoleSocket::bind(&self.run_dir)?),
            Stdio::Streams(_) => None,
        };
        let pid_path = pid_file.display().to_string();
        let mut all = words.to_vec();
        all.extend(["--pid-file", pid_path.as_str()]);
        if let Some(console) = &console {
            all.extend(["--console-socket", console.path()]);
        }
        all.push(&self.id);
        let fds = match &theirs {
            Stdio::Terminal => None,
            Stdio::Streams(streams) => {
                Some([streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()])
            }
        };
        self.program
            .run(&all, fds)
            .map_err(LaunchError::Complained)?;
        drop(theirs);
        if let Some(console) = console {
            let master = console.receive()?;
            if let Some((width, height)) = size.and_then(characters) {
                // The runtime was told the size, too.
                let _ = wharf_sys::terminal::resize(&master, width, height);
            }
            ours = terminal_streams(master, open_stdin)
                .map_err(|error| LaunchError::Failed(no_streams(&error)))?;
        }
        let pid = read_pid(pid_file)?;
        Ok((pid, ours))
    }

    /// Runs another process in the container.
    pub(crate) fn exec(&self, exec: ExecStart) -> Result<Process, Failure> {
        let mut process = exec.process;
        self.bundle
            .become_user(&mut process, exec.user.as_deref(), &exec.group_add)?;
        let path = self.run_dir.join("exec.json");
        let written = serde_json::to_vec(&process)
            .map_err(std::io::Error::other)
            .and_then(|text| std::fs::write(&path, text));
        written.map_err(|error| {
            Failure::new(
                FailureKind::System,
                format!("{EXEC_FAILED}cannot write {}: {error}", path.display()),
            )
        })?;
        let pid_file = self.run_dir.join("exec.pid");
        let file = path.display().to_string();
        let program = process.args.first().map_or("", String::as_str);
        let result = self.run_with_streams(
            &["exec", "--process", &file, "--detach"],
            &pid_file,
            process.terminal,
            exec.open_stdin,
            process.console_size,
        );
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_file(&pid_file);
        let (pid, streams) = result.map_err(|error| error.into_failure(EXEC_FAILED, program))?;
        // It is our child: even if it has ended, nobody else has got its number meanwhile.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| {
            Failure::new(
                FailureKind::System,
                format!("{EXEC_FAILED}no process {}: {errno}", pid.as_raw_nonzero()),
            )
        })?;
        Ok(Process::new(
            Target::Exec(exec.exec_id),
            pid,
            pidfd,
            streams,
            true,
        ))
    }

    /// Signals the container's first process, or all of them.
    pub(crate) fn signal(&self, number: i32, all: bool) -> Result<(), Failure> {
        let number = number.to_string();
        let mut words = vec!["kill"];
        if all {
            words.push("--all");
        }
        words.extend([self.id.as_str(), &number]);
        self.command(&words).map(drop)
    }

    /// Freezes it.
    pub(crate) fn pause(&self) -> Result<(), Failure> {
        self.command(&["pause", &self.id]).map(drop)
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) -> Result<(), Failure> {
        self.command(&["resume", &self.id]).map(drop)
    }

    /// Writes it down.
    pub(crate) fn checkpoint(
        &self,
        images: &Path,
        work: &Path,
        leave_running: bool,
    ) -> Result<(), Failure> {
        let [images, work] = [images, work].map(|path| path.display().to_string());
        let mut words = vec!["checkpoint", "--image-path", &images, "--work-path", &work];
        if leave_running {
            words.push("--leave-running");
        }
        words.push(&self.id);
        self.command(&words).map(drop)
    }

    /// Changes its limits.
    pub(crate) fn update(&self, resources: &Resources) -> Result<(), Failure> {
        let path = self.run_dir.join("update.json");
        serde_json::to_vec(resources)
            .map_err(std::io::Error::other)
            .and_then(|text| std::fs::write(&path, text))
            .map_err(|error| {
                Failure::new(
                    FailureKind::System,
                    format!("cannot write {}: {error}", path.display()),
                )
            })?;
        let file = path.display().to_string();
        let done = self.command(&["update", "--resources", &file, &self.id]);
        let _ = std::fs::remove_file(&path);
        done.map(drop)
    }

    /// Its processes.
    pub(crate) fn processes(&self) -> Result<Vec<i32>, Failure> {
        let output = self.command(&["ps", "--format", "json", &self.id])?;
        // `runc` says `null` for none.
        let pids: Option<Vec<i32>> =
            serde_json::from_slice(output.trim().as_bytes()).map_err(|error| {
                Failure::new(
                    FailureKind::System,
                    format!("the runtime does not list processes: {error}"),
                )
            })?;
        Ok(pids.unwrap_or_default())
    }

    fn command(&self, words: &[&str]) -> Result<String, Failure> {
        self.program.run(words, None).map_err(|complaint| {
            let message = complaint.to_string();
            // In the words of one runtime or the other.
            let is_over = [
                "not running",
                "already finished",
                "does not exist",
                "No such process",
            ]
            .iter()
            .any(|sign| message.contains(sign));
            let kind = if is_over {
                FailureKind::NotRunning
            } else {
                FailureKind::System
            };
            Failure::new(kind, message)
        })
    }

    /// Readable when a child has ended.
    pub(crate) fn children(&self) -> BorrowedFd<'_> {
        self.children.as_fd()
    }

    /// Collects children that have ended and returns them: the container's processes, and what was
    /// left to us by others.
    pub(crate) fn reap(&self) -> Vec<(Pid, WaitStatus)> {
        while let Ok(Some(_)) = self.children.read() {}
        let mut ended = Vec::new();
        while let Ok(Some(child)) = wait(WaitOptions::NOHANG) {
            ended.push(child);
        }
        ended
    }

    /// Removes everything of a container whose first process has ended. The next run may begin
    /// right after: it uses the same cgroup and the same layer. Returns the children that ended
    /// meanwhile.
    pub(crate) fn end(&mut self) -> Vec<(Pid, WaitStatus)> {
        // The runtime may wait for the end of processes that are gone only when we collect them.
        // Whatever it says, nothing may be left; what it does not know we remove.
        let mut ended = Vec::new();
        let collector = Collector {
            children: self.children.as_fd(),
            collect: &|| self.reap(),
            others: &mut ended,
        };
        let _ = self
            .program
            .run_collecting(&["delete", "--force", &self.id], collector);
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.signal_all(Signal::KILL);
            let _ = cgroup.remove();
        }
        self.bundle.unmount();
        self.namespaces.clear();
        ended
    }

    /// The same for one that did not start.
    fn bury(mut self, cgroup: Option<Cgroup>) {
        self.cgroup = cgroup;
        self.end();
        self.reap();
    }
}

/// How a container with a user namespace, which is among those that are joined, sees IDs.
fn shown(document: &Spec, namespaces: &[NamespaceFd]) -> Result<Option<Shown>, Failure> {
    let Some(user) = namespaces
        .iter()
        .find(|namespace| namespace.kind == NamespaceKind::User)
    else {
        return Ok(None);
    };
    let system = |why: String| Failure::new(FailureKind::System, format!("{CREATE_FAILED}{why}"));
    let linux = document.linux.as_ref();
    let (uids, gids) = linux.map_or((&[][..], &[][..]), |linux| {
        (&linux.uid_mappings[..], &linux.gid_mappings[..])
    });
    let maps = IdMaps::new("user namespace", uids, gids)
        .map_err(|error| system(wharf_fault::chain(&error)))?;
    let namespace = user
        .fd
        .try_clone()
        .map_err(|error| system(error.to_string()))?;
    Ok(Some(Shown::in_namespace(namespace, maps)))
}

/// Why a process did not start.
enum LaunchError {
    /// The runtime said so.
    Complained(Complaint),
    /// We could not.
    Failed(Failure),
}

impl From<Failure> for LaunchError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl LaunchError {
    fn into_failure(self, prefix: &str, program: &str) -> Failure {
        match self {
            Self::Complained(complaint) => failure(&complaint, prefix, program),
            Self::Failed(failure) => failure,
        }
    }
}

/// A runtime's complaint as Docker shows it; the kind follows from its words, as in Docker.
fn failure(complaint: &Complaint, prefix: &str, program: &str) -> Failure {
    let mut words = complaint.to_string();
    let kind = kind_of(&words, program);
    // Clients look for these words, which are `runc`'s, and make exit codes of them.
    let canonical = match kind {
        FailureKind::CommandNotFound => "executable file not found in $PATH",
        FailureKind::CommandNotExecutable => "permission denied",
        _ => "",
    };
    let is_runcs = ["no such file or directory", "is a directory", canonical]
        .iter()
        .any(|known| words.contains(known));
    if !is_runcs {
        words.push_str(&format!(": exec: {program:?}: {canonical}"));
    }
    Failure::new(kind, format!("{prefix}{words}: unknown"))
}

/// What a runtime's words mean for the container's `program`.
fn kind_of(words: &str, program: &str) -> FailureKind {
    let lower = words.to_lowercase();
    let has = |signs: &[&str]| signs.iter().any(|sign| lower.contains(sign));
    if words.contains(program) && has(&["executable file", "no such file or directory"]) {
        FailureKind::CommandNotFound
    } else if has(&["permission denied", "is a directory"]) {
        FailureKind::CommandNotExecutable
    } else {
        FailureKind::System
    }
}

fn characters(size: ConsoleSize) -> Option<(u16, u16)> {
    let number = |count: u64| u16::try_from(count).ok().filter(|count| *count > 0);
    Some((number(size.width)?, number(size.height)?))
}

fn read_pid(path: &Path) -> Result<Pid, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(
            FailureKind::System,
            format!("the runtime wrote no pid file: {error}"),
        )
    })?;
    text.trim()
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| {
            Failure::new(
                FailureKind::System,
                format!("the runtime's pid file says {text:?}"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_runtimes_words() {
        let runc = |words: &str| kind_of(words, "nosuch");
        assert_eq!(
            runc(
                r#"runc create failed: unable to start container process: exec: "nosuch": executable file not found in $PATH"#
            ),
            FailureKind::CommandNotFound
        );
        assert_eq!(
            runc("executable file `nosuch` not found in $PATH: No such file or directory"),
            FailureKind::CommandNotFound
        );
        assert_eq!(
            runc(r#"exec: "/etc/nosuch": permission denied"#),
            FailureKind::CommandNotExecutable
        );
        assert_eq!(
            runc("error mounting \"/x\": no such device"),
            FailureKind::System
        );
    }
}
