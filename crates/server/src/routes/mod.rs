//! The routes of the API, one file per kind of object.

mod attach_websocket;
mod checkpoints;
mod containers;
mod exec;
mod images;
mod missing;
mod networks;
mod streams;
mod system;
mod volumes;

use crate::router::Route;

/// All routes, in the order they are tried.
pub(crate) fn all() -> Vec<Route> {
    let mut routes = Vec::new();
    routes.extend(system::routes());
    routes.extend(containers::routes());
    routes.extend(checkpoints::routes());
    routes.extend(attach_websocket::routes());
    routes.extend(exec::routes());
    routes.extend(images::routes());
    routes.extend(networks::routes());
    routes.extend(volumes::routes());
    routes.extend(missing::routes());
    routes
}
