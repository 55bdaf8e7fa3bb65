//! The daemon's own log: standard error, one line per event, at a level that can change.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};
use wharf_engine::config::DaemonConfig;

/// The level in force.
#[derive(Debug)]
pub(crate) struct Level(Handle<Targets, Registry>);

/// Starts logging.
pub(crate) fn start(config: &DaemonConfig) -> Level {
    let (filter, handle) = reload::Layer::new(targets(config));
    let format = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(config.debug);
    tracing_subscriber::registry()
        .with(filter)
        .with(format.with_ansi(false))
        .init();
    Level(handle)
}

impl Level {
    /// Changes the level.
    pub(crate) fn set(&self, config: &DaemonConfig) {
        // Fails only when the log has ended, and then there is nobody to tell.
        drop(self.0.reload(targets(config)));
    }
}

fn targets(config: &DaemonConfig) -> Targets {
    let level = match config.log_level.as_str() {
        _ if config.debug => LevelFilter::DEBUG,
        "debug" => LevelFilter::DEBUG,
        "warn" => LevelFilter::WARN,
        "error" | "fatal" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    // Libraries speak up only when something is wrong.
    Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_targets(
            [
                "wharf",
                "wharf_engine",
                "wharf_image_store",
                "wharf_network",
                "wharf_registry_client",
                "wharf_server",
            ]
            .map(|target| (target, level)),
        )
}
