//! What an engine and its containers leave on a host, to be compared before and after.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Daemon;
use crate::host::cgroup_hierarchies;
use crate::waiting::{PATIENCE, PAUSE, becomes, eventually};

/// Mounts, links and cgroups of the daemon's host, and the engine's files, one line each. Which files is said by
/// the arguments of a `find` in the engine's folder, where there are `data` and `exec`.
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
    for hierarchy in cgroup_hierarchies() {
        let parent = host.cgroup_parent();
        collect(&hierarchy.join(parent.trim_start_matches('/')), &mut found);
    }
    found
}

fn collect(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            into.insert(entry.path().display().to_string());
            collect(&entry.path(), into);
        }
    }
}

/// What `now` comes to where no container runs: an engine removes what is left of a run, and makes ready what
/// the next one takes, a moment after the run's end was told. It has come to rest when the run's directory is
/// gone and a second passes without a change.
#[track_caller]
pub fn settled(daemon: &Daemon<'_>, now: impl Fn() -> BTreeSet<String>) -> BTreeSet<String> {
    let runs = format!(
        "ls {}/exec/containers",
        daemon.host.join("engine").display()
    );
    becomes(&String::new(), || daemon.host.sh(&runs).ok().stdout);
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
