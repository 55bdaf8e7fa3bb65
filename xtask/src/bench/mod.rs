//! `cargo xtask bench`: Wharf beside Debian's Docker and Podman, and the kernel's floor, in one run.
//!
//! All engines run in one sandboxed host with data directories and sockets of their own. Each round
//! measures every engine once, in turn, so that a noisy minute hits all of them.

mod engine;
mod floor;
mod measure;
mod report;

use std::process::Command;

use engine::Engine;
use measure::Samples;
use report::Report;
use wharf_tests::{Host, fixtures};

/// Rounds per operation unless `--runs` says otherwise.
const RUNS_DEFAULT: usize = 20;
/// Files in the image for load and pull.
const FILES: usize = 24_000;
const LOG_LINES: usize = 1_000_000;

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if arguments.first().map(String::as_str) == Some("inside") {
        return inside(&arguments[1..]);
    }
    crate::demo::use_release_binary()?;
    let packages = [
        "docker.io",
        "podman",
        "crun",
        "conmon",
        "netavark",
        "aardvark-dns",
        "iptables",
        "docker-registry",
        "skopeo",
        "busybox-static",
    ];
    let installed = Command::new(crate::workspace().join("scripts/packages"))
        .args(packages)
        .status();
    if !installed.is_ok_and(|status| status.success()) {
        return Err("the peers' packages do not install".to_owned());
    }
    let archives = [fixtures::busybox(), fixtures::many_files(FILES)];
    let host = Host::new();
    // From here on everything runs inside the host: entering it per command would cost a millisecond each.
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let status = host
        .command(this)
        .args(["bench", "inside"])
        .arg(host.path())
        .args(host.cgroup_parent().strip_prefix('/'))
        .args(archives)
        .args(arguments)
        .env("WHARF_BINARY", wharf_tests::wharf_binary())
        .status()
        .map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err("the benchmark failed".to_owned())
    }
}

/// The part that runs inside the host.
fn inside(arguments: &[String]) -> Result<(), String> {
    let [folder, cgroup_parent, busybox, files, options @ ..] = arguments else {
        return Err("`bench inside` is for the benchmark itself".to_owned());
    };
    let runs = match options {
        [flag, number, ..] if flag == "--runs" => number
            .parse()
            .map_err(|_| "--runs wants a number".to_owned())?,
        _ => RUNS_DEFAULT,
    };
    let folder = std::path::Path::new(folder);
    let engines = Engine::start_all(folder, cgroup_parent)?;
    let mut report = Report::new(&engines, runs);

    for engine in &engines {
        engine.succeed(&["load", "-q", "-i", busybox])?;
        // Warm: the first container of an engine pays for caches that no user waits for twice.
        for _ in 0..3 {
            engine.succeed(&["run", "--rm", "busybox", "true"])?;
        }
    }
    latencies(&engines, runs, &mut report)?;
    floor::measure(folder, runs * 5, &mut report)?;
    memory(&engines, &mut report)?;
    throughput(&engines, &mut report)?;
    images(&engines, folder, files, &mut report)?;
    logs(&engines, &mut report)?;
    report.write(&crate::workspace().join("docs").join("benchmark.md"))
}

fn latencies(engines: &[Engine], runs: usize, report: &mut Report) -> Result<(), String> {
    let rows: [(&str, &[&str]); 3] = [
        ("run --rm true, bridge", &["run", "--rm", "busybox", "true"]),
        (
            "run --rm true, none",
            &["run", "--rm", "--network", "none", "busybox", "true"],
        ),
        (
            "run --rm true, host",
            &["run", "--rm", "--network", "host", "busybox", "true"],
        ),
    ];
    for (name, command) in rows {
        let mut samples = Samples::new(engines.len());
        for _ in 0..runs {
            for (n, engine) in engines.iter().enumerate() {
                samples.add(n, engine.time(command)?);
            }
        }
        report.latency(name, samples);
    }
    let names = [
        "run -d sleep, bridge",
        "exec true",
        "ps",
        "stop -t 0",
        "rm -f (running)",
        "create",
        "start",
    ];
    let mut samples: Vec<Samples> = names.iter().map(|_| Samples::new(engines.len())).collect();
    for _ in 0..runs {
        for (n, engine) in engines.iter().enumerate() {
            let steps: [&[&str]; 7] = [
                &["run", "-d", "--name", "bench-a", "busybox", "sleep", "1000"],
                &["exec", "bench-a", "true"],
                &["ps"],
                &["stop", "-t", "0", "bench-a"],
                engine.force_remove("bench-b"),
                &["create", "--name", "bench-c", "busybox", "sleep", "1000"],
                &["start", "bench-c"],
            ];
            engine.succeed(&["run", "-d", "--name", "bench-b", "busybox", "sleep", "1000"])?;
            for (step, sample) in steps.iter().zip(&mut samples) {
                sample.add(n, engine.time(step)?);
            }
            engine.succeed(engine.force_remove("bench-a"))?;
            engine.succeed(engine.force_remove("bench-c"))?;
        }
    }
    for (name, sample) in names.iter().zip(samples) {
        report.latency(name, sample);
    }
    Ok(())
}

/// Idle memory, and what each of 50 containers adds, as proportional set size.
fn memory(engines: &[Engine], report: &mut Report) -> Result<(), String> {
    const CONTAINERS: usize = 50;
    for (n, engine) in engines.iter().enumerate() {
        // What an engine holds when nobody has asked it anything for a while.
        std::thread::sleep(std::time::Duration::from_secs(8));
        let idle = engine.memory_kb();
        engine.succeed(&["run", "-d", "--name", "mem-0", "busybox", "sleep", "1000"])?;
        let one = engine.memory_kb();
        for k in 1..=CONTAINERS {
            engine.succeed(&[
                "run",
                "-d",
                "--name",
                &format!("mem-{k}"),
                "busybox",
                "sleep",
                "1000",
            ])?;
        }
        let many = engine.memory_kb();
        report.value("idle engine, MB (PSS)", n, idle as f64 / 1000.0);
        report.value(
            "memory per running container, MB (PSS)",
            n,
            (many.saturating_sub(one)) as f64 / 1000.0 / CONTAINERS as f64,
        );
        for k in 0..=CONTAINERS {
            engine.succeed(engine.force_remove(&format!("mem-{k}")))?;
        }
    }
    Ok(())
}

/// 100 containers started by 8 clients at a time.
fn throughput(engines: &[Engine], report: &mut Report) -> Result<(), String> {
    const CONTAINERS: usize = 100;
    const CLIENTS: usize = 8;
    for (n, engine) in engines.iter().enumerate() {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let failed = std::sync::Mutex::new(None);
        let elapsed = measure::seconds(|| {
            std::thread::scope(|scope| {
                for _ in 0..CLIENTS {
                    scope.spawn(|| {
                        loop {
                            let k = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            if k >= CONTAINERS {
                                return;
                            }
                            if let Err(error) = engine.succeed(&[
                                "run",
                                "-d",
                                "--name",
                                &format!("many-{k}"),
                                "busybox",
                                "sleep",
                                "1000",
                            ]) {
                                *failed.lock().expect("no thread panics holding it") = Some(error);
                                return;
                            }
                        }
                    });
                }
            });
        });
        if let Some(error) = failed.into_inner().expect("no thread panics holding it") {
            return Err(error);
        }
        report.value("100 run -d with 8 clients, s", n, elapsed);
        let removal = measure::seconds(|| {
            for k in 0..CONTAINERS {
                drop(engine.succeed(engine.force_remove(&format!("many-{k}"))));
            }
        });
        report.value("rm -f of those, one command each, s", n, removal);
    }
    Ok(())
}

/// Load from an archive and pull from a registry on loopback.
fn images(
    engines: &[Engine],
    folder: &std::path::Path,
    files: &str,
    report: &mut Report,
) -> Result<(), String> {
    const ROUNDS: usize = 2;
    let registry = engine::Registry::start(folder, files)?;
    let (mut load, mut pull) = (Samples::new(engines.len()), Samples::new(engines.len()));
    for _ in 0..ROUNDS {
        for (n, engine) in engines.iter().enumerate() {
            load.add(n, engine.time(&["load", "-q", "-i", files])?);
            engine.succeed(&["rmi", "-f", &format!("files:{FILES}")])?;
            measure::settle();
            pull.add(n, engine.time(&engine.pull(&registry.image))?);
            engine.succeed(&["rmi", "-f", &registry.image])?;
            measure::settle();
        }
    }
    report.latency(&format!("load, {FILES} files"), load);
    report.latency(&format!("pull, {FILES} files"), pull);
    Ok(())
}

/// A million lines of 100 bytes through the engine's default log, then read back.
fn logs(engines: &[Engine], report: &mut Report) -> Result<(), String> {
    let script = format!("yes {} | head -n {LOG_LINES}", "x".repeat(99));
    for (n, engine) in engines.iter().enumerate() {
        engine.succeed(&["create", "--name", "chatty", "busybox", "sh", "-c", &script])?;
        let written = measure::seconds(|| {
            drop(engine.succeed(&["start", "chatty"]));
            drop(engine.succeed(&["wait", "chatty"]));
        });
        report.value("1,000,000 log lines written, s", n, written);
        let mut bytes = 0;
        let read = measure::seconds(|| bytes = engine.output_bytes(&["logs", "chatty"]));
        if bytes != LOG_LINES as u64 * 100 {
            return Err(format!(
                "{}: {bytes} bytes of log came back instead of {}",
                engine.name,
                LOG_LINES * 100
            ));
        }
        report.value("1,000,000 log lines read, s", n, read);
        engine.succeed(engine.force_remove("chatty"))?;
    }
    Ok(())
}
