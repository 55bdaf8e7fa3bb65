//! What the black-box tests share: a sandboxed host, a daemon in it, real images, a registry.
//!
//! Each test runs in a [`Host`] of its own: fresh network, mount and process namespaces, so it
//! works beside a running engine, changes nothing on the machine and leaves nothing behind, also
//! when it panics. The programs under test are started inside through `nsenter`.

pub mod bundle;
pub mod criu;
pub mod daemon;
pub mod day;
pub mod fixtures;
pub mod host;
pub mod output;
pub mod registry;
pub mod traces;
pub mod user;
pub mod waiting;

pub use bundle::Bundle;
pub use daemon::Daemon;
pub use host::Host;
pub use output::{Output, run, run_with_open_input};
pub use waiting::eventually;

use std::path::PathBuf;

static CHOSEN_BINARY: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();

/// Makes [`wharf_binary`] answer `path` from now on.
pub fn set_binary(path: PathBuf) {
    CHOSEN_BINARY
        .set(path)
        .expect("the binary is chosen once, before anything runs");
}

/// The `wharf` binary under test: the chosen one, `WHARF_BINARY`, or the one built beside this test.
pub fn wharf_binary() -> PathBuf {
    if let Some(path) = CHOSEN_BINARY.get() {
        return path.clone();
    }
    if let Some(path) = std::env::var_os("WHARF_BINARY") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a running program has a path");
    // <target>/<triple>/<profile>/deps/<test>-<hash>
    let profile = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("tests live in deps/");
    let binary = profile.join("wharf");
    assert!(
        binary.exists(),
        "{} is missing: build it with `cargo build -p wharf` first",
        binary.display()
    );
    binary
}

/// The reference `docker` client, when this machine has one of the version the tests speak to; none where
/// `WHARF_TEST_OWN_CLIENT` is set.
pub fn docker_client() -> Option<PathBuf> {
    if std::env::var_os("WHARF_TEST_OWN_CLIENT").is_some() {
        return None;
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("docker"))
        .find(|candidate| {
            std::process::Command::new(candidate)
                .arg("--version")
                .output()
                .is_ok_and(|out| {
                    String::from_utf8_lossy(&out.stdout).contains("Docker version 28.")
                })
        })
}

/// Where images made once are kept for the next run: `<target>/fixtures`.
pub fn fixture_folder() -> PathBuf {
    let target = wharf_target().join("fixtures");
    std::fs::create_dir_all(&target).expect("the target folder is writable");
    target
}

fn wharf_target() -> PathBuf {
    if let Some(path) = std::env::var_os("CARGO_TARGET_DIR") {
        return PathBuf::from(path);
    }
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .join("target")
}

/// Notes that a test could not run here and why; the caller returns right after.
pub fn skip(test: &str, reason: &str) {
    use std::io::Write as _;
    eprintln!("skipped: {test}: {reason}");
    if let Some(path) = std::env::var_os("WHARF_TEST_SKIPS") {
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .expect("the skip list is writable");
        // In one piece: other tests write at the same time.
        let line = format!("{test}: {reason}\n");
        file.write_all(line.as_bytes())
            .expect("the skip list is writable");
    }
}
