//! `docker save`.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use wharf_client::{Body, Method, Query, Response};

use super::push::platform;
use crate::cli::{Cli, stdout_is_terminal};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    short: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    long: None,
    aliases: &["image save", "save"],
    args: Args::Min(1),
    flags: &[
        Flag::string("output", "Write to a file, instead of STDOUT").short('o'),
        Flag::string(
            "platform",
            "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let output = m.str("output");
    if output.is_empty() && stdout_is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    check_output(output)
        .map_err(|reason| Failure::new(format!("failed to save image: {reason}")))?;
    let mut query = Query::new();
    for name in &m.args {
        query = query.add("names", name);
    }
    query = query.non_empty("platform", platform(m.str("platform"))?);
    let client = cli.client()?;
    cli.block_on(async {
        let response = client
            .request(Method::GET, format!("/images/get{query}"), Body::Empty, &[])
            .await?;
        to_file_or_stdout(response, output).await
    })
}

/// Refuses a path whose directory is not there, before the engine starts to work.
pub(crate) fn check_output(output: &str) -> Result<(), String> {
    if output.is_empty() {
        return Ok(());
    }
    let path = Path::new(output);
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !directory.exists() {
        return Err(format!(
            "invalid output path: stat {}: no such file or directory",
            directory.display()
        ));
    }
    if path.is_dir() {
        return Err(format!(
            "invalid output path: \"{output}\" must be a regular file"
        ));
    }
    Ok(())
}

/// Writes a body to a file, which appears only when it is whole, or to standard output.
pub(crate) async fn to_file_or_stdout(mut response: Response, output: &str) -> Outcome {
    if output.is_empty() {
        let mut out = std::io::stdout().lock();
        while let Some(chunk) = response.chunk().await? {
            out.write_all(&chunk)?;
        }
        return Ok(out.flush()?);
    }
    check_output(output).map_err(Failure::new)?;
    let path = Path::new(output);
    // Devices and pipes are written to, not replaced.
    let special = fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let temporary = directory.join(format!(".wharf-{}.tmp", std::process::id()));
    let target = if special { path } else { temporary.as_path() };
    let written = async {
        let mut file = if special {
            fs::OpenOptions::new().write(true).open(target)?
        } else {
            fs::File::create(target)?
        };
        while let Some(chunk) = response.chunk().await? {
            file.write_all(&chunk)?;
        }
        if !special {
            fs::rename(&temporary, path)?;
        }
        Ok::<(), Failure>(())
    }
    .await;
    if written.is_err() && !special {
        let _ = fs::remove_file(&temporary);
    }
    written
}
