//! `docker ps`.

use serde_json::Value as Json;
use wharf_client::Query;

use crate::cli::{Cli, print};
use crate::command::{Args, Command, FORMAT_HELP, Flag};
use crate::filters::Filters;
use crate::format::listing::{Format, Row, Shape, field};
use crate::format::units;
use crate::matches::{Matches, go_quote};
use crate::outcome::{Failure, Outcome};
use crate::parse::image::Named;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "List containers",
    long: None,
    aliases: &["container ls", "container list", "container ps", "ps"],
    args: Args::None,
    flags: &[
        Flag::bool("all", "Show all containers (default shows just running)").short('a'),
        Flag::filter("filter", "Filter output based on conditions provided").short('f'),
        Flag::string("format", FORMAT_HELP),
        Flag::int(
            "last",
            "Show n last created containers (includes all states)",
        )
        .short('n')
        .default("-1"),
        Flag::bool(
            "latest",
            "Show the latest created container (includes all states)",
        )
        .short('l'),
        Flag::bool("no-trunc", "Don't truncate output"),
        Flag::bool("quiet", "Only display container IDs").short('q'),
        Flag::bool("size", "Display total file sizes").short('s'),
    ],
    interspersed: true,
    run,
};

/// What templates and the table know of a container.
pub(crate) static SHAPE: Shape = Shape {
    type_name: "*formatter.ContainerContext",
    columns: &[
        "ID",
        "Image",
        "Command",
        "RunningFor",
        "Status",
        "Ports",
        "Names",
    ],
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
};

const WITH_SIZE: &[&str] = &[
    "ID",
    "Image",
    "Command",
    "RunningFor",
    "Status",
    "Ports",
    "Names",
    "Size",
];

/// What `--format raw` prints.
const RAW: &str = "container_id: {{.ID}}\\nimage: {{.Image}}\\ncommand: {{.Command}}\\ncreated_at: {{.CreatedAt}}\\nstate: {{.State}}\\nstatus: {{.Status}}\\nnames: {{.Names}}\\nlabels: {{- if .Labels}} {{.Labels}}{{end}}\\nports: {{- if .Ports}} {{.Ports}}{{end}}\\n";

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let quiet = m.bool("quiet");
    let format = match m.str("format") {
        "" if quiet => "table",
        "" => cli.config().text("psFormat"),
        "raw" if quiet => "container_id: {{.ID}}",
        "raw" => RAW,
        given => given,
    };
    let format = Format::parse(format)?;
    let last = if m.bool("latest") && !m.given("last") {
        1
    } else {
        m.int("last").unwrap_or(-1)
    };
    let sized = m.bool("size") || m.str("format").contains(".Size");
    let query = Query::new()
        .flag("all", m.bool("all"))
        .non_empty(
            "limit",
            if last > 0 {
                last.to_string()
            } else {
                String::new()
            },
        )
        .flag("size", sized)
        .non_empty("filters", Filters::parse(&m.list("filter")).to_wire());
    let client = cli.client()?;
    let containers = cli.block_on(client.get(format!("/containers/json{query}")))?;
    let containers = containers.as_array().map_or(&[][..], Vec::as_slice);
    let trunc = !m.bool("no-trunc");
    if quiet && format.is_default() {
        let mut out = String::new();
        for container in containers {
            out.push_str(short_id(
                container["Id"].as_str().unwrap_or_default(),
                trunc,
            ));
            out.push('\n');
        }
        return Ok(print(&out)?);
    }
    let rows = containers
        .iter()
        .map(|container| row(container, trunc))
        .collect();
    let columns = if m.bool("size") {
        WITH_SIZE
    } else {
        SHAPE.columns
    };
    let text = format
        .render_columns(&SHAPE, columns, rows)
        .map_err(|failure| {
            // This one command has its own words for a template that does not fit.
            Failure::new(failure.text().replacen(
                "template parsing error: template",
                "failed to execute template: template",
                1,
            ))
        })?;
    Ok(print(&text)?)
}

/// The first twelve characters of an ID, without the name of its algorithm.
pub(crate) fn short_id(id: &str, trunc: bool) -> &str {
    if !trunc {
        return id;
    }
    let id = id.split_once(':').map_or(id, |(_, hex)| hex);
    id.get(..12).unwrap_or(id)
}

/// At most `max` characters, the last one an ellipsis where something was cut off.
pub(crate) fn ellipsis(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max - 1).chain(['…']).collect()
}

/// One container of the list.
pub(crate) fn row(c: &Json, trunc: bool) -> Row {
    let text = |key: &str| c[key].as_str().unwrap_or_default();
    let created = c["Created"].as_i64().unwrap_or(0);
    let mounts = c["Mounts"].as_array().map_or(&[][..], Vec::as_slice);
    let labels = labels(&c["Labels"]);
    let command = match trunc {
        true => ellipsis(text("Command"), 20),
        false => text("Command").to_owned(),
    };
    let platform = match c["ImageManifestDescriptor"]["platform"].as_object() {
        Some(platform) => {
            let part = |key: &str| platform.get(key).and_then(Json::as_str).unwrap_or_default();
            let parts = [part("os"), part("architecture"), part("variant")];
            Some(
                parts
                    .iter()
                    .filter(|part| !part.is_empty())
                    .copied()
                    .collect::<Vec<_>>()
                    .join("/"),
            )
        }
        None => None,
    };
    let fields = vec![
        field("ID", short_id(text("Id"), trunc)),
        field("Names", names(c, trunc)),
        field("Image", image(c, trunc)),
        field("Command", go_quote(&command)),
        field("CreatedAt", units::local_time(created)),
        field("RunningFor", units::ago(created)),
        field("Ports", ports(&c["Ports"])),
        field("State", text("State")),
        field("Status", text("Status")),
        field("Size", size(c)),
        field("Labels", join_labels(&labels)),
        field("Mounts", mount_names(mounts, trunc)),
        field(
            "LocalVolumes",
            mounts
                .iter()
                .filter(|mount| mount["Driver"] == "local")
                .count()
                .to_string(),
        ),
        field("Networks", networks(&c["NetworkSettings"]["Networks"])),
        ("Platform", platform),
    ];
    Row::new(&SHAPE, fields).with_labels(labels)
}

fn names(c: &Json, trunc: bool) -> String {
    let names = c["Names"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str);
    let names = names.map(|name| name.strip_prefix('/').unwrap_or(name));
    // With links a container has further names, which contain a slash.
    names
        .filter(|name| !trunc || !name.contains('/'))
        .collect::<Vec<_>>()
        .join(",")
}

fn image(c: &Json, trunc: bool) -> String {
    let image = c["Image"].as_str().unwrap_or_default();
    if image.is_empty() {
        return "<no image>".to_owned();
    }
    if !trunc {
        return image.to_owned();
    }
    let short = short_id(c["ImageID"].as_str().unwrap_or_default(), true);
    if short == short_id(image, true) {
        return short.to_owned();
    }
    match Named::parse(image) {
        Ok(named) => Named {
            digest: None,
            ..named
        }
        .familiar(),
        Err(_) => image.to_owned(),
    }
}

fn size(c: &Json) -> String {
    let bytes = |key: &str| c[key].as_f64().unwrap_or(0.0);
    let own = units::size(bytes("SizeRw"));
    if bytes("SizeRootFs") > 0.0 {
        format!("{own} (virtual {})", units::size(bytes("SizeRootFs")))
    } else {
        own
    }
}

/// Labels by name.
pub(crate) fn labels(value: &Json) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    labels.sort();
    labels
}

/// `a=b,c=d`.
pub(crate) fn join_labels(labels: &[(String, String)]) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

fn mount_names(mounts: &[Json], trunc: bool) -> String {
    let name = |mount: &Json| {
        let text = |key: &str| mount[key].as_str().filter(|text| !text.is_empty());
        let name = text("Name").or(text("Source")).unwrap_or_default();
        if trunc {
            ellipsis(name, 15)
        } else {
            name.to_owned()
        }
    };
    mounts.iter().map(name).collect::<Vec<_>>().join(",")
}

fn networks(value: &Json) -> String {
    let mut names: Vec<&str> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    names.join(",")
}

/// One entry of `Ports`, in the order they are sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    private: u64,
    ip: String,
    public: u64,
    kind: String,
}

/// Ports as people read them: neighbours that are published under their own number are merged
/// into a range.
fn ports(value: &Json) -> String {
    let number = |port: &Json, key: &str| port[key].as_u64().unwrap_or(0);
    let text = |port: &Json, key: &str| port[key].as_str().unwrap_or_default().to_owned();
    let mut ports: Vec<Port> = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| Port {
            private: number(port, "PrivatePort"),
            ip: text(port, "IP"),
            public: number(port, "PublicPort"),
            kind: text(port, "Type"),
        })
        .collect();
    ports.sort();
    // Address and protocol with the first and last port of the run, in the order they began.
    let mut runs: Vec<((String, String), u64, u64)> = Vec::new();
    let mut done = Vec::new();
    let mut mapped = Vec::new();
    for port in ports {
        if !port.ip.is_empty() && port.public != port.private {
            mapped.push(format!(
                "{}->{}/{}",
                join_host_port(&port.ip, &port.public.to_string()),
                port.private,
                port.kind
            ));
            continue;
        }
        let key = (port.ip, port.kind);
        match runs.iter_mut().find(|(run, _, _)| *run == key) {
            None => runs.push((key, port.private, port.private)),
            Some((_, _, last)) if port.private == *last + 1 => *last = port.private,
            Some((_, first, last)) => {
                done.push(run_text(&key, *first, *last));
                (*first, *last) = (port.private, port.private);
            }
        }
    }
    done.extend(
        runs.iter()
            .map(|(key, first, last)| run_text(key, *first, *last)),
    );
    done.extend(mapped);
    done.join(", ")
}

fn run_text((ip, kind): &(String, String), first: u64, last: u64) -> String {
    let range = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    if ip.is_empty() {
        format!("{range}/{kind}")
    } else {
        format!("{}->{range}/{kind}", join_host_port(ip, &range))
    }
}

fn join_host_port(ip: &str, port: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn neighbouring_ports_are_merged() {
        let port = |ip: &str, private: u16, public: u16| json!({"IP": ip, "PrivatePort": private, "PublicPort": public, "Type": "tcp"});
        let list = json!([
            port("0.0.0.0", 91, 91),
            port("0.0.0.0", 90, 90),
            port("::", 90, 90),
            port("::", 91, 91),
            port("0.0.0.0", 80, 8080),
            port("::", 80, 8080),
            {"PrivatePort": 443, "Type": "tcp"},
            {"PrivatePort": 445, "Type": "tcp"},
        ]);
        assert_eq!(
            ports(&list),
            "443/tcp, 0.0.0.0:90-91->90-91/tcp, [::]:90-91->90-91/tcp, 445/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
    }

    #[test]
    fn image_names_lose_their_digest() {
        let digest = format!("r.io:5/x/y:1@sha256:{}", "c".repeat(64));
        assert_eq!(image(&json!({"Image": digest}), true), "r.io:5/x/y:1");
        assert_eq!(image(&json!({"Image": digest}), false), digest);
        assert_eq!(image(&json!({"Image": ""}), true), "<no image>");
    }

    #[test]
    fn the_list_looks_as_docker_prints_it() {
        let containers = [
            json!({
                "Id": "0123456789abcdef", "Names": ["/web", "/other/link"], "Image": "nginx",
                "Command": "nginx -g 'daemon off;'", "Created": jiff::Timestamp::now().as_second() - 130,
                "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
                "Status": "Up 2 minutes",
            }),
            json!({
                "Id": "1123456789abcdef", "Names": ["/db"], "Image": format!("sha256:{}", "b".repeat(64)),
                "ImageID": format!("sha256:{}", "b".repeat(64)), "Command": "sh", "Ports": [],
                "Created": jiff::Timestamp::now().as_second() - 7300, "Status": "Exited (0) 2 hours ago",
            }),
        ];
        let rows = containers
            .iter()
            .map(|container| row(container, true))
            .collect();
        assert_eq!(
            Format::Table.render(&SHAPE, rows).unwrap(),
            "CONTAINER ID   IMAGE          COMMAND                  CREATED         STATUS                   PORTS                  NAMES\n\
             0123456789ab   nginx          \"nginx -g 'daemon of…\"   2 minutes ago   Up 2 minutes             0.0.0.0:8080->80/tcp   web\n\
             1123456789ab   bbbbbbbbbbbb   \"sh\"                     2 hours ago     Exited (0) 2 hours ago                          db\n"
        );
    }
}
