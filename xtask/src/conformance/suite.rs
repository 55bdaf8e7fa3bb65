//! The suite's programs: built from `opencontainers/runtime-tools`, which Go's module proxy has, at the
//! version and with the checksums of `suite/go.mod` and `suite/go.sum`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{vm, workspace};

const MODULE: &str = include_str!("suite/go.mod");
const SUMS: &str = include_str!("suite/go.sum");
const TOOLS: &str = "github.com/opencontainers/runtime-tools";

/// What runs inside the containers.
const INSIDE: &str = "runtimetest";

/// The folder with the programs, the root file system they use and what runs inside. Built once.
pub(super) fn built() -> Result<PathBuf, String> {
    let version = MODULE
        .lines()
        .find_map(|line| line.trim_start_matches("require ").strip_prefix(TOOLS))
        .ok_or("go.mod requires the suite")?
        .trim();
    let done = vm::target().join("conformance").join(version);
    if done.exists() {
        return Ok(done);
    }
    println!("# building the validation suite {version} (once)");
    if Command::new("go").arg("version").output().is_err() {
        let installed = Command::new(workspace().join("scripts/packages"))
            .arg("golang-go")
            .status();
        if !installed.is_ok_and(|status| status.success()) {
            return Err("there is no Go toolchain, and it cannot be installed".to_owned());
        }
    }
    let scratch = vm::target().join("conformance").join("making");
    drop(std::fs::remove_dir_all(&scratch));
    let programs = scratch.join("programs");
    std::fs::create_dir_all(&programs).map_err(|error| error.to_string())?;
    for (name, text) in [("go.mod", MODULE), ("go.sum", SUMS)] {
        std::fs::write(scratch.join(name), text).map_err(|error| error.to_string())?;
    }
    let to = format!("{}/", programs.display());
    let validation = format!("{TOOLS}/validation/...");
    let inside = format!("{TOOLS}/cmd/{INSIDE}");
    let build = ["build", "-trimpath", "-o", &to, &validation, &inside];
    // What it downloads on its way may fail to come for a moment.
    if go(&scratch, &build).is_err() {
        go(&scratch, &build)?;
    }
    let source = go(&scratch, &["list", "-m", "-f", "{{.Dir}}", TOOLS])?;
    let archive = format!("rootfs-{}.tar.gz", go(&scratch, &["env", "GOARCH"])?.trim());
    std::fs::copy(
        Path::new(source.trim()).join(&archive),
        programs.join(&archive),
    )
    .map_err(|error| format!("{archive}: {error}"))?;
    std::fs::rename(&programs, &done).map_err(|error| error.to_string())?;
    drop(std::fs::remove_dir_all(&scratch));
    Ok(done)
}

/// Their names.
pub(super) fn programs(suite: &Path) -> Result<Vec<String>, String> {
    let entries =
        std::fs::read_dir(suite).map_err(|error| format!("{}: {error}", suite.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != INSIDE && !name.starts_with("rootfs-"))
        .collect();
    names.sort();
    Ok(names)
}

fn go(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let out = Command::new("go")
        .args(arguments)
        .current_dir(folder)
        // Static programs: they run in any root file system and in the guest. No other toolchain.
        .envs([
            ("CGO_ENABLED", "0"),
            ("GOTOOLCHAIN", "local"),
            ("GOFLAGS", "-mod=mod"),
        ])
        .output()
        .map_err(|error| format!("go: {error}"))?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    } else {
        Err(format!(
            "go {}: {}",
            arguments[0],
            String::from_utf8_lossy(&out.stderr)
        ))
    }
}
