//! What one container costs, start to end, through the library alone: the figure to hold against
//! the kernel's own floor.
//!
//! `start_cost [COUNT] [net]` prints the median and the 95th percentile in microseconds, to the
//! program's start and to its end; with `net` in a new network namespace.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring tool")]

use std::fs;
use std::time::Instant;

use rustix::process::{WaitOptions, waitpid};
use wharf_container_runtime::{ContainerConfig, RootFilesystem, Stdio, run};
use wharf_oci::runtime::NamespaceKind;
use wharf_seccomp::{Machine, Profile};

fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .map_or(200, |count| count.parse().unwrap());
    let with_network = std::env::args().any(|argument| argument == "net");
    let with_cgroup = !std::env::args().any(|argument| argument == "nocgroup");
    let top = tempfile::tempdir_in("/var/tmp").unwrap();
    let lower = top.path().join("lower");
    // An image has its mount points: the writable layer stays empty.
    for directory in ["bin", "proc", "sys", "dev"] {
        fs::create_dir_all(lower.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", lower.join("bin/true")).unwrap();
    let filter = Profile::docker_default()
        .resolve(&wharf_oci::defaults::CAPABILITIES, Machine::native("6.1"))
        .unwrap();
    let filter = wharf_seccomp::compile(&filter).unwrap();
    let (mut started, mut ended, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..count {
        let own = top.path().join(number.to_string());
        fs::create_dir(&own).unwrap();
        let mut spec = wharf_oci::defaults::spec();
        spec.hostname = Some("box".to_owned());
        spec.process.as_mut().unwrap().args = vec!["/bin/true".to_owned()];
        spec.process
            .as_mut()
            .unwrap()
            .env
            .push("HOME=/root".to_owned());
        let linux = spec.linux.as_mut().unwrap();
        if with_cgroup {
            linux.cgroups_path = Some(format!("/wharf-start-cost/{number}"));
        }
        if !with_network {
            linux
                .namespaces
                .retain(|namespace| namespace.kind != NamespaceKind::Network);
        }
        let before = Instant::now();
        let (upper, work) = (own.join("upper"), own.join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let config = ContainerConfig {
            spec,
            rootfs: RootFilesystem::Overlay {
                lower: vec![lower.clone()],
                upper,
                work,
                options: Vec::new(),
            },
            seccomp: Some(filter.clone()),
            ..ContainerConfig::default()
        };
        let null = || fs::File::open("/dev/null").unwrap().into();
        let running = run(
            &config,
            Vec::new(),
            Stdio::Streams([null(), null(), null()]),
        )
        .unwrap();
        started.push(before.elapsed().as_micros());
        waitpid(Some(running.pid), WaitOptions::empty()).unwrap();
        ended.push(before.elapsed().as_micros());
        let before = Instant::now();
        if let Some(cgroup) = running.cgroup {
            cgroup.remove().unwrap();
        }
        removed.push(before.elapsed().as_micros());
    }
    if with_cgroup {
        wharf_container_runtime::Cgroup::at("/wharf-start-cost")
            .unwrap()
            .remove()
            .unwrap();
    }
    for (name, mut figures) in [
        ("to start", started),
        ("to end", ended),
        ("cgroup removal", removed),
    ] {
        figures.sort_unstable();
        println!(
            "{name}: p50 {} us, p95 {} us",
            figures[count / 2],
            figures[count * 95 / 100]
        );
    }
}
