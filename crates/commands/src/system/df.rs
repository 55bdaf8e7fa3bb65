//! `docker system df`.

use serde_json::{Value as Json, json};
use wharf_go_template::Value;

use crate::cli::{Cli, print};
use crate::command::{Args, Command, FORMAT_HELP, Flag};
use crate::format::listing::{Format, Row, Shape, field};
use crate::format::units;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::{container, image, volume};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "Show docker disk usage",
    long: None,
    aliases: &[],
    args: Args::None,
    flags: &[
        Flag::string("format", FORMAT_HELP),
        Flag::bool("verbose", "Show detailed information on space usage").short('v'),
    ],
    interspersed: true,
    run,
};

static SHAPE: Shape = Shape {
    type_name: "*formatter.diskUsageImagesContext",
    columns: &["Type", "TotalCount", "Active", "Size", "Reclaimable"],
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

static CACHE_SHAPE: Shape = Shape {
    type_name: "*formatter.buildCacheContext",
    columns: &[
        "ID",
        "CacheType",
        "Size",
        "CreatedSince",
        "LastUsedSince",
        "UsageCount",
        "Shared",
    ],
    headers: &[
        ("ID", "CACHE ID"),
        ("Parent", "PARENT"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedSince", "CREATED"),
        ("LastUsedAt", "LAST USED AT"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("InUse", "IN USE"),
        ("Shared", "SHARED"),
        ("Description", "DESCRIPTION"),
    ],
};

const IMAGE_COLUMNS: &[&str] = &[
    "Repository",
    "Tag",
    "ID",
    "CreatedSince",
    "Size",
    "SharedSize",
    "UniqueSize",
    "Containers",
];
const CONTAINER_COLUMNS: &[&str] = &[
    "ID",
    "Image",
    "Command",
    "LocalVolumes",
    "Size",
    "RunningFor",
    "Status",
    "Names",
];
const VOLUME_COLUMNS: &[&str] = &["Name", "Links", "Size"];

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let verbose = m.bool("verbose");
    let format = Format::parse(m.str("format"))?;
    let client = cli.client()?;
    let usage = cli.block_on(client.get("/system/df"))?;
    let text = if verbose {
        verbose_text(&usage, &format, m.str("format"))?
    } else {
        format.render(&SHAPE, summary(&usage))?
    };
    Ok(print(&text)?)
}

fn list<'a>(usage: &'a Json, key: &str) -> &'a [Json] {
    usage[key].as_array().map_or(&[], Vec::as_slice)
}

fn number(object: &Json, key: &str) -> f64 {
    object[key].as_f64().unwrap_or(0.0)
}

fn line(kind: &str, total: usize, active: usize, size: f64, reclaimable: String) -> Row {
    Row::new(
        &SHAPE,
        vec![
            field("Type", kind),
            field("TotalCount", total.to_string()),
            field("Active", active.to_string()),
            field("Size", units::size4(size)),
            field("Reclaimable", reclaimable),
        ],
    )
}

/// `1.2MB (34%)`; without the share when there is nothing it could be a share of.
fn share(part: f64, whole: f64) -> String {
    if whole > 0.0 {
        format!(
            "{} ({:.0}%)",
            units::size4(part),
            (part * 100.0 / whole).trunc()
        )
    } else {
        units::size4(part)
    }
}

fn summary(usage: &Json) -> Vec<Row> {
    let images = list(usage, "Images");
    let layers = number(usage, "LayersSize");
    let used: f64 = images
        .iter()
        .filter(|image| number(image, "Containers") != 0.0)
        .filter(|image| number(image, "Size") >= 0.0 && number(image, "SharedSize") >= 0.0)
        .map(|image| number(image, "Size") - number(image, "SharedSize"))
        .sum();
    let in_use = images
        .iter()
        .filter(|image| number(image, "Containers") > 0.0)
        .count();

    let containers = list(usage, "Containers");
    let running = |c: &&Json| {
        matches!(
            c["State"].as_str(),
            Some("running" | "paused" | "restarting")
        )
    };
    let size_of = |c: &Json| number(c, "SizeRw");
    let total: f64 = containers.iter().map(size_of).sum();
    let idle: f64 = containers.iter().filter(|c| !running(c)).map(size_of).sum();

    let volumes = list(usage, "Volumes");
    let volume_size = |v: &&Json| number(&v["UsageData"], "Size").max(0.0);
    let volume_total: f64 = volumes.iter().map(|v| volume_size(&v)).sum();
    let unused: f64 = volumes
        .iter()
        .filter(|v| number(&v["UsageData"], "RefCount") == 0.0)
        .map(|v| volume_size(&v))
        .sum();

    let cache = list(usage, "BuildCache");
    let own = |c: &&Json| c["Shared"].as_bool() != Some(true);
    let busy = |c: &&Json| c["InUse"].as_bool() == Some(true);
    let cache_total: f64 = cache.iter().filter(own).map(|c| number(c, "Size")).sum();
    let cache_busy: f64 = cache
        .iter()
        .filter(own)
        .filter(busy)
        .map(|c| number(c, "Size"))
        .sum();
    vec![
        line(
            "Images",
            images.len(),
            in_use,
            layers,
            share(layers - used, layers),
        ),
        line(
            "Containers",
            containers.len(),
            containers.iter().filter(running).count(),
            total,
            share(idle, total),
        ),
        line(
            "Local Volumes",
            volumes.len(),
            volumes
                .iter()
                .filter(|v| number(&v["UsageData"], "RefCount") > 0.0)
                .count(),
            volume_total,
            share(unused, volume_total),
        ),
        line(
            "Build Cache",
            cache.len(),
            cache.iter().filter(busy).count(),
            cache_total,
            units::size4(cache_total - cache_busy),
        ),
    ]
}

/// The rows of every kind, each below its heading.
fn verbose_text(usage: &Json, format: &Format, source: &str) -> Outcome<String> {
    let trunc = format.is_default();
    let images = || {
        list(usage, "Images").iter().flat_map(|image| {
            let tagged = image["RepoTags"]
                .as_array()
                .is_some_and(|tags| !tags.is_empty());
            // An image that only has digests is one without a name here.
            let names = if tagged {
                image::ls::names(image, false)
            } else {
                vec![image::ls::Name::none()]
            };
            // Docker gives one line to an image, whatever its number of tags.
            names
                .into_iter()
                .take(1)
                .map(|name| image::ls::row(image, &name, trunc))
                .collect::<Vec<_>>()
        })
    };
    let containers = || {
        list(usage, "Containers").iter().map(|found| {
            let mut found = found.clone();
            // What it shares with its image is counted there.
            found["SizeRootFs"] = json!(0);
            container::ls::row(&found, trunc)
        })
    };
    let volumes = || list(usage, "Volumes").iter().map(volume::ls::row);
    let cache = || list(usage, "BuildCache").iter().map(cache_row);
    if !format.is_default() {
        let rows = |rows: Vec<Row>| Json::Array(rows.iter().map(Row::json).collect());
        let all = json!({
            "Images": rows(images().collect()),
            "Containers": rows(containers().collect()),
            "Volumes": rows(volumes().collect()),
            "BuildCache": rows(cache().collect()),
        });
        if source == "json" {
            // Go escapes what HTML reads; outside of strings JSON has none of these characters.
            let text = all.to_string();
            return Ok(text
                .replace('&', "\\u0026")
                .replace('<', "\\u003c")
                .replace('>', "\\u003e"));
        }
        let record = Value::record(
            "formatter.diskUsageContext",
            all.as_object()
                .into_iter()
                .flatten()
                .map(|(key, rows)| (key.clone(), Value::from_json(rows))),
        );
        let template =
            crate::format::inspect::parse(source).map_err(|failure| failure.with_status(1))?;
        return template
            .execute(&record)
            .map_err(|error| Failure::new(error.to_string()));
    }
    let mut out = String::from("Images space usage:\n\n");
    let mut add = |shape: &Shape, columns: &[&'static str], rows: Vec<Row>| -> Outcome<()> {
        out.push_str(&format.render_columns(shape, columns, rows)?);
        Ok(())
    };
    add(&image::ls::SHAPE, IMAGE_COLUMNS, images().collect())?;
    out.push_str("\nContainers space usage:\n\n");
    out.push_str(&format.render_columns(
        &container::ls::SHAPE,
        CONTAINER_COLUMNS,
        containers().collect(),
    )?);
    out.push_str("\nLocal Volumes space usage:\n\n");
    out.push_str(&format.render_columns(
        &volume::ls::SHAPE,
        VOLUME_COLUMNS,
        volumes().collect(),
    )?);
    let total: f64 = list(usage, "BuildCache")
        .iter()
        .filter(|entry| entry["Shared"].as_bool() != Some(true))
        .map(|entry| number(entry, "Size"))
        .sum();
    out.push_str(&format!("\nBuild cache usage: {}\n\n", units::size4(total)));
    out.push_str(&format.render_columns(&CACHE_SHAPE, CACHE_SHAPE.columns, cache().collect())?);
    Ok(out)
}

fn cache_row(entry: &Json) -> Row {
    let text = |key: &str| entry[key].as_str().unwrap_or_default();
    let on = |key: &str| entry[key].as_bool().unwrap_or(false).to_string();
    let since = |key: &str| {
        units::unix_seconds(text(key))
            .map(units::ago)
            .unwrap_or_default()
    };
    Row::new(
        &CACHE_SHAPE,
        vec![
            field("ID", text("ID").chars().take(12).collect::<String>()),
            field("Parent", text("Parent")),
            field("CacheType", text("Type")),
            field("Size", units::size(number(entry, "Size"))),
            field("CreatedAt", units::go_time(text("CreatedAt"))),
            field("CreatedSince", since("CreatedAt")),
            field("LastUsedAt", units::go_time(text("LastUsedAt"))),
            field("LastUsedSince", since("LastUsedAt")),
            field(
                "UsageCount",
                entry["UsageCount"].as_i64().unwrap_or(0).to_string(),
            ),
            field("InUse", on("InUse")),
            field("Shared", on("Shared")),
            field("Description", text("Description")),
        ],
    )
}
