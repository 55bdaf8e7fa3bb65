//! `cargo xtask conformance`: the OCI runtime validation suite against `wharf runtime` and its peers.
//!
//! Every program of the suite is run by itself against each runtime, here or (`--vm`) in the guest with
//! cgroup v2. What the peers reached is on record in `record.txt`: a program that passes with `runc` or
//! `crun` on the same system must pass with Wharf. `--record` runs the peers again and rewrites the record
//! and `docs/conformance.md`.

mod isolation;
mod record;
mod suite;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use record::{Record, Row};
use verdict::Verdict;

use crate::{vm, workspace};

const USAGE: &str =
    "usage: cargo xtask conformance [--vm] [--record] [--runtime NAME | PATH]... [PROGRAM...]";

/// What Wharf's runtime is called in the table.
const WHARF: &str = "wharf";

/// The runtimes Wharf is compared with.
const PEERS: [&str; 2] = ["runc", "crun"];

/// What the scheduler decides, and must decide well once in [`TRIES`]: `poststart` wants the container's shell to
/// write before its hook's, `killsig` signals a shell that may not have set its trap yet.
const RACES: [&str; 2] = ["poststart", "killsig"];

/// How often one of [`RACES`] is run until it passes.
const TRIES: usize = 20;

/// Sends a signal to a container whose `true` has ended by then, unless the machine is in an unusual mood: the
/// specification wants an error for that, which the program takes for a failure.
const BY_CHANCE: &str = "pidfile";

/// The AppArmor profile that one of the programs names and nobody else has. The guest's kernel gets it; that
/// the program's container is inside is what counts, not what the profile denies.
const PROFILE: &str = "profile acme_secure_profile flags=(attach_disconnected,mediate_deleted) {
  file, capability, network, mount, umount, pivot_root, ptrace, signal, unix,
}";

/// Says in a guest's output what a program came to.
const LINE: &str = "conformance: ";

/// Programs that run at the same time: most of them wait most of the time.
const AT_ONCE: usize = 3;

#[derive(Debug, Default)]
struct Request {
    vm: bool,
    record: bool,
    runtimes: Vec<String>,
    programs: Vec<String>,
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut request = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--vm" => request.vm = true,
                "--record" => request.record = true,
                "--runtime" => request.runtimes.push(rest.next().ok_or(USAGE)?.clone()),
                flag if flag.starts_with('-') => return Err(USAGE.to_owned()),
                program => request.programs.push(program.to_owned()),
            }
        }
        if request.runtimes.is_empty() {
            if request.record {
                request.runtimes.extend(PEERS.map(str::to_owned));
            }
            request.runtimes.push(WHARF.to_owned());
        }
        Ok(request)
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let request = Request::parse(arguments)?;
    let suite = suite::built()?;
    let programs = wanted(&request, &suite)?;
    let rows = if request.vm {
        in_guest(&request)?
    } else {
        here(&request, &suite, &programs)?
    };
    // A run that broke off in the guest must not look like one in which everything passed.
    if rows.len() != programs.len() * request.runtimes.len() {
        return Err(format!(
            "{} programs were to run with {} runtimes, and {} runs came to something",
            programs.len(),
            request.runtimes.len(),
            rows.len()
        ));
    }
    let mut record = Record::read()?;
    if request.record {
        record.replace(rows.clone());
        record.write()?;
    }
    judge(&record, &rows)
}

/// Prints each row as a test's result and fails when one is worse than it must be.
fn judge(record: &Record, rows: &[Row]) -> Result<(), String> {
    let (mut passed, mut failed, mut known) = (0, 0, 0);
    for row in rows {
        let name = format!("{} {} on {}", row.runtime, row.program, row.system);
        match &row.verdict {
            Verdict::Passed => {
                passed += 1;
                println!("test {name} ... ok");
            }
            _ if row.runtime == WHARF && record.a_peer_passes(row) && row.program != BY_CHANCE => {
                failed += 1;
                println!("test {name} ... FAILED: {}", row.note);
            }
            verdict => {
                known += 1;
                println!("# {name}: {verdict}, as with the peers: {}", row.note);
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; {known} known to fail with every runtime"
    );
    match (passed, failed) {
        (1.., 0) => Ok(()),
        (0, 0) => Err("no program of the suite passed".to_owned()),
        _ => Err("the runtime fails where a peer passes".to_owned()),
    }
}

/// The suite's programs that the request names, which are all where it names none.
fn wanted(request: &Request, suite: &Path) -> Result<Vec<String>, String> {
    let mut programs = suite::programs(suite)?;
    if let Some(unknown) = request
        .programs
        .iter()
        .find(|name| !programs.contains(name))
    {
        return Err(format!("the suite has no program {unknown}"));
    }
    if !request.programs.is_empty() {
        programs.retain(|program| request.programs.contains(program));
    }
    Ok(programs)
}

/// Runs programs of the suite on this system.
fn here(request: &Request, suite: &Path, programs: &[String]) -> Result<Vec<Row>, String> {
    let system = isolation::System::find()?;
    let mut work = Vec::new();
    for program in programs {
        let runtimes = request.runtimes.iter();
        work.extend(runtimes.map(|runtime| (program.clone(), runtime.clone())));
    }
    let wharf = WharfRuntime::new()?;
    work.reverse();
    let (work, rows) = (Mutex::new(work), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = work.lock().expect("no thread panics").pop();
                    let Some((program, runtime)) = next else {
                        break;
                    };
                    let path = if runtime == WHARF {
                        wharf.0.join("wharf-runtime")
                    } else {
                        PathBuf::from(&runtime)
                    };
                    let hides_unified = runtime == "crun";
                    let try_once = || {
                        let output = isolation::run(&system, suite, &program, &path, hides_unified);
                        let row =
                            Row::new(system.name(), runtime.clone(), program.clone(), &output);
                        (row, output)
                    };
                    let (mut row, mut output) = try_once();
                    for _ in 1..if RACES.contains(&program.as_str()) {
                        TRIES
                    } else {
                        1
                    } {
                        if row.verdict != Verdict::Passed {
                            (row, output) = try_once();
                        }
                    }
                    println!("{LINE}{}", row.line());
                    if row.verdict != Verdict::Passed
                        && std::env::var_os("WHARF_CONFORMANCE_OUTPUT").is_some()
                    {
                        println!("{}", output.text);
                    }
                    rows.lock().expect("no thread panics").push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("no thread panics");
    rows.sort();
    Ok(rows)
}

/// The binary built beside this one, or the one that `WHARF_BINARY` names.
fn wharf_binary() -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("wharf"));
    let chosen = std::env::var_os("WHARF_BINARY").map(PathBuf::from);
    chosen.or_else(beside).unwrap_or_else(|| "wharf".into())
}

/// The runtime under the one name the suite can call it by; gone with this value.
struct WharfRuntime(PathBuf);

impl WharfRuntime {
    fn new() -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("wharf-conformance-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let made = Self(folder);
        std::os::unix::fs::symlink(wharf_binary(), made.0.join("wharf-runtime"))
            .map_err(|error| error.to_string())?;
        Ok(made)
    }
}

impl Drop for WharfRuntime {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Runs this very program in the guest and collects its rows.
fn in_guest(request: &Request) -> Result<Vec<Row>, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut words = vec![
        format!(
            "WHARF_BINARY={}",
            vm::quoted(&wharf_binary().display().to_string())
        ),
        vm::quoted(&this.display().to_string()),
        "conformance".to_owned(),
    ];
    for runtime in &request.runtimes {
        words.extend(["--runtime".to_owned(), vm::quoted(runtime)]);
    }
    words.extend(request.programs.iter().map(|program| vm::quoted(program)));
    // What the rows mean is judged here, where the record is.
    let mut boot = vm::Boot::new(format!(
        "cd {}\necho {} | apparmor_parser --replace --skip-cache\n{}; true",
        vm::quoted(&workspace().display().to_string()),
        vm::quoted(PROFILE),
        words.join(" ")
    ));
    boot.timeout = Duration::from_secs(if request.record { 3600 } else { 1800 });
    let mut rows = Vec::new();
    vm::in_guest(&boot, |line| {
        match line.strip_prefix(LINE).and_then(Row::parse) {
            Some(row) => {
                println!("{line}");
                rows.push(row);
            }
            None if line.starts_with("test ") || line.starts_with("# ") => {}
            None => println!("{line}"),
        }
    })?;
    rows.sort();
    Ok(rows)
}
