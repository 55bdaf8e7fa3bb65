//! `docker create`, and the part of `docker run` that makes the container.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;
use wharf_client::{Client, Query};

use super::options::{self, Pull, Spec};
use crate::cli::{Cli, println, say_error};
use crate::command::{Args, Command, Flag};
use crate::image;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::image::Named;

const OWN: &[Flag] = &[Flag::string(
    "pull",
    "Pull image before creating (\"always\", \"|missing\", \"never\")",
)
.default("missing")];

static FLAGS: [Flag; options::SHARED.len() + OWN.len()] = options::join(options::SHARED, OWN);

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    short: "Create a new container",
    long: None,
    aliases: &["container create", "create"],
    args: Args::Min(1),
    flags: &FLAGS,
    interspersed: false,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    options::refuse_windows_only(m)?;
    let spec = options::parse(m, &cli.proxies()).map_err(|failure| with_help(cli, m, failure))?;
    let client = cli.client()?;
    let id = cli.block_on(create(cli, client, &spec))?;
    Ok(println(&id)?)
}

/// The form failures of `run` and `create` have: after the program's name, with a pointer to the
/// help, and exit status 125 where the failure has no other.
pub(super) fn with_help(cli: &Cli, m: &Matches, failure: Failure) -> Failure {
    let Some(message) = failure.message else {
        return failure;
    };
    let program = &cli.name;
    let command = m.path.last().copied().unwrap_or("run");
    Failure {
        message: Some(format!(
            "{program}: {message}\n\nRun '{program} {command} --help' for more information"
        )),
        status: if failure.status == 1 {
            125
        } else {
            failure.status
        },
        http_status: failure.http_status,
    }
}

/// Makes the container, pulling its image when it is missing, and returns its ID.
pub(super) async fn create(cli: &Cli, client: &Client, spec: &Spec) -> Outcome<String> {
    if let Err(reason) = Named::parse(&spec.image)
        && !is_id(&spec.image)
    {
        return Err(Failure::new(reason));
    }
    let cid_file = spec.cid_file.as_deref().map(CidFile::reserve).transpose()?;
    let named = Named::parse(&spec.image).ok().map(Named::or_latest);
    let query = Query::new()
        .non_empty("name", &spec.name)
        .non_empty("platform", &spec.platform);
    let path = format!("/containers/create{query}");
    if let (Pull::Always, Some(named)) = (spec.pull, &named) {
        pull(cli, client, named, spec).await?;
    }
    let mut answer = client
        .post(path.as_str(), Some(Value::Object(spec.body.clone())))
        .await;
    if let (Err(error), Pull::Missing, Some(named)) = (&answer, spec.pull, &named)
        && error.is_missing_image()
    {
        if !spec.quiet {
            say_error(&format!(
                "Unable to find image '{}' locally",
                named.familiar()
            ));
        }
        pull(cli, client, named, spec).await?;
        answer = client
            .post(path, Some(Value::Object(spec.body.clone())))
            .await;
    }
    let answer = answer?;
    let id = answer["Id"].as_str().unwrap_or_default().to_owned();
    for warning in answer["Warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        say_error(&format!("WARNING: {warning}"));
    }
    if let Some(file) = cid_file {
        file.write(&id)?;
    }
    Ok(id)
}

/// Whether the text is an image ID rather than a name.
fn is_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn pull(cli: &Cli, client: &Client, named: &Named, spec: &Spec) -> Outcome {
    image::pull::pull(
        cli,
        client,
        named,
        image::pull::Options {
            all_tags: false,
            platform: &spec.platform,
            quiet: spec.quiet,
            to_stderr: true,
        },
    )
    .await
}

/// The file of `--cidfile`: made before the container, so that a second one is refused, and
/// removed when there is no container.
struct CidFile<'a> {
    path: &'a Path,
    file: fs::File,
    written: bool,
}

impl<'a> CidFile<'a> {
    fn reserve(path: &'a Path) -> Outcome<Self> {
        let shown = path.display();
        if path.exists() {
            return Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {shown}"
            )));
        }
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| {
                Failure::new(format!(
                    "failed to create the container ID file: open {shown}: {}",
                    options::reason(&error)
                ))
            })?;
        Ok(Self {
            path,
            file,
            written: false,
        })
    }

    fn write(mut self, id: &str) -> Outcome {
        self.file.write_all(id.as_bytes()).map_err(|error| {
            Failure::new(format!(
                "failed to write the container ID ({id}) to file: {error}"
            ))
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            // It is empty and ours; a leftover would only refuse the next attempt.
            let _ = fs::remove_file(self.path);
        }
    }
}
