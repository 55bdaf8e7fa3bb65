//! `docker cp`: tar archives between the file system and a container.
//!
//! What lands where is decided by [`place`] as `cp -a` would; [`pack`] makes archives of local
//! files and [`unpack`] puts what a container sends into the file system without believing it.

mod pack;
mod place;
mod unpack;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use wharf_client::{Body, Client, Method, Query, Response};

use self::place::{Place, Source, Target, join, split};
use crate::cli::{Cli, say_error, stdout_is_terminal};
use crate::command::{Args, Command, Flag};
use crate::format::units;
use crate::image::load::upload;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\t{program} cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    short: "Copy files/folders between a container and the local filesystem",
    long: Some("Copy files/folders between a container and the local filesystem\n\nUse '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout."),
    aliases: &["container cp", "cp"],
    args: Args::Exact(2),
    flags: &[
        Flag::bool("archive", "Archive mode (copy all uid/gid information)").short('a'),
        Flag::bool("follow-link", "Always follow symbol link in SRC_PATH").short('L'),
        Flag::bool("quiet", "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached").short('q'),
    ],
    interspersed: true,
    run,
};

/// Go's bit for directories in a file mode.
const MODE_DIR: u64 = 1 << 31;
/// Go's bit for symbolic links.
const MODE_SYMLINK: u64 = 1 << 27;
/// Go's bit for devices.
const MODE_DEVICE: u64 = 1 << 26;

/// One end of the copy.
enum End<'a> {
    Local(&'a str),
    Container { name: &'a str, path: &'a str },
}

/// `CONTAINER:PATH`; what starts with a slash or a dot is local, whatever follows.
fn end(text: &str) -> End<'_> {
    if text.starts_with('/') || text.starts_with('.') {
        return End::Local(text);
    }
    match text.split_once(':') {
        Some((name, path)) if !name.is_empty() => End::Container { name, path },
        _ => End::Local(text),
    }
}

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let (source, target) = (m.args[0].as_str(), m.args[1].as_str());
    if source.is_empty() {
        return Err(Failure::new("source can not be empty"));
    }
    if target.is_empty() {
        return Err(Failure::new("destination can not be empty"));
    }
    let quiet = if m.given("quiet") {
        m.bool("quiet")
    } else {
        !stdout_is_terminal()
    };
    let follow = m.bool("follow-link");
    let (bytes, to) = match (end(source), end(target)) {
        (End::Container { name, path }, End::Local(to)) => {
            super::check_name(name)?;
            let client = cli.client()?;
            (
                cli.block_on(from_container(client, name, path, to, follow))?,
                to.to_owned(),
            )
        }
        (End::Local(from), End::Container { name, path }) => {
            super::check_name(name)?;
            let client = cli.client()?;
            let copy = to_container(client, from, name, path, follow, m.bool("archive"));
            (cli.block_on(copy)?, format!("{name}:{path}"))
        }
        (End::Container { .. }, End::Container { .. }) => {
            return Err(Failure::new("copying between containers is not supported"));
        }
        (End::Local(_), End::Local(_)) => {
            return Err(Failure::new("must specify at least one container source"));
        }
    };
    if !quiet && source != "-" && target != "-" {
        #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
        let size = units::size(bytes as f64);
        say_error(&format!("Successfully copied {size} to {to}"));
    }
    Ok(())
}

/// What the engine says about a path in a container.
struct Stat {
    mode: u64,
    link_target: String,
}

impl Stat {
    fn of(response: &Response) -> Outcome<Self> {
        let header = response
            .header("x-docker-container-path-stat")
            .unwrap_or_default();
        let decoded = STANDARD.decode(header).ok();
        let stat: Option<Value> = decoded.and_then(|json| serde_json::from_slice(&json).ok());
        let stat =
            stat.ok_or_else(|| Failure::new("unable to decode container path stat header"))?;
        Ok(Self {
            mode: stat["mode"].as_u64().unwrap_or(0),
            link_target: stat["linkTarget"].as_str().unwrap_or_default().to_owned(),
        })
    }

    fn is_dir(&self) -> bool {
        self.mode & MODE_DIR != 0
    }

    /// Where the path leads when it is a symbolic link.
    fn link(&self, path: &str) -> Option<String> {
        if self.mode & MODE_SYMLINK == 0 {
            return None;
        }
        let target = self.link_target.as_str();
        Some(if target.starts_with('/') {
            target.to_owned()
        } else {
            join(&split(path).0, target)
        })
    }
}

fn archive_path(name: &str, query: &Query) -> String {
    super::path(name, &format!("/archive{query}"))
}

async fn stat(client: &Client, name: &str, path: &str) -> Outcome<Stat> {
    let path = archive_path(name, &Query::new().add("path", path));
    let response = client.request(Method::HEAD, path, Body::Empty, &[]).await?;
    let stat = Stat::of(&response);
    response.drain().await?;
    stat
}

async fn from_container(
    client: &Client,
    name: &str,
    path: &str,
    to: &str,
    follow: bool,
) -> Outcome<u64> {
    let target = if to == "-" {
        None
    } else {
        Some(Target::local(&absolute(to)?)?)
    };
    let mut source = path.to_owned();
    let mut rename = None;
    if follow
        && let Some(link) = stat(client, name, path)
            .await
            .ok()
            .and_then(|stat| stat.link(path))
    {
        // The archive is of what the link leads to, under the name of the link.
        rename = Some(split(path).1).filter(|base| *base != split(&link).1);
        source = link;
    }
    let request = archive_path(name, &Query::new().add("path", &source));
    let response = client
        .request(Method::GET, request, Body::Empty, &[])
        .await?;
    let Some(target) = target else {
        return unpack::to_stdout(response).await;
    };
    let place = Place::of(
        &Source {
            path: source.clone(),
            is_dir: Stat::of(&response)?.is_dir(),
            rename: rename.clone(),
        },
        &target,
    )?;
    // Both renames in one: from the link's target to the link to the destination.
    let rename = match (rename, place.rename) {
        (Some(_), Some((_, to))) => Some((split(&source).1, to)),
        (Some(link), None) => Some((split(&source).1, link)),
        (None, rename) => rename,
    };
    unpack::run(response, PathBuf::from(place.directory), rename).await
}

async fn to_container(
    client: &Client,
    from: &str,
    name: &str,
    path: &str,
    follow: bool,
    keep_ids: bool,
) -> Outcome<u64> {
    let source = if from == "-" {
        None
    } else {
        Some(pack::Local::resolve(&absolute(from)?, follow)?)
    };
    let mut target = Target {
        path: path.to_owned(),
        exists: false,
        is_dir: false,
    };
    let mut found = stat(client, name, path).await;
    if let Some(link) = found.as_ref().ok().and_then(|stat| stat.link(path)) {
        found = stat(client, name, &link).await;
        target.path = link;
    }
    match &found {
        Ok(stat) if stat.mode & MODE_DEVICE != 0 => {
            return Err(Failure::new(format!(
                "destination \"{name}:{path}\" must be a directory or a regular file: got a device"
            )));
        }
        Ok(stat) => {
            target.exists = true;
            target.is_dir = stat.is_dir();
        }
        // A path that is not there may become what is copied. A container that is not there says
        // so when it gets the archive.
        Err(_) => {}
    }
    let (directory, body, count) = match source {
        None if !target.is_dir => {
            return Err(Failure::new(format!(
                "destination \"{name}:{path}\" must be a directory"
            )));
        }
        None => {
            let body = Body::Stream {
                content_type: "application/x-tar",
                chunks: Box::pin(upload("-")?),
            };
            (target.path, body, None)
        }
        Some(local) => {
            let place = Place::of(&local.source(), &target)?;
            let (chunks, count) = local.stream(place.rename);
            let body = Body::Stream {
                content_type: "application/x-tar",
                chunks: Box::pin(chunks),
            };
            (place.directory, body, Some(count))
        }
    };
    let mut query = Query::new()
        .add("noOverwriteDirNonDir", "true")
        .add("path", &directory);
    if keep_ids {
        query = query.add("copyUIDGID", "true");
    }
    client
        .request(Method::PUT, archive_path(name, &query), body, &[])
        .await?
        .drain()
        .await?;
    Ok(count.map_or(0, |count| count.load(std::sync::atomic::Ordering::Relaxed)))
}

/// An absolute path that keeps what its end says: `/` or `/.`.
fn absolute(text: &str) -> Outcome<String> {
    let directory = std::env::current_dir()?;
    let joined = directory.join(text);
    Ok(place::clean_keeping_end(&joined.to_string_lossy()))
}
