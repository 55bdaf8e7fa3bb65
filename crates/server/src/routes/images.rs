//! Images.

use std::future::Future;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::io::SyncIoBridge;
use wharf_api_types::image::{AuthConfig, ImageInspect, ImageSummary};
use wharf_api_types::{ApiVersion, StreamMessage};
use wharf_engine::images::{Images, ImportSource, ListOptions, Messages, PullRequest, messages};
use wharf_fault::{Error, Result, chain};
use wharf_oci::platform::Platform;

use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::{Route, route};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/images/json", list),
        route(Method::GET, "/images/search", search),
        route(Method::GET, "/images/get", save),
        // Their work goes on by itself and hears that nobody listens any more.
        route(Method::POST, "/images/create", create).cancelled_with_client(),
        route(Method::POST, "/images/load", load).cancelled_with_client(),
        route(Method::POST, "/images/prune", prune),
        route(Method::GET, "/images/{name*}/get", save),
        route(Method::GET, "/images/{name*}/json", inspect),
        route(Method::GET, "/images/{name*}/history", history),
        route(Method::POST, "/images/{name*}/push", push).cancelled_with_client(),
        route(Method::POST, "/images/{name*}/tag", tag),
        route(Method::DELETE, "/images/{name*}", remove),
        route(Method::GET, "/distribution/{name*}/json", distribution),
    ]
}

async fn list(request: Request) -> Reply {
    let query = &request.query;
    let mut filters = query.filters()?;
    // Before filters had it, a parameter of its own.
    if !query.str("filter").is_empty() && !request.version.at_least(41) {
        filters.add("reference", query.str("filter"));
    }
    let options = ListOptions {
        filters,
        shared_size: query.flag("shared-size"),
        containers: false,
        manifests: query.flag("manifests") && request.version.at_least(47),
    };
    let mut images = request.engine.images.list(&request.engine, options).await?;
    for image in &mut images {
        summary_for_version(image, request.version);
    }
    Ok(reply::json(&images))
}

fn summary_for_version(image: &mut ImageSummary, version: ApiVersion) {
    if !version.at_least(44) {
        image.virtual_size = Some(image.size);
    }
    if !version.at_least(43) && image.repo_tags.is_empty() {
        image.repo_tags.push("<none>:<none>".to_owned());
        if image.repo_digests.is_empty() {
            image.repo_digests.push("<none>@<none>".to_owned());
        }
    }
    if !version.at_least(48) {
        image.descriptor = None;
    }
}

async fn inspect(request: Request) -> Reply {
    let platform = platform(request.query.str("platform"))?;
    let manifests = request.query.flag("manifests") && request.version.at_least(48);
    if manifests && platform.is_some() {
        return Err(Error::invalid(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let (engine, name) = (&request.engine, request.param("name"));
    let mut image = engine
        .images
        .inspect(engine, name, platform, manifests)
        .await?;
    inspect_for_version(&mut image, request.version);
    Ok(reply::json(&image))
}

fn inspect_for_version(image: &mut ImageInspect, version: ApiVersion) {
    if !version.at_least(44) {
        image.virtual_size = Some(image.size);
    }
    if !version.at_least(48) {
        image.descriptor = None;
    }
    // Fields of containers that older versions repeat for images, never with a meaning.
    if !version.at_least(50)
        && let Value::Object(config) = &mut image.config
    {
        let legacy = json!({
            "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
            "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null,
            "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
        });
        if let Value::Object(legacy) = legacy {
            for (key, value) in legacy {
                config.entry(key).or_insert(value);
            }
        }
    }
}

async fn history(request: Request) -> Reply {
    let platform = platform(request.query.str("platform"))?;
    Ok(reply::json(
        &request
            .engine
            .images
            .history(request.param("name"), platform)
            .await?,
    ))
}

async fn tag(request: Request) -> Reply {
    let (engine, query) = (&request.engine, &request.query);
    engine
        .images
        .tag(
            engine,
            request.param("name"),
            query.str("repo"),
            query.str("tag"),
        )
        .await?;
    Ok(reply::empty(StatusCode::CREATED))
}

async fn remove(request: Request) -> Reply {
    let engine = &request.engine;
    if !request.query.all("platforms").is_empty() {
        return Err(Error::not_implemented(
            "removing single platforms of an image is not supported by this version of Wharf",
        ));
    }
    let removed = engine
        .images
        .remove(engine, request.param("name"), request.query.flag("force"))
        .await?;
    Ok(reply::json(&removed))
}

async fn prune(request: Request) -> Reply {
    let engine = &request.engine;
    Ok(reply::json(
        &engine
            .images
            .prune(engine, &request.query.filters()?)
            .await?,
    ))
}

/// `POST /images/create`: pull, or import when there is a `fromSrc`.
async fn create(mut request: Request) -> Reply {
    let query = request.query.clone();
    let platform = platform(query.str("platform"))?;
    let engine = request.engine.clone();
    match (query.str("fromImage"), query.str("fromSrc")) {
        ("", "-") => {
            let source = ImportSource {
                repository: query.str("repo").to_owned(),
                tag: query.str("tag").to_owned(),
                message: query.str("message").to_owned(),
                changes: query
                    .all("changes")
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                platform,
            };
            let archive = SyncIoBridge::new(request.body_reader());
            stream(move |messages| async move {
                engine
                    .images
                    .import(&engine, archive, source, messages)
                    .await
            })
            .await
        }
        ("", "") => Err(Error::invalid(
            "one of fromImage and fromSrc has to be given",
        )),
        ("", _) => Err(Error::not_implemented(
            "importing from a URL is not supported by this version of Wharf; use `-`",
        )),
        (name, _) => {
            let pull = PullRequest {
                name: name.to_owned(),
                tag: query.str("tag").to_owned(),
                platform,
                auth: auth(&request),
            };
            stream(move |messages| async move { engine.images.pull(&engine, pull, messages).await })
                .await
        }
    }
}

async fn push(mut request: Request) -> Reply {
    let platform = platform(request.query.str("platform"))?;
    // The oldest clients send the credentials in the body.
    let auth = match request.header("x-registry-auth") {
        Some(_) => auth(&request),
        None => request.json().await.unwrap_or_default(),
    };
    let engine = request.engine.clone();
    let (name, tag) = (
        request.param("name").to_owned(),
        request.query.str("tag").to_owned(),
    );
    stream(move |messages| async move {
        engine
            .images
            .push(&engine, &name, &tag, platform, auth, messages)
            .await
    })
    .await
}

async fn load(mut request: Request) -> Reply {
    let platforms = request.query.all("platform");
    let platform = match platforms[..] {
        [] => None,
        [one] => platform(one)?,
        _ => {
            return Err(Error::not_implemented(
                "loading more than one platform at a time is not supported by this version of Wharf",
            ));
        }
    };
    let quiet = request.query.flag_or("quiet", true);
    let engine = request.engine.clone();
    let archive = SyncIoBridge::new(request.body_reader());
    stream(move |messages| async move {
        engine
            .images
            .load(&engine, archive, platform, quiet, messages)
            .await
    })
    .await
}

/// `GET /images/{name}/get` and `GET /images/get?names=…`.
async fn save(request: Request) -> Reply {
    let platforms = request.query.all("platform");
    let platform = match platforms[..] {
        [] => None,
        [one] => platform(one)?,
        _ => {
            return Err(Error::not_implemented(
                "saving more than one platform at a time is not supported by this version of Wharf",
            ));
        }
    };
    let names: Vec<String> = match request.param("name") {
        // A list may also be given as one value with commas.
        "" => request
            .query
            .all("names")
            .iter()
            .flat_map(|names| names.split(','))
            .map(str::to_owned)
            .collect(),
        name => vec![name.to_owned()],
    };
    let archive = request
        .engine
        .images
        .save(&request.engine, names, platform)
        .await?;
    let (sender, response) = reply::stream("application/x-tar");
    let mut writer = sender.blocking_writer();
    tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let written = Images::write_archive(&archive, &mut writer).and_then(|()| {
            writer
                .flush()
                .map_err(|source| Error::system("cannot send").caused_by(source))
        });
        if let Err(error) = written {
            tracing::debug!(error = chain(&error), "an image archive ended early");
            writer.abort();
        }
    });
    Ok(response)
}

async fn search(request: Request) -> Reply {
    let filters = request.query.filters()?;
    let limit = match request.query.int("limit")? {
        None | Some(0) => 25,
        Some(limit @ 1..=100) => limit,
        Some(limit) => {
            return Err(Error::invalid(format!(
                "invalid limit {limit}: must be between 1 and 100"
            )));
        }
    };
    let auth = auth(&request);
    let term = request.query.str("term");
    Ok(reply::json(
        &request
            .engine
            .images
            .search(term, limit, &filters, auth)
            .await?,
    ))
}

async fn distribution(request: Request) -> Reply {
    let auth = auth(&request);
    Ok(reply::json(
        &request
            .engine
            .images
            .distribution(request.param("name"), auth)
            .await?,
    ))
}

fn auth(request: &Request) -> AuthConfig {
    request
        .header("x-registry-auth")
        .map(AuthConfig::from_header)
        .unwrap_or_default()
}

/// A platform parameter: `linux/arm64`, or JSON from API 1.48 on.
fn platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with('{') {
        return match serde_json::from_str::<Platform>(text) {
            Ok(platform) => Ok(Some(platform.normalized())),
            Err(error) => Err(Error::invalid(format!("failed to parse platform: {error}"))),
        };
    }
    match Platform::parse(text) {
        Ok(platform) => Ok(Some(platform)),
        Err(error) => Err(Error::invalid(error.to_string())),
    }
}

/// Answers with the messages of an operation. One that fails before its first message fails as any
/// request does; later the failure is the stream's last message.
async fn stream<W, F>(work: W) -> Reply
where
    W: FnOnce(Messages) -> F,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (reports, mut received) = messages();
    let mut work = tokio::spawn(work(reports));
    let first = tokio::select! {
        biased;
        Some(first) = received.next() => first,
        ended = &mut work => {
            ended.map_err(|source| Error::system("the engine failed on this request").caused_by(source))??;
            // Everything it said is there by now.
            match received.next().await {
                Some(first) => {
                    work = tokio::spawn(async { Ok(()) });
                    first
                }
                None => return Ok(reply::empty(StatusCode::OK)),
            }
        }
    };
    let (sender, response) = reply::stream("application/json");
    tokio::spawn(async move {
        let mut next = Some(first);
        while let Some(message) = next {
            if sender.send(message.to_line()).await.is_err() {
                // Dropping the receiver tells the operation.
                return;
            }
            next = tokio::select! {
                next = received.next() => next,
                () = sender.closed() => return,
            };
        }
        let failure = match work.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => chain(&error),
            Err(_) => "the engine failed on this request".to_owned(),
        };
        // A client that has gone needs to know no more.
        let _ = sender.send(StreamMessage::failure(failure).to_line()).await;
    });
    Ok(response)
}
