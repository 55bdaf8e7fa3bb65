//! Running a command and looking at what came out.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// What a finished command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code; 128 + n when signal n ended it.
    pub code: i32,
}

/// Runs `command` to its end, feeding it `input`.
pub fn run(mut command: Command, input: Option<&[u8]>) -> Output {
    let text = format!("{command:?}");
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    let mut child = spawn(&mut command, &text);
    let feeder = input.map(|bytes| {
        let mut stdin = child.stdin.take().expect("stdin was asked for as a pipe");
        let bytes = bytes.to_vec();
        // A command that does not read all its input is no failure of the test.
        std::thread::spawn(move || drop(stdin.write_all(&bytes)))
    });
    let output = finish(child, text);
    if let Some(feeder) = feeder {
        feeder.join().expect("the feeding thread does not panic");
    }
    output
}

/// Runs `command` to its end with an input that stays open and empty, as a terminal nobody types at.
pub fn run_with_open_input(mut command: Command) -> Output {
    let text = format!("{command:?}");
    command.stdin(Stdio::piped());
    let mut child = spawn(&mut command, &text);
    let stdin = child.stdin.take();
    let output = finish(child, text);
    drop(stdin);
    output
}

fn spawn(command: &mut Command, text: &str) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {text}: {error}"))
}

/// No command of a test takes this long on the slowest machine. One that does waits for what will
/// never come, and must fail its own test by name instead of holding up all the others.
const HANGS: Duration = Duration::from_secs(1500);

fn finish(child: Child, command: String) -> Output {
    use std::os::unix::process::ExitStatusExt as _;
    let pid = child.id();
    let (sender, finished) = mpsc::channel();
    std::thread::spawn(move || drop(sender.send(child.wait_with_output())));
    let Ok(out) = finished.recv_timeout(HANGS) else {
        // What it started, and what may keep its output open, ends with the test's host.
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        panic!("not finished after {} s: {command}", HANGS.as_secs());
    };
    let out = out.expect("a started child can be waited for");
    Output {
        command,
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        code: out
            .status
            .code()
            .unwrap_or_else(|| 128 + out.status.signal().unwrap_or(0)),
    }
}

impl Output {
    /// Expects exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Expects this exit code.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(
            self.code, expected,
            "exit code of {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.stdout, self.stderr
        );
        self
    }

    /// Expects `needle` somewhere on standard output.
    #[track_caller]
    pub fn says(self, needle: &str) -> Self {
        assert!(
            self.stdout.contains(needle),
            "`{needle}` expected on stdout of {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Expects that `needle` is not on standard output.
    #[track_caller]
    pub fn never_says(self, needle: &str) -> Self {
        assert!(
            !self.stdout.contains(needle),
            "`{needle}` not expected on stdout of {}\n{}",
            self.command,
            self.stdout
        );
        self
    }

    /// Expects `needle` somewhere on standard error.
    #[track_caller]
    pub fn complains(self, needle: &str) -> Self {
        assert!(
            self.stderr.contains(needle),
            "`{needle}` expected on stderr of {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Expects that `needle` is not on standard error.
    #[track_caller]
    pub fn never_complains(self, needle: &str) -> Self {
        assert!(
            !self.stderr.contains(needle),
            "`{needle}` not expected on stderr of {}\n{}",
            self.command,
            self.stderr
        );
        self
    }

    /// Expects exactly this on standard output, trailing white space aside.
    #[track_caller]
    pub fn is(self, expected: &str) -> Self {
        assert_eq!(
            self.stdout.trim_end(),
            expected,
            "stdout of {}\n--- stderr\n{}",
            self.command,
            self.stderr
        );
        self
    }

    /// Standard output without white space around it.
    pub fn text(&self) -> String {
        self.stdout.trim().to_owned()
    }
}
