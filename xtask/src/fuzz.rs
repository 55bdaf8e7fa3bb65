//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, built with the stable compiler and run.
//!
//! Without `--seconds` each target gets a fixed number of inputs that grow from the seeds in `fuzz/seeds` by a
//! fixed chance, so that the same code has the same result, as CI needs it. With it, every run is another one.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{vm, workspace};

const USAGE: &str = "usage: cargo xtask fuzz [--seconds N] [TARGET...]";

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What tells libFuzzer which code an input reached, and what compilers check in debug builds. Address checks
/// need a nightly compiler (`cargo fuzz`); code without `unsafe` hardly needs them.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks \
    --cfg=fuzzing";

/// Inputs for each target when no time is given.
const INPUTS: u32 = 100_000;

/// The same for those whose every input makes files.
const INPUTS_WITH_FILES: u32 = 5_000;
const WITH_FILES: [&str; 1] = ["tar_apply"];

/// The largest input in bytes.
const INPUT_MAX: &str = "-max_len=16384";

/// One input that takes longer, in seconds, is a fault.
const INPUT_TIME_MAX: &str = "-timeout=60";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut seconds = None;
    let mut wanted = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            let number = rest.next().and_then(|number| number.parse::<u32>().ok());
            seconds = Some(number.ok_or(USAGE)?);
        } else if argument.starts_with('-') {
            return Err(USAGE.to_owned());
        } else {
            wanted.push(argument.clone());
        }
    }
    let mut targets = targets()?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        return Err(format!("there is no target {unknown}"));
    }
    if !wanted.is_empty() {
        targets = wanted;
    }
    let programs = build()?;
    let mut failed = 0;
    for target in &targets {
        match fuzz(&programs, target, seconds) {
            Ok(summary) => println!("test {target} ... ok\n# {target}: {summary}"),
            Err(output) => {
                failed += 1;
                println!("test {target} ... FAILED\n{output}");
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {} passed; {failed} failed; 0 ignored",
        targets.len() - failed
    );
    if failed == 0 {
        Ok(())
    } else {
        Err("a target failed".to_owned())
    }
}

fn folder() -> PathBuf {
    workspace().join("fuzz")
}

/// Their names, in order.
fn targets() -> Result<Vec<String>, String> {
    let sources = folder().join("targets");
    let entries =
        std::fs::read_dir(&sources).map_err(|error| format!("{}: {error}", sources.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// The folder with the programs.
fn build() -> Result<PathBuf, String> {
    let to = vm::target().join("fuzz");
    let done = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--target", TRIPLE])
        .arg("--target-dir")
        .arg(&to)
        .current_dir(folder())
        // They are the only flags: libFuzzer is not for static programs.
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status();
    if done.is_ok_and(|status| status.success()) {
        Ok(to.join(TRIPLE).join("debug"))
    } else {
        Err("the fuzz targets cannot be built".to_owned())
    }
}

/// Runs one target; answers with libFuzzer's last word, or with all of its words.
fn fuzz(programs: &Path, target: &str, seconds: Option<u32>) -> Result<String, String> {
    // What was found worth keeping. A run that shall be the same each time begins with none of it.
    let kept = vm::target().join("fuzz").join("corpus").join(target);
    if seconds.is_none() {
        drop(std::fs::remove_dir_all(&kept));
    }
    std::fs::create_dir_all(&kept).map_err(|error| format!("{}: {error}", kept.display()))?;
    let inputs = if WITH_FILES.contains(&target) {
        INPUTS_WITH_FILES
    } else {
        INPUTS
    };
    let limits = match seconds {
        Some(seconds) => [format!("-max_total_time={seconds}"), "-seed=0".to_owned()],
        None => [format!("-runs={inputs}"), "-seed=1".to_owned()],
    };
    let seeds = folder().join("seeds").join(target);
    let out = Command::new(programs.join(target))
        .args(limits)
        .args([INPUT_MAX, INPUT_TIME_MAX])
        .arg(format!("-artifact_prefix={}/failed-", kept.display()))
        .arg(&kept)
        .args(seeds.exists().then_some(&seeds))
        .output()
        .map_err(|error| format!("{target}: {error}"))?;
    let text = String::from_utf8_lossy(&out.stderr);
    let last = text.lines().find(|line| line.contains("DONE"));
    match last {
        Some(last) if out.status.success() => Ok(last.replace('\t', " ")),
        _ => Err(text.into_owned()),
    }
}
