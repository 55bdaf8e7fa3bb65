//! The engine itself: ping, version, info, events, disk usage, login.

use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderName, HeaderValue, PRAGMA};
use hyper::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use wharf_api_types::event::EventMessage;
use wharf_api_types::image::AuthConfig;
use wharf_api_types::time::parse_reference;
use wharf_engine::events::{EventFilter, Numbered};
use wharf_engine::system::{self, DiskUsage, DiskUsageParts};
use wharf_fault::{Error, Result};

use crate::reply::{self, BodySender, ClientGone, Reply, Response};
use crate::request::Request;
use crate::router::{Route, route};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/_ping", |request| async move {
            Ok(ping(&request, "OK"))
        }),
        route(Method::HEAD, "/_ping", |request| async move {
            let mut response = ping(&request, "");
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            Ok(response)
        }),
        route(Method::GET, "/version", version),
        route(Method::GET, "/info", info),
        route(Method::GET, "/events", events),
        route(Method::GET, "/system/df", disk_usage),
        route(Method::POST, "/auth", login),
        // `docker system prune` includes it: without a builder there is nothing to remove.
        route(
            Method::POST,
            "/build/prune",
            |request: Request| async move {
                request.query.filters()?;
                Ok(reply::json(
                    &json!({"CachesDeleted": null, "SpaceReclaimed": 0}),
                ))
            },
        ),
        // Wharf has no plugins, so the list of them is empty.
        route(Method::GET, "/plugins", |request: Request| async move {
            request.query.filters()?;
            Ok(reply::json(&[(); 0]))
        }),
    ]
}

fn ping(request: &Request, body: &'static str) -> Response {
    let buildkit = request.engine.settings().features.get("buildkit") == Some(&true);
    let mut response = reply::text(body);
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    // The builder clients should choose: 1 is the classic one, 2 BuildKit.
    headers.insert(
        HeaderName::from_static("builder-version"),
        HeaderValue::from_static(if buildkit { "2" } else { "1" }),
    );
    headers.insert(
        HeaderName::from_static("swarm"),
        HeaderValue::from_static("inactive"),
    );
    response
}

async fn version(request: Request) -> Reply {
    let experimental = request.engine.settings().experimental;
    Ok(reply::json(&system::version(experimental)))
}

async fn info(request: Request) -> Reply {
    // Reads files, of images too when they are asked for the first time.
    let engine = request.engine.clone();
    let gathered = tokio::task::spawn_blocking(move || engine.info()).await;
    let mut info = gathered
        .map_err(|source| Error::system("the engine failed on this request").caused_by(source))??;
    if !request.version.at_least(50) {
        info.bridge_nf_iptables = Some(false);
        info.bridge_nf_ip6tables = Some(false);
    }
    if !request.version.at_least(49) {
        info.firewall_backend = None;
    }
    if !request.version.at_least(48) {
        for commit in [
            &mut info.containerd_commit,
            &mut info.runc_commit,
            &mut info.init_commit,
        ] {
            commit.expected.clone_from(&commit.id);
        }
    }
    Ok(reply::json(&info))
}

async fn events(request: Request) -> Reply {
    let now = Timestamp::now();
    let since = instant(&request, "since", now)?;
    let until = instant(&request, "until", now)?;
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(Error::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            request.query.str("since"),
            request.query.str("until")
        )));
    }
    let filter = EventFilter::new(request.query.filters()?)?;
    let legacy = !request.version.at_least(52);
    let (sender, response) = reply::stream("application/json");
    let events = request.engine.events.clone();
    match until {
        // Nothing can be added to the past.
        Some(until) if until <= now => {
            let past = events.between(since, Some(until), &filter);
            tokio::spawn(async move {
                for event in past {
                    send_event(&sender, &event, legacy).await?;
                }
                Ok::<_, ClientGone>(())
            });
        }
        until => {
            let mut stream = events.subscribe(since, filter);
            tokio::spawn(async move {
                let end = async {
                    match until {
                        Some(until) => tokio::time::sleep(time_until(until)).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::pin!(end);
                loop {
                    let event = tokio::select! {
                        event = stream.next() => event,
                        () = &mut end => return Ok(()),
                        () = sender.closed() => return Err(ClientGone),
                    };
                    send_event(&sender, &event, legacy).await?;
                }
            });
        }
    }
    Ok(response)
}

fn time_until(until: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default()
}

async fn send_event(
    sender: &BodySender,
    event: &Numbered,
    legacy: bool,
) -> std::result::Result<(), ClientGone> {
    if legacy {
        let message: EventMessage = (*event.message).clone();
        return sender.send_json(&message.with_legacy_fields()).await;
    }
    sender.send_json(&*event.message).await
}

fn instant(request: &Request, name: &str, now: Timestamp) -> Result<Option<Timestamp>> {
    match request.query.str(name) {
        "" => Ok(None),
        text => match parse_reference(text, now) {
            Some(at) => Ok(Some(at)),
            None => Err(Error::invalid(format!(
                "invalid value for {name}: failed to parse value as time or duration: {text:?}"
            ))),
        },
    }
}

async fn disk_usage(request: Request) -> Reply {
    let mut parts = DiskUsageParts {
        images: false,
        containers: false,
        volumes: false,
    };
    let types = request.query.all("type");
    for kind in &types {
        match *kind {
            "image" => parts.images = true,
            "container" => parts.containers = true,
            "volume" => parts.volumes = true,
            "build-cache" => {}
            other => return Err(Error::invalid(format!("unknown object type: {other}"))),
        }
    }
    if types.is_empty() {
        parts = DiskUsageParts::ALL;
    }
    let build_cache = types.is_empty() || types.contains(&"build-cache");
    let usage = request.engine.disk_usage(parts).await?;
    let body = if request.version.at_least(52) {
        current_form(&usage, build_cache, request.query.flag("verbose"))
    } else {
        legacy_form(&usage, build_cache)
    };
    Ok(reply::json(&body))
}

/// The form before API 1.52: the objects, from which the client computes sums.
fn legacy_form(usage: &DiskUsage, build_cache: bool) -> Value {
    json!({
        "LayersSize": usage.layers_bytes,
        "Images": usage.images,
        "Containers": usage.containers,
        "Volumes": usage.volumes,
        "BuildCache": build_cache.then(|| json!([])),
        "BuilderSize": 0,
    })
}

/// The form from API 1.52 on: sums, and the objects when asked for.
fn current_form(usage: &DiskUsage, build_cache: bool, verbose: bool) -> Value {
    let mut body = serde_json::Map::new();
    if let Some(images) = &usage.images {
        let active = images.iter().filter(|image| image.containers > 0).count();
        let used: i64 = images
            .iter()
            .filter(|image| image.containers > 0)
            .map(|image| image.size - image.shared_size.max(0))
            .sum();
        let reclaimable = (usage.layers_bytes - used).max(0);
        body.insert(
            "ImageUsage".into(),
            sums(
                active,
                images.len(),
                reclaimable,
                usage.layers_bytes,
                verbose.then(|| json!(images)),
            ),
        );
    }
    if let Some(containers) = &usage.containers {
        let is_active = |state: &str| matches!(state, "running" | "paused" | "restarting");
        let active = containers
            .iter()
            .filter(|container| is_active(&container.state))
            .count();
        let size = |container: &wharf_api_types::container::ContainerSummary| {
            container.size_rw.unwrap_or(0)
        };
        let total = containers.iter().map(size).sum();
        let reclaimable = containers
            .iter()
            .filter(|container| !is_active(&container.state))
            .map(size)
            .sum();
        body.insert(
            "ContainerUsage".into(),
            sums(
                active,
                containers.len(),
                reclaimable,
                total,
                verbose.then(|| json!(containers)),
            ),
        );
    }
    if let Some(volumes) = &usage.volumes {
        let numbers =
            |volume: &wharf_api_types::volume::Volume| volume.usage_data.unwrap_or_default();
        let active = volumes
            .iter()
            .filter(|volume| numbers(volume).ref_count > 0)
            .count();
        let total = volumes.iter().map(|volume| numbers(volume).size).sum();
        let unused = volumes
            .iter()
            .filter(|volume| numbers(volume).ref_count == 0);
        let reclaimable = unused.map(|volume| numbers(volume).size).sum();
        body.insert(
            "VolumeUsage".into(),
            sums(
                active,
                volumes.len(),
                reclaimable,
                total,
                verbose.then(|| json!(volumes)),
            ),
        );
    }
    if build_cache {
        body.insert(
            "BuildCacheUsage".into(),
            sums(0, 0, 0, 0, verbose.then(|| json!([]))),
        );
    }
    Value::Object(body)
}

fn sums(active: usize, count: usize, reclaimable: i64, size: i64, items: Option<Value>) -> Value {
    let mut sums = json!({"ActiveCount": active, "TotalCount": count, "Reclaimable": reclaimable, "TotalSize": size});
    if let Some(items) = items {
        sums["Items"] = items;
    }
    sums
}

async fn login(mut request: Request) -> Reply {
    let auth: AuthConfig = request.json().await?;
    let result = request.engine.images.login(&auth).await?;
    Ok(reply::json_with(StatusCode::OK, &result))
}
