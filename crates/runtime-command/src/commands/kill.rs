//! `kill`: a signal to a container.

use std::process::ExitCode;

use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use wharf_oci::runtime::{NamespaceKind, Status};

use crate::container::Container;
use crate::error::{Error, Result};
use crate::flags::{Flags, switch};
use crate::runtime::{Command, Runtime};

pub(super) const COMMAND: Command = Command {
    name: "kill",
    words: "<container-id> [signal]",
    count: (1, 2),
    help: "send a signal to a container (default: SIGTERM)",
    flags: &[switch(
        &["all", "a"],
        "send it to every process in the container",
    )],
    run,
    failure: 1,
    enters: false,
};

/// Not a signal, but the question whether one could be sent (kill(2)).
const NOBODY: &str = "0";

fn run(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    let name = flags.words.get(1).map_or("SIGTERM", String::as_str);
    let signal = number(name).and_then(wharf_sys::signal::by_number);
    if signal.is_none() && name != NOBODY {
        return Err(Error::Usage(format!("unknown signal {name:?}")));
    }
    let container = Container::open(runtime, &flags.words[0])?;
    let stopped = matches!(container.status()?, Status::Stopped | Status::Creating);
    let Some(signal) = signal else {
        return if stopped {
            Err(Error::NotRunning)
        } else {
            Ok(ExitCode::SUCCESS)
        };
    };
    // Without a PID namespace of its own its processes outlive the first one.
    let everybody = flags.is("all") || signal == Signal::KILL && !has_own_pids(&container)?;
    if everybody && let Some(cgroup) = container.cgroup()? {
        return match cgroup.signal_all(signal) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NotRunning),
            Err(error) => Err(Error::system("kill")(error)),
        };
    }
    if stopped {
        return Err(Error::NotRunning);
    }
    let (_, pidfd) = container.process().ok_or(Error::NotRunning)?;
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Errno::SRCH) => Err(Error::NotRunning),
        Err(errno) => Err(Error::system("kill")(errno)),
    }
}

/// Whether the end of its first process is the end of all.
pub(super) fn has_own_pids(container: &Container) -> Result<bool> {
    let spec = container.spec()?;
    let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    Ok(namespaces
        .filter(|namespace| namespace.kind == NamespaceKind::Pid)
        .any(|namespace| namespace.path.as_deref().unwrap_or("").is_empty()))
}

/// Names of the signals from 1 on, without `SIG`.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Further names.
const OTHER_NAMES: [(&str, i32); 5] = [
    ("IOT", 6),
    ("CLD", 17),
    ("POLL", 29),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

/// The number of a signal given by number or name.
fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index + 1).ok();
    }
    if let Some((_, number)) = OTHER_NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let (base, offset): (i32, i32) =
        match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(offset), _) => (34, offset.parse().ok()?),
            (None, Some(offset)) => (64, -offset.parse::<i32>().ok()?),
            (None, None) => return None,
        };
    let number = base.checked_add(offset)?;
    (34..=64).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, expected) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("SIGSYS", 31),
            ("POLL", 29),
        ] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for wrong in ["", "0", "65", "SIG", "NOPE", "RTMIN+31", "-1"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
