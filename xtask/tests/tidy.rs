//! The house rules that a machine can check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// From the bottom up: a crate may depend on crates of lower layers only. `sys` is beside all.
const LAYERS: &[(&str, u8)] = &[
    ("wharf-sys", 0),
    ("wharf-fault", 0),
    ("wharf-systemd", 1),
    ("wharf-ids", 1),
    ("wharf-state", 1),
    ("wharf-go-template", 1),
    ("wharf-logs", 1),
    ("wharf-oci", 2),
    ("wharf-seccomp", 3),
    ("wharf-api-types", 3),
    ("wharf-container-runtime", 4),
    ("wharf-shim-protocol", 4),
    ("wharf-image-store", 4),
    ("wharf-registry-client", 4),
    ("wharf-network", 4),
    ("wharf-rootless", 4),
    ("wharf-runtime-command", 5),
    ("wharf-shim", 6),
    ("wharf-engine", 5),
    ("wharf-client", 5),
    ("wharf-server", 6),
    ("wharf-commands", 6),
    ("wharf", 7),
];

/// Third-party crates that must not reach a crate, with the reason.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "wharf-engine",
        &["hyper", "http-body-util", "clap"],
        "the engine knows no HTTP and no command line",
    ),
    (
        "wharf-container-runtime",
        &["tokio", "tracing"],
        "it runs in the shim, which is small and single-threaded",
    ),
    (
        "wharf-runtime-command",
        &["tokio", "tracing", "clap"],
        "it is part of the same small program",
    ),
    (
        "wharf-shim",
        &["tokio", "tracing", "rustls"],
        "it is what every container costs",
    ),
    ("wharf-shim-protocol", &["tokio"], "the shim uses it"),
    (
        "wharf-rootless",
        &["tokio", "tracing"],
        "it works in processes with one thread",
    ),
    ("wharf-logs", &["tokio"], "the shim uses it"),
    ("wharf-go-template", &["tokio"], "it is a pure core"),
    ("wharf-seccomp", &["tokio"], "it is a pure core"),
];

const FORBIDDEN_NAMES: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "misc", "hack",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let out = Command::new("cargo")
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(workspace())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let names = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|d| d["kind"].is_null());
            (
                package["name"].as_str().unwrap().to_owned(),
                names
                    .map(|d| d["name"].as_str().unwrap().to_owned())
                    .collect(),
            )
        })
        .collect()
}

fn rust_files() -> Vec<PathBuf> {
    let out = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
        ])
        .current_dir(workspace())
        .output()
        .unwrap();
    let list = String::from_utf8(out.stdout).unwrap();
    list.lines()
        .map(PathBuf::from)
        .filter(|path| workspace().join(path).exists())
        .collect()
}

#[test]
fn arrows_go_down_only() {
    let layers: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (package, needs) in dependencies() {
        if matches!(package.as_str(), "xtask" | "wharf-tests") {
            continue;
        }
        let Some(layer) = layers.get(package.as_str()) else {
            wrong.push(format!("{package} has no layer in this test"));
            continue;
        };
        for needed in &needs {
            if let Some(below) = layers.get(needed.as_str())
                && below >= layer
            {
                wrong.push(format!(
                    "{package} (layer {layer}) depends on {needed} (layer {below})"
                ));
            }
        }
        for (name, forbidden, reason) in FORBIDDEN {
            if *name == package {
                for crate_name in forbidden.iter().filter(|f| needs.contains(**f)) {
                    wrong.push(format!("{package} depends on {crate_name}, but {reason}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn api_types_serve_the_edges_and_the_engine_only() {
    let allowed = [
        "wharf-client",
        "wharf-commands",
        "wharf-engine",
        "wharf-server",
        "wharf",
    ];
    for (package, needs) in dependencies() {
        assert!(
            !needs.contains("wharf-api-types") || allowed.contains(&package.as_str()),
            "{package} uses wire types"
        );
    }
}

#[test]
fn unsafe_lives_in_sys_alone() {
    for path in rust_files()
        .iter()
        .filter(|path| !path.starts_with("crates/sys") && !path.starts_with("xtask"))
    {
        let text = std::fs::read_to_string(workspace().join(path)).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            assert!(
                !code.contains("unsafe {")
                    && !code.contains("unsafe fn")
                    && !code.contains("allow(unsafe_code)"),
                "{}:{}: {line}",
                path.display(),
                number + 1
            );
        }
    }
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for entry in std::fs::read_dir(workspace().join("crates")).unwrap() {
        let manifest = entry.unwrap().path().join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        assert!(
            text.contains("[lints]\nworkspace = true") || text.contains("[lints.rust]"),
            "{}",
            manifest.display()
        );
    }
}

#[test]
fn every_file_says_what_it_owns() {
    let mut silent = Vec::new();
    for path in rust_files() {
        let text = std::fs::read_to_string(workspace().join(&path)).unwrap();
        if !text.starts_with("//!") && !text.starts_with("#![") {
            silent.push(path.display().to_string());
        }
    }
    assert!(
        silent.is_empty(),
        "no `//!` at the top of:\n{}",
        silent.join("\n")
    );
}

#[test]
fn no_drawers() {
    for path in rust_files() {
        for part in path.components() {
            let name = part.as_os_str().to_string_lossy();
            let name = name.trim_end_matches(".rs");
            assert!(
                !FORBIDDEN_NAMES.contains(&name),
                "{}: name the concept instead",
                path.display()
            );
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("FIX", "ME"),
        concat!("#[", "ignore"),
    ];
    for path in rust_files() {
        let text = std::fs::read_to_string(workspace().join(&path)).unwrap();
        for mark in marks {
            assert!(!text.contains(mark), "{} in {}", mark, path.display());
        }
    }
}

#[test]
fn every_third_party_crate_has_a_reason() {
    let contributing = std::fs::read_to_string(workspace().join("CONTRIBUTING.md")).unwrap();
    let mut missing = BTreeSet::new();
    for (_, needs) in dependencies() {
        for needed in needs.iter().filter(|name| !name.starts_with("wharf-")) {
            if !contributing.contains(&format!("`{needed}`")) {
                missing.insert(needed.clone());
            }
        }
    }
    assert!(
        missing.is_empty(),
        "CONTRIBUTING.md gives no reason for: {missing:?}"
    );
}
