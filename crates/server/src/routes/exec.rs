//! Owner: the engine-core engineer.

use crate::router::Route;

pub(super) fn routes() -> Vec<Route> {
    Vec::new()
}
