//! Running a runtime's program: its command line, what it prints, and what its log says when it
//! fails.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitStatus, pidfd_send_signal, waitid};
use serde::Deserialize;
use wharf_container_runtime::shield;
use wharf_shim_protocol::{Failure, FailureKind, RuntimeProgram};
use wharf_sys::program_file::ProgramFile;
use wharf_sys::spawn::Spawn;

/// A command that takes longer hangs: one that boots a virtual machine takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The most of a runtime's output or log that is looked at, in bytes.
const TEXT_MAX: u64 = 1 << 20;

/// Errors before the last that are told.
const EARLIER_ERRORS_MAX: usize = 4;

/// A runtime's program, ready to be run.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    file: OwnedFd,
    /// Everything before the command.
    arguments: Vec<CString>,
    environment: Vec<CString>,
    log: PathBuf,
    run_dir: OwnedFd,
    null: OwnedFd,
}

/// Why a command failed, in the runtime's words.
#[derive(Debug)]
pub(crate) struct Complaint(String);

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Program {
    /// Opens the program; its commands run in `run_dir`, where its log lies, too.
    pub(crate) fn open(runtime: RuntimeProgram, run_dir: &Path) -> Result<Self, Failure> {
        let path = runtime.path.as_path();
        let failed = |path: &Path, errno: Errno| {
            let words = match errno {
                Errno::NOENT => "no such file or directory".to_owned(),
                Errno::ACCESS => "permission denied".to_owned(),
                errno => errno.to_string(),
            };
            Failure::new(
                FailureKind::System,
                format!(
                    "{}unable to run the OCI runtime: fork/exec {}: {words}: unknown",
                    super::CREATE_FAILED,
                    path.display()
                ),
            )
        };
        let open = |path: &Path, flags: OFlags| {
            rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| failed(path, errno))
        };
        let ProgramFile {
            file,
            mut arguments,
        } = ProgramFile::open(path).map_err(|errno| failed(path, errno))?;
        let log = run_dir.join("runtime.log");
        arguments.extend(strings(runtime.arguments));
        arguments.extend(strings([
            "--root".to_owned(),
            runtime.root.display().to_string(),
            "--log".to_owned(),
            log.display().to_string(),
            "--log-format".to_owned(),
            "json".to_owned(),
        ]));
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        Ok(Self {
            name,
            file,
            arguments,
            environment: strings(runtime.environment),
            log,
            run_dir: open(run_dir, OFlags::PATH | OFlags::DIRECTORY)?,
            // crun gives its standard streams to the container's root, null device or not.
            null: open(Path::new("/dev/null"), OFlags::RDWR).and_then(|null| {
                shield(null).map_err(|errno| failed(Path::new("/dev/null"), errno))
            })?,
        })
    }

    /// Runs one command to its end. Returns what it printed, unless `streams` are its standard
    /// streams.
    pub(crate) fn run(
        &self,
        words: &[&str],
        streams: Option<[BorrowedFd<'_>; 3]>,
    ) -> Result<String, Complaint> {
        self.run_with(words, streams, None)
    }

    /// The same without streams, collecting all children that end meanwhile.
    pub(crate) fn run_collecting(
        &self,
        words: &[&str],
        collector: Collector<'_>,
    ) -> Result<String, Complaint> {
        self.run_with(words, None, Some(collector))
    }

    fn run_with(
        &self,
        words: &[&str],
        streams: Option<[BorrowedFd<'_>; 3]>,
        collector: Option<Collector<'_>>,
    ) -> Result<String, Complaint> {
        let failed = |what: &str, errno: Errno| Complaint(format!("{what} {}: {errno}", self.name));
        // What an earlier command complained about is not this one's complaint.
        let _ = std::fs::remove_file(&self.log);
        let output = rustix::fs::memfd_create("runtime-output", MemfdFlags::CLOEXEC)
            .map_err(|errno| failed("cannot hear", errno))?;
        let [input, stdout, stderr] =
            streams.unwrap_or([self.null.as_fd(), output.as_fd(), output.as_fd()]);
        let mut arguments = self.arguments.clone();
        arguments.extend(strings(words.iter().map(|word| (*word).to_owned())));
        let spawn = Spawn {
            program: wharf_sys::spawn::Program::File(self.file.as_fd()),
            arguments: &arguments,
            environment: &self.environment,
            fds: &[(input, 0), (stdout, 1), (stderr, 2)],
            doors: &[],
            new_session: false,
            working_directory: Some(self.run_dir.as_fd()),
        };
        let (pid, pidfd) = spawn
            .start()
            .map_err(|errno| failed("unable to run the OCI runtime", errno))?;
        let code = wait(pid, &pidfd, collector).map_err(|errno| match errno {
            Errno::TIMEDOUT => Complaint(format!(
                "{} {} did not end in {} seconds",
                self.name,
                words.first().copied().unwrap_or_default(),
                PATIENCE.as_secs()
            )),
            errno => failed("cannot wait for", errno),
        })?;
        let mut text = String::new();
        if streams.is_none() {
            text = read_all(output.into()).unwrap_or_default();
        }
        if code == 0 {
            return Ok(text);
        }
        Err(self.complaint(code, &text))
    }

    /// The errors of the log; without one, what was printed.
    fn complaint(&self, code: i32, output: &str) -> Complaint {
        let log = File::open(&self.log).and_then(read_all);
        let logged = log.as_ref().ok().and_then(|text| errors(text));
        if let Some(message) = logged {
            return Complaint(message);
        }
        let why = match &log {
            Ok(_) => "no error in its log".to_owned(),
            Err(error) => format!("open {}: {error}", self.log.display()),
        };
        let mut text = format!("unable to retrieve OCI runtime error ({why}): exit status {code}");
        if let Some(line) = output.lines().rev().find(|line| !line.trim().is_empty()) {
            text.push_str(": ");
            text.push_str(line.trim());
        }
        Complaint(text)
    }
}

/// Collects other children while a command is waited for.
pub(crate) struct Collector<'a> {
    /// Readable when there are any.
    pub(crate) children: BorrowedFd<'a>,
    /// Collects those that have ended.
    pub(crate) collect: &'a dyn Fn() -> Vec<(Pid, WaitStatus)>,
    /// Gets all but the command.
    pub(crate) others: &'a mut Vec<(Pid, WaitStatus)>,
}

/// Waits for a child's end: its exit status, 128 + n for signal n.
fn wait(pid: Pid, pidfd: &OwnedFd, mut collector: Option<Collector<'_>>) -> Result<i32, Errno> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        let mut ends = vec![PollFd::new(pidfd, PollFlags::IN)];
        if let Some(collector) = &collector {
            ends.push(PollFd::from_borrowed_fd(collector.children, PollFlags::IN));
        }
        match poll(&mut ends, Some(&timeout)) {
            Ok(0) => {
                let _ = pidfd_send_signal(pidfd, Signal::KILL);
                waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
                return Err(Errno::TIMEDOUT);
            }
            Ok(_) => match &mut collector {
                None => break,
                Some(collector) => {
                    let mut own = None;
                    for (child, status) in (collector.collect)() {
                        if child == pid {
                            own =
                                Some(exit_code(status.exit_status(), status.terminating_signal()));
                        } else {
                            collector.others.push((child, status));
                        }
                    }
                    if let Some(code) = own {
                        return Ok(code);
                    }
                }
            },
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    let status = status.ok_or(Errno::CHILD)?;
    Ok(exit_code(status.exit_status(), status.terminating_signal()))
}

fn exit_code(status: Option<i32>, signal: Option<i32>) -> i32 {
    status.unwrap_or_else(|| 128 + signal.unwrap_or(0))
}

fn read_all(mut file: File) -> std::io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(TEXT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of a runtime's JSON log.
#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// The last error, as Docker says it, and after it those before: `runc` tells first why its second half failed, and
/// last only that it did.
fn errors(log: &str) -> Option<String> {
    let mut messages: Vec<String> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<LogLine>(line).ok())
        .filter(|line| matches!(line.level.as_str(), "error" | "fatal" | "panic"))
        .map(|line| line.msg.trim().to_owned())
        .filter(|message| !message.is_empty())
        .collect();
    let last = messages.pop()?;
    messages.dedup();
    messages.retain(|message| !last.contains(message.as_str()));
    if messages.is_empty() {
        return Some(last);
    }
    messages.drain(..messages.len().saturating_sub(EARLIER_ERRORS_MAX));
    Some(format!("{last} (before that: {})", messages.join("; ")))
}

fn strings(words: impl IntoIterator<Item = String>) -> Vec<CString> {
    words
        .into_iter()
        // A word with a NUL ends there, as it would for the program.
        .map(|word| {
            let bytes = std::ffi::OsStr::new(&word).as_bytes();
            let end = bytes.iter().position(|byte| *byte == 0);
            CString::new(&bytes[..end.unwrap_or(bytes.len())]).unwrap_or_default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_the_log_comes_first() {
        let log = "{\"level\":\"warning\",\"msg\":\"a\"}\nnoise\n{\"level\":\"error\",\"msg\":\"first\"}\n\
                   {\"level\":\"error\",\"msg\":\"second\",\"time\":\"2026\"}\n{\"level\":\"info\",\"msg\":\"b\"}\n";
        assert_eq!(errors(log).as_deref(), Some("second (before that: first)"));
        let told_twice = "{\"level\":\"error\",\"msg\":\"why\"}\n{\"level\":\"fatal\",\"msg\":\"failed: why\"}\n";
        assert_eq!(errors(told_twice).as_deref(), Some("failed: why"));
        assert_eq!(errors("nothing\n"), None);
    }
}
