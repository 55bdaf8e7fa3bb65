//! The processes of a container, as the host's `ps` shows them.
//!
//! Docker runs `ps` on the host with the user's arguments and keeps the lines of the container's
//! processes. The default columns (`-ef`) are made here from `/proc`, without a child program.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use wharf_api_types::container::TopResponse;
use wharf_container_runtime::cgroup::Cgroup;
use wharf_fault::{Error, Result};

use super::live::Container;
use crate::Engine;

impl Engine {
    /// Lists a container's processes; `arguments` are `ps`'s.
    pub async fn container_top(&self, reference: &str, arguments: &str) -> Result<TopResponse> {
        let container = self.containers.find(reference)?;
        let pids = match self.processes_by_program(&container).await? {
            Some(pids) => pids.into_iter().collect(),
            None => pids_of(&container)?,
        };
        let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        let is_default = words.is_empty() || words == ["-ef"];
        let work = move || {
            if is_default {
                Ok(from_proc(&pids))
            } else {
                from_ps(&words, &pids)
            }
        };
        let response = tokio::task::spawn_blocking(work)
            .await
            .map_err(|source| Error::system("cannot list processes").caused_by(source))??;
        self.events.publish(
            "container",
            "top",
            container.id.as_str(),
            container.event_attributes([]),
        );
        Ok(response)
    }
}

fn pids_of(container: &Arc<Container>) -> Result<BTreeSet<i32>> {
    let cgroup_path = {
        let cell = container.read();
        if cell.record.state.restarting {
            let id = &container.id;
            return Err(Error::conflict(format!(
                "container {id} is restarting, wait until the container is running"
            )));
        }
        match &cell.run {
            Some(run) if run.kept.cgroup_path.is_empty() => {
                return Ok(super::processes::beside(cell.record.state.pid));
            }
            Some(run) => run.kept.cgroup_path.clone(),
            None => return Err(container.not_running()),
        }
    };
    let read = Cgroup::at(&cgroup_path).and_then(|cgroup| cgroup.processes());
    let pids = read.map_err(|source| {
        Error::system("cannot list the container's processes").caused_by(source)
    })?;
    Ok(pids.into_iter().collect())
}

/// The columns of `ps -ef`.
fn from_proc(pids: &BTreeSet<i32>) -> TopResponse {
    let users = users();
    let clock = Clock::read();
    let processes = pids
        .iter()
        .filter_map(|pid| row(*pid, &users, &clock))
        .collect();
    let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
        .map(str::to_owned)
        .to_vec();
    TopResponse { processes, titles }
}

struct Clock {
    /// Seconds since the epoch at boot.
    boot: i64,
    /// Kernel ticks per second.
    ticks: i64,
    now: jiff::Zoned,
}

impl Clock {
    fn read() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = stat
            .lines()
            .find_map(|line| line.strip_prefix("btime "))
            .and_then(|n| n.trim().parse().ok());
        Self {
            boot: boot.unwrap_or(0),
            ticks: i64::try_from(rustix::param::clock_ticks_per_second())
                .unwrap_or(100)
                .max(1),
            now: jiff::Zoned::now(),
        }
    }
}

fn row(pid: i32, users: &HashMap<u32, String>, clock: &Clock) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in brackets and may contain anything, brackets too.
    let name = stat.get(stat.find('(')? + 1..stat.rfind(')')?)?;
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<i64>().ok())
            .unwrap_or(0)
    };
    // Numbers of proc(5) minus 3: the fields after the name begin with the state.
    let (ppid, tty, utime, stime, start) =
        (number(1), number(4), number(11), number(12), number(19));
    let used_secs = (utime + stime) / clock.ticks;
    let started = clock.boot + start / clock.ticks;
    let elapsed = (clock.now.timestamp().as_second() - started).max(1);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uid: u32 = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|rest| rest.split_whitespace().nth(1))
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let user = users.get(&uid).cloned().unwrap_or_else(|| uid.to_string());
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command)
        .trim_end_matches('\0')
        .replace('\0', " ");
    let command = if command.is_empty() {
        format!("[{name}]")
    } else {
        command
    };
    Some(vec![
        user,
        pid.to_string(),
        ppid.to_string(),
        (used_secs * 100 / elapsed).min(99).to_string(),
        start_time(started, &clock.now),
        terminal(tty),
        format!(
            "{:02}:{:02}:{:02}",
            used_secs / 3600,
            used_secs / 60 % 60,
            used_secs % 60
        ),
        command,
    ])
}

/// `10:32` today, `Nov21` before.
fn start_time(seconds: i64, now: &jiff::Zoned) -> String {
    let Ok(at) = jiff::Timestamp::from_second(seconds) else {
        return "?".to_owned();
    };
    let at = at.to_zoned(now.time_zone().clone());
    let format = if at.date() == now.date() {
        "%H:%M"
    } else {
        "%b%d"
    };
    at.strftime(format).to_string()
}

fn terminal(number: i64) -> String {
    // Device numbers of proc(5): minor in bits 0-7 and 20-31, major in 8-15.
    let (major, minor) = (
        (number >> 8) & 0xff,
        (number & 0xff) | ((number >> 12) & 0xfff00),
    );
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => "?".to_owned(),
    }
}

/// Names of the host's users.
fn users() -> HashMap<u32, String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        // `ps` shortens long names to their number; so do we by leaving them out.
        (name.len() <= 8).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    };
    passwd.lines().filter_map(user).collect()
}

/// Runs the host's `ps`.
fn from_ps(words: &[String], pids: &BTreeSet<i32>) -> Result<TopResponse> {
    let pid_list: Vec<String> = pids.iter().map(ToString::to_string).collect();
    // As Docker: the processes are named with `-q`, and where other selections forbid that, all
    // are listed and picked from.
    let with_pids = run_ps(
        words
            .iter()
            .cloned()
            .chain([format!("-q{}", pid_list.join(","))])
            .collect(),
    );
    let output = match with_pids {
        Ok(output) => output,
        Err(_) => run_ps(words.to_vec())?,
    };
    parse_ps(&output, pids)
}

fn run_ps(arguments: Vec<String>) -> Result<String> {
    let output = std::process::Command::new("ps")
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|source| Error::system("error running ps").caused_by(source))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let first = text.lines().next().unwrap_or_default();
        return Err(Error::invalid(format!("error running ps: {first}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_ps(output: &str, pids: &BTreeSet<i32>) -> Result<TopResponse> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::system("Couldn't find PID field in ps output"))?;
    let mut processes = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ours = fields
            .get(column)
            .and_then(|text| text.parse::<i32>().ok())
            .is_some_and(|pid| pids.contains(&pid));
        if !ours {
            continue;
        }
        // The last column keeps its spaces, as words.
        let mut row: Vec<String> = fields
            .iter()
            .take(titles.len() - 1)
            .map(|field| (*field).to_owned())
            .collect();
        row.push(fields.get(titles.len() - 1..).unwrap_or_default().join(" "));
        processes.push(row);
    }
    Ok(TopResponse { processes, titles })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_has_a_row() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let response = from_proc(&BTreeSet::from([pid]));
        assert_eq!(response.processes.len(), 1);
        assert_eq!(response.processes[0].len(), response.titles.len());
        assert_eq!(response.processes[0][1], pid.to_string());
    }

    #[test]
    fn ps_output_is_picked_from() {
        let output = "  PID CMD\n    7 sleep 10 20\n    8 other\n";
        let response = parse_ps(output, &BTreeSet::from([7])).unwrap();
        assert_eq!(response.processes, [["7", "sleep 10 20"]]);
        assert!(parse_ps("CMD\nx\n", &BTreeSet::new()).is_err());
    }
}
