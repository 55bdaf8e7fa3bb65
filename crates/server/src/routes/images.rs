//! Images.

use crate::router::Route;

pub(super) fn routes() -> Vec<Route> {
    Vec::new()
}
