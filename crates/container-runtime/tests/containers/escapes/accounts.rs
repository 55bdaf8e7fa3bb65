//! The image's account files, which say who is who.
//!
//! * CVE-2024-40635, CVE-2026-46680 (containerd): a user given as a number beyond 32 bits becomes
//!   root, by overflow or because the image names root so.
//! * CVE-2026-30892 (crun): the user `1` of an exec became root.
//!   Guard for both: a number is that number or refused, whatever the image says (`user.rs`).
//! * CVE-2026-47262 (containerd): account files so large that whoever reads them runs out of memory.
//!   Guard: regular files of bounded size only, read by the container's own process (`rootfs.rs`,
//!   `user.rs`).
//! * Account files that are links to the host's, devices or pipes.
//!   Guard: `openat2` below the root, regular files only (`sys/rootfs.rs`).

use std::fs;

use wharf_container_runtime::{ExecConfig, Stage};

use crate::Test;
use crate::sandbox::{Sandbox, end, pipes, reap};

use super::with_links;

pub(crate) const TESTS: &[Test] = &[
    ("cve_2026_46680_numbers_are_not_names", numbers),
    ("cve_2022_36109_nobody_leaves_the_group", group_stays),
    ("cve_2026_30892_user_one_is_user_one", user_one),
    ("cve_2026_47262_account_files_are_bounded", huge_files),
    ("linked_etc_does_not_reach_the_hosts_accounts", linked_etc),
    ("strange_account_files_are_survived", strange_files),
];

/// A group that is denied what others have: whoever could leave it would have it.
fn group_stays(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["grep", "Groups", "/proc/self/status"]);
    for (user, groups) in [
        ("", "0"),
        ("33", "4 33"),
        ("1000", "0"),
        ("1000:88", "88"),
        ("web:77", "77"),
    ] {
        container.config.user = Some(user.into());
        assert_eq!(
            container.run().stdout,
            format!("Groups:\t{groups} \n"),
            "{user:?}"
        );
    }
}

fn numbers(sandbox: &Sandbox) {
    for user in [
        "2147483648",
        "4294967295",
        "4294967296",
        "4294967296:4294967296",
    ] {
        let mut container = sandbox.container(&["id", "-u"]);
        fs::create_dir(container.upper.join("etc")).unwrap();
        let name = user.split(':').next().unwrap();
        fs::write(
            container.upper.join("etc/passwd"),
            format!("{name}:x:0:0::/root:/bin/sh\n"),
        )
        .unwrap();
        container.config.user = Some(user.into());
        let error = container.error();
        assert_eq!(error.stage, Stage::User, "{error}");
        assert!(error.to_string().contains("must be in range"), "{error}");
    }
    let mut container = sandbox.container(&["id", "-u"]);
    fs::create_dir(container.upper.join("etc")).unwrap();
    fs::write(
        container.upper.join("etc/passwd"),
        "1000:x:0:0::/root:/bin/sh\n",
    )
    .unwrap();
    container.config.user = Some("1000".into());
    assert_eq!(container.run().stdout, "1000\n");
}

fn user_one(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["sleep", "1000"]);
    let (running, _output) = container.start();
    container.process().args = ["sh", "-c", "id -u; id -g"].map(str::to_owned).to_vec();
    let config = ExecConfig {
        process: container.process().clone(),
        user: Some("1".into()),
        ..ExecConfig::default()
    };
    let (stdio, [mut out, _]) = pipes();
    let executed = wharf_container_runtime::exec(&running, &config, stdio).unwrap();
    let mut stdout = String::new();
    std::io::Read::read_to_string(&mut out, &mut stdout).unwrap();
    assert_eq!((reap(executed.pid), stdout.as_str()), (0, "1\n0\n"));
    end(running);
}

fn huge_files(sandbox: &Sandbox) {
    for name in ["passwd", "group"] {
        let mut container = sandbox.container(&["true"]);
        fs::create_dir(container.upper.join("etc")).unwrap();
        let file = fs::File::create(container.upper.join("etc").join(name)).unwrap();
        file.set_len(64 << 20).unwrap();
        container.config.user = Some("web".into());
        let error = container.error();
        assert_eq!(
            (error.stage, error.errno),
            (Stage::Identity, rustix::io::Errno::FBIG.raw_os_error()),
            "{error}"
        );
    }
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

fn strange_files(sandbox: &Sandbox) {
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
}
