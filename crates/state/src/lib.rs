//! The engine's metadata on disk: one transactional store, JSON records in named tables.
//!
//! ```text
//! <data-root>/state.redb      table "containers": id → record, table "images": …
//! ```
//!
//! A commit that returned is durable: it survives `kill -9` and power loss. Commits from
//! concurrent callers that arrive together share one disk flush (group commit), so throughput
//! rises with the number of callers while each waits for one flush only.
//!
//! Records of what cannot outlive the machine's run need no flush: a [`Batch::passing`] survives
//! `kill -9` and waits for no disk. Reading makes no difference between the two.

mod passing;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wharf_fault::{Fault, Kind};

use passing::Passing;

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be opened: another daemon has it, or it is damaged.
    #[error("cannot open the state store `{path}`")]
    Open {
        /// The store's file.
        path: String,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// A transaction failed.
    #[error("cannot {action} the state store")]
    Transaction {
        /// `read` or `write`.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// A record is not what this version of Wharf writes.
    #[error("record `{key}` in table `{table}` is not readable")]
    Record {
        /// Table name.
        table: String,
        /// Record key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A record that need not outlive the machine's run cannot be read or written.
    #[error("cannot keep a record in `{path}`")]
    Passing {
        /// The record's file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The writer thread is gone: an earlier write failed fatally.
    #[error("the state store is closed")]
    Closed,
}

impl Fault for StateError {
    fn kind(&self) -> Kind {
        Kind::System
    }
}

/// Changes that become durable together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
    passing: bool,
}

#[derive(Debug)]
struct Change {
    table: &'static str,
    key: String,
    value: Option<Vec<u8>>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch of changes that need not outlive the machine's run, `kill -9` only. Those of
    /// one key are made together or not at all, those of several one after the other. A store
    /// without a place for them makes them durable.
    pub fn passing() -> Self {
        Self {
            passing: true,
            ..Self::default()
        }
    }

    /// Adds or replaces a record.
    pub fn put<T: Serialize>(
        &mut self,
        table: &'static str,
        key: impl Into<String>,
        record: &T,
    ) -> &mut Self {
        let value =
            serde_json::to_vec(record).expect("our records have string keys and finite numbers");
        self.changes.push(Change {
            table,
            key: key.into(),
            value: Some(value),
        });
        self
    }

    /// Removes a record; nothing happens where there is none.
    pub fn delete(&mut self, table: &'static str, key: impl Into<String>) -> &mut Self {
        self.changes.push(Change {
            table,
            key: key.into(),
            value: None,
        });
        self
    }
}

type Done = Box<dyn FnOnce(Result<(), StateError>) + Send>;

/// A handle to the store; clones share it. The store closes when the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    database: Arc<Database>,
    passing: Option<Passing>,
    writer: Mutex<Option<mpsc::Sender<(Batch, Done)>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the store at `path`, creating it where there is none.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        Self::open_at(path, None)
    }

    /// The same, with a directory for what need not outlive the machine's run.
    pub fn open_with_passing(path: &Path, directory: &Path) -> Result<Self, StateError> {
        Passing::open(directory).and_then(|passing| Self::open_at(path, Some(passing)))
    }

    fn open_at(path: &Path, passing: Option<Passing>) -> Result<Self, StateError> {
        let open_error = |source: redb::Error| StateError::Open {
            path: path.display().to_string(),
            source: Box::new(source),
        };
        // Environments of containers are in it, and with them passwords.
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| open_error(source.into()))?;
        let backend = redb::backends::FileBackend::new(file);
        let database = redb::Builder::new()
            .set_cache_size(1024 * 1024)
            .create_with_backend(backend.map_err(|source| open_error(source.into()))?)
            .map_err(|source| open_error(source.into()))?;
        let database = Arc::new(database);
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("state-writer".to_owned())
            .stack_size(256 * 1024)
            .spawn({
                let database = Arc::clone(&database);
                move || write_loop(&database, &receiver)
            })
            .map_err(|source| open_error(redb::Error::Io(source)))?;
        Ok(Self {
            shared: Arc::new(Shared {
                database,
                passing,
                writer: Mutex::new(Some(sender)),
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// One record.
    pub fn get<T: DeserializeOwned>(
        &self,
        table: &str,
        key: &str,
    ) -> Result<Option<T>, StateError> {
        if let Some(passing) = &self.shared.passing
            && let Some(json) = passing.get(table, key)?
        {
            return decode(table, key, &json).map(Some);
        }
        let transaction = self
            .shared
            .database
            .begin_read()
            .map_err(|e| read_error(e.into()))?;
        let opened = match transaction.open_table(definition(table)) {
            Ok(opened) => opened,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(source) => return Err(read_error(source.into())),
        };
        match opened.get(key).map_err(|e| read_error(e.into()))? {
            Some(value) => decode(table, key, value.value()).map(Some),
            None => Ok(None),
        }
    }

    /// All records of a table in key order.
    pub fn list<T: DeserializeOwned>(&self, table: &str) -> Result<Vec<(String, T)>, StateError> {
        let mut records = self.list_durable(table)?;
        if let Some(passing) = &self.shared.passing {
            for (key, json) in passing.list(table)? {
                let record = decode(table, &key, &json)?;
                records.push((key, record));
            }
            records.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        Ok(records)
    }

    fn list_durable<T: DeserializeOwned>(
        &self,
        table: &str,
    ) -> Result<Vec<(String, T)>, StateError> {
        let transaction = self
            .shared
            .database
            .begin_read()
            .map_err(|e| read_error(e.into()))?;
        let opened = match transaction.open_table(definition(table)) {
            Ok(opened) => opened,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(source) => return Err(read_error(source.into())),
        };
        let mut records = Vec::new();
        for entry in opened.iter().map_err(|e| read_error(e.into()))? {
            let (key, value) = entry.map_err(|e| read_error(e.into()))?;
            records.push((
                key.value().to_owned(),
                decode(table, key.value(), value.value())?,
            ));
        }
        Ok(records)
    }

    /// Makes `batch` durable and calls `done` from the writer thread, or from this one if it is a
    /// passing batch. Async callers pass a one-shot sender.
    pub fn commit_then(
        &self,
        batch: Batch,
        done: impl FnOnce(Result<(), StateError>) + Send + 'static,
    ) {
        if batch.passing
            && let Some(passing) = &self.shared.passing
        {
            return done(passing.apply(batch.changes));
        }
        let done: Done = Box::new(done);
        let sender = self
            .shared
            .writer
            .lock()
            .expect("no code panics while it holds this lock")
            .clone();
        match sender {
            Some(sender) => {
                if let Err(mpsc::SendError((_, done))) = sender.send((batch, done)) {
                    done(Err(StateError::Closed));
                }
            }
            None => done(Err(StateError::Closed)),
        }
    }

    /// Makes `batch` durable; returns when it is.
    pub fn commit(&self, batch: Batch) -> Result<(), StateError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.commit_then(batch, move |result| drop(sender.send(result)));
        receiver.recv().unwrap_or(Err(StateError::Closed))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Closing the channel ends the writer after the batches already queued.
        if let Ok(mut writer) = self.writer.lock() {
            writer.take();
        }
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join());
        }
    }
}

fn write_loop(database: &Database, receiver: &mpsc::Receiver<(Batch, Done)>) {
    // Bounds how long the first caller of a group waits for the others' changes.
    const GROUP_MAX: usize = 256;
    while let Ok(first) = receiver.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(next) = receiver.try_recv()
        {
            group.push(next);
        }
        match write_group(database, &group) {
            Ok(()) => group.into_iter().for_each(|(_, done)| done(Ok(()))),
            // One batch can not spoil the others': each is tried alone.
            Err(_) if group.len() > 1 => {
                for entry in group {
                    let result = write_group(database, std::slice::from_ref(&entry));
                    (entry.1)(result);
                }
            }
            Err(error) => group
                .into_iter()
                .take(1)
                .for_each(|(_, done)| done(Err(error_again(&error)))),
        }
    }
}

fn write_group(database: &Database, group: &[(Batch, Done)]) -> Result<(), StateError> {
    let transaction = database.begin_write().map_err(|e| write_error(e.into()))?;
    for change in group.iter().flat_map(|(batch, _)| &batch.changes) {
        let mut table = transaction
            .open_table(definition(change.table))
            .map_err(|e| write_error(e.into()))?;
        match &change.value {
            Some(value) => drop(
                table
                    .insert(change.key.as_str(), value.as_slice())
                    .map_err(|e| write_error(e.into()))?,
            ),
            None => drop(
                table
                    .remove(change.key.as_str())
                    .map_err(|e| write_error(e.into()))?,
            ),
        }
    }
    transaction.commit().map_err(|e| write_error(e.into()))
}

fn definition(table: &str) -> TableDefinition<'_, &'static str, &'static [u8]> {
    TableDefinition::new(table)
}

fn decode<T: DeserializeOwned>(table: &str, key: &str, value: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(value).map_err(|source| StateError::Record {
        table: table.to_owned(),
        key: key.to_owned(),
        source,
    })
}

fn read_error(source: redb::Error) -> StateError {
    StateError::Transaction {
        action: "read",
        source: Box::new(source),
    }
}

fn write_error(source: redb::Error) -> StateError {
    StateError::Transaction {
        action: "write",
        source: Box::new(source),
    }
}

fn error_again(error: &StateError) -> StateError {
    write_error(redb::Error::Io(std::io::Error::other(wharf_fault::chain(
        error,
    ))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let folder =
            std::env::temp_dir().join(format!("wharf-state-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn commits_survive_reopening() {
        let folder = scratch("reopen");
        let path = folder.join("state.redb");
        {
            let store = Store::open(&path).unwrap();
            let mut batch = Batch::new();
            batch
                .put("containers", "one", &"first")
                .put("containers", "two", &"second");
            store.commit(batch).unwrap();
            let mut batch = Batch::new();
            batch.delete("containers", "one");
            store.commit(batch).unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.get::<String>("containers", "one").unwrap(), None);
        assert_eq!(
            store.list::<String>("containers").unwrap(),
            vec![("two".to_owned(), "second".to_owned())]
        );
        assert_eq!(store.list::<String>("no such table").unwrap(), vec![]);
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn passing_records_are_read_like_others() {
        let folder = scratch("passing");
        let (path, passing) = (folder.join("state.redb"), folder.join("run"));
        let open = || Store::open_with_passing(&path, &passing).unwrap();
        {
            let store = open();
            let mut batch = Batch::passing();
            batch
                .put("containers", "b", &"second")
                .put("layers", "b", &2);
            store.commit(batch).unwrap();
            let mut batch = Batch::new();
            batch.put("containers", "a", &"first");
            store.commit(batch).unwrap();
            let mut batch = Batch::passing();
            batch.put("containers", "b", &"changed");
            store.commit(batch).unwrap();
            let mut nowhere = Batch::passing();
            nowhere.put("containers", "../c", &"no");
            assert!(matches!(
                store.commit(nowhere),
                Err(StateError::Passing { .. })
            ));
        }
        // Cut off while they were written.
        std::fs::write(passing.join("c.tmp"), "{").unwrap();
        std::fs::write(passing.join("d"), "{\"containers").unwrap();
        let store = open();
        let both = vec![
            ("a".to_owned(), "first".to_owned()),
            ("b".to_owned(), "changed".to_owned()),
        ];
        assert_eq!(store.list::<String>("containers").unwrap(), both);
        assert_eq!(store.get::<u32>("layers", "b").unwrap(), Some(2));
        let mut batch = Batch::passing();
        batch.delete("containers", "b").delete("layers", "b");
        store.commit(batch).unwrap();
        assert_eq!(store.get::<u32>("layers", "b").unwrap(), None);
        assert_eq!(store.list::<String>("containers").unwrap(), both[..1]);
        assert_eq!(std::fs::read_dir(&passing).unwrap().count(), 0);
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn concurrent_commits_all_land() {
        let folder = scratch("group");
        let store = Store::open(&folder.join("state.redb")).unwrap();
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..10 {
                        let mut batch = Batch::new();
                        batch.put("numbers", format!("{worker}-{n}"), &n);
                        store.commit(batch).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.list::<u32>("numbers").unwrap().len(), 80);
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
