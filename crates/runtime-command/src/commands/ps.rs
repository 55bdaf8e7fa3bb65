//! `ps`: the processes of a container.

use std::process::{Command as Program, ExitCode};

use wharf_oci::runtime::Status;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::flags::{Flags, option};
use crate::runtime::{Command, Runtime};

pub(super) const COMMAND: Command = Command {
    name: "ps",
    words: "<container-id> [ps options]",
    count: (1, usize::MAX),
    help: "show the processes of a container",
    flags: &[option(
        &["format", "f"],
        "FORMAT",
        "table or json (default: table)",
    )],
    run,
    failure: 1,
    enters: false,
};

fn run(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    let container = Container::open(runtime, &flags.words[0])?;
    if container.status()? == Status::Stopped {
        return Err(Error::NotRunning);
    }
    let processes = match container.cgroup()? {
        Some(cgroup) => cgroup.processes().map_err(Error::system("processes"))?,
        None => {
            let own = container.process();
            own.map(|(pid, _)| pid.as_raw_nonzero().get())
                .into_iter()
                .collect()
        }
    };
    match flags.get("format") {
        None | Some("table") => crate::print(&table(&processes, &flags.words[1..])?)?,
        Some("json") => {
            let text = serde_json::to_string(&processes).map_err(Error::json("output"))?;
            crate::print(&format!("{text}\n"))?;
        }
        Some(_) => return Err(Error::Usage("invalid format option".into())),
    }
    Ok(ExitCode::SUCCESS)
}

/// The lines `ps` has for them.
fn table(processes: &[i32], options: &[String]) -> Result<String> {
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() {
        &default[..]
    } else {
        options
    };
    let output = Program::new("ps")
        .args(options)
        .output()
        .map_err(Error::system("ps"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Refused(format!("ps: {said}")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    select(&text, processes)
        .ok_or_else(|| Error::Refused("couldn't find PID field in ps output".into()))
}

/// The title and the lines of `processes`.
fn select(text: &str, processes: &[i32]) -> Option<String> {
    let mut lines = text.lines();
    let title = lines.next()?;
    let column = title.split_whitespace().position(|word| word == "PID")?;
    let mut selected = format!("{title}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column);
        let pid = pid.and_then(|pid| pid.parse::<i32>().ok());
        if pid.is_some_and(|pid| processes.contains(&pid)) {
            selected.push_str(line);
            selected.push('\n');
        }
    }
    Some(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_container_are_selected() {
        let text = "UID  PID PPID CMD\nroot 1 0 init\nroot 12 1 sh 13\nroot 13 1 x\n";
        assert_eq!(
            select(text, &[13, 99]).unwrap(),
            "UID  PID PPID CMD\nroot 13 1 x\n"
        );
        assert_eq!(select("nothing\n", &[1]), None);
    }
}
