//! Hooks: programs of the administrator's, run at points of a container's life (runtime-spec,
//! "POSIX-platform Hooks").
//!
//! | hook | run by | namespaces | when |
//! |---|---|---|---|
//! | `prestart`, `createRuntime` | the parent | the host's | everything is mounted, the root not yet changed |
//! | `createContainer` | the first process | the container's, with the host's tree in view | directly after |
//! | `startContainer` | the first process | the container's, all of it | directly before the program |
//! | `poststart`, `poststop` | whoever calls [`run`] | the host's | the program runs; the container is gone |
//!
//! A hook gets the container's state on its standard input. What it prints is kept in memory and
//! told when it fails.

use std::ffi::CString;
use std::fmt;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, pidfd_send_signal, waitpid};
use wharf_oci::runtime::{Hook, Hooks, Spec, State, Status};
use wharf_sys::memfd;
use wharf_sys::spawn::{Program, Spawn};

use crate::error::{Stage, StartError};

/// The kinds of hook, by their names in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    /// Deprecated predecessor of `createRuntime`.
    Prestart,
    /// After the environment exists, in the runtime's namespaces.
    CreateRuntime,
    /// After those, in the container's namespaces.
    CreateContainer,
    /// Before the user's program, in the container.
    StartContainer,
    /// After the user's program was started.
    Poststart,
    /// After the container was deleted.
    Poststop,
}

impl HookKind {
    /// All of them, in the order they are run.
    pub const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// Those of this kind.
    pub fn of(self, hooks: &Hooks) -> &[Hook] {
        match self {
            Self::Prestart => &hooks.prestart,
            Self::CreateRuntime => &hooks.create_runtime,
            Self::CreateContainer => &hooks.create_container,
            Self::StartContainer => &hooks.start_container,
            Self::Poststart => &hooks.poststart,
            Self::Poststop => &hooks.poststop,
        }
    }

    /// Its name in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The most of a failed hook's output that is told, in bytes.
const OUTPUT_MAX: u64 = 2048;

/// Runs `hooks` in their order, telling each the container's `state`. The first that fails ends
/// it: an error whose subject says which one and what it printed.
///
/// Reaps its own children only. For processes with one thread, as everything here.
pub fn run(kind: HookKind, hooks: &[Hook], state: &State) -> Result<(), StartError> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state).map_err(|failure| {
            StartError::refused(
                Stage::Hook,
                format!("{kind} #{index} ({}): {failure}", hook.path.display()),
            )
        })?;
    }
    Ok(())
}

/// Runs all of `hooks`, also after one has failed: what failed.
pub fn run_all(kind: HookKind, hooks: &[Hook], state: &State) -> Vec<StartError> {
    hooks
        .iter()
        .filter_map(|hook| run(kind, std::slice::from_ref(hook), state).err())
        .collect()
}

/// Checks what can be checked before anything is run.
pub(crate) fn check_all(hooks: &Hooks) -> Result<(), StartError> {
    HookKind::ALL
        .into_iter()
        .try_for_each(|kind| check(kind, kind.of(hooks)))
}

fn check(kind: HookKind, hooks: &[Hook]) -> Result<(), StartError> {
    for hook in hooks {
        let refuse = |what: &str| {
            Err(StartError::refused(
                Stage::Config,
                format!("{kind} hook {:?}: {what}", hook.path.display().to_string()),
            ))
        };
        if !hook.path.is_absolute() {
            return refuse("path is not absolute");
        }
        if hook.timeout == Some(0) {
            return refuse("timeout must be greater than zero");
        }
        let words = hook.args.iter().chain(&hook.env).map(String::as_bytes);
        if words
            .chain([hook.path.as_os_str().as_bytes()])
            .any(|word| word.contains(&0))
        {
            return refuse("contains a NUL");
        }
    }
    Ok(())
}

/// The hooks of a container's start.
#[derive(Debug, Default)]
pub(crate) struct PlannedHooks {
    hooks: Hooks,
    state: Option<State>,
}

impl PlannedHooks {
    pub(crate) fn plan(spec: &Spec, state: Option<&State>) -> Result<Self, StartError> {
        let Some(hooks) = spec.hooks.as_ref().filter(|hooks| !hooks.is_empty()) else {
            return Ok(Self::default());
        };
        check_all(hooks)?;
        if state.is_none() {
            return Err(StartError::refused(
                Stage::Config,
                "hooks need a container with an ID and a bundle",
            ));
        }
        Ok(Self {
            hooks: hooks.clone(),
            state: state.cloned(),
        })
    }

    /// Whether the parent has to run any while the first process waits.
    pub(crate) fn any_outside(&self) -> bool {
        !self.hooks.prestart.is_empty() || !self.hooks.create_runtime.is_empty()
    }

    /// Whether any is run while the host's tree is still in view: they look for the root where the
    /// document says it is.
    pub(crate) fn any_before_pivot(&self) -> bool {
        self.any_outside() || !self.hooks.create_container.is_empty()
    }

    /// The parent's, with the first process being `pid` to the host.
    pub(crate) fn run_outside(&self, pid: Pid) -> Result<(), StartError> {
        let pid = pid.as_raw_nonzero().get();
        // "After step 2 in the lifecycle" a container is `created`; these are step 3. Programs of
        // their time know no other state of it.
        self.run(HookKind::Prestart, Status::Created, pid)?;
        self.run(HookKind::CreateRuntime, Status::Creating, pid)
    }

    /// The first process's own of `kind`; they are told its process ID as it sees it.
    pub(crate) fn run_inside(&self, kind: HookKind) -> Result<(), StartError> {
        let status = match kind {
            HookKind::StartContainer => Status::Created,
            _ => Status::Creating,
        };
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        self.run(kind, status, pid)
    }

    fn run(&self, kind: HookKind, status: Status, pid: i32) -> Result<(), StartError> {
        let hooks = kind.of(&self.hooks);
        match &self.state {
            Some(state) if !hooks.is_empty() => {
                let state = State {
                    status,
                    pid: Some(pid),
                    ..state.clone()
                };
                run(kind, hooks, &state)
            }
            _ => Ok(()),
        }
    }
}

/// Why a hook failed.
enum Failure {
    NotStarted(Errno),
    TimedOut(Duration),
    Ended(WaitStatus, String),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::NotStarted(errno)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(errno) => {
                let error = StartError::new(Stage::Hook, *errno, "");
                write!(f, "cannot be run: {}", error.reason())
            }
            Self::TimedOut(timeout) => {
                write!(f, "did not end within {} seconds", timeout.as_secs())
            }
            Self::Ended(status, output) => {
                match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => write!(f, "exit status {code}")?,
                    (None, Some(signal)) => write!(f, "killed by signal {signal}")?,
                    (None, None) => f.write_str("ended")?,
                }
                if output.is_empty() {
                    Ok(())
                } else {
                    write!(f, ", output: {output}")
                }
            }
        }
    }
}

fn run_one(hook: &Hook, state: &State) -> Result<(), Failure> {
    let text = serde_json::to_vec(state).map_err(|_| Errno::INVAL)?;
    let mut input = std::fs::File::from(
        memfd::sealed("state", &text, false).map_err(|error| errno_of(&error))?,
    );
    input
        .seek(SeekFrom::Start(0))
        .map_err(|error| errno_of(&error))?;
    let output = rustix::fs::memfd_create("hook-output", MemfdFlags::CLOEXEC)?;
    let path = c_string(hook.path.as_os_str().as_bytes())?;
    let strings = |list: &[String]| -> Result<Vec<CString>, Errno> {
        list.iter().map(|word| c_string(word.as_bytes())).collect()
    };
    let mut arguments = strings(&hook.args)?;
    if arguments.is_empty() {
        arguments.push(path.clone());
    }
    let (pid, pidfd) = Spawn {
        program: Program::Path(&path),
        arguments: &arguments,
        environment: &strings(&hook.env)?,
        fds: &[(input.as_fd(), 0), (output.as_fd(), 1), (output.as_fd(), 2)],
        doors: &[],
        new_session: false,
        working_directory: None,
    }
    .start()?;
    let timeout = hook.timeout.map(Duration::from_secs);
    let in_time = wait(&pidfd, timeout)?;
    if !in_time {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
    let status = reap(pid)?;
    match timeout {
        Some(timeout) if !in_time => Err(Failure::TimedOut(timeout)),
        _ if status.exit_status() == Some(0) => Ok(()),
        _ => Err(Failure::Ended(status, told(output))),
    }
}

/// Waits until the process has ended; `false` when `timeout` is over first.
fn wait(pidfd: &OwnedFd, timeout: Option<Duration>) -> Result<bool, Errno> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left
            .map(Timespec::try_from)
            .transpose()
            .map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn reap(pid: Pid) -> Result<WaitStatus, Errno> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The beginning of what a hook has printed.
fn told(output: OwnedFd) -> String {
    let mut bytes = Vec::new();
    let mut file = std::fs::File::from(output);
    // It is a message's embellishment: without it the message stands.
    let _ = file.seek(SeekFrom::Start(0));
    let _ = file.take(OUTPUT_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

fn c_string(bytes: &[u8]) -> Result<CString, Errno> {
    CString::new(bytes).map_err(|_| Errno::INVAL)
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn state() -> State {
        State {
            oci_version: "1.3.0".into(),
            id: "c1".into(),
            status: Status::Creating,
            pid: Some(7),
            bundle: PathBuf::from("/b"),
            annotations: [("k".to_owned(), "v".to_owned())].into(),
        }
    }

    fn shell(script: &str, timeout: Option<u64>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["WORD=hello".into()],
            timeout,
        }
    }

    fn error(hook: Hook) -> String {
        run(HookKind::CreateRuntime, &[hook], &state())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_hook_gets_state_arguments_and_just_its_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        let script = format!(
            "read -r line; echo \"$line $WORD ${{HOME-none}}\" > {}",
            file.display()
        );
        run(HookKind::Prestart, &[shell(&script, Some(30))], &state()).unwrap();
        let written = std::fs::read_to_string(file).unwrap();
        assert_eq!(
            written,
            "{\"ociVersion\":\"1.3.0\",\"id\":\"c1\",\"status\":\"creating\",\"pid\":7,\"bundle\":\"/b\",\"annotations\":{\"k\":\"v\"}} hello none\n"
        );
    }

    #[test]
    fn failures_say_what_happened() {
        assert_eq!(
            error(shell("echo on stderr >&2; exit 3", None)),
            "error running hook createRuntime #0 (/bin/sh): exit status 3, output: on stderr"
        );
        assert!(error(shell("kill -TERM $$", None)).contains("killed by signal 15"));
        let missing = Hook {
            path: "/nonexistent/hook".into(),
            ..Hook::default()
        };
        assert!(error(missing).contains("cannot be run: no such file or directory"));
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed() {
        // It blocks until it is killed: nobody ever writes to that pipe.
        let hook = shell(
            "exec 3<>/dev/null; mkfifo f 2>/dev/null; exec tail -f /dev/null",
            Some(1),
        );
        assert!(error(hook).contains("did not end within 1 seconds"));
    }

    #[test]
    fn all_are_run_where_failures_are_only_told() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let hooks = [
            shell("exit 1", None),
            shell(&format!("echo > {}", mark.display()), None),
        ];
        assert_eq!(run_all(HookKind::Poststop, &hooks, &state()).len(), 1);
        assert!(mark.exists());
        std::fs::remove_file(&mark).unwrap();
        run(HookKind::CreateRuntime, &hooks, &state()).unwrap_err();
        assert!(!mark.exists());
    }

    #[test]
    fn senseless_hooks_are_refused() {
        let hook = |path: &str, timeout| Hook {
            path: path.into(),
            timeout,
            ..Hook::default()
        };
        assert!(check(HookKind::Prestart, &[hook("/bin/true", Some(1))]).is_ok());
        assert!(check(HookKind::Prestart, &[hook("bin/true", None)]).is_err());
        assert!(check(HookKind::Prestart, &[hook("/bin/true", Some(0))]).is_err());
    }
}
