//! Device files and terminals that are not what they are called.
//!
//! * CVE-2025-31133 (runc), CVE-2025-62161 (youki): `/dev/null` of the container is a link to
//!   another file when masked files are covered with it: the mask becomes a way to write
//!   `/proc/sys/kernel/core_pattern`, or is none at all.
//!   Guard: masks are the host's null device, opened and verified before anything of the
//!   container's is looked at (`protect.rs`).
//! * CVE-2025-52565 (runc), CVE-2026-88264 (crun): `/dev/console` or `/dev/pts/0` is a link when
//!   the terminal is bound to it, so that the terminal covers, or the container gets, another file.
//!   Guards: the terminal's end comes from its other end, never from a path, and is put on a
//!   verified file that no link led to; `/dev/pts` has to be a devpts (`init.rs`).
//! * CVE-2026-88265 (crun): `/dev/null` in the image is a link; opened for standard input after
//!   `pivot_root`, a host file is given to the container and to its user.
//!   Guard: streams are opened by the parent, on the host; only a null device, pipe or terminal
//!   of ours changes hands (`launch.rs`).

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use rustix::io::Errno;
use wharf_container_runtime::{Stage, Stdio};

use crate::Test;
use crate::sandbox::{Sandbox, read_terminal, reap};

use super::{bind, without_mount};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2025_31133_masks_are_the_hosts_null_device", masks),
    ("cve_2025_31133_masked_paths_follow_no_link", linked_mask),
    ("cve_2025_52565_linked_console_is_refused", linked_console),
    ("cve_2025_52565_terminals_come_from_a_devpts", fake_devpts),
    ("cve_2026_88265_linked_null_gets_nothing", linked_null),
];

fn masks(sandbox: &Sandbox) {
    let dev = sandbox.directory("dev");
    symlink("/precious", dev.join("null")).unwrap();
    let script =
        "cat /secret; echo overwritten >/secret; cat /precious; test -c /secret && echo masked";
    let mut container = sandbox.container(&["sh", "-c", script]);
    for (name, content) in [("secret", "a secret\n"), ("precious", "precious\n")] {
        fs::write(container.upper.join(name), content).unwrap();
    }
    without_mount(&mut container, "/dev");
    container.config.spec.mounts.push(bind(&dev, "/dev"));
    container.linux().masked_paths = vec!["/secret".into()];
    let outcome = container.run();
    assert_eq!(outcome.stdout, "precious\nmasked\n", "{outcome:?}");
}

fn linked_mask(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["true"]);
    symlink("/etc", container.upper.join("way")).unwrap();
    container.linux().masked_paths = vec!["/way/passwd".into()];
    let error = container.error();
    assert_eq!(
        (error.stage, error.errno),
        (Stage::Path, Errno::LOOP.raw_os_error()),
        "{error}"
    );
}

fn linked_console(sandbox: &Sandbox) {
    let target = "/etc/passwd";
    for bound in [true, false] {
        let mut container = sandbox.container(&["sh", "-c", "test -c /etc/passwd && echo swapped"]);
        container.process().terminal = true;
        without_mount(&mut container, "/dev");
        if bound {
            let dev = sandbox.directory("dev");
            fs::create_dir(dev.join("pts")).unwrap();
            symlink(target, dev.join("console")).unwrap();
            container.config.spec.mounts.push(bind(&dev, "/dev"));
        } else {
            fs::create_dir(container.upper.join("dev")).unwrap();
            symlink(target, container.upper.join("dev/console")).unwrap();
        }
        let pts = wharf_oci::defaults::mounts();
        let pts = pts
            .into_iter()
            .find(|mount| mount.destination == "/dev/pts");
        container.config.spec.mounts.extend(pts);
        match wharf_container_runtime::run(&container.config, Vec::new(), Stdio::Terminal) {
            Err(error) => assert_eq!(
                (error.stage, error.errno),
                (Stage::Terminal, Errno::LOOP.raw_os_error()),
                "{error}"
            ),
            Ok(mut running) => {
                let text = read_terminal(running.terminal.take().unwrap());
                reap(running.pid);
                running.cgroup.unwrap().remove().unwrap();
                panic!("it started and said {text:?}");
            }
        }
    }
}

fn fake_devpts(sandbox: &Sandbox) {
    let dev = sandbox.directory("dev");
    fs::create_dir(dev.join("pts")).unwrap();
    fs::write(dev.join("pts/ptmx"), "").unwrap();
    symlink("/etc/passwd", dev.join("pts/0")).unwrap();
    let mut container = sandbox.container(&["true"]);
    container.process().terminal = true;
    without_mount(&mut container, "/dev");
    container.config.spec.mounts.push(bind(&dev, "/dev"));
    let error = wharf_container_runtime::run(&container.config, Vec::new(), Stdio::Terminal);
    let error = error.unwrap_err();
    assert_eq!(
        (error.stage, error.errno),
        (Stage::Terminal, Errno::NODEV.raw_os_error()),
        "{error}"
    );
}

fn linked_null(sandbox: &Sandbox) {
    let (dev, volume) = (sandbox.directory("dev"), sandbox.directory("volume"));
    let precious = volume.join("file");
    fs::write(&precious, "precious").unwrap();
    symlink("/volume/file", dev.join("null")).unwrap();
    let mut container = sandbox.container(&["sh", "-c", "cat; cat /dev/stdin"]);
    without_mount(&mut container, "/dev");
    container.config.spec.mounts.push(bind(&dev, "/dev"));
    container.config.spec.mounts.push(bind(&volume, "/volume"));
    container.process().user.uid = 1234;
    let outcome = container.run();
    assert_eq!(outcome.stdout, "", "{outcome:?}");
    assert_eq!(fs::metadata(&precious).unwrap().uid(), 0);
    // And the null device of everybody else.
    assert_eq!(fs::metadata("/dev/null").unwrap().uid(), 0);
}
