//! Thousands of running containers: what commands take among them, and a restart under them.

use std::path::Path;

use super::engine::{Engine, pss_kb};
use super::measure::{Samples, seconds};
use super::report::Table;

/// How many, unless told otherwise.
pub(crate) const CONTAINERS: usize = 2000;
/// A bridge has room for 1023 ports.
const PER_NETWORK: usize = 900;
const CLIENTS: usize = 4;
/// Single commands are measured this often.
const ROUNDS: usize = 10;

pub(crate) fn measure(
    folder: &Path,
    cgroup_parent: &str,
    image: &str,
    containers: usize,
    table: &mut Table,
) -> Result<(), String> {
    let folder = folder.join("scale");
    std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
    let mut engine = Engine::wharf(&folder, cgroup_parent)?;
    engine.succeed(&["load", "-q", "-i", image])?;
    let networks: Vec<String> = (0..containers.div_ceil(PER_NETWORK))
        .map(|n| format!("scale{n}"))
        .collect();
    for network in &networks {
        engine.succeed(&["network", "create", network])?;
    }
    let names: Vec<String> = (0..containers).map(|n| format!("c{n}")).collect();
    let words: Vec<&str> = names.iter().map(String::as_str).collect();

    let started = seconds(|| start_all(&engine, &names, &networks));
    let running = engine.output_bytes(&["ps", "-q"]) / 13;
    if running != containers as u64 {
        return Err(format!("{running} of {containers} containers run"));
    }
    let mut row = |name: &str, value: f64| table.value(name, 0, value);
    row("containers", containers as f64);
    row("started by 4 clients, s", started);
    let last = &names[containers - 1];
    for (name, command) in [
        (
            "run --rm true beside them, ms",
            &["run", "--rm", "busybox", "true"][..],
        ),
        ("ps, ms", &["ps"]),
        ("exec in the last, ms", &["exec", last, "true"]),
        ("inspect, ms", &["inspect", last]),
    ] {
        row(name, median(&engine, command)?);
    }
    row(
        "stats --no-stream of all, s",
        engine.time(&["stats", "--no-stream"])? / 1000.0,
    );
    // What it holds when nobody has asked it anything for a while.
    std::thread::sleep(std::time::Duration::from_secs(8));
    let daemon = engine
        .pid()
        .map_or(0, |pid| pss_kb(Path::new(&format!("/proc/{pid}"))));
    row("daemon, MB (PSS)", daemon as f64 / 1000.0);
    row(
        "all of it per container, MB (PSS)",
        engine.memory_kb() as f64 / 1000.0 / containers as f64,
    );

    engine.kill();
    let start = std::time::Instant::now();
    engine = Engine::wharf(&folder, cgroup_parent)?;
    row(
        "daemon back after kill -9, s",
        start.elapsed().as_secs_f64(),
    );
    let running = engine.output_bytes(&["ps", "-q"]) / 13;
    if running != containers as u64 {
        return Err(format!("{running} of {containers} survived the daemon"));
    }
    row(
        "exec after that, ms",
        median(&engine, &["exec", last, "true"])?,
    );
    let mut stop = vec!["stop", "-t", "0"];
    stop.extend(&words);
    row(
        "stop of all in one command, s",
        engine.time(&stop)? / 1000.0,
    );
    let mut remove = vec!["rm"];
    remove.extend(&words);
    row(
        "rm of all in one command, s",
        engine.time(&remove)? / 1000.0,
    );
    engine.kill();
    Ok(())
}

fn start_all(engine: &Engine, names: &[String], networks: &[String]) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(name) = names.get(n) else { return };
                    let network = &networks[n % networks.len()];
                    let run = ["run", "-d", "--name", name, "--network", network];
                    let program = ["busybox", "sleep", "100000"];
                    if let Err(error) = engine.succeed(&[&run[..], &program].concat()) {
                        // The count afterwards fails the benchmark.
                        eprintln!("{error}");
                    }
                }
            });
        }
    });
}

fn median(engine: &Engine, command: &[&str]) -> Result<f64, String> {
    let mut samples = Samples::new(1);
    for _ in 0..ROUNDS {
        samples.add(0, engine.time(command)?);
    }
    Ok(samples.quantile(0, 0.5))
}
