//! `docker search`.

use serde_json::Value as Json;
use wharf_client::{Body, Method, Query};

use super::credentials;
use crate::cli::{Cli, print};
use crate::command::{Args, Command, Flag};
use crate::container::ls::ellipsis;
use crate::filters::Filters;
use crate::format::listing::{Format, Row, Shape, field};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::image::HUB;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] TERM",
    short: "Search Docker Hub for images",
    long: None,
    aliases: &[],
    args: Args::Exact(1),
    flags: &[
        Flag::filter("filter", "Filter output based on conditions provided").short('f'),
        Flag::string("format", "Pretty-print search using a Go template"),
        Flag::int("limit", "Max number of search results"),
        Flag::bool("no-trunc", "Don't truncate output"),
    ],
    interspersed: true,
    run,
};

static SHAPE: Shape = Shape {
    type_name: "*registry.searchContext",
    columns: &["Name", "Description", "StarCount", "IsOfficial"],
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
    ],
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let term = &m.args[0];
    let format = Format::parse(m.str("format"))?;
    let limit = m.last("limit").unwrap_or_default();
    let query = Query::new()
        .non_empty("filters", Filters::parse(&m.list("filter")).to_wire())
        .non_empty("limit", if limit == "0" { "" } else { limit })
        .add("term", term);
    let registry = term.split_once('/').map_or(HUB, |(first, _)| {
        if first.contains(['.', ':']) {
            first
        } else {
            HUB
        }
    });
    let auth = credentials::header(cli, registry)?;
    let client = cli.client()?;
    let found = cli.block_on(async {
        let headers = [("X-Registry-Auth", auth.as_str())];
        let response = client
            .request(
                Method::GET,
                format!("/images/search{query}"),
                Body::Empty,
                &headers,
            )
            .await?;
        Ok::<Json, Failure>(response.json().await?)
    })?;
    let trunc = !m.bool("no-trunc");
    let json = format.is_table();
    let rows = found
        .as_array()
        .into_iter()
        .flatten()
        .map(|result| row(result, trunc, json))
        .collect();
    Ok(print(&format.render(&SHAPE, rows)?)?)
}

fn row(result: &Json, trunc: bool, table: bool) -> Row {
    let text = |key: &str| result[key].as_str().unwrap_or_default();
    let description = text("description").replace(['\n', '\r'], " ");
    let official = result["is_official"].as_bool().unwrap_or(false);
    Row::new(
        &SHAPE,
        vec![
            field("Name", text("name")),
            field(
                "Description",
                if trunc {
                    ellipsis(&description, 45)
                } else {
                    description
                },
            ),
            field(
                "StarCount",
                result["star_count"].as_i64().unwrap_or(0).to_string(),
            ),
            // In a table a sign says it, in JSON a word.
            field(
                "IsOfficial",
                match (table, official) {
                    (true, true) => "[OK]".to_owned(),
                    (true, false) => String::new(),
                    (false, official) => official.to_string(),
                },
            ),
        ],
    )
}
