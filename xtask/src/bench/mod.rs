//! `cargo xtask bench`: Wharf beside Debian's Docker and Podman, and the kernel's floor, in one run.
//!
//! All engines run in one sandboxed host with data directories and sockets of their own. Each round
//! measures every engine once, in turn, so that a noisy minute hits all of them.

mod engine;
mod floor;
mod measure;
mod raw;
mod report;
mod scale;
mod steps;

use std::process::Command;

use engine::Engine;
use floor::{Floor, Network};
use measure::Samples;
use report::Table;
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
    use_release_binary()?;
    let packages = [
        "docker.io",
        "podman",
        "crun",
        "runc",
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
    let host = Host::without_limit();
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
    let options = Options::parse(options)?;
    let runs = options.runs;
    let folder = std::path::Path::new(folder);
    let mut raw = Table::new("OCI runtimes, without an engine", raw::columns());
    if options.wants("raw") {
        raw::measure(folder, cgroup_parent, runs, &mut raw)?;
    }
    let mut many = Table::new("Many containers", vec!["Wharf".to_owned()]);
    if options.wants("scale") {
        scale::measure(
            folder,
            cgroup_parent,
            busybox,
            options.containers,
            &mut many,
        )?;
    }
    let engines = Engine::start_all(folder, cgroup_parent)?;
    let mut table = Table::of_engines(&engines);
    let mut steps = Table::new("One start, step by step", vec!["Wharf".to_owned()]);
    for engine in &engines {
        engine.succeed(&["load", "-q", "-i", busybox])?;
        // Warm: the first container of an engine pays for caches that no user waits for twice.
        for _ in 0..3 {
            engine.succeed(&["run", "--rm", "busybox", "true"])?;
        }
    }
    if options.wants("latency") {
        latencies(&engines, folder, runs, &mut table)?;
        steps::measure(&engines[0], folder, runs, &mut steps)?;
    }
    if options.wants("memory") {
        memory(&engines, &mut table)?;
    }
    if options.wants("throughput") {
        throughput(&engines, &mut table)?;
    }
    if options.wants("images") {
        images(&engines, folder, files, &mut table)?;
    }
    if options.wants("logs") {
        logs(&engines, &mut table)?;
    }
    let path = if options.only.is_empty() {
        crate::workspace().join("docs").join("benchmark.md")
    } else {
        // A part is no replacement for the whole.
        crate::workspace().join("target").join("benchmark.md")
    };
    report::write(&path, runs, &[table, steps, raw, many])
}

/// `[--runs N] [--only SECTION,…] [--containers N]`.
struct Options {
    runs: usize,
    /// Sections to measure; all if empty.
    only: Vec<String>,
    /// How many containers run at once in the scale section.
    containers: usize,
}

/// What `--only` knows.
const SECTIONS: [&str; 7] = [
    "raw",
    "scale",
    "latency",
    "memory",
    "throughput",
    "images",
    "logs",
];

impl Options {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = Self {
            runs: RUNS_DEFAULT,
            only: Vec::new(),
            containers: scale::CONTAINERS,
        };
        let mut words = words.iter();
        while let Some(flag) = words.next() {
            let value = words.next().ok_or(format!("{flag} wants a value"))?;
            let number = || value.parse().map_err(|_| format!("{flag} wants a number"));
            match flag.as_str() {
                "--runs" => options.runs = number()?,
                "--containers" => options.containers = number()?,
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                other => return Err(format!("unknown flag {other}")),
            }
        }
        let unknown = options
            .only
            .iter()
            .find(|name| !SECTIONS.contains(&name.as_str()));
        match unknown {
            Some(name) => Err(format!(
                "no section {name}; there are {}",
                SECTIONS.join(", ")
            )),
            None => Ok(options),
        }
    }

    fn wants(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == section)
    }
}

fn latencies(
    engines: &[Engine],
    folder: &std::path::Path,
    runs: usize,
    table: &mut Table,
) -> Result<(), String> {
    let mut floor = Floor::new(folder)?;
    for (name, network) in [
        ("bridge", Network::Bridge),
        ("none", Network::Empty),
        ("host", Network::Host),
    ] {
        let command = ["run", "--rm", "--network", name, "busybox", "true"];
        let mut samples = Samples::new(engines.len());
        let mut least = Samples::new(1);
        for _ in 0..runs {
            for (n, engine) in engines.iter().enumerate() {
                measure::settle();
                samples.add(n, engine.time(&command)?);
            }
            measure::settle();
            least.add(0, floor.time(network)?);
        }
        table.latency(&format!("run --rm true, {name}"), samples);
        let (p50, p95) = (least.quantile(0, 0.5), least.quantile(0, 0.95));
        table.floor(&format!("kernel floor, {name}"), p50, p95);
    }
    floor.end()?;
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
                measure::settle();
                sample.add(n, engine.time(step)?);
            }
            engine.succeed(engine.force_remove("bench-a"))?;
            engine.succeed(engine.force_remove("bench-c"))?;
        }
    }
    for (name, sample) in names.iter().zip(samples) {
        table.latency(name, sample);
    }
    Ok(())
}

/// Idle memory, and what each of 50 containers adds, as proportional set size.
fn memory(engines: &[Engine], table: &mut Table) -> Result<(), String> {
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
        table.value("idle engine, MB (PSS)", n, idle as f64 / 1000.0);
        table.value(
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
fn throughput(engines: &[Engine], table: &mut Table) -> Result<(), String> {
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
        table.value("100 run -d with 8 clients, s", n, elapsed);
        let removal = measure::seconds(|| {
            for k in 0..CONTAINERS {
                drop(engine.succeed(engine.force_remove(&format!("many-{k}"))));
            }
        });
        table.value("rm -f of those, one command each, s", n, removal);
    }
    Ok(())
}

/// Load from an archive and pull from a registry on loopback.
fn images(
    engines: &[Engine],
    folder: &std::path::Path,
    files: &str,
    table: &mut Table,
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
    table.latency(&format!("load, {FILES} files"), load);
    table.latency(&format!("pull, {FILES} files"), pull);
    Ok(())
}

/// A million lines of 100 bytes through the engine's default log, then read back.
fn logs(engines: &[Engine], table: &mut Table) -> Result<(), String> {
    let script = format!("yes {} | head -n {LOG_LINES}", "x".repeat(99));
    for (n, engine) in engines.iter().enumerate() {
        engine.succeed(&["create", "--name", "chatty", "busybox", "sh", "-c", &script])?;
        let written = measure::seconds(|| {
            drop(engine.succeed(&["start", "chatty"]));
            drop(engine.succeed(&["wait", "chatty"]));
        });
        table.value("1,000,000 log lines written, s", n, written);
        let mut bytes = 0;
        let read = measure::seconds(|| bytes = engine.output_bytes(&["logs", "chatty"]));
        if bytes != LOG_LINES as u64 * 100 {
            return Err(format!(
                "{}: {bytes} bytes of log came back instead of {}",
                engine.name,
                LOG_LINES * 100
            ));
        }
        table.value("1,000,000 log lines read, s", n, read);
        engine.succeed(engine.force_remove("chatty"))?;
    }
    Ok(())
}

/// Points the test kit at the optimised binary.
fn use_release_binary() -> Result<(), String> {
    if std::env::var_os("WHARF_BINARY").is_some() {
        return Ok(());
    }
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    // <target>/<triple>/debug/xtask
    let binary = this
        .ancestors()
        .nth(2)
        .expect("xtask lies in a profile folder")
        .join("release")
        .join("wharf");
    if !binary.exists() {
        return Err(format!(
            "{} is missing: run `cargo build --release` first",
            binary.display()
        ));
    }
    // The one thread there is: nobody reads the environment at the same time.
    wharf_tests::set_binary(binary);
    Ok(())
}
