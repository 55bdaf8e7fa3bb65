//! Which words lead to which command, and what happens when they lead nowhere.

use std::fmt::Write as _;

use crate::cli::{Cli, GLOBAL_FLAGS, print, print_error};
use crate::command::{Args, Command};
use crate::config_file::default_directory;
use crate::outcome::{Failure, Outcome};
use crate::{
    Hooks, checkpoint, completion, container, help, image, matches, network, registry, system,
    volume,
};

/// A word and what it means.
pub(crate) struct Node {
    /// The word.
    pub(crate) name: &'static str,
    /// The command behind it.
    pub(crate) command: &'static Command,
    /// Used by programs, so not listed.
    pub(crate) hidden: bool,
}

/// A word people type.
pub(crate) const fn node(name: &'static str, command: &'static Command) -> Node {
    Node {
        name,
        command,
        hidden: false,
    }
}

/// A word only programs use.
pub(crate) const fn hidden(name: &'static str, command: &'static Command) -> Node {
    Node {
        name,
        command,
        hidden: true,
    }
}

/// A word with commands below it.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) short: &'static str,
    pub(crate) nodes: &'static [Node],
}

/// The commands most people use, in Docker's order.
static COMMON: &[Node] = &[
    node("run", &container::run::COMMAND),
    node("exec", &container::exec::COMMAND),
    node("ps", &container::ls::COMMAND),
    node("pull", &image::pull::COMMAND),
    node("push", &image::push::COMMAND),
    node("images", &image::ls::COMMAND),
    node("login", &registry::login::COMMAND),
    node("logout", &registry::logout::COMMAND),
    node("search", &registry::search::COMMAND),
    node("version", &system::version::COMMAND),
    node("info", &system::info::COMMAND),
];

static GROUPS: &[Group] = &[
    Group {
        name: "checkpoint",
        short: "Manage checkpoints",
        nodes: checkpoint::NODES,
    },
    Group {
        name: "container",
        short: "Manage containers",
        nodes: container::NODES,
    },
    Group {
        name: "image",
        short: "Manage images",
        nodes: image::NODES,
    },
    Group {
        name: "network",
        short: "Manage networks",
        nodes: network::NODES,
    },
    Group {
        name: "system",
        short: "Manage Docker",
        nodes: system::NODES,
    },
    Group {
        name: "volume",
        short: "Manage volumes",
        nodes: volume::NODES,
    },
];

static COMMANDS: &[Node] = &[
    node("attach", &container::attach::COMMAND),
    node("commit", &container::commit::COMMAND),
    node("cp", &container::cp::COMMAND),
    node("create", &container::create::COMMAND),
    node("diff", &container::diff::COMMAND),
    node("events", &system::events::COMMAND),
    node("export", &container::export::COMMAND),
    node("history", &image::history::COMMAND),
    node("import", &image::import::COMMAND),
    node("inspect", &system::inspect::COMMAND),
    node("kill", &container::kill::COMMAND),
    node("load", &image::load::COMMAND),
    node("logs", &container::logs::COMMAND),
    node("pause", &container::pause::COMMAND),
    node("port", &container::port::COMMAND),
    node("rename", &container::rename::COMMAND),
    node("restart", &container::restart::COMMAND),
    node("rm", &container::rm::COMMAND),
    node("rmi", &image::rm::COMMAND),
    node("save", &image::save::COMMAND),
    node("start", &container::start::COMMAND),
    node("stats", &container::stats::COMMAND),
    node("stop", &container::stop::COMMAND),
    node("tag", &image::tag::COMMAND),
    node("top", &container::top::COMMAND),
    node("unpause", &container::unpause::COMMAND),
    node("update", &container::update::COMMAND),
    node("wait", &container::wait::COMMAND),
    node("why", &container::why::COMMAND),
];

/// Commands of Docker that Wharf does not have yet: refused by name.
static NOT_YET: &[&str] = &[
    "build", "builder", "buildx", "compose", "config", "context", "manifest", "node", "plugin",
    "secret", "service", "stack", "swarm", "trust",
];

/// The same below a group.
static NOT_YET_BELOW: &[(&str, &str)] = &[("image", "build"), ("volume", "update")];

/// All top-level words with their one line, for completion.
pub(crate) fn top_level() -> impl Iterator<Item = (&'static str, &'static str)> {
    let nodes = COMMON
        .iter()
        .chain(COMMANDS)
        .map(|node| (node.name, node.command.short));
    nodes.chain(GROUPS.iter().map(|group| (group.name, group.short)))
}

/// The commands of a group.
pub(crate) fn group(name: &str) -> Option<&'static Group> {
    GROUPS.iter().find(|group| group.name == name)
}

/// Finds a top-level command.
pub(crate) fn find(word: &str) -> Option<&'static Node> {
    COMMON.iter().chain(COMMANDS).find(|node| node.name == word)
}

impl Group {
    /// Finds a command by its name or one of its aliases (`container list`).
    pub(crate) fn find(&self, word: &str) -> Option<&'static Node> {
        let aliased = |node: &&Node| {
            let path = |alias: &&str| alias.split_once(' ') == Some((self.name, word));
            node.command.aliases.iter().any(path)
        };
        let nodes: &'static [Node] = self.nodes;
        nodes
            .iter()
            .find(|node| node.name == word)
            .or_else(|| nodes.iter().find(aliased))
    }
}

/// Parses all words and runs the command they name.
pub(crate) fn dispatch(words: Vec<String>, name: &str, hooks: &Hooks) -> Outcome {
    let global = matches::parse(GLOBAL_FLAGS, words, false).map_err(|reason| {
        usage_error(&reason, &format!("{name} [OPTIONS] COMMAND [ARG...]"), name)
    })?;
    if global.short_help {
        print_error("Flag shorthand -h has been deprecated, use --help\n");
    }
    if global.help {
        return Ok(print(&root_help(name, hooks))?);
    }
    if global.bool("version") {
        return Ok(print(&version_line(name))?);
    }
    if !matches!(
        global.str("log-level"),
        "" | "debug" | "info" | "warn" | "warning" | "error" | "fatal" | "panic" | "trace"
    ) {
        return Err(Failure::new(format!(
            "Unable to parse logging level: {}",
            global.str("log-level")
        )));
    }
    let mut global = global;
    let mut rest = std::mem::take(&mut global.args).into_iter();
    let Some(word) = rest.next() else {
        print_error(&root_help(name, hooks));
        return Ok(());
    };
    let rest: Vec<String> = rest.collect();
    if word == "help" {
        return help_topic(&rest, name, hooks);
    }
    if word == "completion" || word == completion::COMPLETE {
        let cli = Cli::new(name, hooks, global)?;
        return completion::run(&cli, &word, rest);
    }
    if let Some(node) = find(&word) {
        return run(name, hooks, global, &[node.name], node, rest);
    }
    if let Some(group) = group(&word) {
        return run_group(name, hooks, global, group, rest);
    }
    Err(unknown_command(name, &word))
}

fn run_group(
    name: &str,
    hooks: &Hooks,
    global: matches::Matches,
    group: &Group,
    rest: Vec<String>,
) -> Outcome {
    let path = format!("{name} {}", group.name);
    let mut words = rest.into_iter();
    let Some(word) = words.next() else {
        print_error(&group_help(name, group));
        return Ok(());
    };
    if word == "--help" || word == "-h" || word == "--help=true" {
        return Ok(print(&group_help(name, group))?);
    }
    if let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.is_empty()) {
        let reason = match flag.strip_prefix('-') {
            Some(long) => format!("unknown flag: --{}", long.split('=').next().unwrap_or(long)),
            None => format!(
                "unknown shorthand flag: {:?} in {word}",
                flag.chars().next().unwrap_or('-')
            ),
        };
        return Err(usage_error(&reason, &path, &path));
    }
    if NOT_YET_BELOW.contains(&(group.name, word.as_str())) {
        return Err(Failure::new(format!(
            "{name}: '{} {word}' is not available yet",
            group.name
        )));
    }
    match group.find(&word) {
        Some(node) => run(
            name,
            hooks,
            global,
            &[group.name, node.name],
            node,
            words.collect(),
        ),
        None => Err(Failure::new(format!(
            "{name}: unknown command: {path} {word}\n\nUsage:  {path}\n\nRun '{path} --help' for more information"
        ))),
    }
}

fn run(
    name: &str,
    hooks: &Hooks,
    global: matches::Matches,
    words: &[&'static str],
    node: &Node,
    rest: Vec<String>,
) -> Outcome {
    let path = format!("{name} {}", words.join(" "));
    let command = node.command;
    let mut parsed =
        matches::parse(command.flags, rest, command.interspersed).map_err(|reason| {
            usage_error(
                &reason,
                help::usage_line(name, &path, command).trim_start_matches("Usage:  "),
                &path,
            )
        })?;
    if parsed.help {
        return Ok(print(&help::command(name, &path, command, help::width()))?);
    }
    check_args(name, &path, command, parsed.args.len())?;
    parsed.path = words.to_vec();
    let cli = Cli::new(name, hooks, global)?;
    let outcome = (command.run)(&cli, &parsed);
    cli.leave();
    outcome
}

fn check_args(name: &str, path: &str, command: &Command, count: usize) -> Outcome {
    let arguments = |n: usize| {
        if n == 1 {
            "1 argument".to_owned()
        } else {
            format!("{n} arguments")
        }
    };
    let (wanted, see) = match command.args {
        Args::None if count > 0 => ("accepts no arguments".to_owned(), "Run"),
        Args::Exact(n) if count != n => (format!("requires {}", arguments(n)), "Run"),
        Args::Min(n) if count < n => (format!("requires at least {}", arguments(n)), "See"),
        Args::Max(n) if count > n => (format!("requires at most {}", arguments(n)), "Run"),
        Args::Range(low, high) if count < low || count > high => (
            format!("requires at least {low} and at most {}", arguments(high)),
            "Run",
        ),
        _ => return Ok(()),
    };
    Err(Failure::new(format!(
        "{name}: '{path}' {wanted}\n\n{}\n\n{see} '{path} --help' for more information",
        help::usage_line(name, path, command)
    )))
}

/// The text after wrong flags; Docker ends with 125 whatever the command.
fn usage_error(reason: &str, usage: &str, path: &str) -> Failure {
    Failure::new(format!(
        "{reason}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information"
    ))
    .with_status(125)
}

fn unknown_command(name: &str, word: &str) -> Failure {
    if NOT_YET.contains(&word) {
        return Failure::new(format!("{name}: '{word}' is not available yet"));
    }
    Failure::new(format!(
        "{name}: unknown command: {name} {word}\n\nRun '{name} --help' for more information"
    ))
}

fn help_topic(words: &[String], name: &str, hooks: &Hooks) -> Outcome {
    let Some(word) = words.first() else {
        return Ok(print(&root_help(name, hooks))?);
    };
    if let Some(node) = find(word) {
        return Ok(print(&help::command(
            name,
            &format!("{name} {word}"),
            node.command,
            help::width(),
        ))?);
    }
    if let Some(group) = group(word) {
        let Some(sub) = words.get(1) else {
            return Ok(print(&group_help(name, group))?);
        };
        if let Some(node) = group.find(sub) {
            let path = format!("{name} {word} {}", node.name);
            return Ok(print(&help::command(
                name,
                &path,
                node.command,
                help::width(),
            ))?);
        }
    }
    if NOT_YET.contains(&word.as_str()) {
        return Err(unknown_command(name, word));
    }
    Err(Failure::new(format!(
        "unknown help topic: {}",
        words.join(" ")
    )))
}

/// `--version`. Under Docker's name programs expect Docker's form and a version they know.
pub(crate) fn version_line(name: &str) -> String {
    if name == "docker" {
        concat!(
            "Docker version 28.2.2, build wharf-",
            env!("CARGO_PKG_VERSION"),
            "\n"
        )
        .to_owned()
    } else {
        concat!("Wharf version ", env!("CARGO_PKG_VERSION"), "\n").to_owned()
    }
}

fn group_help(name: &str, group: &Group) -> String {
    let path = format!("{name} {}", group.name);
    let short = product(group.short, name);
    let mut out = format!("Usage:  {path} COMMAND\n\n{short}\n\nCommands:\n");
    list(
        &mut out,
        group
            .nodes
            .iter()
            .filter(|node| !node.hidden)
            .map(|node| (node.name, node.command.short)),
    );
    let _ = write!(
        out,
        "\nRun '{path} COMMAND --help' for more information on a command.\n"
    );
    out
}

fn root_help(name: &str, hooks: &Hooks) -> String {
    let mut out = format!(
        "Usage:  {name} [OPTIONS] COMMAND\n\nA self-sufficient runtime for containers\n\nCommon Commands:\n"
    );
    list(
        &mut out,
        COMMON
            .iter()
            .map(|node| (node.name, product(node.command.short, name))),
    );
    out.push_str("\nManagement Commands:\n");
    list(
        &mut out,
        GROUPS
            .iter()
            .map(|group| (group.name, product(group.short, name))),
    );
    out.push_str("\nCommands:\n");
    let mut commands: Vec<(&str, &str)> = COMMANDS
        .iter()
        .map(|node| (node.name, node.command.short))
        .collect();
    commands.push((
        "completion",
        "Generate the autocompletion script for the specified shell",
    ));
    commands.extend(hooks.extra_commands);
    commands.sort_unstable();
    list(&mut out, commands.into_iter());
    let _ = write!(
        out,
        "\nGlobal Options:\n{}\nRun '{name} COMMAND --help' for more information on a command.\n",
        global_options(help::width())
    );
    out
}

/// Docker's name in a text, replaced by ours when we are called by ours.
fn product<'a>(text: &'a str, name: &str) -> &'a str {
    match (name, text) {
        ("docker", text) => text,
        (_, "Manage Docker") => "Manage the engine",
        (_, "Show the Docker version information") => "Show the version information",
        (_, text) => text,
    }
}

/// The global flags with the defaults that depend on the environment.
fn global_options(width: usize) -> String {
    let config = default_directory();
    let certificates = crate::cli::env("DOCKER_CERT_PATH")
        .map_or_else(|| config.clone(), std::path::PathBuf::from);
    let default = |flag: &str| {
        let path = match flag {
            "config" => config.clone(),
            "tlscacert" => certificates.join("ca.pem"),
            "tlscert" => certificates.join("cert.pem"),
            "tlskey" => certificates.join("key.pem"),
            _ => return None,
        };
        Some(path.display().to_string())
    };
    help::options_with(GLOBAL_FLAGS, default, width)
}

fn list<'a>(out: &mut String, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, short) in rows {
        let _ = writeln!(out, "  {name:<11} {short}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks() -> Hooks {
        Hooks {
            default_socket: "/nonexistent/wharf.sock".into(),
            autostart: || Err(std::io::Error::other("no daemon in a unit test")),
            extra_commands: &[],
        }
    }

    /// Message and exit status of a command line that fails before it needs an engine.
    fn refused(words: &[&str]) -> (String, u8) {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let failure = dispatch(words, "docker", &hooks()).unwrap_err();
        (failure.text().to_owned(), failure.status)
    }

    #[test]
    fn mistakes_are_answered_in_dockers_words() {
        let cases: &[(&[&str], &str, u8)] = &[
            (
                &["foo"],
                "docker: unknown command: docker foo\n\nRun 'docker --help' for more information",
                1,
            ),
            (&["build", "."], "docker: 'build' is not available yet", 1),
            (
                &["image", "build"],
                "docker: 'image build' is not available yet",
                1,
            ),
            (
                &["container", "foo"],
                "docker: unknown command: docker container foo\n\nUsage:  docker container\n\nRun 'docker container --help' for more information",
                1,
            ),
            (
                &["run", "--zz"],
                "unknown flag: --zz\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'docker run --help' for more information",
                125,
            ),
            (
                &["ps", "a"],
                "docker: 'docker ps' accepts no arguments\n\nUsage:  docker ps [OPTIONS]\n\nRun 'docker ps --help' for more information",
                1,
            ),
            (
                &["rm"],
                "docker: 'docker rm' requires at least 1 argument\n\nUsage:  docker rm [OPTIONS] CONTAINER [CONTAINER...]\n\nSee 'docker rm --help' for more information",
                1,
            ),
            (
                &["container", "rename", "a"],
                "docker: 'docker container rename' requires 2 arguments\n\nUsage:  docker container rename CONTAINER NEW_NAME\n\nRun 'docker container rename --help' for more information",
                1,
            ),
            (
                &["-x"],
                "unknown shorthand flag: 'x' in -x\n\nUsage:  docker [OPTIONS] COMMAND [ARG...]\n\nRun 'docker --help' for more information",
                125,
            ),
            (
                &["run", "--memory", "abc", "x"],
                "invalid argument \"abc\" for \"-m, --memory\" flag: invalid size: 'abc'\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'docker run --help' for more information",
                125,
            ),
            (
                &["run", "-p", "99999:80", "x"],
                "docker: invalid hostPort: 99999\n\nRun 'docker run --help' for more information",
                125,
            ),
            (
                &["run", "--gpus", "all", "x"],
                "docker: --gpus is not available yet\n\nRun 'docker run --help' for more information",
                125,
            ),
            (
                &["-H", "tcp://a", "-H", "tcp://b", "ps"],
                "Specify only one -H",
                1,
            ),
            (
                &["--log-level=foo", "ps"],
                "Unable to parse logging level: foo",
                1,
            ),
        ];
        for (words, message, status) in cases {
            assert_eq!(
                refused(words),
                ((*message).to_owned(), *status),
                "{words:?}"
            );
        }
    }

    #[test]
    fn aliases_of_a_group_are_its_words() {
        let group = group("container").unwrap();
        assert_eq!(group.find("list").map(|node| node.name), Some("ls"));
        assert_eq!(group.find("ps").map(|node| node.name), Some("ls"));
        assert!(group.find("run-away").is_none());
    }

    /// Every help text in one file, so that a change of any of them is seen. `UPDATE_GOLDEN=1`
    /// rewrites it.
    #[test]
    fn help_texts_are_as_recorded() {
        let mut all = String::new();
        for (path, node) in COMMON
            .iter()
            .chain(COMMANDS)
            .map(|node| (format!("docker {}", node.name), node))
            .chain(GROUPS.iter().flat_map(|group| {
                group
                    .nodes
                    .iter()
                    .map(|node| (format!("docker {} {}", group.name, node.name), node))
            }))
        {
            let _ = writeln!(
                all,
                "$ {path} --help\n{}",
                help::command("docker", &path, node.command, 79)
            );
        }
        for group in GROUPS {
            let _ = writeln!(
                all,
                "$ docker {} --help\n{}",
                group.name,
                group_help("docker", group)
            );
        }
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &all).unwrap();
        }
        let recorded = std::fs::read_to_string(&golden).unwrap();
        for (at, (new, old)) in all.lines().zip(recorded.lines()).enumerate() {
            assert_eq!(new, old, "line {}", at + 1);
        }
        assert_eq!(all.len(), recorded.len());
    }
}
