//! `docker version`.

use serde_json::{Value as Json, json};
use wharf_go_template::Template;

use crate::cli::{Cli, print};
use crate::command::{Args, Command, Flag, INSPECT_FORMAT_HELP};
use crate::format::types;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "Show the Docker version information",
    long: None,
    aliases: &[],
    args: Args::None,
    flags: &[Flag::string("format", INSPECT_FORMAT_HELP).short('f')],
    interspersed: true,
    run,
};

/// The version of Docker's command line this one answers as under its name.
pub(crate) const DOCKER_VERSION: &str = "28.2.2";

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let template = match m.str("format") {
        "" => None,
        "json" => Some(Template::parse("{{json .}}")?),
        text => Some(Template::parse(text).map_err(|error| {
            // Docker names this template, others not.
            Failure::new(format!(
                "template parsing error: {}",
                named(&error.to_string())
            ))
            .with_status(64)
        })?),
    };
    // Without an engine the client's half is still shown.
    let (server, failure) = match cli
        .client()
        .and_then(|client| Ok(cli.block_on(client.get("/version"))?))
    {
        Ok(server) => (server, None),
        Err(failure) => (Json::Null, Some(failure)),
    };
    let all = json!({"Client": client_version(cli), "Server": with_build_times(server)});
    match template {
        Some(template) => {
            let value = types::value("system.versionInfo", &all)
                .ok_or_else(|| Failure::new("the engine's version is not what the API says"))?;
            match template.execute(&value) {
                Ok(text) => print(&format!("{text}\n"))?,
                Err(error) => {
                    print("\n")?;
                    return Err(failure.unwrap_or_else(|| Failure::new(named(&error.to_string()))));
                }
            }
        }
        None => print(&text(&all))?,
    }
    failure.map_or(Ok(()), Err)
}

/// Go's name of the template in a message.
fn named(message: &str) -> String {
    message
        .replacen("template: :", "template: version:", 1)
        .replacen("executing \"\"", "executing \"version\"", 1)
}

/// What this program says about itself.
pub(crate) fn client_version(cli: &Cli) -> Json {
    let version = if cli.name == "docker" {
        DOCKER_VERSION
    } else {
        env!("CARGO_PKG_VERSION")
    };
    let api = match cli.client() {
        Ok(client) => client.api_version(),
        Err(_) => wharf_client::API_VERSION.to_owned(),
    };
    json!({
        "Version": version,
        "ApiVersion": api,
        "DefaultAPIVersion": wharf_client::API_VERSION,
        "GitCommit": concat!("wharf-", env!("CARGO_PKG_VERSION")),
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "Context": "default",
    })
}

/// The processor in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The server's half with readable build times, as Docker rewrites them.
fn with_build_times(mut server: Json) -> Json {
    for component in server["Components"].as_array_mut().into_iter().flatten() {
        if let Some(time) = component["Details"]["BuildTime"].as_str().map(build_time) {
            component["Details"]["BuildTime"] = json!(time);
        }
    }
    server
}

/// `Fri Jan  2 03:04:05 2026`.
fn build_time(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => at
            .to_zoned(jiff::tz::TimeZone::UTC)
            .strftime("%a %b %e %H:%M:%S %Y")
            .to_string(),
        Err(_) => text.to_owned(),
    }
}

fn text(all: &Json) -> String {
    let client = &all["Client"];
    let get = |object: &Json, key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let mut out = String::from("Client:\n");
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!(" {:<19}{value}\n", format!("{name}:")));
        }
    };
    let api = get(client, "ApiVersion");
    let newest = get(client, "DefaultAPIVersion");
    line("Version", get(client, "Version"));
    line(
        "API version",
        if api == newest {
            api
        } else {
            format!("{api} (downgraded from {newest})")
        },
    );
    line("Git commit", get(client, "GitCommit"));
    line(
        "OS/Arch",
        format!("{}/{}", get(client, "Os"), get(client, "Arch")),
    );
    line("Context", get(client, "Context"));
    let server = &all["Server"];
    if server.is_null() {
        return out;
    }
    out.push_str(&format!("\nServer: {}\n", get(&server["Platform"], "Name")));
    let engine = [json!({"Name": "Engine", "Version": server["Version"], "Details": server})];
    let components = server["Components"]
        .as_array()
        .filter(|list| !list.is_empty())
        .map_or(&engine[..], Vec::as_slice);
    for component in components {
        out.push_str(&format!(" {}:\n", get(component, "Name")));
        let mut line = |name: &str, value: String| {
            if !value.is_empty() {
                out.push_str(&format!("  {:<18}{value}\n", format!("{name}:")));
            }
        };
        line("Version", get(component, "Version"));
        let details = &component["Details"];
        if component["Name"] == "Engine" {
            line(
                "API version",
                format!(
                    "{} (minimum version {})",
                    get(details, "ApiVersion"),
                    get(details, "MinAPIVersion")
                ),
            );
            line("Go version", get(details, "GoVersion"));
            line("Git commit", get(details, "GitCommit"));
            line("Built", build_time(&get(details, "BuildTime")));
            line(
                "OS/Arch",
                format!("{}/{}", get(details, "Os"), get(details, "Arch")),
            );
            line("Experimental", get(details, "Experimental"));
        } else {
            for (key, value) in details.as_object().into_iter().flatten() {
                line(key, value.as_str().unwrap_or_default().to_owned());
            }
        }
    }
    out
}
