//! `wharf daemon`: configuration, log, listeners, engine, signals, end.

mod listeners;
mod log;
mod pidfile;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use wharf_commands::daemon::{DaemonFlags, daemon_flags};
use wharf_engine::config::{DaemonConfig, Settings};
use wharf_engine::{Engine, EngineConfig, ShimProgram};
use wharf_fault::{Error, Result, chain};

use self::pidfile::PidFile;

/// The file read when `--config-file` names none; it need not exist.
const CONFIG_FILE: &str = "/etc/wharf/daemon.json";
const PID_FILE: &str = "/run/wharf.pid";

/// The program that stays with each container, built by this crate's build script.
static SHIM: &[u8] = include_bytes!(env!("WHARF_SHIM_PROGRAM"));

/// Runs the daemon until it is told to end.
pub(crate) fn main(words: &[OsString], name: &str) -> ExitCode {
    let words = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let flags = match daemon_flags(words, name) {
        Ok(flags) => flags,
        Err(status) => return ExitCode::from(status),
    };
    // Before the first thread: few arenas keep a mostly idle daemon small.
    wharf_sys::malloc::tune_for_small_footprint(2);
    let ready = match flags
        .ready_fd
        .map(wharf_sys::fd::take_inherited)
        .transpose()
    {
        Ok(ready) => ready,
        Err(error) => {
            return fail(&Error::invalid("--ready-fd names no open descriptor").caused_by(error));
        }
    };
    let config = match configuration(&flags) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    if flags.validate {
        drop(writeln!(std::io::stderr(), "configuration OK"));
        return ExitCode::SUCCESS;
    }
    let log = log::start(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .thread_keep_alive(std::time::Duration::from_secs(5))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(source) => {
            return fail(&Error::system("cannot start the daemon's threads").caused_by(source));
        }
    };
    match runtime.block_on(serve(&flags, config, &log, ready)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    drop(writeln!(
        std::io::stderr(),
        "failed to start daemon: {}",
        chain(error)
    ));
    ExitCode::FAILURE
}

/// Flags and file, merged and checked.
fn configuration(flags: &DaemonFlags) -> Result<DaemonConfig> {
    let given = Settings::parse(&Value::Object(flags.settings.clone()).to_string())?;
    let (path, required) = match &flags.config_file {
        Some(path) => (path.as_str(), true),
        None => (CONFIG_FILE, false),
    };
    let file = Settings::load(Path::new(path), required)?.unwrap_or_default();
    let mut config = DaemonConfig::resolve(Settings::merge(given, file)?)?;
    if config.pidfile.as_os_str().is_empty() {
        config.pidfile = PID_FILE.into();
    }
    Ok(config)
}

async fn serve(
    flags: &DaemonFlags,
    config: DaemonConfig,
    log: &log::Level,
    ready: Option<OwnedFd>,
) -> Result<()> {
    // Taken before anything is written: a second daemon on the same roots must change nothing.
    let addresses = listeners::addresses(&config)?;
    let pid_file = PidFile::create(&config.pidfile)?;
    let engine = Engine::open(EngineConfig {
        data_root: config.data_root.clone(),
        exec_root: config.exec_root.clone(),
        instance: instance(&config.data_root),
        shim: ShimProgram::Embedded(SHIM),
        daemon: config.clone(),
    })
    .await?;
    let listeners = listeners::open(&addresses, &config).await?;
    for listener in &listeners {
        tracing::info!(address = listener.address(), "API listen on");
    }
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut hang_up = signals(SignalKind::hangup())?;
    let reload = async {
        while hang_up.recv().await.is_some() {
            reload(flags, &engine, log);
        }
    };
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: ending; containers go on"),
            _ = interrupt.recv() => tracing::info!("SIGINT: ending; containers go on"),
            () = reload => {}
        }
    };
    if let Some(ready) = ready {
        // Whoever waits may have gone; that is no reason not to serve.
        drop(std::fs::File::from(ready).write_all(b"ready\n"));
    }
    tracing::info!("Daemon has completed initialization");
    wharf_server::serve(engine.clone(), listeners, shutdown).await;
    engine.shutdown().await;
    drop(pid_file);
    Ok(())
}

fn signals(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|source| Error::system("cannot listen for signals").caused_by(source))
}

/// SIGHUP: what can change in a running daemon, changes; the rest waits for a restart.
fn reload(flags: &DaemonFlags, engine: &Engine, log: &log::Level) {
    match configuration(flags) {
        Ok(new) => {
            let outcome = engine.reload(new);
            log.set(&outcome.config);
            tracing::info!(changed = ?outcome.changed, waiting_for_restart = ?outcome.ignored, "configuration reloaded");
        }
        Err(error) => tracing::error!(error = chain(&error), "configuration not reloaded"),
    }
}

/// The suffix of this instance's names: none for the default data root, else a dash and eight hex
/// digits made from the path.
fn instance(data_root: &Path) -> String {
    if data_root == DaemonConfig::default().data_root {
        return String::new();
    }
    // FNV-1a: names only have to differ, and to stay the same from start to start.
    let hash = data_root
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
    format!("-{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_default_root_has_no_suffix() {
        assert_eq!(instance(Path::new("/var/lib/wharf")), "");
        let other = instance(Path::new("/srv/engine"));
        assert_eq!(other.len(), 9);
        assert_ne!(other, instance(Path::new("/srv/engine2")));
    }
}
