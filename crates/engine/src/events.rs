//! What happened to the engine's objects: numbered, kept on disk within bounds, streamed.
//!
//! ```text
//! publish ──▶ ring in memory (the last 1024, answers since/until and feeds streams)
//!               └──▶ <data-root>/events.log   one JSON line per event; at LOG_BYTES_MAX it becomes
//!                                             events.log.1, which replaces the older one
//! ```
//!
//! Publishing never waits for a reader: a stream that falls behind by more than the ring misses
//! events and is told how many. The log's writer is such a reader, too: what happens does not wait for
//! the disk. An orderly end of the daemon writes everything down; when it is killed, the file may lack
//! the events of the last moment.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use wharf_api_types::Filters;
use wharf_api_types::event::{EventActor, EventMessage};
use wharf_fault::{Error, Result};
use wharf_state::Store;

use crate::EngineConfig;

/// Events kept in memory.
const RING_MAX: usize = 1024;
/// Size of the log file at which it is put aside; twice this is the most there is on disk.
const LOG_BYTES_MAX: u64 = 1024 * 1024;

/// The engine's events.
#[derive(Debug, Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    memory: Arc<Memory>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
    /// Writes the log; ends with this value, when all is written.
    writer: Option<JoinHandle<()>>,
}

/// What publishers, readers and the log's writer share.
#[derive(Debug)]
struct Memory {
    inner: Mutex<Inner>,
    /// There is something to write, something has been written, or it is the end.
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    ring: VecDeque<Numbered>,
    next: u64,
    /// The number of the newest event that is in the log, or never will be.
    written: u64,
    /// Nothing is published any more.
    ended: bool,
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// An event with its place in the order of all events.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// Counts from 1, without gaps, across restarts.
    pub number: u64,
    /// The event.
    pub message: Arc<EventMessage>,
}

/// A line of the log.
#[derive(Debug, Serialize, Deserialize)]
struct Line<M> {
    number: u64,
    message: M,
}

impl Events {
    /// Opens the log under the data root and reads back the events of earlier daemons.
    pub fn open(config: &EngineConfig, _store: &Store) -> Result<Self> {
        Self::open_log(&config.data_root.join("events.log"))
    }

    fn open_log(path: &Path) -> Result<Self> {
        let mut ring = VecDeque::new();
        let mut next = 1;
        for part in [older(path), path.to_owned()] {
            let Ok(file) = File::open(&part) else {
                continue;
            };
            // A line cut short by a crash ends the reading of its file, not the daemon.
            for line in BufReader::new(file).lines().map_while(std::io::Result::ok) {
                let Ok(line) = serde_json::from_str::<Line<EventMessage>>(&line) else {
                    continue;
                };
                if line.number < next {
                    continue;
                }
                next = line.number + 1;
                if ring.len() == RING_MAX {
                    ring.pop_front();
                }
                ring.push_back(Numbered {
                    number: line.number,
                    message: Arc::new(line.message),
                });
            }
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| {
                Error::system(format!("cannot open the event log {}", path.display()))
                    .caused_by(source)
            })?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        if bytes > 0 {
            // Separates the next event from a line that a crash cut short.
            drop(file.write_all(b"\n"));
        }
        let log = Log {
            path: path.to_owned(),
            file,
            bytes,
        };
        Self::start(ring, next, log)
    }

    fn start(ring: VecDeque<Numbered>, next: u64, log: Log) -> Result<Self> {
        let memory = Arc::new(Memory {
            inner: Mutex::new(Inner {
                ring,
                next,
                written: next - 1,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let shared = Arc::clone(&memory);
        let writer = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || shared.write_down(log))
            .map_err(|source| {
                Error::system("cannot start the event log's thread").caused_by(source)
            })?;
        Ok(Self {
            shared: Arc::new(Shared {
                memory,
                newest: watch::Sender::new(next - 1),
                writer: Some(writer),
            }),
        })
    }

    /// Records that `action` happened to the object `id` of `kind` (`container`, `image`,
    /// `network`, `volume`, `daemon`, …). Returns at once.
    pub fn publish(
        &self,
        kind: &'static str,
        action: impl Into<String>,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let now = Timestamp::now();
        let message = Arc::new(EventMessage {
            kind: kind.to_owned(),
            action: action.into(),
            actor: EventActor {
                id: id.to_owned(),
                attributes,
            },
            scope: "local".to_owned(),
            time: now.as_second(),
            time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
            ..EventMessage::default()
        });
        let mut inner = self.lock();
        let event = Numbered {
            number: inner.next,
            message,
        };
        inner.next += 1;
        if inner.ring.len() == RING_MAX {
            inner.ring.pop_front();
        }
        let number = event.number;
        inner.ring.push_back(event);
        // Inside the lock, so that the number never goes back.
        self.shared.newest.send_replace(number);
        drop(inner);
        self.shared.memory.changed.notify_all();
    }

    /// Waits until what has been published is in the log.
    pub fn flush(&self) {
        let memory = &self.shared.memory;
        let waiting = |inner: &mut Inner| inner.written + 1 < inner.next;
        drop(memory.changed.wait_while(memory.lock(), waiting));
    }

    /// How many streams are open.
    pub fn listeners(&self) -> usize {
        self.shared.newest.receiver_count()
    }

    /// The kept events between two points in time that match; `None` leaves a side open.
    pub fn between(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        filter: &EventFilter,
    ) -> Vec<Numbered> {
        let inner = self.lock();
        let inside = |event: &&Numbered| {
            let at = i128::from(event.message.time_nano);
            since.is_none_or(|since| at >= since.as_nanosecond())
                && until.is_none_or(|until| at <= until.as_nanosecond())
                && filter.matches(&event.message)
        };
        inner.ring.iter().filter(inside).cloned().collect()
    }

    /// A stream of the events that happen from now on, after those since `since` when given.
    pub fn subscribe(&self, since: Option<Timestamp>, filter: EventFilter) -> EventStream {
        // Subscribed before the past is read: nothing falls between the two.
        let newest = self.shared.newest.subscribe();
        let (past, last) = {
            let inner = self.lock();
            let past = match since {
                Some(since) => inner
                    .ring
                    .iter()
                    .filter(|event| i128::from(event.message.time_nano) >= since.as_nanosecond())
                    .filter(|event| filter.matches(&event.message))
                    .cloned()
                    .collect(),
                None => VecDeque::new(),
            };
            (past, inner.next - 1)
        };
        EventStream {
            events: self.clone(),
            newest,
            pending: past,
            last,
            filter,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.memory.lock()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.memory.lock().ended = true;
        self.memory.changed.notify_all();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the event log's thread panicked");
        }
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no code panics while it holds this lock")
    }

    /// Writes what is published to the log, up to the end.
    fn write_down(&self, log: Log) {
        let mut log = Some(log);
        let mut inner = self.lock();
        loop {
            let idle = |inner: &mut Inner| inner.written + 1 == inner.next && !inner.ended;
            inner = self
                .changed
                .wait_while(inner, idle)
                .expect("no code panics while it holds this lock");
            if inner.written + 1 == inner.next {
                return;
            }
            let (written, newest) = (inner.written, inner.next - 1);
            let new = |event: &&Numbered| event.number > written;
            let batch: Vec<Numbered> = inner.ring.iter().filter(new).cloned().collect();
            drop(inner);
            let missed = newest - written - batch.len() as u64;
            if missed > 0 {
                tracing::warn!(missed, "the disk is too slow for the event log");
            }
            if let Some(open) = &mut log
                && let Err(error) = open.append(&batch)
            {
                tracing::warn!(%error, path = %open.path.display(), "events are no longer kept on disk");
                log = None;
            }
            inner = self.lock();
            inner.written = newest;
            self.changed.notify_all();
        }
    }
}

/// A subscription made by [`Events::subscribe`].
#[derive(Debug)]
pub struct EventStream {
    events: Events,
    newest: watch::Receiver<u64>,
    pending: VecDeque<Numbered>,
    last: u64,
    filter: EventFilter,
}

impl EventStream {
    /// The next event that matches. Waits for it; dropping the future loses nothing.
    pub async fn next(&mut self) -> Numbered {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            self.newest.borrow_and_update();
            self.collect();
            // The sender lives in `self.events`, so `changed` can not fail.
            if self.pending.is_empty() && self.newest.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn collect(&mut self) {
        let inner = self.events.lock();
        let oldest = inner.ring.front().map_or(inner.next, |event| event.number);
        if oldest > self.last + 1 {
            tracing::warn!(
                missed = oldest - self.last - 1,
                "an event stream is too slow"
            );
        }
        let skip = self.last.saturating_sub(oldest.saturating_sub(1));
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        for event in inner.ring.iter().skip(skip) {
            self.last = event.number;
            if self.filter.matches(&event.message) {
                self.pending.push_back(event.clone());
            }
        }
    }
}

impl Log {
    fn append(&mut self, events: &[Numbered]) -> std::io::Result<()> {
        events.iter().try_for_each(|event| self.append_one(event))
    }

    fn append_one(&mut self, event: &Numbered) -> std::io::Result<()> {
        if self.bytes >= LOG_BYTES_MAX {
            std::fs::rename(&self.path, older(&self.path))?;
            self.file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&self.path)?;
            self.bytes = 0;
        }
        let line = Line {
            number: event.number,
            message: &*event.message,
        };
        let mut line =
            serde_json::to_vec(&line).expect("strings and numbers always have a JSON form");
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// Which events a reader wants.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    filters: Filters,
}

impl EventFilter {
    /// From the `filters` parameter. Unknown names are refused.
    pub fn new(filters: Filters) -> Result<Self> {
        const KNOWN: [&str; 15] = [
            "config",
            "container",
            "daemon",
            "event",
            "image",
            "label",
            "network",
            "node",
            "plugin",
            "scope",
            "secret",
            "service",
            "type",
            "volume",
            "build",
        ];
        filters
            .only(&KNOWN)
            .map_err(|error| Error::invalid(error.to_string()))?;
        Ok(Self { filters })
    }

    /// Whether the reader wants `event`.
    pub fn matches(&self, event: &EventMessage) -> bool {
        let filters = &self.filters;
        filters.is_empty()
            || self.matches_action(&event.action)
                && filters.matches_exactly("type", &event.kind)
                && filters.matches_exactly("scope", &event.scope)
                && self.matches_object("container", event)
                && self.matches_object("daemon", event)
                && self.matches_object("plugin", event)
                && self.matches_object("volume", event)
                && self.matches_object("network", event)
                && self.matches_image(event)
                && self.matches_object("node", event)
                && self.matches_object("service", event)
                && self.matches_object("secret", event)
                && self.matches_object("config", event)
                && filters.matches_labels("label", &event.actor.attributes)
    }

    /// `exec_create: sh` is found as `exec_create` too, as are `health_status: healthy`.
    fn matches_action(&self, action: &str) -> bool {
        let verb = action.split(':').next().unwrap_or(action);
        self.filters.matches_exactly("event", action) || self.filters.matches_exactly("event", verb)
    }

    /// By a prefix of the id, or by name. As in Docker, only containers (and daemons) are found by
    /// the beginning of their id; a filter for one kind leaves out the events of others.
    fn matches_object(&self, kind: &str, event: &EventMessage) -> bool {
        let wanted = self.filters.get(kind);
        if wanted.is_empty() {
            return true;
        }
        let name = event
            .actor
            .attributes
            .get("name")
            .map_or("", String::as_str);
        // Network events about a container carry its id.
        let container = event
            .actor
            .attributes
            .get("container")
            .map_or("", String::as_str);
        wanted.iter().any(|wanted| {
            (event.kind == kind && (event.actor.id.starts_with(wanted.as_str()) || name == wanted))
                || (kind == "container"
                    && !container.is_empty()
                    && container.starts_with(wanted.as_str()))
        })
    }

    /// By id or name, with or without the tag; containers' events are found by their image.
    fn matches_image(&self, event: &EventMessage) -> bool {
        let wanted = self.filters.get("image");
        if wanted.is_empty() {
            return true;
        }
        let attribute = if event.kind == "image" {
            "name"
        } else {
            "image"
        };
        let name = event
            .actor
            .attributes
            .get(attribute)
            .map_or("", String::as_str);
        wanted.iter().any(|wanted| {
            event.actor.id == *wanted || name == wanted || untagged(name) == untagged(wanted)
        })
    }
}

/// A reference without its tag.
fn untagged(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn filter(text: &str) -> EventFilter {
        EventFilter::new(Filters::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn events_survive_a_restart_and_keep_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.log");
        let events = Events::open_log(&path).unwrap();
        for number in 0..3 {
            events.publish("volume", "create", &format!("v{number}"), BTreeMap::new());
        }
        drop(events);
        // A crash in the middle of a write.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"number\":4,\"mess").unwrap();
        let events = Events::open_log(&path).unwrap();
        events.publish("volume", "destroy", "v0", BTreeMap::new());
        drop(events);
        let events = Events::open_log(&path).unwrap();
        let all = events.between(None, None, &EventFilter::default());
        let numbers: Vec<u64> = all.iter().map(|event| event.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert_eq!(all[3].message.action, "destroy");
    }

    #[test]
    fn the_log_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.log");
        let events = Events::open_log(&path).unwrap();
        let long = attributes(&[("name", &"x".repeat(10_000))]);
        for _ in 0..400 {
            events.publish("container", "start", "c", long.clone());
        }
        events.flush();
        let total: u64 = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap().len())
            .sum();
        assert!(total < 2 * LOG_BYTES_MAX + 100_000, "{total}");
    }

    #[test]
    fn a_disk_that_stalls_holds_nobody_up_and_gets_everything_later() {
        const EVENTS: u64 = 50;
        let (mut reader, writer) = std::io::pipe().unwrap();
        let log = Log {
            path: "a pipe nobody reads".into(),
            file: std::os::fd::OwnedFd::from(writer).into(),
            bytes: 0,
        };
        let events = Events::start(VecDeque::new(), 1, log).unwrap();
        // More than a pipe holds: the log's writer waits from here on.
        let long = attributes(&[("name", &"x".repeat(10_000))]);
        for number in 0..EVENTS {
            events.publish("volume", "create", &number.to_string(), long.clone());
        }
        let all = events.between(None, None, &EventFilter::default());
        assert_eq!(all.len() as u64, EVENTS);
        let disk = std::thread::spawn(move || {
            let lines = BufReader::new(&mut reader).lines();
            let line = |text: String| serde_json::from_str::<Line<EventMessage>>(&text).unwrap();
            lines.map(|text| line(text.unwrap()).number).collect()
        });
        events.flush();
        drop(events);
        let written: Vec<u64> = disk.join().unwrap();
        assert_eq!(written, (1..=EVENTS).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn streams_get_what_happens_after_them_and_the_past_they_ask_for() {
        let folder = tempfile::tempdir().unwrap();
        let events = Events::open_log(&folder.path().join("events.log")).unwrap();
        events.publish("volume", "create", "old", BTreeMap::new());
        let mut new = events.subscribe(None, EventFilter::default());
        let mut all = events.subscribe(Some(Timestamp::UNIX_EPOCH), EventFilter::default());
        assert_eq!(events.listeners(), 2);
        events.publish("volume", "create", "new", BTreeMap::new());
        assert_eq!(new.next().await.message.actor.id, "new");
        assert_eq!(all.next().await.message.actor.id, "old");
        assert_eq!(all.next().await.message.actor.id, "new");
        let waiting = tokio::spawn(async move { new.next().await.message.actor.id.clone() });
        tokio::task::yield_now().await;
        events.publish("volume", "create", "late", BTreeMap::new());
        assert_eq!(waiting.await.unwrap(), "late");
    }

    #[test]
    fn filters_follow_docker() {
        let event = EventMessage {
            kind: "container".into(),
            action: "exec_create: sh".into(),
            scope: "local".into(),
            actor: EventActor {
                id: "abcdef".into(),
                attributes: attributes(&[("name", "web"), ("image", "nginx:1"), ("tier", "front")]),
            },
            ..EventMessage::default()
        };
        for yes in [
            "{}",
            r#"{"event":["exec_create"]}"#,
            r#"{"type":["container","image"]}"#,
            r#"{"container":["abc"]}"#,
            r#"{"container":["web"]}"#,
            r#"{"image":["nginx"]}"#,
            r#"{"label":["tier=front"]}"#,
            r#"{"scope":["local"]}"#,
        ] {
            assert!(filter(yes).matches(&event), "{yes}");
        }
        for no in [
            r#"{"event":["start"]}"#,
            r#"{"type":["network"]}"#,
            r#"{"container":["we"]}"#,
            r#"{"volume":["web"]}"#,
            r#"{"image":["redis"]}"#,
            r#"{"label":["tier=back"]}"#,
        ] {
            assert!(!filter(no).matches(&event), "{no}");
        }
        assert!(EventFilter::new(Filters::parse(r#"{"x":["1"]}"#).unwrap()).is_err());
    }
}
