//! Operations of Docker's API that Wharf does not have yet: each says so by name.

use hyper::Method;
use wharf_fault::{Error, Kind};

use crate::request::Request;
use crate::router::{Route, route};

/// Docker's answer to swarm operations on a host that is in no swarm.
const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

/// Method, pattern and what the operation is.
const NOT_YET: &[(Method, &str, &str)] = &[
    (Method::POST, "/build", "building images"),
    (Method::POST, "/build/cancel", "cancelling builds"),
    (Method::POST, "/session", "build sessions"),
    (Method::POST, "/grpc", "BuildKit"),
    (Method::POST, "/commit", "committing containers"),
    (
        Method::GET,
        "/images/{name*}/attestations",
        "image attestations",
    ),
    (Method::PUT, "/volumes/{name}", "cluster volumes"),
    (Method::GET, "/plugins/privileges", "plugins"),
    (Method::POST, "/plugins/pull", "plugins"),
    (Method::POST, "/plugins/create", "plugins"),
    (Method::POST, "/swarm/init", "swarm mode"),
    (Method::POST, "/swarm/join", "swarm mode"),
];

/// Operations on a plugin by name; there is none.
const PLUGIN: &[(Method, &str)] = &[
    (Method::GET, "/plugins/{name*}/json"),
    (Method::POST, "/plugins/{name*}/enable"),
    (Method::POST, "/plugins/{name*}/disable"),
    (Method::POST, "/plugins/{name*}/upgrade"),
    (Method::POST, "/plugins/{name*}/push"),
    (Method::POST, "/plugins/{name*}/set"),
    (Method::DELETE, "/plugins/{name*}"),
];

/// Operations that need a swarm manager, which no host is yet.
const SWARM: &[(Method, &str)] = &[
    (Method::GET, "/swarm"),
    (Method::POST, "/swarm/update"),
    (Method::GET, "/swarm/unlockkey"),
    (Method::GET, "/nodes"),
    (Method::GET, "/nodes/{id}"),
    (Method::DELETE, "/nodes/{id}"),
    (Method::POST, "/nodes/{id}/update"),
    (Method::GET, "/services"),
    (Method::POST, "/services/create"),
    (Method::GET, "/services/{id}"),
    (Method::DELETE, "/services/{id}"),
    (Method::POST, "/services/{id}/update"),
    (Method::GET, "/services/{id}/logs"),
    (Method::GET, "/tasks"),
    (Method::GET, "/tasks/{id}"),
    (Method::GET, "/tasks/{id}/logs"),
    (Method::GET, "/secrets"),
    (Method::POST, "/secrets/create"),
    (Method::GET, "/secrets/{id}"),
    (Method::DELETE, "/secrets/{id}"),
    (Method::POST, "/secrets/{id}/update"),
    (Method::GET, "/configs"),
    (Method::POST, "/configs/create"),
    (Method::GET, "/configs/{id}"),
    (Method::DELETE, "/configs/{id}"),
    (Method::POST, "/configs/{id}/update"),
];

pub(super) fn routes() -> Vec<Route> {
    let not_yet = NOT_YET.iter().map(|(method, pattern, what)| {
        route(method.clone(), pattern, move |_| async move {
            Err(Error::not_implemented(format!(
                "{what} is not supported by this version of Wharf ({method} {pattern})"
            )))
        })
    });
    let plugin = PLUGIN.iter().map(|(method, pattern)| {
        route(method.clone(), pattern, |request: Request| async move {
            Err(Error::not_found(format!(
                "plugin {:?} not found",
                request.param("name")
            )))
        })
    });
    let swarm = SWARM.iter().map(|(method, pattern)| {
        route(method.clone(), pattern, |_| async {
            Err(Error::new(Kind::Unavailable, NO_SWARM))
        })
    });
    let outside = [
        route(Method::POST, "/swarm/leave", |_| async {
            Err(Error::new(
                Kind::Unavailable,
                "This node is not part of a swarm",
            ))
        }),
        route(Method::POST, "/swarm/unlock", |_| async {
            Err(Error::conflict("swarm is not locked"))
        }),
    ];
    not_yet.chain(plugin).chain(swarm).chain(outside).collect()
}
