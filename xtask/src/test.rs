//! `cargo xtask test`: everything CI runs, fast things first, and one line that sums it up.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::workspace;

/// The longest time without a line of output. Single tests take minutes where images are made for the first
/// time; a test that hangs ends its host, and by that itself, before this.
const SILENCE_MAX: Duration = Duration::from_secs(2700);

/// Lines of each failed test that are told again at the end.
const FAILURE_LINES: usize = 12;

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// How failed tests said why.
    failures: Vec<String>,
    /// Lines of the last of them that are still to come.
    wanted: usize,
}

impl Tally {
    /// Takes in a line of a test program.
    fn hear(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
        }
        if line.starts_with("test ") && line.ends_with(" FAILED") {
            self.failures.push(line.to_owned());
        }
        if line.starts_with("thread '") && line.contains(" panicked at ") {
            self.wanted = FAILURE_LINES;
        } else if line.starts_with("stack backtrace:") || line.starts_with("test ") {
            self.wanted = 0;
        }
        if self.wanted > 0 {
            self.wanted -= 1;
            self.failures.push(line.to_owned());
        }
    }
}

/// Runs all tests; `quick` leaves out the end-to-end ones.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let quick = arguments.iter().any(|argument| argument == "quick");
    let skips = workspace().join("target").join("skipped-tests");
    drop(std::fs::remove_file(&skips));
    let mut tally = Tally::default();
    let mut wrong = Vec::new();

    step(&mut wrong, "format", &["fmt", "--all", "--check"]);
    step(
        &mut wrong,
        "lints",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ],
    );
    // The binary first: the end-to-end tests need it, and its dependencies are the unit tests' too.
    step(
        &mut wrong,
        "build",
        &["build", "--quiet", "--package", "wharf"],
    );
    tests(
        &mut tally,
        &mut wrong,
        &[
            "test",
            "--workspace",
            "--exclude",
            "wharf-tests",
            "--no-fail-fast",
        ],
        &skips,
    );
    if !quick && wrong.iter().all(|step| step != "build") {
        tests(
            &mut tally,
            &mut wrong,
            &[
                "test",
                "--package",
                "wharf-tests",
                "--no-fail-fast",
                "--",
                "--test-threads",
                "2",
            ],
            &skips,
        );
        tests(&mut tally, &mut wrong, &["xtask", "conformance"], &skips);
        tests(&mut tally, &mut wrong, &["xtask", "fuzz"], &skips);
        tests(&mut tally, &mut wrong, &["xtask", "vm", "test"], &skips);
        let in_guest = ["xtask", "conformance", "--vm"];
        tests(&mut tally, &mut wrong, &in_guest, &skips);
    }

    for line in std::fs::read_to_string(&skips).unwrap_or_default().lines() {
        println!("skipped: {line}");
        // A skipping test returns early, which the test runner counts as passed.
        tally.passed = tally.passed.saturating_sub(1);
        tally.skipped += 1;
    }
    // Again where it is found, after an hour of other lines.
    for line in &tally.failures {
        println!("failure: {line}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    );
    if wrong.is_empty() && tally.failed == 0 && tally.passed > 0 {
        Ok(())
    } else {
        Err(format!(
            "failed: {}",
            if wrong.is_empty() {
                "tests".to_owned()
            } else {
                wrong.join(", ")
            }
        ))
    }
}

fn step(wrong: &mut Vec<String>, name: &str, arguments: &[&str]) {
    println!("== {name}");
    let done = Command::new("cargo")
        .args(arguments)
        .current_dir(workspace())
        .status();
    if !done.is_ok_and(|status| status.success()) {
        wrong.push(name.to_owned());
    }
}

/// Runs `cargo test`, or what prints as that does, and adds up its `test result:` lines.
fn tests(tally: &mut Tally, wrong: &mut Vec<String>, arguments: &[&str], skips: &std::path::Path) {
    let first_words = arguments[..arguments.len().min(3)].join(" ");
    let name = format!("cargo {first_words}");
    println!("== cargo {}", arguments.join(" "));
    let started = Command::new("cargo")
        .args(arguments)
        .current_dir(workspace())
        .env("WHARF_TEST_SKIPS", skips)
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        wrong.push("cargo test did not start".to_owned());
        return;
    };
    let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
    let failed_before = tally.failed;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        // Nobody listens any more when it was silent for too long.
        lines.map_while(|line| sender.send(line).ok()).count()
    });
    loop {
        let line = match lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                println!("no test has ended for {} s", SILENCE_MAX.as_secs());
                wrong.push(format!("{name} hung"));
                end_with_children(child.id());
                break;
            }
        };
        tally.hear(&line);
        if line.ends_with("... ok") || line.is_empty() || line.starts_with("running ") {
            // Only what needs attention is shown.
            continue;
        }
        println!("{line}");
    }
    let ended_well = child.wait().is_ok_and(|status| status.success());
    // A crash or a compile error fails without a count.
    if !ended_well && tally.failed == failed_before {
        wrong.push(name);
    }
}

/// Kills a process and what it has started, which would go on with its output open.
fn end_with_children(pid: u32) {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let children: Vec<String> = threads
        .into_iter()
        .flatten()
        .flatten()
        .map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default())
        .collect();
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
    let children = children.iter().flat_map(|list| list.split_whitespace());
    for child in children.flat_map(str::parse) {
        end_with_children(child);
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    text.find(word)
        .and_then(|end| text[..end].rsplit(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{FAILURE_LINES, Tally, number_before};

    #[test]
    fn failures_are_told_again() {
        let mut tally = Tally::default();
        let panic = "thread 'a' (7) panicked at tests/a.rs:1:2:";
        for line in [
            "test a ... FAILED",
            panic,
            "left: 1",
            "stack backtrace:",
            "0: x",
        ] {
            tally.hear(line);
        }
        assert_eq!(tally.failures, ["test a ... FAILED", panic, "left: 1"]);
        tally.hear(panic);
        for _ in 0..100 {
            tally.hear("and so on");
        }
        tally.hear("test result: FAILED. 3 passed; 2 failed; 0 ignored");
        assert_eq!(tally.failures.len(), 3 + FAILURE_LINES);
        assert_eq!((tally.passed, tally.failed), (3, 2));
    }

    #[test]
    fn result_lines_are_counted() {
        let line = "FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(number_before(line, " passed"), 12);
        assert_eq!(number_before(line, " failed"), 3);
        assert_eq!(number_before("garbage", " passed"), 0);
    }
}
