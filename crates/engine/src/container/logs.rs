//! A container's log, read from the files its shim writes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wharf_api_types::container::HostConfig;
use wharf_fault::{Error, Result};
use wharf_logs::{Driver, Format, LogReader, LogTarget, Progress, Query, Subject, Watch};

use super::live::{Container, Watched};
use super::readiness;
use super::record::ContainerRecord;
use crate::Engine;

/// What is wanted of a log.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Not older, nanoseconds since the epoch.
    pub since_ns: Option<i64>,
    /// Not younger.
    pub until_ns: Option<i64>,
    /// Only the last so many.
    pub tail: Option<u64>,
    /// Each with its time.
    pub timestamps: bool,
    /// Each with its attributes.
    pub details: bool,
    /// Go on while the container runs.
    pub follow: bool,
    /// Without stream frames.
    pub raw: bool,
}

/// A log on its way to a client.
#[derive(Debug)]
pub struct LogStream {
    reader: Option<LogReader>,
    /// The next batch, read while the last one is sent.
    reading: Option<JoinHandle<Batch>>,
    watch: Option<(Watch, AsyncFd<OwnedFd>)>,
    state: watch::Receiver<Watched>,
    format: Format,
    until: Option<Timestamp>,
    finished: bool,
    /// The reader knows that the container has ended.
    end_told: bool,
    _container: Arc<Container>,
}

type Batch = (LogReader, std::io::Result<(Vec<u8>, Progress)>);

/// Checks a container's log options.
pub(super) fn check_options(host: &HostConfig) -> Result<()> {
    let config = &host.log_config;
    wharf_logs::options::validate(&config.r#type, &config.config).map_err(Error::from_fault)
}

/// Where a container's log goes.
pub(super) fn target(record: &ContainerRecord, directory: &Path) -> Result<LogTarget> {
    let empty = BTreeMap::new();
    let labels = record.config.labels.as_ref().unwrap_or(&empty);
    let subject = Subject {
        id: record.id.as_str(),
        name: &record.name,
        image_id: &record.image_id,
        image_name: &record.config.image,
        labels: labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect(),
        env: record
            .config
            .env
            .iter()
            .flatten()
            .map(String::as_str)
            .collect(),
    };
    let config = &record.host_config.log_config;
    wharf_logs::options::resolve(&config.r#type, &config.config, &subject, directory)
        .map_err(Error::from_fault)
}

impl Engine {
    /// Path of a container's log file, for inspect; empty where there is none to show.
    pub(super) fn log_path(&self, record: &ContainerRecord) -> String {
        match target(record, &self.containers.directory(&record.id)) {
            Ok(target) if target.driver == Driver::JsonFile => target.path.display().to_string(),
            _ => String::new(),
        }
    }

    /// Whether a container has a terminal: its log is sent without frames then.
    pub fn container_tty(&self, reference: &str) -> Result<bool> {
        Ok(self.containers.find(reference)?.read().record.config.tty)
    }

    /// Opens a container's log.
    pub fn container_logs(&self, reference: &str, options: &LogOptions) -> Result<LogStream> {
        if !options.stdout && !options.stderr {
            return Err(Error::invalid(
                "Bad parameters: you must choose at least one stream",
            ));
        }
        let container = self.containers.find(reference)?;
        let (target, tty) = {
            let cell = container.read();
            (
                target(&cell.record, &self.containers.directory(&container.id))?,
                cell.record.config.tty,
            )
        };
        let state = container.watch();
        let follow = options.follow && state.borrow().running;
        let query = Query {
            stdout: options.stdout,
            stderr: options.stderr,
            since_ns: options.since_ns,
            until_ns: options.until_ns,
            tail: options.tail,
            follow,
        };
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::Unsupported => {
                Error::not_implemented("configured logging driver does not support reading")
            }
            _ => Error::system(format!("cannot read the log of container {}", container.id))
                .caused_by(source),
        };
        let reader = LogReader::open(&target, query).map_err(failed)?;
        let watch = if follow {
            let watch = reader.watch().map_err(failed)?;
            let ready = watch
                .as_fd()
                .try_clone_to_owned()
                .and_then(readiness::read_only)
                .map_err(failed)?;
            Some((watch, ready))
        } else {
            None
        };
        let format = Format {
            timestamps: options.timestamps,
            details: options.details,
            multiplexed: !tty && !options.raw,
        };
        let until = options
            .until_ns
            .and_then(|ns| Timestamp::from_nanosecond(i128::from(ns)).ok());
        Ok(LogStream {
            reader: Some(reader),
            reading: None,
            watch,
            state,
            format,
            until,
            finished: false,
            end_told: false,
            _container: container,
        })
    }
}

impl LogStream {
    /// The next piece; `None` at the end. While following it waits for more.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.finished {
                return Ok(None);
            }
            if self.reading.is_none() {
                self.read_on();
            }
            let Some(reading) = self.reading.take() else {
                return Ok(None);
            };
            let failed = || Error::system("cannot read a log");
            let (reader, result) = reading.await.map_err(|source| failed().caused_by(source))?;
            self.reader = Some(reader);
            let (bytes, progress) = result.map_err(|source| failed().caused_by(source))?;
            match progress {
                Progress::More => self.read_on(),
                Progress::Finished => self.finished = true,
                Progress::CaughtUp if bytes.is_empty() => {
                    self.wait().await;
                    continue;
                }
                Progress::CaughtUp => {}
            }
            if !bytes.is_empty() {
                return Ok(Some(bytes.into()));
            }
        }
    }

    /// Begins to read the next batch on a thread that may block.
    fn read_on(&mut self) {
        let Some(mut reader) = self.reader.take() else {
            return;
        };
        if let Some((watch, _)) = &self.watch {
            // Before reading: what is written meanwhile wakes again.
            drop(watch.drain());
        }
        if !self.state.borrow().running {
            reader.container_ended();
            self.end_told = true;
        }
        let format = self.format;
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            let result = reader
                .render_batch(format, &mut bytes)
                .map(|progress| (bytes, progress));
            (reader, result)
        }));
    }

    /// Waits until there may be more: the file grew, the container ended, or the time is up.
    async fn wait(&mut self) {
        let time_up = async {
            match self.until {
                Some(until) => {
                    let left = Timestamp::now().until(until).ok().and_then(|span| {
                        jiff::SignedDuration::try_from(span)
                            .ok()
                            .and_then(|left| std::time::Duration::try_from(left).ok())
                    });
                    tokio::time::sleep(left.unwrap_or_default()).await;
                }
                None => std::future::pending().await,
            }
        };
        let grown = async {
            match &self.watch {
                Some((_, ready)) => match ready.readable().await {
                    Ok(mut guard) => guard.clear_ready(),
                    Err(error) => tracing::warn!(%error, "cannot watch a log"),
                },
                None => std::future::pending().await,
            }
        };
        // The end may have come after the last batch was begun, when the reader was not told: it
        // has to hear of it before anybody can wait for something else.
        if !self.state.borrow().running && !self.end_told {
            return;
        }
        let was_running = self.state.borrow().running;
        let mut state = self.state.clone();
        tokio::select! {
            () = grown => {}
            () = time_up => self.finished = true,
            _ = state.wait_for(|watched| !watched.running), if was_running => {}
        }
    }
}
