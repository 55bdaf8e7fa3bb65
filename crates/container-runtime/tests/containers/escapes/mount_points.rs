//! Mount points and directories that lead out of the container's root, also while they change.
//!
//! * CVE-2021-30465, CVE-2024-45310 (runc), CVE-2025-47290 (containerd): while a container starts,
//!   another one that shares a volume with it swaps a directory on the way to a mount point for a
//!   symbolic link and back; the runtime checks one and mounts on, or makes directories in, the
//!   other: the host's.
//!   Guard: every path in the root is resolved by the kernel, below the root, in the one call that
//!   opens it (`sys/rootfs.rs`), and used by its descriptor only.
//! * CVE-2026-41579 (runc): `/dev` in the image is a link; nodes and links are made on the host.
//!   Guard: the same.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Signal, kill_process};

use crate::Test;
use crate::sandbox::{Sandbox, reap};

use super::{bind, with_links, without_mount};

pub(crate) const TESTS: &[Test] = &[
    (
        "cve_2021_30465_swapped_mount_points_stay_inside",
        swapped_mount_points,
    ),
    ("cve_2024_45310_linked_mount_points_stay_inside", linked),
    ("cve_2026_41579_linked_dev_stays_inside", linked_dev),
];

/// Swaps `one` and `other` until it is killed.
fn swapping(one: &Path, other: &Path) -> Pid {
    crate::sandbox::fork(|| {
        loop {
            if renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_err() {
                return 1;
            }
        }
    })
}

fn swapped_mount_points(sandbox: &Sandbox) {
    const STARTS: u32 = 60;
    let (victim, volume) = (sandbox.directory("victim"), sandbox.directory("volume"));
    let data = sandbox.directory("data");
    fs::write(data.join("file"), "data").unwrap();
    fs::create_dir(volume.join("way")).unwrap();
    symlink(&victim, volume.join("link")).unwrap();
    let attacker = swapping(&volume.join("way"), &volume.join("link"));
    for _ in 0..STARTS {
        let mut container = sandbox.container(&["true"]);
        container.config.spec.mounts.extend([
            bind(&volume, "/volume"),
            bind(&data, "/volume/way/directory"),
            bind(&data.join("file"), "/volume/way/file"),
        ]);
        // It may fail for what it finds; what counts is where it does not go.
        let _ = container.try_run();
        fs::remove_dir_all(volume.join("way/directory")).ok();
        fs::remove_dir_all(volume.join("link/directory")).ok();
    }
    kill_process(attacker, Signal::KILL).unwrap();
    assert_eq!(reap(attacker), 137);
    let made: Vec<_> = fs::read_dir(&victim).unwrap().collect();
    assert!(made.is_empty(), "on the host: {made:?}");
}

fn linked(sandbox: &Sandbox) {
    let (victim, volume) = (sandbox.directory("victim"), sandbox.directory("volume"));
    fs::write(volume.join("file"), "volume").unwrap();
    for target in [
        format!("../../../../../../../..{}", victim.display()),
        victim.display().to_string(),
    ] {
        let mut container = with_links(sandbox, &["cat", "/data/sub/file"], &[("data", &target)]);
        container
            .config
            .spec
            .mounts
            .push(bind(&volume, "/data/sub"));
        let outcome = container.run();
        assert_eq!(outcome.stdout, "volume", "{outcome:?}");
        let made: Vec<_> = fs::read_dir(&victim).unwrap().collect();
        assert!(made.is_empty(), "on the host: {made:?}");
    }
}

fn linked_dev(sandbox: &Sandbox) {
    let victim = sandbox.directory("victim");
    for target in [
        format!("../../../../../../../..{}", victim.display()),
        victim.display().to_string(),
    ] {
        for has_mount in [true, false] {
            let mut container = with_links(sandbox, &["true"], &[("dev", &target)]);
            if !has_mount {
                without_mount(&mut container, "/dev");
            }
            // Whatever comes of it, nothing appears on the host.
            let _ = container.try_run();
            let made: Vec<_> = fs::read_dir(&victim).unwrap().collect();
            assert!(made.is_empty(), "on the host: {made:?}");
        }
    }
}
