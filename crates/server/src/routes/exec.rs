//! Exec sessions.

use hyper::{Method, StatusCode};
use serde_json::json;
use wharf_api_types::exec::{CreateExec, StartExec};
use wharf_engine::container::ExecClient;

use super::containers::size;
use super::streams::{client_fd, content_type};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::{Route, route};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Method::POST, "/containers/{id}/exec", create),
        route(Method::POST, "/exec/{id}/start", start),
        route(Method::POST, "/exec/{id}/resize", resize),
        route(Method::GET, "/exec/{id}/json", inspect),
    ]
}

async fn create(mut request: Request) -> Reply {
    let mut body: CreateExec = request.json().await?;
    if !request.version.at_least(42) {
        body.console_size = None;
    }
    let id = request.engine.exec_create(request.param("id"), body)?;
    Ok(reply::json_with(StatusCode::CREATED, &json!({ "Id": id })))
}

async fn start(mut request: Request) -> Reply {
    let mut body: StartExec = request.json().await?;
    if !request.version.at_least(42) {
        body.console_size = None;
    }
    let engine = request.engine.clone();
    let session = engine.exec_check(request.param("id"), &body)?;
    if body.detach {
        engine.exec_start(&session, &body, None).await?;
        return Ok(reply::empty(StatusCode::OK));
    }
    let socket = request
        .hijack(content_type(session.tty(), request.version), true)
        .await?;
    let client = ExecClient {
        socket: client_fd(socket)?,
        raw: false,
    };
    engine.exec_start(&session, &body, Some(client)).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn resize(request: Request) -> Reply {
    let (height, width) = size(&request)?;
    request
        .engine
        .exec_resize(request.param("id"), height, width)
        .await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn inspect(request: Request) -> Reply {
    Ok(reply::json(
        &request.engine.exec_inspect(request.param("id"))?,
    ))
}
