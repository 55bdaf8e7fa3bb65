//! What is different on cgroup v2. Few machines have its controllers while v1 is in use: limits
//! are not tried here.

use std::io::Read;

use rustix::process::Signal;
use wharf_oci::runtime::NamespaceKind;

use crate::Test;
use crate::sandbox::{Sandbox, end, finish};

pub(crate) const TESTS: &[Test] = &[
    ("container_is_born_in_its_cgroup", born_in),
    ("device_filter_is_attached", device_filter),
    ("freezer_and_kill_reach_everybody", freeze_and_kill),
];

fn born_in(sandbox: &Sandbox) {
    let script = "cat /proc/self/cgroup; ls /sys/fs/cgroup/cgroup.procs; grep -c . /sys/fs/cgroup/cgroup.procs";
    let mut container = sandbox.container(&["sh", "-c", script]);
    container
        .linux()
        .namespaces
        .push(wharf_oci::runtime::Namespace {
            kind: NamespaceKind::Cgroup,
            path: None,
        });
    let outcome = container.run();
    assert!(
        outcome
            .stdout
            .contains("0::/\n/sys/fs/cgroup/cgroup.procs\n"),
        "{outcome:?}"
    );
}

fn device_filter(sandbox: &Sandbox) {
    let script = "mknod /kmsg c 1 11 && head -c 1 /kmsg; head -c 2 /dev/zero | wc -c; mknod /mem c 1 1 && echo made";
    let outcome = sandbox.shell(script);
    assert_eq!(outcome.stdout, "2\nmade\n", "{outcome:?}");
    assert!(
        outcome.stderr.contains("/kmsg: Operation not permitted"),
        "{outcome:?}"
    );
}

fn freeze_and_kill(sandbox: &Sandbox) {
    let mut container =
        sandbox.container(&["sh", "-c", "sleep 1000 & sleep 1000 & echo ready; wait"]);
    container
        .linux()
        .namespaces
        .retain(|namespace| namespace.kind != NamespaceKind::Pid);
    let (running, mut output) = container.start();
    output[0].read_exact(&mut [0; 6]).unwrap();
    let cgroup = running.cgroup.as_ref().unwrap();
    assert_eq!(cgroup.processes().unwrap().len(), 3);
    cgroup.pause().unwrap();
    assert!(cgroup.is_paused().unwrap());
    cgroup.signal_all(Signal::KILL).unwrap();
    assert_eq!(finish(running, output).code, 137);
    let (running, _output) = sandbox.container(&["sleep", "1000"]).start();
    let cgroup = running.cgroup.as_ref().unwrap();
    cgroup.pause().unwrap();
    cgroup.resume().unwrap();
    assert!(cgroup.stats().unwrap().cpu.usage_ns > 0);
    end(running);
}
