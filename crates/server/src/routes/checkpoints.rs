//! Checkpoints of containers.

use hyper::{Method, StatusCode};
use wharf_api_types::checkpoint::CheckpointCreate;

use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::{Route, route};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/containers/{id}/checkpoints", list),
        route(Method::POST, "/containers/{id}/checkpoints", create),
        route(
            Method::DELETE,
            "/containers/{id}/checkpoints/{checkpoint}",
            remove,
        ),
    ]
}

async fn create(mut request: Request) -> Reply {
    let body: CheckpointCreate = request.json().await?;
    request
        .engine
        .checkpoint_create(request.param("id"), &body)
        .await?;
    Ok(reply::empty(StatusCode::CREATED))
}

async fn list(request: Request) -> Reply {
    let list = request
        .engine
        .checkpoint_list(request.param("id"), request.query.str("dir"))?;
    Ok(reply::json(&list))
}

async fn remove(request: Request) -> Reply {
    request.engine.checkpoint_remove(
        request.param("id"),
        request.param("checkpoint"),
        request.query.str("dir"),
    )?;
    Ok(reply::no_content())
}
