//! `wharf daemon`: configuration, log, listeners, engine, signals, end.

mod listeners;
mod log;
mod pidfile;
mod rootless;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use wharf_commands::daemon::{DaemonFlags, daemon_flags};
use wharf_engine::config::{DaemonConfig, Settings};
use wharf_engine::{Engine, EngineConfig, ShimProgram};
use wharf_fault::{Error, Result, chain};
use wharf_rootless::{Directories, Inside};

use self::pidfile::PidFile;
use crate::user;

/// The file read when `--config-file` names none; it need not exist.
const CONFIG_FILE: &str = "/etc/wharf/daemon.json";
const PID_FILE: &str = "/run/wharf.pid";

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
    let mut ready = ready;
    let begin = || -> Result<(DaemonConfig, Option<Directories>)> {
        let user = user::directories()?;
        Ok((configuration(&flags, user.as_ref())?, user))
    };
    let (config, user) = match begin() {
        Ok(begun) => begun,
        Err(error) => return fail_to(ready, &error),
    };
    if flags.validate {
        drop(writeln!(std::io::stderr(), "configuration OK"));
        return ExitCode::SUCCESS;
    }
    // Before the first thread: namespaces are joined by the whole process or not at all.
    let inside = match user.as_ref().map(wharf_rootless::enter).transpose() {
        Ok(inside) => inside,
        Err(error) => return fail_to(ready, &Error::from_fault(error)),
    };
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
    let ended = runtime.block_on(serve(&flags, config, &log, &mut ready, (user, inside)));
    // Waits for work in the background: when the file is let go of, nothing of ours changes anything.
    drop(runtime);
    match ended {
        Ok(_pid_file) => ExitCode::SUCCESS,
        Err(error) => fail_to(ready, &error),
    }
}

/// Tells whoever waits for the daemon, too.
fn fail_to(ready: Option<OwnedFd>, error: &Error) -> ExitCode {
    if let Some(ready) = ready {
        let text = format!("failed: {}\n", chain(error));
        drop(std::fs::File::from(ready).write_all(text.as_bytes()));
    }
    fail(error)
}

fn fail(error: &Error) -> ExitCode {
    drop(writeln!(
        std::io::stderr(),
        "failed to start daemon: {}",
        chain(error)
    ));
    ExitCode::FAILURE
}

/// Flags and file, merged and checked; what they leave open is the system's, or the `user`'s.
fn configuration(flags: &DaemonFlags, user: Option<&Directories>) -> Result<DaemonConfig> {
    let given = Settings::parse(&Value::Object(flags.settings.clone()).to_string())?;
    let (path, required) = match (&flags.config_file, user) {
        (Some(path), _) => (PathBuf::from(path), true),
        (None, None) => (PathBuf::from(CONFIG_FILE), false),
        (None, Some(user)) => (user.config.join("daemon.json"), false),
    };
    let file = Settings::load(&path, required)?.unwrap_or_default();
    let mut settings = Settings::merge(given, file)?;
    if let Some(user) = user {
        settings.data_root.get_or_insert_with(|| user.data.clone());
        settings.exec_root.get_or_insert_with(|| user.exec_root());
        settings.pidfile.get_or_insert_with(|| user.pidfile());
        // The socket is the user's; the host's groups do not exist for us.
        settings.group.get_or_insert_with(|| "0".to_owned());
    }
    let mut config = DaemonConfig::resolve(settings)?;
    if config.pidfile.as_os_str().is_empty() {
        config.pidfile = PID_FILE.into();
    }
    Ok(config)
}

async fn serve(
    flags: &DaemonFlags,
    config: DaemonConfig,
    log: &log::Level,
    ready: &mut Option<OwnedFd>,
    (user, inside): (Option<Directories>, Option<Inside>),
) -> Result<PidFile> {
    // Taken before anything is written: a second daemon on the same roots must change nothing.
    let addresses = listeners::addresses(&config, user.as_ref())?;
    let pid_file = PidFile::create(&config.pidfile)?;
    let (rootless, keeper) = inside.map(rootless::parts).unzip();
    let engine = Engine::open(EngineConfig {
        data_root: config.data_root.clone(),
        exec_root: config.exec_root.clone(),
        instance: instance(&config.data_root, user.as_ref()),
        shim: ShimProgram::Embedded(crate::program::SMALL),
        daemon: config.clone(),
        rootless,
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
            reload(flags, user.as_ref(), &engine, log);
        }
    };
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: ending; containers go on"),
            _ = interrupt.recv() => tracing::info!("SIGINT: ending; containers go on"),
            () = reload => {}
            () = rootless::end_of(keeper) => tracing::error!("the process that keeps this user's namespaces is gone: ending; the next command starts anew"),
        }
    };
    if let Some(ready) = ready.take() {
        // Whoever waits may have gone; that is no reason not to serve.
        drop(std::fs::File::from(ready).write_all(b"ready\n"));
    }
    tracing::info!("Daemon has completed initialization");
    wharf_server::serve(engine.clone(), listeners, shutdown).await;
    engine.shutdown().await;
    Ok(pid_file)
}

fn signals(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|source| Error::system("cannot listen for signals").caused_by(source))
}

/// SIGHUP: what can change in a running daemon, changes; the rest waits for a restart.
fn reload(flags: &DaemonFlags, user: Option<&Directories>, engine: &Engine, log: &log::Level) {
    match configuration(flags, user) {
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
fn instance(data_root: &Path, user: Option<&Directories>) -> String {
    let default = user.map_or_else(
        || DaemonConfig::default().data_root,
        |user| user.data.clone(),
    );
    if data_root == default {
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
        assert_eq!(instance(Path::new("/var/lib/wharf"), None), "");
        let other = instance(Path::new("/srv/engine"), None);
        assert_eq!(other.len(), 9);
        assert_ne!(other, instance(Path::new("/srv/engine2"), None));
    }
}
