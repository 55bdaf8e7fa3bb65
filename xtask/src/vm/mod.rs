//! `cargo xtask vm`: commands and tests in a guest with a Debian kernel, systemd as its first process
//! and nothing but cgroup v2.
//!
//! `cargo xtask vm -- COMMAND…` runs a command there; the workspace is visible under its own path,
//! read-only. `cargo xtask vm test [long | FILTER]` runs tests there. It is all emulated, so it works without a hypervisor, ten to twenty times slower than here.

mod boot;
mod guest;
mod suite;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::workspace;

pub(crate) use boot::{Boot, Outcome};

const USAGE: &str = "usage: cargo xtask vm [--timeout SECONDS] [--kernel ARGUMENTS] -- COMMAND... | vm test [long | FILTER]";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if let Some(("test", rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return suite::run(rest);
    }
    let mut boot = Boot::new(String::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--timeout" => {
                let seconds = rest
                    .next()
                    .and_then(|seconds| seconds.parse().ok())
                    .ok_or(USAGE)?;
                boot.timeout = Duration::from_secs(seconds);
            }
            "--kernel" => boot.kernel_arguments = rest.next().ok_or(USAGE)?.clone(),
            "--" => break,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let words: Vec<String> = rest.map(|word| quoted(word)).collect();
    if words.is_empty() {
        return Err(USAGE.to_owned());
    }
    boot.script = format!(
        "cd {}\n{}",
        quoted(&workspace().display().to_string()),
        words.join(" ")
    );
    let outcome = in_guest(&boot, |line| println!("{line}"))?;
    eprintln!(
        "# the guest had booted after {:.1} s",
        outcome.booted_after.as_secs_f32()
    );
    match outcome.status {
        0 => Ok(()),
        status => Err(format!("the command ended with {status}")),
    }
}

impl Boot {
    /// A boot for `script` with the workspace, the target folder and the `docker` client at hand.
    pub(crate) fn new(script: String) -> Self {
        let mut shares = vec![workspace()];
        let target = target();
        if !target.starts_with(workspace()) {
            shares.push(target);
        }
        Self {
            script,
            shares,
            programs: wharf_tests::docker_client()
                .map(|path| (path, "docker"))
                .into_iter()
                .collect(),
            timeout: Duration::from_secs(600),
            memory_mib: 2048,
            kernel_arguments: String::new(),
        }
    }
}

/// Boots the guest for `boot`; makes it first where it is not there yet.
pub(crate) fn in_guest(boot: &Boot, line: impl FnMut(&str)) -> Result<Outcome, String> {
    let packages = std::process::Command::new(workspace().join("scripts/packages"))
        .args(["qemu-system-x86", "debootstrap", "e2fsprogs", "util-linux"])
        .status();
    if !packages.is_ok_and(|status| status.success()) {
        return Err("the emulator cannot be installed".to_owned());
    }
    let folder = target().join("vm");
    let guest = guest::guest(&folder)?;
    boot::boot(&guest, &folder, boot, line)
}

/// The folder of everything that is built.
pub(crate) fn target() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    // <target>/<triple>/debug/xtask
    this.ancestors()
        .nth(3)
        .map_or_else(|| workspace().join("target"), Path::to_owned)
}

/// One word of a shell command.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
