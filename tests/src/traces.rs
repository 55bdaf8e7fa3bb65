//! What an engine and its containers leave on a host, to be compared before and after.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Daemon;
use crate::host::cgroup_hierarchies;
use crate::waiting::{PATIENCE, PAUSE, eventually};

/// Mounts, links and cgroups of the daemon's host, and the engine's files, one line each. Which files is said by
/// the arguments of a `find` in the engine's folder, where there are `data` and `exec`. The cgroup that is kept
/// for the next container is not among them: it is another one after each start.
pub fn traces(daemon: &Daemon<'_>, files: &str) -> BTreeSet<String> {
    let host = daemon.host;
    let files = format!(
        "cd {} && find {files} | sed 's/^/file /'",
        host.join("engine").display()
    );
    let mut found: BTreeSet<String> = [
        "awk '{print \"mount \" $5}' /proc/1/mountinfo",
        "ip -o link | awk -F': ' '{print \"link \" $2}' | sed 's/veth.*/veth/'",
        &files,
    ]
    .iter()
    .flat_map(|line| {
        let text = host.sh(line).ok().stdout;
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    })
    .collect();
    found.retain(|line| !line.contains("/next-ids/"));
    let next_ids = std::fs::read_dir(daemon.exec_root().join("next-ids"));
    let next_ids: Vec<_> = next_ids
        .into_iter()
        .flatten()
        .flatten()
        .map(|note| note.file_name())
        .collect();
    for hierarchy in cgroup_hierarchies() {
        let parent = host.cgroup_parent();
        let parent = hierarchy.join(parent.trim_start_matches('/'));
        collect(&parent, &next_ids, &mut found);
    }
    found
}

fn collect(folder: &Path, but: &[OsString], into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory && !but.contains(&entry.file_name()) {
            into.insert(entry.path().display().to_string());
            collect(&entry.path(), but, into);
        }
    }
}

/// Waits until each running container has a complete run directory and no other has one: what is kept of a run
/// that has ended goes a moment after its end was told, and a shim writes itself down a moment after the start.
#[track_caller]
pub fn runs_are_settled(daemon: &Daemon<'_>) {
    eventually("running containers alone have run directories", || {
        let running = daemon.wharf(&["ps", "-q"]).ok().stdout;
        let runs = std::fs::read_dir(daemon.exec_root().join("containers"));
        let complete: Vec<bool> = runs
            .into_iter()
            .flatten()
            .flatten()
            .map(|run| run.path().join("shim.json").exists())
            .collect();
        if running.lines().count() == complete.len() && !complete.contains(&false) {
            Ok(())
        } else {
            Err(format!("{complete:?}, running: {running:?}"))
        }
    });
}

/// What `now` comes to: an engine makes ready what the next run takes, too, a moment after an end. It has come to
/// rest when ended runs are gone and a second passes without a change.
#[track_caller]
pub fn settled(daemon: &Daemon<'_>, now: impl Fn() -> BTreeSet<String>) -> BTreeSet<String> {
    runs_are_settled(daemon);
    let mut last = now();
    let mut since = Instant::now();
    eventually("the engine comes to rest", || {
        let look = now();
        if look != last {
            last = look;
            since = Instant::now();
        }
        if since.elapsed() < Duration::from_secs(1) {
            return Err(format!("{last:#?}"));
        }
        Ok(last.clone())
    })
}

/// What distinguishes `now` from `before`, after some patience: what is left of a run goes a moment after its
/// end was told.
pub fn difference(before: &BTreeSet<String>, now: impl Fn() -> BTreeSet<String>) -> Option<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = now();
        if now == *before {
            return None;
        }
        if Instant::now() > end {
            let extra: Vec<_> = now.difference(before).collect();
            let missing: Vec<_> = before.difference(&now).collect();
            return Some(format!("left over {extra:#?}, missing {missing:#?}"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Expects what was there `before`, and nothing else.
#[track_caller]
pub fn nothing_is_left(before: &BTreeSet<String>, now: impl Fn() -> BTreeSet<String>) {
    if let Some(difference) = difference(before, now) {
        panic!("{difference}");
    }
}
