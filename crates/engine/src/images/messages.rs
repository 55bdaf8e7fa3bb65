//! Progress of operations that take their time, on its way to the client.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use wharf_api_types::StreamMessage;

/// Between two reports of bytes about the same part. Docker's own pace.
const PACE: Duration = Duration::from_millis(100);
/// Reports of bytes are left out while a slow client has this many messages before it.
const BACKLOG_MAX: usize = 64;

/// Where an operation reports to. Sending never waits: changes of state are few and always kept,
/// counts of bytes are thinned out.
#[derive(Debug, Clone)]
pub struct Messages {
    sender: mpsc::UnboundedSender<StreamMessage>,
    backlog: Arc<AtomicUsize>,
    reported: Arc<Mutex<HashMap<String, Instant>>>,
}

/// A place to report to, and the messages as they come. Dropping the receiver tells the operation
/// that nobody listens.
pub fn messages() -> (Messages, Receiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let backlog = Arc::new(AtomicUsize::new(0));
    let messages = Messages {
        sender,
        backlog: Arc::clone(&backlog),
        reported: Arc::default(),
    };
    (
        messages,
        Receiver {
            messages: receiver,
            backlog,
        },
    )
}

/// The messages of an operation.
#[derive(Debug)]
pub struct Receiver {
    messages: mpsc::UnboundedReceiver<StreamMessage>,
    backlog: Arc<AtomicUsize>,
}

impl Receiver {
    /// The next message; `None` when the operation has ended.
    pub async fn next(&mut self) -> Option<StreamMessage> {
        let message = self.messages.recv().await;
        if message.is_some() {
            self.backlog.fetch_sub(1, Ordering::Relaxed);
        }
        message
    }
}

impl Messages {
    /// Reports a change of state.
    pub fn send(&self, message: StreamMessage) {
        self.backlog.fetch_add(1, Ordering::Relaxed);
        // Nobody listens any more: `closed` tells whoever wants to know.
        drop(self.sender.send(message));
    }

    /// Reports how far part `id` is, unless it was reported a moment ago.
    pub fn progress(&self, id: &str, text: &str, current: u64, total: u64) {
        {
            let mut reported = self
                .reported
                .lock()
                .expect("no code panics while it holds this lock");
            let now = Instant::now();
            match reported.get_mut(id) {
                Some(last) if now.duration_since(*last) < PACE => return,
                Some(last) => *last = now,
                None => drop(reported.insert(id.to_owned(), now)),
            }
        }
        if self.backlog.load(Ordering::Relaxed) < BACKLOG_MAX {
            self.send(StreamMessage::progress(id, text, current, total));
        }
    }

    /// Waits until nobody listens any more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}
