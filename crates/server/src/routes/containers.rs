//! Containers.

use std::io::Write as _;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::io::SyncIoBridge;
use wharf_api_types::ApiVersion;
use wharf_api_types::archive::PathStat;
use wharf_api_types::container::{ContainerUpdated, CreateContainer, HostConfig};
use wharf_api_types::go_json;
use wharf_api_types::time::parse_reference;
use wharf_engine::container::{
    AttachOptions, ExtractOptions, ListOptions, LogOptions, StopOptions, WaitCondition,
};
use wharf_fault::{Error, Result};
use wharf_oci::platform::Platform;

use super::streams::{client_fd, content_type};
use crate::reply::{self, BodySender, Reply};
use crate::request::Request;
use crate::router::{Route, route};

/// In lower case, as the HTTP library wants it.
const STAT_HEADER: &str = "x-docker-container-path-stat";

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/containers/json", list),
        route(Method::GET, "/containers/ps", list),
        route(Method::POST, "/containers/create", create),
        route(Method::POST, "/containers/prune", prune),
        route(Method::GET, "/containers/{id}/json", inspect),
        route(Method::GET, "/containers/{id}/top", top),
        route(Method::GET, "/containers/{id}/logs", logs),
        route(Method::GET, "/containers/{id}/stats", stats),
        route(Method::POST, "/containers/{id}/start", start),
        route(Method::POST, "/containers/{id}/stop", stop),
        route(Method::POST, "/containers/{id}/restart", restart),
        route(Method::POST, "/containers/{id}/kill", kill),
        route(Method::POST, "/containers/{id}/pause", pause),
        route(Method::POST, "/containers/{id}/unpause", unpause),
        route(Method::POST, "/containers/{id}/rename", rename),
        route(Method::POST, "/containers/{id}/resize", resize),
        route(Method::POST, "/containers/{id}/wait", wait).cancelled_with_client(),
        route(Method::POST, "/containers/{id}/attach", attach),
        route(Method::DELETE, "/containers/{id}", remove),
        route(Method::GET, "/containers/{id}/changes", |_| async {
            missing("listing a container's changes (diff)")
        }),
        route(Method::GET, "/containers/{id}/export", |_| async {
            missing("exporting containers")
        }),
        route(Method::POST, "/containers/{id}/update", update),
        route(Method::HEAD, "/containers/{id}/archive", path_stat),
        route(Method::GET, "/containers/{id}/archive", copy_from),
        route(Method::PUT, "/containers/{id}/archive", copy_to),
    ]
}

fn missing(what: &str) -> Reply {
    Err(Error::not_implemented(format!(
        "{what} is not supported by this version of Wharf"
    )))
}

async fn list(request: Request) -> Reply {
    let query = &request.query;
    let options = ListOptions {
        all: query.flag("all"),
        limit: query
            .int("limit")?
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(0),
        size: query.flag("size"),
        filters: query.filters()?,
    };
    let mut list = request.engine.container_list(&options).await?;
    for summary in &mut list {
        summary.adapt(request.version);
    }
    Ok(reply::json(&list))
}

async fn create(mut request: Request) -> Reply {
    let value: Value = request.json().await?;
    if value.is_null() {
        return Err(Error::invalid(
            "invalid JSON: got EOF while reading request body",
        ));
    }
    let mut body =
        CreateContainer::from_value(value).map_err(|error| Error::invalid(error.to_string()))?;
    adapt_create(&mut body, request.version)?;
    if let Some((uid, gid)) = request.caller {
        request.engine.name_caller(&mut body.host_config, uid, gid);
    }
    let platform = platform(request.query.str("platform"))?;
    let created = request
        .engine
        .container_create(body, request.query.str("name"), platform.as_ref())
        .await?;
    Ok(reply::json_with(StatusCode::CREATED, &created))
}

/// Defaults of older versions of the API.
fn adapt_create(body: &mut CreateContainer, version: ApiVersion) -> Result<()> {
    let host = &mut body.host_config;
    if !version.at_least(40) && host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".to_owned();
    }
    if !version.at_least(41) && host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = "host".to_owned();
    }
    if !version.at_least(42) {
        host.console_size = [0, 0];
    }
    if !version.at_least(44) && body.networking_config.endpoints_config.len() > 1 {
        let names: Vec<&str> = body
            .networking_config
            .endpoints_config
            .keys()
            .map(String::as_str)
            .collect();
        return Err(Error::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    if version.at_least(52) && !body.config.mac_address.is_empty() {
        return Err(Error::invalid(
            "the container-wide MacAddress field is gone since API v1.52: set it per endpoint",
        ));
    }
    Ok(())
}

fn platform(text: &str) -> Result<Option<Platform>> {
    match text {
        "" => Ok(None),
        text => Platform::parse(text)
            .map(Some)
            .map_err(|error| Error::invalid(error.to_string())),
    }
}

async fn inspect(request: Request) -> Reply {
    let mut inspect = request
        .engine
        .container_inspect(request.param("id"), request.query.flag("size"))
        .await?;
    inspect.adapt(request.version);
    Ok(reply::json(&inspect))
}

async fn start(mut request: Request) -> Reply {
    // Since API 1.24 settings belong to create only.
    if request.bytes(1024 * 1024).await?.len() > 2 {
        return Err(Error::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    let (engine, id) = (&request.engine, request.param("id"));
    match request.query.str("checkpoint") {
        "" => engine.container_start(id).await?,
        checkpoint => {
            let directory = request.query.str("checkpoint-dir");
            engine
                .container_start_from(id, checkpoint, directory)
                .await?;
        }
    }
    Ok(reply::no_content())
}

fn stop_options(request: &Request) -> Result<StopOptions> {
    let signal = request.query.str("signal");
    Ok(StopOptions {
        signal: (!signal.is_empty() && request.version.at_least(42)).then(|| signal.to_owned()),
        timeout_secs: request.query.int("t")?,
    })
}

async fn stop(request: Request) -> Reply {
    request
        .engine
        .container_stop(request.param("id"), &stop_options(&request)?)
        .await?;
    Ok(reply::no_content())
}

async fn restart(request: Request) -> Reply {
    request
        .engine
        .container_restart(request.param("id"), &stop_options(&request)?)
        .await?;
    Ok(reply::no_content())
}

async fn kill(request: Request) -> Reply {
    request
        .engine
        .container_kill(request.param("id"), request.query.str("signal"))
        .await?;
    Ok(reply::no_content())
}

async fn update(mut request: Request) -> Reply {
    let value: Value = request.json().await?;
    // The body has the limits and the restart policy of a HostConfig; what else is in it is not
    // looked at, as in Docker.
    let mut change: HostConfig =
        go_json::from_value(value).map_err(|error| Error::invalid(error.to_string()))?;
    if !request.version.at_least(40) {
        change.pids_limit = None;
    }
    if request.version.at_least(42) {
        change.kernel_memory = 0;
    }
    let warnings = request
        .engine
        .container_update(request.param("id"), change)
        .await?;
    let warnings = (!warnings.is_empty()).then_some(warnings);
    Ok(reply::json(&ContainerUpdated { warnings }))
}

async fn pause(request: Request) -> Reply {
    request.engine.container_pause(request.param("id")).await?;
    Ok(reply::no_content())
}

async fn unpause(request: Request) -> Reply {
    request
        .engine
        .container_unpause(request.param("id"))
        .await?;
    Ok(reply::no_content())
}

async fn rename(request: Request) -> Reply {
    request
        .engine
        .container_rename(request.param("id"), request.query.str("name"))
        .await?;
    Ok(reply::no_content())
}

/// Terminal size from `h` and `w`.
pub(super) fn size(request: &Request) -> Result<(u16, u16)> {
    let number = |name: &str| -> Result<u16> {
        let text = request.query.str(name);
        text.parse()
            .map_err(|_| Error::invalid(format!("invalid resize {name}: {text:?}")))
    };
    Ok((number("h")?, number("w")?))
}

async fn resize(request: Request) -> Reply {
    let (height, width) = size(&request)?;
    request
        .engine
        .container_resize(request.param("id"), height, width)
        .await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn remove(request: Request) -> Reply {
    let query = &request.query;
    if query.flag("link") {
        request
            .engine
            .container_remove_link(request.param("id"))
            .await?;
    } else {
        request
            .engine
            .container_remove(request.param("id"), query.flag("force"), query.flag("v"))
            .await?;
    }
    Ok(reply::no_content())
}

async fn prune(request: Request) -> Reply {
    Ok(reply::json(
        &request
            .engine
            .container_prune(&request.query.filters()?)
            .await?,
    ))
}

async fn top(request: Request) -> Reply {
    let arguments = match request.query.str("ps_args") {
        "" => "-ef",
        given => given,
    };
    Ok(reply::json(
        &request
            .engine
            .container_top(request.param("id"), arguments)
            .await?,
    ))
}

async fn wait(request: Request) -> Reply {
    let condition = match request.query.str("condition") {
        text if request.version.at_least(30) => WaitCondition::parse(text)?,
        _ => WaitCondition::NotRunning,
    };
    // Registered before the head goes out: the client starts the container when it has the head.
    let waiter = request
        .engine
        .container_wait(request.param("id"), condition)?;
    let (sender, response) = reply::stream("application/json");
    tokio::spawn(async move {
        tokio::select! {
            answer = waiter.wait() => drop(sender.send_json(&answer).await),
            () = sender.closed() => {}
        }
    });
    Ok(response)
}

async fn attach(mut request: Request) -> Reply {
    let query = &request.query;
    let options = AttachOptions {
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        detach_keys: query.get("detachKeys").map(str::to_owned),
        raw: false,
    };
    let engine = request.engine.clone();
    let (container, tty) = engine.attach_check(request.param("id"), &options)?;
    // The head goes out once the client is attached: it may start the container right after.
    let head = request.hijack_head(content_type(tty, request.version), false);
    let socket = client_fd(request.hijack_with(&[]).await?)?;
    engine.attach(&container, &options, socket, &head).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn logs(request: Request) -> Reply {
    let query = &request.query;
    let now = Timestamp::now();
    let time = |name: &str| -> Result<Option<i64>> {
        match query.str(name) {
            "" | "0" => Ok(None),
            text => {
                let at = parse_reference(text, now).ok_or_else(|| {
                    Error::invalid(format!("invalid value for \"{name}\": {text}"))
                })?;
                Ok(Some(i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)))
            }
        }
    };
    let options = LogOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        since_ns: time("since")?,
        until_ns: time("until")?,
        tail: tail(query.str("tail"))?,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        follow: query.flag("follow"),
        raw: false,
    };
    let tty = request.engine.container_tty(request.param("id"))?;
    let mut log = request
        .engine
        .container_logs(request.param("id"), &options)?;
    let (sender, response) = reply::stream(content_type(tty, request.version));
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = log.next() => next,
                () = sender.closed() => return,
            };
            match next {
                Ok(Some(chunk)) => {
                    if sender.send(chunk).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => return sender.abort(&wharf_fault::chain(&error)).await,
            }
        }
    });
    Ok(response)
}

/// `all`, or a number; a negative one is all.
fn tail(text: &str) -> Result<Option<u64>> {
    match text {
        "" | "all" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(number) => Ok(u64::try_from(number).ok()),
            Err(_) => Err(Error::invalid(format!(
                "invalid value for \"tail\": {text:?} is neither \"all\" nor a number"
            ))),
        },
    }
}

async fn stats(request: Request) -> Reply {
    let query = &request.query;
    let stream = query.flag_or("stream", true);
    let one_shot = query.flag("one-shot") && request.version.at_least(41);
    if stream && one_shot {
        return Err(Error::invalid("cannot have stream=true and one-shot=true"));
    }
    let version = request.version;
    let mut samples = request.engine.container_stats(request.param("id"))?;
    if !stream {
        let mut sample = if one_shot {
            samples.one_shot()?
        } else {
            samples.once().await?
        };
        sample.adapt(version);
        return Ok(reply::json(&sample));
    }
    let (sender, response) = reply::stream("application/json");
    tokio::spawn(async move { stream_stats(samples, sender, version).await });
    Ok(response)
}

async fn stream_stats(
    mut samples: wharf_engine::container::StatsStream,
    sender: BodySender,
    version: ApiVersion,
) {
    loop {
        let next = tokio::select! {
            next = samples.next() => next,
            () = sender.closed() => return,
        };
        match next {
            Ok(Some(mut sample)) => {
                sample.adapt(version);
                if sender.send_json(&sample).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return sender.abort(&wharf_fault::chain(&error)).await,
        }
    }
}

fn wanted_path(request: &Request) -> Result<String> {
    match request.query.str("path") {
        "" => Err(Error::invalid(
            "missing required parameter \"path\": path cannot be empty",
        )),
        path => Ok(path.to_owned()),
    }
}

fn with_stat(mut response: reply::Response, stat: &PathStat) -> Reply {
    let value = HeaderValue::from_str(&stat.to_header())
        .map_err(|source| Error::system("cannot describe the file").caused_by(source))?;
    response
        .headers_mut()
        .insert(HeaderName::from_static(STAT_HEADER), value);
    Ok(response)
}

async fn path_stat(request: Request) -> Reply {
    let stat = request
        .engine
        .container_path_stat(request.param("id"), &wanted_path(&request)?)
        .await?;
    with_stat(reply::empty(StatusCode::OK), &stat)
}

async fn copy_from(request: Request) -> Reply {
    let packed = request
        .engine
        .container_pack(request.param("id"), &wanted_path(&request)?)
        .await?;
    let (sender, response) = reply::stream("application/x-tar");
    let response = with_stat(response, &packed.stat)?;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut writer = sender.blocking_writer();
        let written = packed.write(&mut writer).and_then(|()| {
            writer
                .flush()
                .map_err(|source| Error::system("the client has gone").caused_by(source))
        });
        if let Err(error) = written {
            // The head is sent: only a broken connection tells the client.
            let text = wharf_fault::chain(&error);
            tracing::debug!(error = text, "a copy ended early");
            runtime.block_on(sender.abort(&text));
        }
    });
    Ok(response)
}

async fn copy_to(mut request: Request) -> Reply {
    let path = wanted_path(&request)?;
    let options = ExtractOptions {
        no_overwrite_dir_non_dir: request.query.flag("noOverwriteDirNonDir"),
        container_owner: request.query.flag("copyUIDGID"),
    };
    let archive = SyncIoBridge::new(request.body_reader());
    request
        .engine
        .container_unpack(request.param("id"), &path, options, archive)
        .await?;
    Ok(reply::empty(StatusCode::OK))
}
