//! Giving memory back when the work is done.
//!
//! The allocator keeps what thousands of connections or a large list needed for the next such
//! hour. An engine is idle most of the time: some seconds after the last request it is asked to
//! return it. There is no timer while nothing happens.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Quiet for so long is the end of the work.
const QUIET: Duration = Duration::from_secs(3);
/// Work that never pauses for [`QUIET`] is not waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

fn give_back() {
    wharf_sys::malloc::trim();
    // Most of the program is code for what is not going on now.
    if let Err(error) = wharf_sys::program_pages::release_clean() {
        tracing::debug!(%error, "the program's pages stay mapped");
    }
}

/// Waits for activity, then for its end, then trims; for ever.
pub(crate) async fn run(activity: Arc<Notify>) {
    loop {
        activity.notified().await;
        let latest = Instant::now() + PATIENCE;
        loop {
            let quiet = (Instant::now() + QUIET).min(latest);
            let more = tokio::time::timeout_at(quiet, activity.notified())
                .await
                .is_ok();
            if !more || Instant::now() >= latest {
                break;
            }
        }
        // Walks all of the heap: not for a worker.
        if tokio::task::spawn_blocking(give_back).await.is_err() {
            return;
        }
    }
}
