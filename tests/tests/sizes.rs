//! What an engine weighs: memory of the idle daemon, of a shim, and of both per container; and that
//! hundreds of containers and a restart under them change nothing but the count.
//!
//! Sizes are the same on every machine, so limits on them can be tested; durations are measured by
//! `cargo xtask bench`. Code and constants are shared by all processes of one program and differ
//! between builds, so what counts here is memory of a process's own.

use wharf_tests::{Daemon, Host, eventually, fixtures, skip};

/// Kilobytes of `field` in a process's `smaps_rollup`, summed over the processes.
fn total_kb(host: &Host, pids: &[&str], field: &str) -> u64 {
    let files: Vec<String> = pids
        .iter()
        .map(|pid| format!("/proc/{pid}/smaps_rollup"))
        .collect();
    let text = host.sh(&format!("cat {}", files.join(" "))).ok().text();
    text.lines()
        .filter_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB"))
        .filter_map(|number| number.trim().parse::<u64>().ok())
        .sum()
}

/// The shims of a host's containers.
fn shims(host: &Host) -> String {
    // By their command line: their program has no file name.
    host.sh("for p in /proc/[0-9]*; do read -r c < $p/comm && case $c in memfd:wharf-shi) basename $p;; esac; done 2>/dev/null; :")
        .ok()
        .text()
}

/// The same, once each has closed its ring, if this kernel can: the process outside belongs to it.
fn all_in_their_rings(host: &Host, containers: u64) -> String {
    let processes = if wharf_sys::landlock::version().is_ok() {
        2 * containers
    } else {
        containers
    };
    eventually("all shims are inside", || {
        let list = shims(host);
        if list.lines().count() as u64 >= processes {
            Ok(list)
        } else {
            Err(list)
        }
    })
}

#[test]
fn an_idle_engine_and_a_running_container_are_small() {
    const CONTAINERS: u64 = 20;
    if std::env::var_os("WHARF_SHIM_PROFILE").is_some() {
        return skip(
            "an_idle_engine_and_a_running_container_are_small",
            "WHARF_SHIM_PROFILE: not the shim that is shipped",
        );
    }
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    daemon.wharf(&["run", "--rm", "busybox", "true"]).ok();
    let pid = host
        .sh(&format!("cat {}", host.join("engine/wharf.pid").display()))
        .ok()
        .text();
    let idle = total_kb(&host, &[pid.trim()], "Pss_Anon:");
    assert!(
        idle < 4_000,
        "an idle daemon has {idle} kB of memory of its own"
    );

    daemon
        .wharf(&["run", "-d", "busybox", "sleep", "1000"])
        .ok();
    let before = total_kb(&host, &[pid.trim()], "Pss_Anon:");
    for _ in 0..CONTAINERS {
        daemon
            .wharf(&["run", "-d", "busybox", "sleep", "1000"])
            .ok();
    }
    let growth = total_kb(&host, &[pid.trim()], "Pss_Anon:").saturating_sub(before) / CONTAINERS;
    let list = all_in_their_rings(&host, CONTAINERS + 1);
    let list: Vec<&str> = list.lines().collect();
    // One that waits for its container is counted among them.
    let private = total_kb(&host, &list, "Pss_Anon:") / (CONTAINERS + 1);
    eprintln!("{private} kB, and {growth} kB in the daemon");
    assert!(
        private < 210,
        "a shim has {private} kB of memory of its own"
    );
    assert!(
        private + growth < 240,
        "a container costs {private} kB in its shim and {growth} kB in the daemon"
    );
}

#[test]
fn hundreds_of_containers_survive_the_daemon() {
    const CONTAINERS: usize = 200;
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    let names: Vec<String> = (0..CONTAINERS).map(|n| format!("many{n}")).collect();
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    std::thread::scope(|scope| {
        for chunk in words.chunks(CONTAINERS / 4) {
            let daemon = &daemon;
            scope.spawn(move || {
                for name in chunk {
                    let run = ["run", "-d", "--name", name, "busybox", "sleep", "1000"];
                    daemon.wharf(&run).ok();
                }
            });
        }
    });
    let count =
        |daemon: &Daemon, arguments: &[&str]| daemon.wharf(arguments).ok().text().lines().count();
    assert_eq!(count(&daemon, &["ps", "-q"]), CONTAINERS);
    assert_eq!(
        count(&daemon, &["stats", "--no-stream", "--format", "{{.Name}}"]),
        CONTAINERS
    );
    daemon.kill();
    daemon.restart();
    assert_eq!(count(&daemon, &["ps", "-q"]), CONTAINERS);
    for name in ["many0", "many199"] {
        daemon.wharf(&["exec", name, "echo", name]).ok().is(name);
    }
    let all = |first: &[&'static str]| [first, &words].concat();
    daemon.wharf(&all(&["stop", "-t", "0"])).ok();
    assert_eq!(count(&daemon, &["ps", "-q"]), 0);
    daemon.wharf(&all(&["rm"])).ok();
    assert_eq!(count(&daemon, &["ps", "-aq"]), 0);
}
