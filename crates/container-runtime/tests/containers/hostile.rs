//! Images and containers that try to reach the host.

use std::fs;
use std::os::unix::fs::symlink;

use wharf_container_runtime::{ContainerConfig, RootFilesystem, Stage};
use wharf_oci::runtime::Mount;

use crate::Test;
use crate::sandbox::{Prepared, Sandbox};

pub(crate) const TESTS: &[Test] = &[
    ("linked_proc_is_refused", linked_proc),
    ("linked_dev_stays_inside", linked_dev),
    ("linked_etc_does_not_reach_the_hosts_accounts", linked_etc),
    ("linked_mount_points_stay_inside", linked_mount_points),
    ("mounts_cannot_cover_proc", covering_proc),
    ("working_directory_cannot_leave", leaking_directory),
    ("strange_account_files_are_survived", strange_account_files),
];

/// A container whose image has `links` (path, target) in place of what the base has there.
fn with_links(sandbox: &Sandbox, arguments: &[&str], links: &[(&str, &str)]) -> Prepared {
    let base = sandbox.directory("hostile");
    fs::create_dir_all(base.join("bin")).unwrap();
    fs::copy("/bin/busybox", base.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "cat", "ls", "id", "mount", "pwd", "true", "echo", "grep",
    ] {
        symlink("busybox", base.join("bin").join(applet)).unwrap();
    }
    for (path, target) in links {
        let path = base.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
    let mut container = sandbox.container(arguments);
    let RootFilesystem::Overlay { lower, .. } = &mut container.config.rootfs else {
        panic!("an overlay")
    };
    *lower = vec![base];
    container
}

fn linked_proc(sandbox: &Sandbox) {
    let container = with_links(sandbox, &["true"], &[("proc", "/evil")]);
    let error = container.error();
    assert_eq!(
        (error.stage, error.errno),
        (Stage::Mount, rustix::io::Errno::LOOP.raw_os_error()),
        "{error}"
    );
    // The usual way in: a directory of a volume shared with another container.
    let container = with_links(
        sandbox,
        &["true"],
        &[("sys", "../../../../../../../../sys")],
    );
    assert_eq!(container.error().stage, Stage::Mount);
}

fn linked_dev(sandbox: &Sandbox) {
    let victim = sandbox.directory("victim");
    let target = format!("../../../../../../../..{}", victim.display());
    let container = with_links(
        sandbox,
        &["sh", "-c", "ls -d /dev/null"],
        &[("dev", &target)],
    );
    // Whatever comes of it, nothing appears on the host.
    let _ = container.try_run();
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}

fn linked_etc(sandbox: &Sandbox) {
    let host = fs::read_to_string("/etc/passwd").unwrap();
    let known = host
        .lines()
        .map(|line| line.split(':').next().unwrap())
        .find(|name| *name == "daemon");
    let Some(user) = known else { return };
    let up = "../../../../../../../../../../etc/passwd";
    let mut container = with_links(
        sandbox,
        &["id"],
        &[("etc/passwd", up), ("etc/group", "/proc/1/root/etc/group")],
    );
    container.config.user = Some(user.to_owned());
    let error = container.error();
    assert_eq!(error.stage, Stage::User, "{error}");
}

fn linked_mount_points(sandbox: &Sandbox) {
    let (victim, volume) = (sandbox.directory("victim"), sandbox.directory("volume"));
    fs::write(volume.join("file"), "volume").unwrap();
    let target = format!("../../../../../../../..{}", victim.display());
    let mut container = with_links(sandbox, &["cat", "/data/sub/file"], &[("data", &target)]);
    container.config.spec.mounts.push(Mount {
        destination: "/data/sub".into(),
        kind: Some("bind".into()),
        source: Some(volume.display().to_string()),
        options: vec!["rbind".into(), "rprivate".into()],
        ..Mount::default()
    });
    let outcome = container.run();
    assert_eq!(outcome.stdout, "volume", "{outcome:?}");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}

fn covering_proc(sandbox: &Sandbox) {
    let volume = sandbox.directory("volume");
    let bind = |destination: &str| Mount {
        destination: destination.into(),
        kind: Some("bind".into()),
        source: Some(volume.display().to_string()),
        options: vec!["rbind".into()],
        ..Mount::default()
    };
    let mut container = sandbox.container(&["true"]);
    container.config.spec.mounts.push(bind("/proc/sys"));
    assert!(
        container
            .error()
            .to_string()
            .contains("cannot be mounted because it is inside /proc")
    );
    // The same by way of a link in the image.
    let mut container = with_links(sandbox, &["true"], &[("innocent", "/proc/self")]);
    container.config.spec.mounts.push(bind("/innocent"));
    assert!(
        container
            .error()
            .to_string()
            .contains("cannot be mounted because it is inside /proc")
    );
}

fn leaking_directory(sandbox: &Sandbox) {
    for number in 3..16 {
        let mut container = sandbox.container(&["pwd"]);
        container.process().cwd = format!("/proc/self/fd/{number}");
        match container.try_run() {
            // One of the numbers is the container's own root, which is no way out.
            Ok(outcome) => assert_eq!(outcome.stdout, "/\n"),
            Err(error) => assert_eq!(error.stage, Stage::WorkingDirectory, "{error}"),
        }
    }
}

fn strange_account_files(sandbox: &Sandbox) {
    let mut container = with_links(
        sandbox,
        &["grep", "Uid", "/proc/self/status"],
        &[("etc/passwd", "/dev/zero")],
    );
    container.config.user = Some("5".into());
    assert_eq!(container.run().stdout, "Uid:\t5\t5\t5\t5\n");
    let mut container = with_links(sandbox, &["grep", "Uid", "/proc/self/status"], &[]);
    fs::create_dir_all(container.upper.join("etc")).unwrap();
    let fifo = container.upper.join("etc/passwd");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    container.config.user = Some("6".into());
    assert_eq!(container.run().stdout, "Uid:\t6\t6\t6\t6\n");
    let _: &ContainerConfig = &container.config;
}
