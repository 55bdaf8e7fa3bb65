//! `docker images`.

use serde_json::Value as Json;
use wharf_client::Query;

use crate::cli::{Cli, print};
use crate::command::{Args, Command, FORMAT_HELP, Flag};
use crate::container::ls::short_id;
use crate::filters::Filters;
use crate::format::listing::{Format, Row, Shape, field};
use crate::format::units;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    short: "List images",
    long: None,
    aliases: &["image ls", "image list", "images"],
    args: Args::Max(1),
    flags: &[
        Flag::bool("all", "Show all images (default hides intermediate images)").short('a'),
        Flag::bool("digests", "Show digests"),
        Flag::filter("filter", "Filter output based on conditions provided").short('f'),
        Flag::string("format", FORMAT_HELP),
        Flag::bool("no-trunc", "Don't truncate output"),
        Flag::bool("quiet", "Only show image IDs").short('q'),
        Flag::bool(
            "tree",
            "List multi-platform images as a tree (EXPERIMENTAL)",
        ),
    ],
    interspersed: true,
    run,
};

/// What templates and the table know of an image.
pub(crate) static SHAPE: Shape = Shape {
    type_name: "*formatter.imageContext",
    columns: &["Repository", "Tag", "ID", "CreatedSince", "Size"],
    headers: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
};

const WITH_DIGESTS: &[&str] = &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"];
const NONE: &str = "<none>";

fn run(cli: &Cli, m: &Matches) -> Outcome {
    if m.bool("tree") {
        return Err(Failure::new("--tree is not available yet"));
    }
    let quiet = m.bool("quiet");
    let format = match m.str("format") {
        "" if quiet => "table",
        "" => cli.config().text("imagesFormat"),
        given => given,
    };
    let with_digests = m.bool("digests") || format.contains(".Digest");
    let format = Format::parse(format)?;
    let mut filters = Filters::parse(&m.list("filter"));
    if let Some(reference) = m.args.first() {
        filters.add("reference", reference);
    }
    let query = Query::new()
        .flag("all", m.bool("all"))
        .non_empty("filters", filters.to_wire());
    let client = cli.client()?;
    let images = cli.block_on(client.get(format!("/images/json{query}")))?;
    let images = images.as_array().map_or(&[][..], Vec::as_slice);
    let trunc = !m.bool("no-trunc");
    let mut rows = Vec::new();
    let mut ids = String::new();
    for image in images {
        for name in names(image, with_digests) {
            if quiet && format.is_default() {
                ids.push_str(short_id(image["Id"].as_str().unwrap_or_default(), trunc));
                ids.push('\n');
            } else {
                rows.push(row(image, &name, trunc));
            }
        }
    }
    if quiet && format.is_default() {
        return Ok(print(&ids)?);
    }
    let columns = if m.bool("digests") {
        WITH_DIGESTS
    } else {
        SHAPE.columns
    };
    Ok(print(&format.render_columns(&SHAPE, columns, rows)?)?)
}

/// One line an image has in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    repository: String,
    tag: String,
    digest: String,
}

impl Name {
    fn new(repository: &str, tag: &str, digest: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest: digest.to_owned(),
        }
    }

    /// What an image without a name is called.
    pub(crate) fn none() -> Self {
        Self::new(NONE, NONE, NONE)
    }
}

/// The lines of an image: one per tag, or per digest of a repository it has no tag in.
pub(crate) fn names(image: &Json, with_digests: bool) -> Vec<Name> {
    let list = |key: &str| {
        image[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect::<Vec<_>>()
    };
    let tags: Vec<(&str, &str)> = list("RepoTags")
        .into_iter()
        .filter(|tag| *tag != "<none>:<none>")
        .filter_map(|tag| tag.rsplit_once(':'))
        .collect();
    let digests: Vec<(&str, &str)> = list("RepoDigests")
        .into_iter()
        .filter(|digest| *digest != "<none>@<none>")
        .filter_map(|digest| digest.split_once('@'))
        .collect();
    let mut out = Vec::new();
    for (repository, tag) in &tags {
        let of_repository = digests.iter().filter(|(name, _)| name == repository);
        let before = out.len();
        if with_digests {
            out.extend(of_repository.map(|(_, digest)| Name::new(repository, tag, digest)));
        }
        if out.len() == before {
            out.push(Name::new(repository, tag, NONE));
        }
    }
    for (repository, digest) in digests {
        if tags.iter().any(|(name, _)| *name == repository) {
            continue;
        }
        let line = Name::new(repository, NONE, if with_digests { digest } else { "" });
        if !out.contains(&line) {
            out.push(line);
        }
    }
    if out.is_empty() {
        out.push(Name::none());
    }
    out
}

/// One line of the list.
pub(crate) fn row(image: &Json, name: &Name, trunc: bool) -> Row {
    let number = |key: &str| image[key].as_f64().unwrap_or(-1.0);
    let created = image["Created"].as_i64().unwrap_or(0);
    let size = number("Size").max(0.0);
    let shared = number("SharedSize");
    let known = |value: f64, text: String| if value < 0.0 { "N/A".to_owned() } else { text };
    Row::new(
        &SHAPE,
        vec![
            field(
                "ID",
                short_id(image["Id"].as_str().unwrap_or_default(), trunc),
            ),
            field("Repository", name.repository.clone()),
            field("Tag", name.tag.clone()),
            field("Digest", name.digest.clone()),
            field("CreatedSince", units::ago(created)),
            field("CreatedAt", units::local_time(created)),
            field("Size", units::size(size)),
            field(
                "Containers",
                known(number("Containers"), image["Containers"].to_string()),
            ),
            field("VirtualSize", units::size4(size)),
            field("SharedSize", known(shared, units::size4(shared.max(0.0)))),
            field(
                "UniqueSize",
                known(shared, units::size4((size - shared).max(0.0))),
            ),
        ],
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_has_a_line_for_each_name() {
        let image =
            json!({"RepoTags": ["a:1", "r:5/b:2"], "RepoDigests": ["a@sha256:x", "c@sha256:y"]});
        let lines = |digests| {
            names(&image, digests)
                .iter()
                .map(|n| format!("{} {} {}", n.repository, n.tag, n.digest))
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(false), ["a 1 <none>", "r:5/b 2 <none>", "c <none> "]);
        assert_eq!(
            lines(true),
            ["a 1 sha256:x", "r:5/b 2 <none>", "c <none> sha256:y"]
        );
        assert_eq!(
            names(&json!({"RepoTags": ["<none>:<none>"]}), false),
            [Name::none()]
        );
    }
}
