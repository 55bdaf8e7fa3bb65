//! Published escapes, acted out. Each file is one theme; each test says what the attack was and
//! which guard of ours it runs into. `docs/security-tests.md` lists what each looks like without
//! its guard.

mod accounts;
mod descriptors;
mod device_files;
mod fake_proc;
mod mount_points;
mod privileges;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use wharf_container_runtime::RootFilesystem;
use wharf_oci::runtime::Mount;

use crate::Test;
use crate::sandbox::{Prepared, Sandbox};

/// All of them.
pub(crate) const TESTS: &[&[Test]] = &[
    accounts::TESTS,
    descriptors::TESTS,
    device_files::TESTS,
    fake_proc::TESTS,
    mount_points::TESTS,
    privileges::TESTS,
];

/// A container whose image has `links` (path, target) in place of what the base has there.
fn with_links(sandbox: &Sandbox, arguments: &[&str], links: &[(&str, &str)]) -> Prepared {
    let base = sandbox.directory("hostile");
    fs::create_dir_all(base.join("bin")).unwrap();
    fs::copy("/bin/busybox", base.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "cat", "ls", "id", "mount", "pwd", "true", "echo", "grep", "test", "stat", "wc",
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

/// A bind mount as Docker makes one.
fn bind(source: &Path, destination: &str) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some("bind".into()),
        source: Some(source.display().to_string()),
        options: vec!["rbind".into(), "rprivate".into()],
        ..Mount::default()
    }
}

/// Takes the mounts at and below `destination` out of the container's document.
fn without_mount(container: &mut Prepared, destination: &str) {
    let mounts = &mut container.config.spec.mounts;
    mounts.retain(|mount| !Path::new(&mount.destination).starts_with(destination));
}
