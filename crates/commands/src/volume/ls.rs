//! `docker volume ls`.

use serde_json::Value as Json;
use wharf_client::Query;

use crate::cli::{Cli, print};
use crate::command::{Args, Command, FORMAT_HELP, Flag};
use crate::container::ls::{join_labels, labels};
use crate::filters::Filters;
use crate::format::listing::{Format, Row, Shape, field};
use crate::format::{natural, units};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "List volumes",
    long: None,
    aliases: &["volume ls", "volume list"],
    args: Args::None,
    flags: &[
        Flag::bool(
            "cluster",
            "Display only cluster volumes, and use cluster volume list formatting",
        ),
        Flag::filter("filter", "Provide filter values (e.g. \"dangling=true\")").short('f'),
        Flag::string("format", FORMAT_HELP),
        Flag::bool("quiet", "Only display volume names").short('q'),
    ],
    interspersed: true,
    run,
};

/// What templates and the table know of a volume.
pub(crate) static SHAPE: Shape = Shape {
    type_name: "*formatter.volumeContext",
    columns: &["Driver", "Name"],
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Availability", "AVAILABILITY"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    if m.bool("cluster") {
        return Err(Failure::new(
            "cluster volumes (--cluster) are not available yet",
        ));
    }
    let quiet = m.bool("quiet");
    let format = match m.str("format") {
        "" if quiet => "{{.Name}}",
        "" => cli.config().text("volumesFormat"),
        given => given,
    };
    let format = Format::parse(format)?;
    let query = Query::new().non_empty("filters", Filters::parse(&m.list("filter")).to_wire());
    let client = cli.client()?;
    let answer = cli.block_on(client.get(format!("/volumes{query}")))?;
    let mut volumes: Vec<&Json> = answer["Volumes"].as_array().into_iter().flatten().collect();
    volumes.sort_by(|a, b| {
        natural::compare(
            a["Name"].as_str().unwrap_or_default(),
            b["Name"].as_str().unwrap_or_default(),
        )
    });
    Ok(print(
        &format.render(&SHAPE, volumes.into_iter().map(row).collect())?,
    )?)
}

/// One volume of the list.
pub(crate) fn row(volume: &Json) -> Row {
    let text = |key: &str| volume[key].as_str().unwrap_or_default();
    let labels = labels(&volume["Labels"]);
    let none = "N/A".to_owned();
    let usage = &volume["UsageData"];
    Row::new(
        &SHAPE,
        vec![
            field("Name", text("Name")),
            field("Driver", text("Driver")),
            field("Scope", text("Scope")),
            field("Availability", none.clone()),
            field("Mountpoint", text("Mountpoint")),
            field("Labels", join_labels(&labels)),
            field(
                "Links",
                usage["RefCount"]
                    .as_i64()
                    .map_or(none.clone(), |links| links.to_string()),
            ),
            field(
                "Size",
                usage["Size"].as_f64().map_or(none.clone(), units::size4),
            ),
            field("Group", none.clone()),
            field("Status", none),
        ],
    )
    .with_labels(labels)
}
