//! `list`: all containers below this root.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::state::Shown;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::flags::{Flags, option, switch};
use crate::runtime::{Command, Runtime};
use crate::store::Directory;

pub(super) const COMMAND: Command = Command {
    name: "list",
    words: "",
    count: (0, 0),
    help: "list containers",
    flags: &[
        option(&["format", "f"], "FORMAT", "table or json (default: table)"),
        switch(&["quiet", "q"], "show IDs only"),
    ],
    run,
    failure: 1,
    enters: false,
};

fn run(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    let mut containers = Vec::new();
    for id in Directory::list(&runtime.root)? {
        match Container::open(runtime, &id).and_then(Shown::of) {
            Ok(shown) => containers.push(shown),
            // Not there yet, or not any more.
            Err(Error::NoContainer) => {}
            Err(error) => runtime.log.warning(&format!("container {id}: {error}")),
        }
    }
    let text = if flags.is("quiet") {
        containers
            .iter()
            .map(|shown| format!("{}\n", shown.id))
            .collect()
    } else {
        match flags.get("format") {
            None | Some("table") => table(&containers),
            Some("json") => serde_json::to_string(&containers).map_err(Error::json("output"))?,
            Some(_) => return Err(Error::Usage("invalid format option".into())),
        }
    };
    crate::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn table(containers: &[Shown]) -> String {
    let titles = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = containers.iter().map(|shown| {
        let status = format!("{:?}", shown.status).to_lowercase();
        [
            shown.id.clone(),
            shown.pid.to_string(),
            status,
            shown.bundle.display().to_string(),
            shown.created.clone(),
            shown.owner.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(titles).chain(rows).collect();
    // As Go's tabwriter with runc's settings: 12 columns at least, 3 between.
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        (longest + 3).max(12)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    rows.iter().fold(String::new(), |mut text, row| {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}");
        }
        let _ = writeln!(text, "{}", row[5]);
        text
    })
}
