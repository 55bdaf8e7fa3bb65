//! `docker history`.

use serde_json::Value as Json;
use wharf_client::Query;

use crate::cli::{Cli, print};
use crate::command::{Args, Command, FORMAT_HELP, Flag};
use crate::container::ls::{ellipsis, short_id};
use crate::format::listing::{Format, Row, Shape, field};
use crate::format::units;
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE",
    short: "Show the history of an image",
    long: None,
    aliases: &["image history", "history"],
    args: Args::Exact(1),
    flags: &[
        Flag::string("format", FORMAT_HELP),
        Flag::bool("human", "Print sizes and dates in human readable format")
            .short('H')
            .default("true"),
        Flag::bool("no-trunc", "Don't truncate output"),
        Flag::string(
            "platform",
            "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
        Flag::bool("quiet", "Only show image IDs").short('q'),
    ],
    interspersed: true,
    run,
};

static SHAPE: Shape = Shape {
    type_name: "*image.historyContext",
    columns: &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"],
    headers: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
};

/// Docker's columns without `--human`.
const PLAIN: &[&str] = &["ID", "CreatedAt", "CreatedBy", "Size", "Comment"];

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let human = m.bool_or("human", true);
    let trunc = !m.bool("no-trunc");
    let format = Format::parse(m.str("format"))?;
    let query = Query::new().non_empty("platform", super::push::platform(m.str("platform"))?);
    let client = cli.client()?;
    let layers = cli.block_on(client.get(super::path(&m.args[0], &format!("/history{query}"))))?;
    let layers = layers.as_array().map_or(&[][..], Vec::as_slice);
    if m.bool("quiet") && format.is_default() {
        let ids = layers
            .iter()
            .map(|layer| short_id(layer["Id"].as_str().unwrap_or_default(), trunc));
        let text: String = ids.flat_map(|id| [id, "\n"]).collect();
        return Ok(print(&text)?);
    }
    let rows = layers
        .iter()
        .map(|layer| row(layer, human, trunc))
        .collect();
    let columns = if human { SHAPE.columns } else { PLAIN };
    Ok(print(&format.render_columns(&SHAPE, columns, rows)?)?)
}

fn row(layer: &Json, human: bool, trunc: bool) -> Row {
    let text = |key: &str| layer[key].as_str().unwrap_or_default();
    let created = layer["Created"].as_i64().unwrap_or(0);
    let by = text("CreatedBy").replace('\t', " ");
    let size = layer["Size"].as_f64().unwrap_or(0.0);
    let at = jiff::Timestamp::from_second(created).map(|at| {
        let zoned = at.to_zoned(jiff::tz::TimeZone::system());
        let form = if zoned.offset() == jiff::tz::Offset::UTC {
            "%Y-%m-%dT%H:%M:%SZ"
        } else {
            "%Y-%m-%dT%H:%M:%S%:z"
        };
        zoned.strftime(form).to_string()
    });
    Row::new(
        &SHAPE,
        vec![
            field("ID", short_id(text("Id"), trunc)),
            field(
                "CreatedSince",
                if created == 0 {
                    String::new()
                } else {
                    units::ago(created)
                },
            ),
            field("CreatedAt", at.unwrap_or_default()),
            field("CreatedBy", if trunc { ellipsis(&by, 45) } else { by }),
            field(
                "Size",
                if human {
                    units::size(size)
                } else {
                    layer["Size"].to_string()
                },
            ),
            field("Comment", text("Comment")),
        ],
    )
}
