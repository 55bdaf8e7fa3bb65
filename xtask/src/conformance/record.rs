//! What each runtime reached on each system: `record.txt`, and the table made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use super::verdict::{self, Output, Verdict};
use super::{PEERS, WHARF};
use crate::workspace;

/// Why a program fails with every runtime, on which system (both where none is named).
const CAUSES: &str = include_str!("causes.txt");

/// One program with one runtime on one system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) program: String,
    /// `v1` or `v2`.
    pub(super) system: String,
    pub(super) runtime: String,
    pub(super) verdict: Verdict,
    /// What went wrong first.
    pub(super) note: String,
}

impl Row {
    pub(super) fn new(system: &str, runtime: String, program: String, output: &Output) -> Self {
        let verdict = Verdict::of(output);
        Self {
            program,
            system: system.to_owned(),
            runtime,
            verdict,
            note: if verdict == Verdict::Passed {
                String::new()
            } else {
                verdict::first_fault(output)
            },
        }
    }

    pub(super) fn line(&self) -> String {
        let Self {
            program,
            system,
            runtime,
            verdict,
            note,
        } = self;
        format!("{program}\t{system}\t{runtime}\t{verdict}\t{note}")
            .trim_end()
            .to_owned()
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(5, '\t').map(str::to_owned);
        Some(Self {
            program: fields.next()?,
            system: fields.next()?,
            runtime: fields.next()?,
            verdict: Verdict::parse(&fields.next()?)?,
            note: fields.next().unwrap_or_default(),
        })
    }
}

/// All rows on record.
#[derive(Debug)]
pub(super) struct Record(BTreeMap<(String, String, String), Row>);

impl Record {
    fn path() -> PathBuf {
        workspace().join("xtask/src/conformance/record.txt")
    }

    pub(super) fn read() -> Result<Self, String> {
        let text = std::fs::read_to_string(Self::path())
            .map_err(|error| format!("record.txt: {error}"))?;
        let mut record = Self(BTreeMap::new());
        record.replace(text.lines().filter_map(Row::parse));
        Ok(record)
    }

    pub(super) fn replace(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            let key = (row.program.clone(), row.system.clone(), row.runtime.clone());
            self.0.insert(key, row);
        }
    }

    pub(super) fn write(&self) -> Result<(), String> {
        let lines: String = self.0.values().map(|row| row.line() + "\n").collect();
        std::fs::write(Self::path(), lines).map_err(|error| error.to_string())?;
        std::fs::write(workspace().join("docs/conformance.md"), self.table())
            .map_err(|error| error.to_string())
    }

    fn verdict(&self, program: &str, system: &str, runtime: &str) -> Option<Verdict> {
        let key = (program.to_owned(), system.to_owned(), runtime.to_owned());
        self.0.get(&key).map(|row| row.verdict)
    }

    /// Whether `runc` or `crun` passes that program on that system.
    pub(super) fn a_peer_passes(&self, row: &Row) -> bool {
        PEERS
            .iter()
            .any(|peer| self.verdict(&row.program, &row.system, peer) == Some(Verdict::Passed))
    }

    fn table(&self) -> String {
        let programs: BTreeSet<&str> = self
            .0
            .keys()
            .map(|(program, ..)| program.as_str())
            .collect();
        let mut text = String::from(HEAD);
        for program in programs {
            write!(text, "| `{program}` |").expect("a string takes everything");
            for system in ["v1", "v2"] {
                for runtime in PEERS.into_iter().chain([WHARF]) {
                    let word = match self.verdict(program, system, runtime) {
                        Some(Verdict::Passed) => "yes",
                        Some(Verdict::Failed) => "**no**",
                        Some(Verdict::Skipped) => "skipped",
                        None => "",
                    };
                    write!(text, " {word} |").expect("a string takes everything");
                }
            }
            writeln!(text, " {} |", cause(program)).expect("a string takes everything");
        }
        for system in ["v1", "v2"] {
            let passed = |runtime| {
                let passes = |row: &&Row| {
                    row.system == system && row.runtime == runtime && row.verdict == Verdict::Passed
                };
                self.0.values().filter(passes).count()
            };
            writeln!(
                text,
                "\nPassed on {system}: {} with runc, {} with crun, {} with Wharf.",
                passed("runc"),
                passed("crun"),
                passed(WHARF)
            )
            .expect("a string takes everything");
        }
        text
    }
}

/// Lines `program: cause`.
fn cause(program: &str) -> &'static str {
    CAUSES
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| *name == program)
        .map_or("", |(_, cause)| cause)
}

const HEAD: &str = "# OCI runtime conformance

The validation programs of `opencontainers/runtime-tools`, run by `cargo xtask conformance` against Debian's
`runc` and `crun` and against `wharf runtime`: on a machine with cgroup v1 (hybrid) and, with `--vm`, in the guest with
systemd and cgroup v2. It fails when a program fails with Wharf that passes with a peer on the same system. This file is
generated by `cargo xtask conformance --record [--vm]`.

| program | v1 runc | v1 crun | v1 Wharf | v2 runc | v2 crun | v2 Wharf | why not |
|---|---|---|---|---|---|---|---|
";
