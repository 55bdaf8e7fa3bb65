//! From an HTTP request to its route and back: version, path, parameters, common headers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::Request as HttpRequest;
use hyper::body::{Body as _, Incoming};
use hyper::header::{EXPECT, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use tokio::sync::Notify;
use wharf_engine::Engine;
use wharf_fault::{Error, Kind};

use crate::connection::Caller;
use crate::hijack::HijackSlot;
use crate::negotiate;
use crate::reply::{self, Reply, Response};
use crate::request::{BodySlot, Query, Request, percent_decode};
use crate::router::{OnClientGone, Router};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Dispatch {
    engine: Engine,
    router: Router,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Told of every request.
    activity: Arc<Notify>,
}

impl Dispatch {
    pub(crate) fn new(engine: Engine, router: Router) -> Self {
        let headers = negotiate::common_headers(engine.settings().experimental)
            .into_iter()
            .filter_map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                Some((name, HeaderValue::from_str(&value).ok()?))
            })
            .collect();
        Self {
            engine,
            router,
            headers,
            activity: Arc::default(),
        }
    }

    /// What is told of every request.
    pub(crate) fn activity(&self) -> Arc<Notify> {
        Arc::clone(&self.activity)
    }

    /// Answers a request; errors become answers here.
    pub(crate) async fn answer(
        &self,
        request: HttpRequest<Incoming>,
        slot: HijackSlot,
        caller: Caller,
    ) -> Response {
        let begin = Instant::now();
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let mut response = match self.route(request, slot, caller).await {
            Ok(response) => response,
            Err(error) => {
                // The client learns of its own mistakes; those of the host belong in the log too.
                if error.kind() == Kind::System {
                    tracing::error!(%method, path, error = %wharf_fault::chain(&error), "request failed");
                }
                reply::error(&error)
            }
        };
        for (name, value) in &self.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        self.activity.notify_one();
        let status = response.status().as_u16();
        tracing::debug!(%method, path, status, micros = begin.elapsed().as_micros(), "request");
        response
    }

    async fn route(
        &self,
        request: HttpRequest<Incoming>,
        slot: HijackSlot,
        caller: Caller,
    ) -> Reply {
        let (head, body) = request.into_parts();
        let body = BodySlot::new(body);
        let expects = head.headers.contains_key(EXPECT);
        let reply = self.run(head, body.clone(), slot, caller).await;
        // A client that waits to be asked for the body sends none after this answer.
        if let Some(rest) = body.take()
            && !rest.is_end_stream()
            && !expects
        {
            tokio::spawn(drain(rest));
        }
        reply
    }

    async fn run(&self, head: Parts, body: BodySlot, slot: HijackSlot, caller: Caller) -> Reply {
        let path = percent_decode(head.uri.path(), false).ok_or_else(|| {
            Error::invalid(format!("invalid URL escape in {:?}", head.uri.path()))
        })?;
        let (version, path) = negotiate::split_path(&path)?;
        let (route, params) = self
            .router
            .find(&head.method, path)
            .ok_or_else(|| Error::not_found("page not found"))?;
        let query = Query::parse(head.uri.query().unwrap_or(""))?;
        let engine = self.engine.clone();
        let mut request = Request::new(engine, version, query, params, head.headers, body, slot);
        request.caller = caller;
        let work = route.run(request);
        match route.on_client_gone {
            OnClientGone::Cancel => work.await,
            OnClientGone::Finish => tokio::spawn(work).await.unwrap_or_else(|error| {
                Err(Error::system("the engine failed on this request").caused_by(error))
            }),
        }
    }
}

/// Reads what no route wanted: a client that is still writing would find its connection closed
/// before it reads the answer. Bounds are those of Go's server.
async fn drain(mut body: Incoming) {
    const BYTES_MAX: usize = 256 * 1024;
    const PATIENCE: Duration = Duration::from_secs(5);
    let reading = async {
        let mut left = BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, |data| data.len());
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whatever comes later is the client's loss.
    let _ = tokio::time::timeout(PATIENCE, reading).await;
}
