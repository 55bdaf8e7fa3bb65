//! The tests that are run in the guest, and their result lines.
//!
//! Short, as in CI: the runtime's own tests, and those end-to-end tests that are about resources, systemd and
//! AppArmor. Long: every end-to-end test that needs no network of the machine's.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Boot, in_guest, quoted, target};
use crate::workspace;

/// End-to-end test programs of the short form, and which of their tests: where none is named, all.
const SHORT: &[(&str, &str)] = &[
    ("resources", ""),
    ("causes", ""),
    ("systemd", ""),
    ("next_id", ""),
    // The rest of it is the same on every machine; this one needs a kernel with AppArmor.
    ("confinement", "apparmor_confines"),
];

/// Those that are about what the engine says, not about who asks: they ask with our own client. Emulated, the reference
/// one takes seconds to start.
const WITH_OWN_CLIENT: &[&str] = &["causes"];

/// Those of the long form. Others need a registry, Python or clients the guest has not.
const LONG: &[&str] = &[
    "resources",
    "causes",
    "systemd",
    "next_id",
    "confinement",
    "ring",
    "bad_input",
    "crash",
    "day_of_work",
    "default_instance",
];

/// Runs them and prints what they print. Fails when one fails, or when none ran.
pub(super) fn run(arguments: &[String]) -> Result<(), String> {
    let (long, filter) = match arguments {
        [] => (false, None),
        [word] if word == "long" => (true, None),
        [word] => (true, Some(word)),
        _ => return Err("usage: cargo xtask vm test [long | FILTER]".to_owned()),
    };
    cargo(&["build", "--quiet", "--package", "wharf"])?;
    let programs = test_programs()?;
    // Whoever names a test may mean one of the long form.
    let wanted: Vec<(&str, &str)> = match filter {
        Some(filter) => LONG.iter().map(|name| (*name, filter.as_str())).collect(),
        None if long => LONG.iter().map(|name| (*name, "")).collect(),
        None => SHORT.to_vec(),
    };
    let of_runtime = filter.map(|filter| quoted(filter)).unwrap_or_default();
    // Its own harness, one test after the other.
    let mut script = format!(
        "cd {}\nexport WHARF_TEST_SKIPS=/mnt/wharf-vm/skips CARGO_TARGET_DIR={}\nstatus=0\n",
        quoted(&workspace().display().to_string()),
        quoted(&target().display().to_string()),
    );
    for (name, path) in &programs {
        let path = quoted(&path.display().to_string());
        if name == "containers" {
            script.push_str(&format!("{path} {of_runtime} || status=1\n"));
        } else if let Some((_, tests)) = wanted.iter().find(|(wanted, _)| wanted == name) {
            let tests = quoted(tests);
            let client = if WITH_OWN_CLIENT.contains(&name.as_str()) {
                "WHARF_TEST_OWN_CLIENT=1 "
            } else {
                ""
            };
            script.push_str(&format!(
                "{client}{path} --test-threads 1 {tests} || status=1\n"
            ));
        }
    }
    script.push_str("(exit $status)");

    let mut boot = Boot::new(script);
    boot.timeout = Duration::from_secs(if long { 10_800 } else { 3600 });
    let mut results = 0;
    let outcome = in_guest(&boot, |line| {
        results += usize::from(line.starts_with("test result: "));
        println!("{line}");
    })?;
    if let Some(list) = std::env::var_os("WHARF_TEST_SKIPS") {
        let skipped =
            std::fs::read_to_string(outcome.folder.path().join("skips")).unwrap_or_default();
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(list)
            .map_err(|error| error.to_string())?;
        for line in skipped.lines() {
            std::io::Write::write_fmt(&mut file, format_args!("{line} (in the guest)\n"))
                .map_err(|error| error.to_string())?;
        }
    }
    match (outcome.status, results) {
        (0, 1..) => Ok(()),
        (0, 0) => Err("no test ran in the guest".to_owned()),
        _ => Err("tests failed in the guest".to_owned()),
    }
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    let done = Command::new("cargo")
        .args(arguments)
        .current_dir(workspace())
        .status();
    if done.is_ok_and(|status| status.success()) {
        Ok(())
    } else {
        Err(format!("cargo {} failed", arguments.join(" ")))
    }
}

/// Builds the test programs; answers with their names and paths.
fn test_programs() -> Result<Vec<(String, PathBuf)>, String> {
    let out = Command::new("cargo")
        .args([
            "test",
            "--no-run",
            "--quiet",
            "--message-format",
            "json",
            "--test",
            "*",
        ])
        .args([
            "--package",
            "wharf-container-runtime",
            "--package",
            "wharf-tests",
        ])
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !out.status.success() {
        return Err("the tests cannot be built".to_owned());
    }
    let lines = String::from_utf8_lossy(&out.stdout);
    Ok(lines
        .lines()
        .filter_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let path = message["executable"].as_str()?;
            let name = message["target"]["name"].as_str()?;
            (message["profile"]["test"] == true).then(|| (name.to_owned(), PathBuf::from(path)))
        })
        .collect())
}
