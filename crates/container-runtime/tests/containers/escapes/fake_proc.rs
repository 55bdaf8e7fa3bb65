//! Something else in procfs's place, so that writes meant to confine a container go nowhere, or to
//! a file of the attacker's choice.
//!
//! * CVE-2019-19921, CVE-2023-27561, CVE-2023-28642 (runc), CVE-2025-54867 (youki): `/proc` or
//!   `/sys` in the image, or in a volume shared with another container, is a symbolic link, and
//!   the runtime's later writes and masks follow it.
//!   Guard: procfs and sysfs are mounted only where no component is a link (`mounts.rs`).
//! * CVE-2019-16884: the image declares `/proc` a volume; AppArmor labels are written into it.
//!   Guards: nothing but procfs may be at `/proc` (`mounts.rs`); labels go through a procfs that
//!   is mounted nowhere (`label.rs`).
//! * CVE-2025-52881 (runc), CVE-2025-62596 (youki): a racing container makes the procfs path of a
//!   label or kernel parameter lead to another file (`/proc/sys/kernel/core_pattern`).
//!   Guards: as above; parameters are written within one mount and through no link (`sysctl.rs`).

use std::fs;
use std::path::Path;

use wharf_container_runtime::Stage;
use wharf_oci::runtime::Mount;

use crate::Test;
use crate::sandbox::{Prepared, Sandbox};

use super::{bind, with_links, without_mount};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2019_19921_linked_proc_is_refused", linked_proc),
    (
        "cve_2023_27561_proc_linked_into_a_volume_is_refused",
        proc_in_a_volume,
    ),
    (
        "cve_2019_16884_volume_over_proc_is_refused",
        volume_over_proc,
    ),
    (
        "cve_2019_16884_labels_do_not_go_into_the_images_proc",
        label_into_image,
    ),
    (
        "cve_2025_52881_parameters_do_not_go_into_the_images_proc",
        parameter_into_image,
    ),
    ("cve_2025_52881_mounts_cannot_cover_proc", covering_proc),
];

fn linked_proc(sandbox: &Sandbox) {
    for name in ["proc", "sys"] {
        for target in ["/evil", "../../../../../../../../proc"] {
            let container = with_links(sandbox, &["true"], &[(name, target)]);
            let error = container.error();
            assert_eq!(
                (error.stage, error.errno),
                (Stage::Mount, rustix::io::Errno::LOOP.raw_os_error()),
                "{name} {target} {error}"
            );
        }
    }
}

fn proc_in_a_volume(sandbox: &Sandbox) {
    let volume = sandbox.directory("volume");
    fs::create_dir_all(volume.join("proc/self/attr")).unwrap();
    let mut container = with_links(sandbox, &["true"], &[("proc", "/volume/proc")]);
    container
        .config
        .spec
        .mounts
        .insert(0, bind(&volume, "/volume"));
    assert_eq!(container.error().stage, Stage::Mount);
}

/// Files where a label or parameter would be written, in a directory that poses as procfs.
fn fake(directory: &Path) -> Vec<std::path::PathBuf> {
    let files = [
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "thread-self/attr/exec",
        "thread-self/attr/apparmor/exec",
        "sys/net/ipv4/ip_unprivileged_port_start",
    ];
    files
        .iter()
        .map(|file| {
            let path = directory.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "untouched").unwrap();
            path
        })
        .collect()
}

fn assert_untouched(files: &[std::path::PathBuf]) {
    for file in files {
        let content = fs::read_to_string(file).unwrap();
        assert_eq!(content, "untouched", "{}", file.display());
    }
}

fn volume_over_proc(sandbox: &Sandbox) {
    let volume = sandbox.directory("volume");
    let files = fake(&volume);
    for keep_proc in [true, false] {
        let mut container = sandbox.container(&["true"]);
        if !keep_proc {
            without_mount(&mut container, "/proc");
        }
        container.config.spec.mounts.push(bind(&volume, "/proc"));
        container.process().apparmor_profile = Some("docker-default".into());
        assert_eq!(
            container.error().to_string(),
            r#""/proc" cannot be mounted because it is not of type proc"#
        );
        container.config.spec.mounts.pop();
        container.config.spec.mounts.push(Mount {
            destination: "/proc".into(),
            kind: Some("tmpfs".into()),
            ..Mount::default()
        });
        assert!(container.error().to_string().contains("not of type proc"));
    }
    assert_untouched(&files);
}

/// A container without a procfs whose image poses as one.
fn with_fake_proc(sandbox: &Sandbox) -> (Prepared, Vec<std::path::PathBuf>) {
    let mut container = sandbox.container(&["true"]);
    without_mount(&mut container, "/proc");
    container.linux().masked_paths.clear();
    container.linux().readonly_paths.clear();
    let files = fake(&container.upper.join("proc"));
    (container, files)
}

fn label_into_image(sandbox: &Sandbox) {
    let (mut container, files) = with_fake_proc(sandbox);
    container.process().apparmor_profile = Some("docker-default".into());
    let here = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !here.is_ok_and(|text| text.starts_with('Y')) {
        // A label nobody enforces is an error, never a success.
        assert_eq!(container.error().stage, Stage::Label);
    }
    assert_untouched(&files);
}

fn parameter_into_image(sandbox: &Sandbox) {
    let (mut container, files) = with_fake_proc(sandbox);
    container
        .linux()
        .sysctl
        .insert("net.ipv4.ip_unprivileged_port_start".into(), "77".into());
    assert_eq!(container.run().code, 0);
    assert_untouched(&files);
}

fn covering_proc(sandbox: &Sandbox) {
    let volume = sandbox.directory("volume");
    fs::write(volume.join("file"), "").unwrap();
    let refused = |mut container: Prepared, mount: Mount| {
        container.config.spec.mounts.push(mount);
        let error = container.error();
        assert!(
            error
                .to_string()
                .contains("cannot be mounted because it is inside /proc"),
            "{error}"
        );
    };
    let tmpfs = |destination: &str| Mount {
        destination: destination.into(),
        kind: Some("tmpfs".into()),
        ..Mount::default()
    };
    refused(sandbox.container(&["true"]), bind(&volume, "/proc/sys"));
    refused(sandbox.container(&["true"]), tmpfs("/proc/sys/net"));
    refused(
        sandbox.container(&["true"]),
        bind(&volume.join("file"), "/proc/version"),
    );
    // The same by way of a link in the image.
    let linked = || with_links(sandbox, &["true"], &[("innocent", "/proc/self")]);
    refused(linked(), bind(&volume, "/innocent"));
    refused(linked(), tmpfs("/innocent"));
}
