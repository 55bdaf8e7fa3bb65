//! Networks.

use hyper::{Method, StatusCode};
use wharf_api_types::ApiVersion;
use wharf_api_types::network::{Network, NetworkConnect, NetworkCreate, NetworkDisconnect};

use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::{Route, route};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/networks", list),
        // With a slash in the path: old clients ask so.
        route(Method::GET, "/networks/", list),
        route(Method::POST, "/networks/create", create),
        route(Method::POST, "/networks/prune", prune),
        route(Method::GET, "/networks/{id}", inspect),
        route(Method::DELETE, "/networks/{id}", remove),
        route(Method::POST, "/networks/{id}/connect", connect),
        route(Method::POST, "/networks/{id}/disconnect", disconnect),
    ]
}

async fn list(request: Request) -> Reply {
    let filters = request.query.filters()?;
    let mut networks = request.engine.networks.list(&filters)?;
    for network in &mut networks {
        // Up to API 1.27 lists had the containers too.
        if !request.version.at_least(28) {
            network.containers = request.engine.networks.inspect(&network.id)?.containers;
        }
        for_version(network, request.version);
    }
    Ok(reply::json(&networks))
}

async fn inspect(request: Request) -> Reply {
    let mut network = request.engine.networks.inspect(request.param("id"))?;
    for_version(&mut network, request.version);
    Ok(reply::json(&network))
}

fn for_version(network: &mut Network, version: ApiVersion) {
    if !version.at_least(48) {
        network.enable_ipv4 = None;
    }
}

async fn create(mut request: Request) -> Reply {
    let body: NetworkCreate = request.json().await?;
    let engine = &request.engine;
    Ok(reply::json_with(
        StatusCode::CREATED,
        &engine.networks.create(engine, body).await?,
    ))
}

async fn remove(request: Request) -> Reply {
    let engine = &request.engine;
    engine.networks.remove(engine, request.param("id")).await?;
    Ok(reply::no_content())
}

async fn connect(mut request: Request) -> Reply {
    let body: NetworkConnect = request.json().await?;
    let settings = body.endpoint_config.unwrap_or_default();
    request
        .engine
        .connect_network(request.param("id"), &body.container, settings)
        .await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn disconnect(mut request: Request) -> Reply {
    let body: NetworkDisconnect = request.json().await?;
    request
        .engine
        .disconnect_network(request.param("id"), &body.container, body.force)
        .await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn prune(request: Request) -> Reply {
    let engine = &request.engine;
    Ok(reply::json(
        &engine
            .networks
            .prune(engine, &request.query.filters()?)
            .await?,
    ))
}
