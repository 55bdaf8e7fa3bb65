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
    ("device_rules_can_be_changed", devices),
    ("every_resource_reaches_its_file", files),
    ("block_devices_are_throttled", throttle),
    ("controllers_of_the_unified_side_are_used", unified_side),
    ("a_cgroup_in_use_is_refused", in_use),
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
        "read go; dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?",
        |resources| {
            let limit = Some(24 << 20);
            resources.memory = Some(Memory {
                limit,
                swap: limit,
                ..Memory::default()
            });
        },
    );
    let (stdin, go) = rustix::pipe::pipe().unwrap();
    let (running, output) = container.start_with_input(stdin);
    let cgroup = running.cgroup.as_ref().unwrap();
    let notifier = cgroup.oom_notifier().unwrap();
    // Only now: on v1 what comes before somebody waits for it is not told.
    rustix::io::write(&go, b"\n").unwrap();
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
        resources.pids = Some(Pids { limit: Some(4) })
    });
    let outcome = container.run();
    assert!(outcome.stderr.contains("can't fork"), "{outcome:?}");
}

fn cpu(sandbox: &Sandbox) {
    let script = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; nproc";
    let container = limited(sandbox, script, |resources| {
        resources.cpu = Some(Cpu {
            shares: Some(512),
            quota: Some(5_000),
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
        resources.pids = Some(Pids { limit: Some(50) });
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

fn files(sandbox: &Sandbox) {
    let (running, _output) = sandbox.container(&["sleep", "1000"]).start();
    let cgroup = running.cgroup.as_ref().unwrap();
    let read = |controller: &str, file: &str| {
        let mut path = std::path::PathBuf::from("/sys/fs/cgroup");
        if !cgroup.is_unified() {
            path.push(controller);
        }
        let path = path.join(cgroup.path().trim_start_matches('/')).join(file);
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .trim()
            .to_owned()
    };
    let cpu = |cpu: Cpu| Resources {
        cpu: Some(cpu),
        ..Resources::default()
    };
    // A period below the default quota, a burst above it: only the right order is taken.
    cgroup
        .update(&cpu(Cpu {
            quota: Some(40_000),
            period: Some(50_000),
            burst: Some(30_000),
            ..Cpu::default()
        }))
        .unwrap();
    cgroup
        .update(&cpu(Cpu {
            quota: Some(5000),
            burst: Some(4000),
            ..Cpu::default()
        }))
        .unwrap();
    let memory = |limit, swap| Resources {
        memory: Some(Memory {
            limit: Some(limit),
            swap,
            reservation: Some(16 << 20),
            ..Memory::default()
        }),
        pids: Some(Pids { limit: Some(33) }),
        ..Resources::default()
    };
    cgroup.update(&memory(64 << 20, Some(96 << 20))).unwrap();
    if cgroup.is_unified() {
        assert_eq!(read("", "cpu.max"), "5000 50000");
        assert_eq!(read("", "cpu.max.burst"), "4000");
        assert_eq!(read("", "memory.swap.max"), (32 << 20).to_string());
        cgroup.update(&memory(80 << 20, None)).unwrap();
        assert_eq!(read("", "memory.swap.max"), (16 << 20).to_string());
        cgroup.update(&memory(-1, None)).unwrap();
        assert_eq!(
            (read("", "memory.max"), read("", "memory.swap.max")),
            ("max".to_owned(), "max".to_owned())
        );
        assert_eq!(read("", "pids.max"), "33");
        let high = Resources {
            unified: [("memory.high".to_owned(), "8388608".to_owned())].into(),
            ..Resources::default()
        };
        cgroup.update(&high).unwrap();
        assert_eq!(read("", "memory.high"), "8388608");
    } else {
        assert_eq!(read("cpu", "cpu.cfs_quota_us"), "5000");
        assert_eq!(read("cpu", "cpu.cfs_period_us"), "50000");
        assert_eq!(read("cpu", "cpu.cfs_burst_us"), "4000");
        assert_eq!(
            read("memory", "memory.memsw.limit_in_bytes"),
            (96 << 20).to_string()
        );
        assert_eq!(
            read("memory", "memory.soft_limit_in_bytes"),
            (16 << 20).to_string()
        );
        assert_eq!(read("pids", "pids.max"), "33");
        let more = Resources {
            memory: Some(Memory {
                swappiness: Some(7),
                kernel_tcp: Some(8 << 20),
                disable_oom_killer: Some(true),
                ..Memory::default()
            }),
            ..cpu(Cpu {
                idle: Some(1),
                cpus: Some("0".into()),
                ..Cpu::default()
            })
        };
        cgroup.update(&more).unwrap();
        assert_eq!(read("memory", "memory.swappiness"), "7");
        assert_eq!(
            read("memory", "memory.kmem.tcp.limit_in_bytes"),
            (8 << 20).to_string()
        );
        assert!(read("memory", "memory.oom_control").contains("oom_kill_disable 1"));
        assert_eq!(read("cpu", "cpu.idle"), "1");
        assert_eq!(read("cpuset", "cpuset.cpus"), "0");
        cgroup.update(&memory(-1, None)).unwrap();
        assert_eq!(cgroup.stats().unwrap().memory.limit, u64::MAX);
        let error = cgroup.update(&memory(4096, Some(4096))).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("memory.limit_in_bytes = \"4096\""),
            "{error}"
        );
    }
    end(running);
}

fn devices(sandbox: &Sandbox) {
    let script =
        "while read word; do head -c1 /dev/zero >/dev/null 2>&1 && echo yes || echo no; done";
    let (stdin, mut input) = rustix::pipe::pipe()
        .map(|(r, w)| (r, std::fs::File::from(w)))
        .unwrap();
    let container = sandbox.container(&["sh", "-c", script]);
    let (running, mut output) = container.start_with_input(stdin);
    let cgroup = running.cgroup.as_ref().unwrap();
    let mut ask = || {
        std::io::Write::write_all(&mut input, b"x\n").unwrap();
        let mut answer = String::new();
        while !answer.ends_with('\n') {
            let mut byte = [0];
            output[0].read_exact(&mut byte).unwrap();
            answer.push(char::from(byte[0]));
        }
        answer
    };
    assert_eq!(ask(), "yes\n");
    let rule = |allow, numbers: Option<(i64, i64)>| wharf_oci::runtime::DeviceRule {
        allow,
        kind: numbers.map(|_| "b".to_owned()),
        major: numbers.map(|(major, _)| major),
        minor: numbers.map(|(_, minor)| minor),
        access: Some("rwm".to_owned()),
    };
    let devices = vec![rule(false, None), rule(true, Some((7, 200)))];
    cgroup
        .update(&Resources {
            devices,
            ..Resources::default()
        })
        .unwrap();
    // The default devices are always allowed.
    assert_eq!(ask(), "yes\n");
    if !cgroup.is_unified() {
        let list = format!("/sys/fs/cgroup/devices{}/devices.list", cgroup.path());
        let list = std::fs::read_to_string(list).unwrap();
        assert!(
            list.contains("b 7:200 rwm") && !list.contains("a *:*"),
            "{list}"
        );
        assert!(list.contains("c 1:5 rwm"), "{list}");
    }
    end(running);
}

fn throttle(sandbox: &Sandbox) {
    let Some((major, minor)) = sandbox.block_device() else {
        return wharf_tests::skip(
            "block_devices_are_throttled",
            "the scratch directory is on no block device of its own",
        );
    };
    // Direct writes: what goes through the page cache is not the writer's on v1.
    let script = "dd if=/dev/zero of=/file bs=128k count=2 oflag=direct 2>/dev/null; rm /file";
    let container = limited(sandbox, script, |resources| {
        resources.block_io = Some(wharf_oci::runtime::BlockIo {
            throttle_write_bps_device: vec![wharf_oci::runtime::ThrottleDevice {
                major,
                minor,
                rate: 512 << 10,
            }],
            ..Default::default()
        });
    });
    let (running, [mut out, _err]) = container.start();
    out.read_to_string(&mut String::new()).unwrap();
    reap(running.pid);
    let cgroup = running.cgroup.unwrap();
    let written: u64 = cgroup
        .stats()
        .unwrap()
        .block_io
        .iter()
        .filter(|stat| stat.operation.eq_ignore_ascii_case("write"))
        .map(|stat| stat.bytes)
        .sum();
    cgroup.remove().unwrap();
    assert!(written >= 256 << 10, "{written} bytes were accounted");
}

fn in_use(sandbox: &Sandbox) {
    let container = sandbox.container(&["sleep", "1000"]);
    let again = sandbox.container(&["true"]);
    let path = container
        .config
        .spec
        .linux
        .as_ref()
        .unwrap()
        .cgroups_path
        .clone();
    let (running, _output) = container.start();
    let mut again = again;
    again.linux().cgroups_path = path;
    let error = again.try_run().unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    // The one in use is left alone.
    assert_eq!(
        running.cgroup.as_ref().unwrap().processes().unwrap().len(),
        1
    );
    end(running);
}

fn unified_side(sandbox: &Sandbox) {
    let side = std::path::Path::new("/sys/fs/cgroup/unified");
    let has = std::fs::read_to_string(side.join("cgroup.controllers")).unwrap_or_default();
    if !has.split_whitespace().any(|name| name == "hugetlb") {
        return wharf_tests::skip(
            "controllers_of_the_unified_side_are_used",
            "no unified side with huge pages beside split hierarchies",
        );
    }
    let container = limited(sandbox, "sleep 1000", |resources| {
        resources.hugepage_limits = vec![wharf_oci::runtime::HugepageLimit {
            page_size: "2MB".into(),
            limit: 4 << 20,
        }];
    });
    let (running, _output) = container.start();
    let cgroup = running.cgroup.as_ref().unwrap();
    let directory = side.join(cgroup.path().trim_start_matches('/'));
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap();
    assert_eq!(read("hugetlb.2MB.max").trim(), (4 << 20).to_string());
    assert_eq!(
        read("cgroup.procs").trim(),
        running.pid.as_raw_nonzero().to_string()
    );
    end(running);
    assert!(!directory.exists());
    // Asked for only later: whoever runs already is limited as well.
    let (running, _output) = sandbox.container(&["sleep", "1000"]).start();
    let cgroup = running.cgroup.as_ref().unwrap();
    let directory = side.join(cgroup.path().trim_start_matches('/'));
    assert!(!directory.exists());
    cgroup
        .update(&Resources {
            hugepage_limits: vec![wharf_oci::runtime::HugepageLimit {
                page_size: "2MB".into(),
                limit: 2 << 20,
            }],
            ..Resources::default()
        })
        .unwrap();
    let processes = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap();
    assert_eq!(processes.lines().count(), 1);
    end(running);
    assert!(!directory.exists());
}
