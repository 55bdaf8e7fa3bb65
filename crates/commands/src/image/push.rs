//! `docker push`.

use wharf_client::{Body, Method, Query};

use super::progress::{self, Target};
use crate::cli::{Cli, println, say_error, stdout_is_terminal};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::registry::credentials;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] NAME[:TAG]",
    short: "Upload an image to a registry",
    long: None,
    aliases: &["image push", "push"],
    args: Args::Exact(1),
    flags: &[
        Flag::bool("all-tags", "Push all tags of an image to the repository").short('a'),
        Flag::bool("disable-content-trust", "Skip image signing").default("true"),
        Flag::string(
            "platform",
            "Push a platform-specific manifest as a single-platform image to the registry.\nImage index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
        Flag::bool("quiet", "Suppress verbose output").short('q'),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    super::refuse_content_trust(m)?;
    let quiet = m.bool("quiet");
    let named = super::transferred(m)?;
    let query = Query::new()
        .non_empty("tag", named.tag.as_deref().unwrap_or_default())
        .non_empty("platform", platform(m.str("platform"))?);
    let auth = credentials::header(cli, &named.domain)?;
    let client = cli.client()?;
    cli.block_on(async {
        let path = super::path(&named.name(), &format!("/push{query}"));
        let headers = [("X-Registry-Auth", auth.as_str())];
        let response = client.request(Method::POST, path, Body::Empty, &headers).await?;
        let target = if quiet { Target::Nowhere } else { Target::Stdout };
        let mut notes = Vec::new();
        progress::show(response, target, |aux| {
            if aux["manifestPushedInsteadOfIndex"].as_bool() == Some(true) {
                let digest = |key: &str| aux[key]["digest"].as_str().unwrap_or_default();
                notes.push(format!(
                    "Not all multiplatform-content is present and only the available single-platform image was pushed\n{} -> {}",
                    digest("originalIndex"),
                    digest("selectedManifest")
                ));
            }
        })
        .await?;
        if stdout_is_terminal() {
            notes.iter().for_each(|note| say_error(&format!("\nInfo → {note}")));
        }
        Ok::<(), Failure>(())
    })?;
    if quiet {
        println(&named.full())?;
    }
    Ok(())
}

/// `os/architecture[/variant]` as the JSON this request takes.
pub(super) fn platform(text: &str) -> Outcome<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let parts: Vec<&str> = text.split('/').collect();
    let object = match parts.as_slice() {
        [os, architecture] => serde_json::json!({"os": os, "architecture": architecture}),
        [os, architecture, variant] => {
            serde_json::json!({"os": os, "architecture": architecture, "variant": variant})
        }
        _ => {
            return Err(Failure::new(format!(
                "invalid platform: \"{text}\": use os/architecture[/variant]"
            )));
        }
    };
    Ok(object.to_string())
}
