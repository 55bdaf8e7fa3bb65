//! What a program of the suite says, in the Test Anything Protocol and beside it.

use std::fmt;

/// What a program printed and how it ended.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) text: String,
    /// Its exit status; none when it was ended by a signal or did not start.
    pub(super) status: Option<i32>,
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Passed,
    Failed,
    /// The program itself found nothing to test here.
    Skipped,
}

impl Verdict {
    pub(super) fn of(output: &Output) -> Self {
        let lines = || output.text.lines().map(str::trim_start);
        let failed = lines().any(|line| line.starts_with("not ok"))
            // Some programs make no test of what went wrong but only describe it.
            || (!lines().any(|line| line.starts_with("ok ")) && lines().any(|line| line.starts_with("\"error\":")));
        if failed || output.status != Some(0) {
            Self::Failed
        } else if lines().any(|line| line.starts_with("ok ")) && lines().all(|line| !is_done(line))
        {
            Self::Skipped
        } else {
            Self::Passed
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Passed, Self::Failed, Self::Skipped]
            .into_iter()
            .find(|verdict| verdict.to_string() == text)
    }
}

/// Whether `line` is of a test that ran.
fn is_done(line: &str) -> bool {
    line.starts_with("ok ") && !line.contains("# SKIP")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}

/// The first thing that went wrong, in one line.
pub(super) fn first_fault(output: &Output) -> String {
    let lines: Vec<&str> = output.text.lines().map(str::trim).collect();
    let count = lines
        .iter()
        .filter(|line| line.starts_with("not ok"))
        .count();
    let from = |start: &str| lines.iter().find(|line| line.starts_with(start)).copied();
    let level = lines
        .iter()
        .find(|line| line.contains("level=error") || line.starts_with("panic:"));
    let text = from("not ok")
        .or(from("\"error\":"))
        .or(level.copied())
        .or(lines
            .iter()
            .rev()
            .find(|line| !line.is_empty() && !line.starts_with("1.."))
            .copied())
        .unwrap_or("no output");
    let more = if count > 1 {
        format!(" (and {} more)", count - 1)
    } else {
        String::new()
    };
    let status = output
        .status
        .map_or("killed".to_owned(), |status| format!("status {status}"));
    format!("{text}{more}, {status}").replace('\t', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str, status: i32) -> Verdict {
        Verdict::of(&Output {
            text: text.to_owned(),
            status: Some(status),
        })
    }

    #[test]
    fn outputs_are_judged() {
        assert_eq!(
            verdict("TAP version 13\nok 1 - fine\n1..1\n", 0),
            Verdict::Passed
        );
        assert_eq!(verdict("ok 1 - fine\n", 1), Verdict::Failed);
        assert_eq!(
            verdict("ok 1 - fine\n  \"error\": \"exit status 1\"\n", 0),
            Verdict::Passed
        );
        assert_eq!(verdict("ok 1 - fine\nnot ok 2 - no\n", 0), Verdict::Failed);
        assert_eq!(verdict("1..0\n", 0), Verdict::Passed);
        assert_eq!(
            verdict("  \"error\": \"hooks were not called\"\n1..0\n", 0),
            Verdict::Failed
        );
        assert_eq!(verdict("ok 1 # SKIP no such thing\n", 0), Verdict::Skipped);
    }
}
