//! The daemon killed at random points of a scripted load: nothing acknowledged is lost, nothing leaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use wharf_tests::traces::{difference, settled, traces};
use wharf_tests::waiting::eventually;
use wharf_tests::{Daemon, Host, fixtures, run};

const KILLS: usize = 100;

/// What the engine has acknowledged about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    /// It exists; a container may run or not.
    Exists,
    /// A container that was started and never stops by itself.
    Running,
    /// It is gone.
    Gone,
    /// A command about it was cut off: either is right.
    Unknown,
}

#[derive(Debug, Default)]
struct Ledger {
    containers: BTreeMap<String, Fact>,
    volumes: BTreeMap<String, Fact>,
    networks: BTreeMap<String, Fact>,
}

/// What must be the same before and after.
fn kept(daemon: &Daemon<'_>) -> BTreeSet<String> {
    // The directories made ahead change with each container.
    let files = "data exec ! -name '*.redb' ! -path '*/events*' ! -path '*/ready-*'";
    let mut found = traces(daemon, files);
    let firewall = "nft list ruleset | grep -v 'counter packets'";
    let processes = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | cut -c1-60; echo; done | grep -E 'wharf|sleep|chatter' | grep -v grep | sort | uniq -c";
    for (kind, line) in [("firewall", firewall), ("process", processes)] {
        let text = daemon.host.sh(line).ok().stdout;
        found.extend(text.lines().map(|line| format!("{kind} {line}")));
    }
    found
}

/// xorshift, seeded once per run; the seed is printed so that a failure can be looked at again.
struct Random(AtomicU64);

impl Random {
    fn below(&self, bound: u64) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.store(x, Ordering::Relaxed);
        x % bound
    }
}

/// One client's script, until told to stop. Every answer goes to the ledger as it comes.
fn script(
    client: usize,
    docker: &dyn Fn(&[&str]) -> bool,
    ledger: &Mutex<Ledger>,
    stop: &AtomicBool,
    random: &Random,
    step: &AtomicU64,
) {
    let note = |kind: fn(&mut Ledger) -> &mut BTreeMap<String, Fact>, name: &str, fact: Fact| {
        kind(&mut ledger.lock().unwrap()).insert(name.to_owned(), fact);
    };
    let act = |kind: fn(&mut Ledger) -> &mut BTreeMap<String, Fact>,
               name: &str,
               arguments: &[&str],
               after: Fact| {
        note(kind, name, Fact::Unknown);
        if docker(arguments) {
            note(kind, name, after);
            true
        } else {
            false
        }
    };
    while !stop.load(Ordering::Relaxed) {
        let n = step.fetch_add(1, Ordering::Relaxed);
        let name = format!("c{client}-{n}");
        match random.below(5) {
            0 => {
                act(
                    |l| &mut l.containers,
                    &name,
                    &["run", "-d", "--name", &name, "busybox", "sleep", "100000"],
                    Fact::Running,
                );
                docker(&["exec", &name, "true"]);
                docker(&["logs", &name]);
                act(
                    |l| &mut l.containers,
                    &name,
                    &["rm", "-f", &name],
                    Fact::Gone,
                );
            }
            1 => {
                act(
                    |l| &mut l.containers,
                    &name,
                    &[
                        "run",
                        "-d",
                        "--restart",
                        "always",
                        "--name",
                        &name,
                        "busybox",
                        "sh",
                        "-c",
                        "echo loop",
                    ],
                    Fact::Exists,
                );
                docker(&["stop", "-t", "0", &name]);
                act(
                    |l| &mut l.containers,
                    &name,
                    &["rm", "-f", &name],
                    Fact::Gone,
                );
            }
            2 => {
                let volume = format!("v{client}-{n}");
                act(
                    |l| &mut l.volumes,
                    &volume,
                    &["volume", "create", &volume],
                    Fact::Exists,
                );
                docker(&[
                    "run",
                    "--rm",
                    "-v",
                    &format!("{volume}:/v"),
                    "busybox",
                    "touch",
                    "/v/x",
                ]);
                act(
                    |l| &mut l.volumes,
                    &volume,
                    &["volume", "rm", "-f", &volume],
                    Fact::Gone,
                );
            }
            3 => {
                let network = format!("n{client}-{n}");
                act(
                    |l| &mut l.networks,
                    &network,
                    &["network", "create", &network],
                    Fact::Exists,
                );
                docker(&["run", "--rm", "--network", &network, "busybox", "true"]);
                act(
                    |l| &mut l.networks,
                    &network,
                    &["network", "rm", &network],
                    Fact::Gone,
                );
            }
            _ => {
                let port = format!("{}:80", 20000 + (n % 1000) * 10 + client as u64);
                act(
                    |l| &mut l.containers,
                    &name,
                    &[
                        "run", "-d", "-p", &port, "--name", &name, "busybox", "sleep", "100000",
                    ],
                    Fact::Running,
                );
                // Left running: the next daemons must find it.
            }
        }
    }
}

fn verify(daemon: &Daemon<'_>, ledger: &Mutex<Ledger>) {
    let set = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let all = set(daemon
        .wharf(&["ps", "-a", "--format", "{{.Names}}"])
        .ok()
        .stdout);
    let running = set(daemon.wharf(&["ps", "--format", "{{.Names}}"]).ok().stdout);
    let volumes = set(daemon.wharf(&["volume", "ls", "-q"]).ok().stdout);
    let networks = set(daemon
        .wharf(&["network", "ls", "--format", "{{.Name}}"])
        .ok()
        .stdout);
    let ledger = ledger.lock().unwrap();
    let check = |kind: &str, facts: &BTreeMap<String, Fact>, there: &BTreeSet<String>| {
        for (name, fact) in facts {
            match fact {
                Fact::Exists | Fact::Running => assert!(
                    there.contains(name),
                    "{kind} {name} was acknowledged and is lost"
                ),
                Fact::Gone => assert!(
                    !there.contains(name),
                    "{kind} {name} was removed and is back"
                ),
                Fact::Unknown => {}
            }
        }
    };
    check("container", &ledger.containers, &all);
    check("volume", &ledger.volumes, &volumes);
    check("network", &ledger.networks, &networks);
    for (name, fact) in &ledger.containers {
        assert!(
            *fact != Fact::Running || running.contains(name),
            "container {name} ran and does no more"
        );
    }
}

#[test]
fn a_hundred_kills_lose_nothing_and_leak_nothing() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    daemon.wharf(&["run", "--rm", "busybox", "true"]).ok();
    daemon.kill();
    daemon.restart();
    // As at the end: a daemon that has started a container keeps a shim and a sandbox ready.
    daemon.wharf(&["run", "--rm", "busybox", "true"]).ok();
    let before = settled(&daemon, || kept(&daemon));

    let seed = 0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id());
    eprintln!("seed {seed:#x}");
    let random = Random(AtomicU64::new(seed));
    let ledger = Mutex::new(Ledger::default());
    let step = AtomicU64::new(0);
    for _ in 0..KILLS {
        let stop = AtomicBool::new(false);
        let (alarm, woken) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            for client in 0..2 {
                let daemon = &daemon;
                let (ledger, stop, random, step) = (&ledger, &stop, &random, &step);
                // A command cut off by the kill fails; only its success is an acknowledgement.
                let docker = move |arguments: &[&str]| {
                    !stop.load(Ordering::Relaxed)
                        && run(daemon.wharf_command(arguments), None).code == 0
                };
                scope.spawn(move || script(client, &docker, ledger, stop, random, step));
            }
            // The moment of the kill is random, not an expectation about speed.
            let _ = woken.recv_timeout(Duration::from_millis(random.below(150)));
            daemon.kill();
            stop.store(true, Ordering::Relaxed);
            // While it is back, the commands that were cut off may go on with it.
            daemon.restart();
        });
        drop(alarm);
        verify(&daemon, &ledger);
    }

    // One with `--rm` whose end no daemon saw may be on its way out by itself: removing it twice is refused.
    eventually("no container is left", || {
        let names = daemon.wharf(&["ps", "-aq"]).ok().stdout;
        let removed = names
            .lines()
            .map(|name| daemon.wharf(&["rm", "-f", "-v", name]).stderr);
        let said: String = removed.collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(format!("{names}{said}"))
        }
    });
    daemon.wharf(&["volume", "prune", "-a", "-f"]).ok();
    daemon.wharf(&["network", "prune", "-f"]).ok();
    daemon.kill();
    daemon.restart();
    daemon.wharf(&["run", "--rm", "busybox", "true"]).ok();
    if let Some(difference) = difference(&before, || kept(&daemon)) {
        // What a process left over was about tells more than that it is there.
        let script = "for p in /proc/[0-9]*; do case \"$(tr '\\0' ' ' < $p/cmdline)\" in *wharf-shim*) \
            echo $p; cat $p/wchan; echo; ls -l $p/fd; cat $p/task/*/children; ls -l $p/ns/net;; esac; done";
        panic!("{difference}\n{}", host.sh(script).stdout);
    }
}

#[test]
fn containers_logs_and_exit_codes_outlive_the_daemon() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    daemon
        .wharf(&[
            "run",
            "-d",
            "--name",
            "writer",
            "busybox",
            "sh",
            "-c",
            "mkfifo /gate; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; read x < /gate; exit 5",
        ])
        .ok();
    daemon.kill();
    // It ends while nobody looks; it may not have made its gate yet.
    host.eventually("for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' < $p/cmdline | cut -c1-6)\" = 'sh -c ' ] && [ -p $p/root/gate ] && echo go > $p/root/gate && exit 0; done; exit 1");
    daemon.restart();
    daemon.wharf(&["wait", "writer"]).ok().is("5");
    let log = daemon.wharf(&["logs", "writer"]).ok().stdout;
    assert_eq!(log.lines().count(), 2000);
    assert!(log.ends_with("line 1999\n"));

    // An attached client keeps its stream when the daemon dies.
    let mut attached =
        daemon.wharf_command(&["run", "--rm", "-i", "--name", "attached", "busybox", "cat"]);
    attached
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let mut child = attached.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    use std::io::{BufRead as _, Write as _};
    stdin.write_all(b"before\n").unwrap();
    stdout.read_line(&mut line).unwrap();
    daemon.kill();
    stdin.write_all(b"after\n").unwrap();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "before\nafter\n");
    daemon.restart();
    daemon
        .wharf(&["ps", "--format", "{{.Names}}"])
        .ok()
        .says("attached");
    daemon.wharf(&["rm", "-f", "attached"]).ok();
    drop(child.kill());
    child.wait().unwrap();

    // SIGTERM leaves containers alone, and `unless-stopped` comes back only if it ran.
    daemon
        .wharf(&["run", "-d", "--name", "stays", "busybox", "sleep", "100000"])
        .ok();
    let pid = daemon
        .wharf(&["inspect", "-f", "{{.State.Pid}}", "stays"])
        .ok()
        .text();
    assert_eq!(daemon.terminate(), 0);
    daemon.restart();
    daemon
        .wharf(&[
            "inspect",
            "-f",
            "{{.State.Pid}} {{.State.Running}}",
            "stays",
        ])
        .ok()
        .is(&format!("{pid} true"));
    daemon.wharf(&["rm", "-f", "stays", "writer"]).ok();
}
