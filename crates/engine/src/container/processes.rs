//! A container's processes where it has no cgroup to list them (rootless, without delegation):
//! found by what they see.

use std::collections::BTreeSet;
use std::path::Path;

/// Processes that share the main process's view of processes or of files. One that a container's
/// process has put into new namespaces of both kinds is missed.
pub(super) fn beside(main: i32) -> BTreeSet<i32> {
    let namespace =
        |pid: i32, name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
    let own = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).ok();
    let telling: Vec<(&str, _)> = ["pid", "mnt"]
        .into_iter()
        .filter_map(|name| Some((name, namespace(main, name)?)))
        // What it shares with us tells nothing.
        .filter(|(name, of_main)| own(name).as_ref() != Some(of_main))
        .collect();
    all()
        .filter(|pid| {
            telling
                .iter()
                .any(|(name, of_main)| namespace(*pid, name).as_ref() == Some(of_main))
        })
        .collect()
}

/// Ends every process whose root file system lies on this writable layer.
pub(super) fn end_all_on(upper: &Path) {
    let option = format!("upperdir={}", upper.display());
    let on_it = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|mounts| {
            mounts.lines().any(|line| {
                line.rsplit(' ')
                    .next()
                    .is_some_and(|options| options.split(',').any(|one| one == option))
            })
        })
    };
    for pid in all().filter(on_it) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            // It may have ended by now.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn all() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
