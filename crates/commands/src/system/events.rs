//! `docker events`.

use serde_json::Value as Json;
use wharf_client::{Body, Method, Query};
use wharf_go_template::Template;

use crate::cli::{Cli, println};
use crate::command::{Args, Command, Flag, INSPECT_FORMAT_HELP};
use crate::filters::Filters;
use crate::format::types;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::timestamp;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "Get real time events from the server",
    long: None,
    aliases: &["system events", "events"],
    args: Args::None,
    flags: &[
        Flag::filter("filter", "Filter output based on conditions provided").short('f'),
        Flag::string("format", INSPECT_FORMAT_HELP),
        Flag::string("since", "Show all events created since timestamp"),
        Flag::string("until", "Stream events until this timestamp"),
    ],
    interspersed: true,
    run,
};

/// How one event becomes a line.
enum Format {
    Text,
    Json,
    Template(Template),
}

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let wrong =
        |error: String| Failure::new(format!("Error parsing format: {error}")).with_status(64);
    let format = match m.str("format") {
        "" => Format::Text,
        "json" => Format::Json,
        text => Format::Template(Template::parse(text).map_err(|error| wrong(error.to_string()))?),
    };
    if let Format::Template(template) = &format
        && let Some(empty) = types::value("events.Message", &serde_json::json!({}))
    {
        // A template that never fits is refused before the engine is asked.
        template.execute(&empty).map_err(|error| {
            wrong(
                error
                    .to_string()
                    .replace("in type events.Message", "in type *events.Message"),
            )
        })?;
    }
    let now = jiff::Timestamp::now();
    let time = |flag: &str| match m.str(flag) {
        "" => Ok(String::new()),
        text => timestamp::parse(text, now).map_err(Failure::new),
    };
    let query = Query::new()
        .non_empty("since", time("since")?)
        .non_empty("until", time("until")?)
        .non_empty("filters", Filters::parse(&m.list("filter")).to_wire());
    let client = cli.client()?;
    cli.block_on(async {
        let response = client
            .request(Method::GET, format!("/events{query}"), Body::Empty, &[])
            .await?;
        let mut events = response.json_lines();
        while let Some(event) = events.next().await? {
            let line = match &format {
                Format::Text => pretty(&event),
                Format::Json => event.to_string(),
                Format::Template(template) => {
                    let value = types::value("events.Message", &event).ok_or_else(|| {
                        Failure::new("the engine sent something that is not an event")
                    })?;
                    template
                        .execute(&value)
                        .map_err(|error| wrong(error.to_string()))?
                }
            };
            println(&line)?;
        }
        Ok(())
    })
}

/// `TIME TYPE ACTION ID (key=value, …)`.
fn pretty(event: &Json) -> String {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let mut line = String::new();
    let nanoseconds = event["timeNano"].as_i64().filter(|nano| *nano != 0);
    let at = match (
        nanoseconds,
        event["time"].as_i64().filter(|time| *time != 0),
    ) {
        (Some(nano), _) => jiff::Timestamp::from_nanosecond(i128::from(nano)).ok(),
        (None, Some(seconds)) => jiff::Timestamp::from_second(seconds).ok(),
        (None, None) => None,
    };
    if let Some(at) = at {
        let zoned = at.to_zoned(jiff::tz::TimeZone::system());
        let utc = zoned.offset() == jiff::tz::Offset::UTC;
        let form = if utc {
            "%Y-%m-%dT%H:%M:%S.%9fZ "
        } else {
            "%Y-%m-%dT%H:%M:%S.%9f%:z "
        };
        line.push_str(&zoned.strftime(form).to_string());
    }
    line.push_str(&format!(
        "{} {} {}",
        text(&event["Type"]),
        text(&event["Action"]),
        text(&event["Actor"]["ID"])
    ));
    let mut attributes: Vec<String> = event["Actor"]["Attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    if !attributes.is_empty() {
        attributes.sort();
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}
