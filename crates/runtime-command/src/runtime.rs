//! The command line as a whole: global flags, the table of commands, errors and exit statuses.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::BecomeUnwritable;
use crate::commands;
use crate::error::{Error, Result};
use crate::flags::{self, Flag, Flags, option, switch};
use crate::log::Log;

/// What every command knows.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// The name we were called by.
    pub(crate) name: String,
    /// Where containers are remembered.
    pub(crate) root: PathBuf,
    pub(crate) log: Log,
    /// Whether cgroups are managed by systemd.
    pub(crate) systemd_cgroup: bool,
    /// How many descriptors from 3 on the caller has given us.
    pub(crate) inherited_fds: u32,
    /// What has to be done before a container can get hold of our program; nothing if it may.
    hide: Option<BecomeUnwritable>,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// What comes after its flags.
    pub(crate) words: &'static str,
    /// How many words that are, at least and at most.
    pub(crate) count: (usize, usize),
    pub(crate) help: &'static str,
    pub(crate) flags: &'static [Flag],
    pub(crate) run: fn(&Runtime, &Flags) -> Result<ExitCode>,
    /// Exit status when it fails.
    pub(crate) failure: u8,
    /// Whether a process of ours gets into a container, before it is the container's program.
    pub(crate) enters: bool,
}

const GLOBAL: &[Flag] = &[
    switch(&["debug"], "enable debug logging"),
    option(
        &["log"],
        "FILE",
        "set the log file to write logs to (default: standard error)",
    ),
    option(
        &["log-format"],
        "FORMAT",
        "set the log format: text or json (default: text)",
    ),
    option(
        &["root"],
        "DIR",
        "directory for the state of containers (default: /run/wharf-runtime)",
    ),
    switch(
        &["systemd-cgroup"],
        "cgroupsPath is slice:prefix:name, and systemd makes the cgroup",
    ),
    option(
        &["rootless"],
        "BOOL",
        "ignore cgroup permission errors: true, false or auto (default: auto)",
    ),
    option(
        &["criu"],
        "PATH",
        "ignored, as in runc: criu is found in $PATH",
    ),
    switch(&["version", "v"], "print the version"),
];

/// How many open descriptors there are from 3 on without a gap. To be called before anything is
/// opened.
pub(crate) fn inherited_fds() -> u32 {
    const MAX: i32 = 1 << 16;
    let end = (3..MAX).find(|number| !wharf_sys::fd::is_open(*number));
    u32::try_from(end.unwrap_or(MAX) - 3).unwrap_or(0)
}

/// Runs the command line.
pub(crate) fn run(
    name: &str,
    arguments: &[OsString],
    inherited_fds: u32,
    hide: Option<BecomeUnwritable>,
) -> ExitCode {
    // Executed from a descriptor, it would be called after that. Nothing depends on the name.
    let _ = rustix::thread::set_name(c"wharf-runtime");
    let log = Log::default();
    let global = match Flags::parse(GLOBAL, arguments) {
        Ok(global) => global,
        Err(Error::HelpWanted) => return help(name, &log),
        Err(error) => return fail(&log, &error, 1),
    };
    if global.is("version") {
        return finish(&log, crate::print(&version(name)));
    }
    let Some((word, _)) = global.words.split_first() else {
        return help(name, &log);
    };
    if word == "help" || word == "h" {
        return help(name, &log);
    }
    let log = match Log::open(
        global.get("log"),
        global.get("log-format"),
        global.is("debug"),
    ) {
        Ok(log) => log,
        Err(error) => return fail(&log, &error, 1),
    };
    let Some(command) = commands::ALL.iter().find(|command| command.name == word) else {
        let error = Error::Usage(format!("No help topic for '{word}'"));
        return fail(&log, &error, 1);
    };
    let runtime = Runtime {
        name: name.to_owned(),
        root: match root(&global) {
            Ok(root) => root,
            Err(error) => return fail(&log, &error, 1),
        },
        log,
        systemd_cgroup: global.is("systemd-cgroup"),
        inherited_fds,
        hide,
    };
    // The flags of the command begin after the global ones and its name.
    let after = arguments.len() - global.words.len() + 1;
    match call(&runtime, command, arguments, after) {
        Ok(status) => status,
        Err(Error::HelpWanted) => {
            let help = format!(
                "NAME:\n   {name} {} - {}\n\nUSAGE:\n   {name} {} [command options] {}\n\nOPTIONS:\n{}",
                command.name,
                command.help,
                command.name,
                command.words,
                flags::help(command.flags)
            );
            finish(&runtime.log, crate::print(&help))
        }
        Err(error) => fail(&runtime.log, &error, command.failure),
    }
}

/// Runs `command`, whose own arguments begin with number `own` of all.
fn call(
    runtime: &Runtime,
    command: &Command,
    arguments: &[OsString],
    own: usize,
) -> Result<ExitCode> {
    let flags = Flags::parse(command.flags, &arguments[own..])?;
    let (least, most) = command.count;
    let given = flags.words.len();
    if given < least || given > most {
        let count = |number: usize| match number {
            1 => "1 argument".to_owned(),
            number => format!("{number} arguments"),
        };
        let wanted = if given < least && least != most {
            format!("a minimum of {}", count(least))
        } else if given > most && least != most {
            format!("a maximum of {}", count(most))
        } else {
            format!("exactly {}", count(least))
        };
        return Err(Error::Usage(format!(
            "{}: {:?} requires {wanted}",
            runtime.name, command.name
        )));
    }
    if command.enters
        && let Some(become_unwritable) = runtime.hide
    {
        let name = std::iter::once(OsString::from(&runtime.name));
        let all: Vec<OsString> = name.chain(arguments.iter().cloned()).collect();
        return Err(Error::system("hide our program")(become_unwritable(&all)));
    }
    let words = flags.words.join(" ");
    runtime.log.debug(&format!("{} {words}", command.name));
    (command.run)(runtime, &flags)
}

/// Where containers are remembered.
fn root(global: &Flags) -> Result<PathBuf> {
    const NAME: &str = "wharf-runtime";
    if let Some(root) = global.get("root").filter(|root| !root.is_empty()) {
        return crate::bundle::absolute(root);
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    Ok(match own {
        Some(directory) if !rustix::process::geteuid().is_root() => {
            PathBuf::from(directory).join(NAME)
        }
        _ => PathBuf::from("/run").join(NAME),
    })
}

fn fail(log: &Log, error: &Error, status: u8) -> ExitCode {
    log.error(&error.to_string());
    ExitCode::from(status)
}

fn finish(log: &Log, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(log, &error, 1),
    }
}

/// In the form that callers read.
pub(crate) fn version(name: &str) -> String {
    format!(
        "{name} version {}\ncommit: wharf-{}\nspec: {}\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_VERSION"),
        wharf_oci::runtime::VERSION
    )
}

fn help(name: &str, log: &Log) -> ExitCode {
    let width = commands::ALL
        .iter()
        .map(|command| command.name.len())
        .max()
        .unwrap_or(0);
    let commands: String = commands::ALL
        .iter()
        .map(|command| format!("   {:width$}  {}\n", command.name, command.help))
        .collect();
    let text = format!(
        "NAME:\n   {name} - Open Container Initiative runtime\n\nUSAGE:\n   {name} [global options] command \
         [command options] [arguments...]\n\nVERSION:\n   {}\n\nCOMMANDS:\n{commands}\nGLOBAL OPTIONS:\n{}",
        version(name).trim_end().replace('\n', "\n   "),
        flags::help(GLOBAL)
    );
    finish(log, crate::print(&text))
}
