//! Volumes.

use hyper::{Method, StatusCode};
use wharf_api_types::volume::VolumeCreate;

use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::{Route, route};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/volumes", list),
        route(Method::POST, "/volumes/create", create),
        route(Method::POST, "/volumes/prune", prune),
        route(Method::GET, "/volumes/{name}", inspect),
        route(Method::DELETE, "/volumes/{name}", remove),
    ]
}

async fn list(request: Request) -> Reply {
    let engine = &request.engine;
    Ok(reply::json(
        &engine.volumes.list(engine, &request.query.filters()?)?,
    ))
}

async fn create(mut request: Request) -> Reply {
    let body: VolumeCreate = request.json().await?;
    let engine = &request.engine;
    let (volume, _) = engine.volumes.ensure(&engine.events, &body).await?;
    Ok(reply::json_with(StatusCode::CREATED, &volume))
}

async fn inspect(request: Request) -> Reply {
    Ok(reply::json(
        &request.engine.volumes.inspect(request.param("name"))?,
    ))
}

async fn remove(request: Request) -> Reply {
    let engine = &request.engine;
    engine
        .volumes
        .remove(engine, request.param("name"), request.query.flag("force"))
        .await?;
    Ok(reply::no_content())
}

async fn prune(request: Request) -> Reply {
    let engine = &request.engine;
    // Before API 1.42 named volumes were pruned too.
    let all_by_default = !request.version.at_least(42);
    let filters = request.query.filters()?;
    Ok(reply::json(
        &engine
            .volumes
            .prune(engine, &filters, all_by_default)
            .await?,
    ))
}
