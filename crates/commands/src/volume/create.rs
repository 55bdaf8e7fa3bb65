//! `docker volume create`.

use serde_json::{Map, Value, json};

use crate::cli::{Cli, println};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::env::pair;

/// The older place of the name is still understood.
static FLAGS: &[Flag] = &[
    Flag::string(
        "availability",
        "Cluster Volume availability (\"active\", \"pause\", \"drain\")",
    )
    .default("active"),
    Flag::string("driver", "Specify volume driver name")
        .short('d')
        .default("local"),
    Flag::string("group", "Cluster Volume group (cluster volumes)"),
    Flag::list("label", "Set metadata for a volume"),
    Flag::bytes("limit-bytes", "Minimum size of the Cluster Volume in bytes"),
    Flag::map("opt", "Set driver specific options")
        .short('o')
        .default("map[]"),
    Flag::bytes(
        "required-bytes",
        "Maximum size of the Cluster Volume in bytes",
    ),
    Flag::string(
        "scope",
        "Cluster Volume access scope (\"single\", \"multi\")",
    )
    .default("single"),
    Flag::map("secret", "Cluster Volume secrets").default("map[]"),
    Flag::string(
        "sharing",
        "Cluster Volume access sharing (\"none\", \"readonly\", \"onewriter\", \"all\")",
    )
    .default("none"),
    Flag::list(
        "topology-preferred",
        "A topology that the Cluster Volume would be preferred in",
    ),
    Flag::list(
        "topology-required",
        "A topology that the Cluster Volume must be accessible from",
    ),
    Flag::string("type", "Cluster Volume access type (\"mount\", \"block\")").default("block"),
    Flag::string("name", "Specify volume name").hidden(),
];

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] [VOLUME]",
    short: "Create a volume",
    long: None,
    aliases: &[],
    args: Args::Max(1),
    flags: FLAGS,
    interspersed: true,
    run,
};

/// Flags of cluster volumes.
const CLUSTER: &[&str] = &[
    "availability",
    "group",
    "limit-bytes",
    "required-bytes",
    "scope",
    "secret",
    "sharing",
    "topology-preferred",
    "topology-required",
    "type",
];

fn run(cli: &Cli, m: &Matches) -> Outcome {
    if let Some(flag) = CLUSTER.iter().find(|flag| m.given(flag)) {
        return Err(Failure::new(format!(
            "cluster volumes (--{flag}) are not available yet"
        )));
    }
    let argument = m.args.first().map(String::as_str).unwrap_or_default();
    let name = match (m.str("name"), argument) {
        ("", argument) => argument,
        (name, "") => name,
        _ => {
            return Err(Failure::new(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
    };
    let pairs = |flag: &str| -> Map<String, Value> {
        m.list(flag)
            .into_iter()
            .map(pair)
            .map(|(key, value)| (key, json!(value)))
            .collect()
    };
    let mut body = Map::new();
    body.insert(
        "Driver".to_owned(),
        json!(m.last("driver").unwrap_or("local")),
    );
    for (key, map) in [("DriverOpts", pairs("opt")), ("Labels", pairs("label"))] {
        if !map.is_empty() {
            body.insert(key.to_owned(), Value::Object(map));
        }
    }
    if !name.is_empty() {
        body.insert("Name".to_owned(), json!(name));
    }
    let client = cli.client()?;
    let volume = cli.block_on(client.post("/volumes/create", Some(Value::Object(body))))?;
    Ok(println(volume["Name"].as_str().unwrap_or_default())?)
}
