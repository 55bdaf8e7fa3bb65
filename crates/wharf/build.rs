//! Builds the shim as a program of its own and hands its path to the compiler, which embeds it.
//!
//! The shim must be a static executable that is *not* position independent, so that every
//! container's shim shares all its pages with the others; the flags for that differ from the main
//! program's, hence a Cargo run of its own in a target directory of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    // Not position independent either: the relocations of a static PIE cost hundreds of page
    // faults at every start of a command and as many private pages in the daemon.
    for argument in ["-static", "-no-pie"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets it"));
    let workspace = manifest
        .ancestors()
        .nth(2)
        .expect("crates/wharf lies two levels below the workspace");
    for watched in [
        "Cargo.toml",
        "Cargo.lock",
        "crates/shim",
        "crates/shim-protocol",
        "crates/logs",
        "crates/container-runtime",
        "crates/runtime-command",
        "crates/seccomp",
        "crates/oci",
        "crates/fault",
        "crates/sys",
    ] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(watched).display()
        );
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets it"));
    let program = build(workspace, &shim_target_dir(&out));
    println!("cargo::rustc-env=WHARF_SHIM_PROGRAM={}", program.display());
}

/// `target/shim`, shared by all profiles so that it is built once.
fn shim_target_dir(out: &Path) -> PathBuf {
    // OUT_DIR is <target>/<triple>/<profile>/build/<package>-<hash>/out.
    out.ancestors().nth(5).unwrap_or(out).join("shim")
}

fn build(workspace: &Path, target_dir: &Path) -> PathBuf {
    let triple = env::var("TARGET").expect("Cargo sets it");
    // `shim-dev` builds in a fifth of the time, for the daily round of change and test.
    println!("cargo::rerun-if-env-changed=WHARF_SHIM_PROFILE");
    let profile = env::var("WHARF_SHIM_PROFILE").unwrap_or_else(|_| "shim".to_owned());
    let status = Command::new(env::var_os("CARGO").expect("Cargo sets it"))
        .current_dir(workspace)
        .args([
            "build",
            "--package",
            "wharf-shim",
            "--bin",
            "wharf-shim",
            "--profile",
            &profile,
        ])
        .args(["--target", &triple])
        .arg("--target-dir")
        .arg(target_dir)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C relocation-model=static",
        )
        .status()
        .expect("cargo runs: it has started this script");
    assert!(
        status.success(),
        "the shim does not build; its errors stand above"
    );
    target_dir.join(triple).join(profile).join("wharf-shim")
}
