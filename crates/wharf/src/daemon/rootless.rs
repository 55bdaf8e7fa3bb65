//! What an ordinary user's daemon was given on its way in, for the engine and for itself.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use wharf_engine::Rootless;
use wharf_rootless::Inside;

/// The engine's part, and the connection whose end is the keeper's.
pub(super) fn parts(inside: Inside) -> (Rootless, OwnedFd) {
    if let Err(reason) = &inside.uplink {
        tracing::warn!(reason, "containers reach each other, but nothing outside");
    }
    if let Err(reason) = &inside.cgroup_parent {
        tracing::warn!(reason, "containers have no cgroups, limits are discarded");
    }
    let rootless = Rootless {
        network: Arc::new(inside.network),
        lifeline: Arc::new(inside.lifeline),
        uplink: inside.uplink,
        cgroup_parent: inside.cgroup_parent,
        user: inside.user,
    };
    (rootless, inside.keeper)
}

/// Returns when the keeper has ended; never without one.
pub(super) async fn end_of(keeper: Option<OwnedFd>) {
    let Some(keeper) = keeper else {
        return std::future::pending().await;
    };
    let keeper = UnixStream::from(keeper);
    let watched = keeper
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixStream::from_std(keeper));
    match watched {
        // It never says more than it has said: all that can come is its end.
        Ok(keeper) => drop(keeper.readable().await),
        Err(error) => {
            tracing::warn!(%error, "cannot watch the process that keeps the namespaces");
            std::future::pending().await
        }
    }
}
