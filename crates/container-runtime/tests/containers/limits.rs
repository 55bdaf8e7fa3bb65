//! Cgroups: limits that bite, figures, pausing, removal.

use std::io::Read;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use wharf_oci::runtime::{Cpu, Memory, Pids, Resources};

use crate::Test;
use crate::sandbox::{Prepared, Sandbox, end, finish, reap};

pub(crate) const TESTS: &[Test] = &[
    ("memory_limit_kills_and_is_counted", memory),
    ("pids_limit_stops_forks", pids),
    ("cpu_limits_are_written_and_throttle", cpu),
    ("figures_are_read", figures),
    ("limits_can_be_changed", update),
    ("pause_stops_and_resume_goes_on", pause),
    ("signal_all_reaches_everybody", signal_all),
    ("impossible_limits_are_refused", impossible),
];

fn limited(sandbox: &Sandbox, script: &str, change: impl FnOnce(&mut Resources)) -> Prepared {
    let mut container = sandbox.container(&["sh", "-c", script]);
    change(container.linux().resources.as_mut().unwrap());
    container
}

fn memory(sandbox: &Sandbox) {
    let container = limited(
        sandbox,
        "dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?",
        |resources| {
            let limit = Some(24 << 20);
            resources.memory = Some(Memory {
                limit,
                swap: limit,
                ..Memory::default()
            });
        },
    );
    let (running, output) = container.start();
    let cgroup = running.cgroup.as_ref().unwrap();
    let notifier = cgroup.oom_notifier().unwrap();
    let mut events = [PollFd::new(&notifier, PollFlags::IN | PollFlags::PRI)];
    let deadline = rustix::event::Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    assert_eq!(
        poll(&mut events, Some(&deadline)).unwrap(),
        1,
        "the notifier tells"
    );
    let mut text = String::new();
    let [mut out, _err] = output;
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "137\n");
    assert_eq!(cgroup.oom_kills().unwrap(), 1);
    reap(running.pid);
    cgroup.remove().unwrap();
}

fn pids(sandbox: &Sandbox) {
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo more";
    let container = limited(sandbox, script, |resources| {
        resources.pids = Some(Pids { limit: 4 })
    });
    let outcome = container.run();
    assert!(outcome.stderr.contains("can't fork"), "{outcome:?}");
}

fn cpu(sandbox: &Sandbox) {
    let script = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; nproc";
    let container = limited(sandbox, script, |resources| {
        resources.cpu = Some(Cpu {
            shares: Some(512),
            quota: Some(20_000),
            period: Some(50_000),
            cpus: Some("0".into()),
            ..Cpu::default()
        });
    });
    let (running, [mut out, _err]) = container.start();
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    reap(running.pid);
    let cgroup = running.cgroup.unwrap();
    let stats = cgroup.stats().unwrap();
    assert_eq!(text, "1\n");
    assert!(
        stats.cpu.throttled_periods > 0 && stats.cpu.usage_ns > 0,
        "{:?}",
        stats.cpu
    );
    cgroup.remove().unwrap();
}

fn figures(sandbox: &Sandbox) {
    let container = limited(sandbox, "sleep 1000 & sleep 1000", |resources| {
        resources.memory = Some(Memory {
            limit: Some(64 << 20),
            ..Memory::default()
        });
        resources.pids = Some(Pids { limit: 50 });
    });
    let (running, _output) = container.start();
    let cgroup =
        wharf_container_runtime::Cgroup::at(running.cgroup.as_ref().unwrap().path()).unwrap();
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.memory.limit, stats.pids.limit), (64 << 20, 50));
    assert!(
        stats.memory.usage > 0 && stats.pids.current >= 1,
        "{stats:?}"
    );
    assert!(
        cgroup
            .processes()
            .unwrap()
            .contains(&running.pid.as_raw_nonzero().get())
    );
    let parent = cgroup.path().rsplit_once('/').unwrap().0;
    let parent = wharf_container_runtime::Cgroup::at(parent).unwrap();
    parent.remove_if_unused();
    assert!(parent.stats().is_ok());
    end(running);
    assert!(cgroup.stats().is_err());
    parent.remove_if_unused();
    assert!(parent.stats().is_err());
}

fn update(sandbox: &Sandbox) {
    let container = limited(sandbox, "sleep 1000", |resources| {
        resources.memory = Some(Memory {
            limit: Some(64 << 20),
            swap: Some(64 << 20),
            ..Memory::default()
        });
    });
    let (running, _output) = container.start();
    let cgroup = running.cgroup.as_ref().unwrap();
    for limit in [128 << 20, 32 << 20] {
        let memory = Memory {
            limit: Some(limit),
            swap: Some(limit),
            ..Memory::default()
        };
        cgroup
            .update(&Resources {
                memory: Some(memory),
                ..Resources::default()
            })
            .unwrap();
        assert_eq!(
            cgroup.stats().unwrap().memory.limit,
            u64::try_from(limit).unwrap()
        );
    }
    end(running);
}

fn pause(sandbox: &Sandbox) {
    let (running, mut output) = sandbox
        .container(&["sh", "-c", "while :; do echo x; done"])
        .start();
    let cgroup = running.cgroup.as_ref().unwrap();
    assert_eq!(output[0].read(&mut [0; 2]).unwrap(), 2);
    cgroup.pause().unwrap();
    assert!(cgroup.is_paused().unwrap());
    let before = cgroup.stats().unwrap().cpu.usage_ns;
    assert_eq!(cgroup.stats().unwrap().cpu.usage_ns, before);
    cgroup.resume().unwrap();
    assert!(!cgroup.is_paused().unwrap());
    let mut buffer = vec![0; 1 << 17];
    // More than a pipe holds: it goes on.
    output[0].read_exact(&mut buffer).unwrap();
    end(running);
}

fn signal_all(sandbox: &Sandbox) {
    let mut container = sandbox.container(&[
        "sh",
        "-c",
        "sleep 1000 & sleep 1000 & echo ready; wait; echo waited",
    ]);
    // In the host's PID namespace nothing dies with the first process.
    container
        .linux()
        .namespaces
        .retain(|namespace| namespace.kind != wharf_oci::runtime::NamespaceKind::Pid);
    let (running, mut output) = container.start();
    output[0].read_exact(&mut [0; 6]).unwrap();
    let cgroup = running.cgroup.as_ref().unwrap();
    assert_eq!(cgroup.processes().unwrap().len(), 3);
    cgroup.pause().unwrap();
    cgroup.signal_all(Signal::KILL).unwrap();
    let outcome = finish(running, output);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (137, ""));
}

fn impossible(sandbox: &Sandbox) {
    let container = limited(sandbox, "true", |resources| {
        resources.cpu = Some(Cpu {
            cpus: Some("4000".into()),
            ..Cpu::default()
        });
    });
    let error = container.error();
    assert!(error.to_string().contains("cpuset.cpus"), "{error}");
    let container = limited(sandbox, "true", |resources| {
        resources.memory = Some(Memory {
            swappiness: Some(101),
            ..Memory::default()
        });
    });
    assert!(container.error().to_string().contains("swappiness"));
}
