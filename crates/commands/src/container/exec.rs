//! `docker exec`.

use std::fs;

use serde_json::{Map, Value, json};

use super::streams::{Ended, Streams, detach_keys, follow_terminal_size};
use crate::cli::{Cli, stdin_is_terminal};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::env;
use crate::terminal;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    short: "Execute a command in a running container",
    long: None,
    aliases: &["container exec", "exec"],
    args: Args::Min(2),
    flags: &[
        Flag::bool("detach", "Detached mode: run command in the background").short('d'),
        Flag::string(
            "detach-keys",
            "Override the key sequence for detaching a container",
        ),
        Flag::list("env", "Set environment variables")
            .short('e')
            .check(env::check),
        Flag::list("env-file", "Read in a file of environment variables"),
        Flag::bool("interactive", "Keep STDIN open even if not attached").short('i'),
        Flag::bool("privileged", "Give extended privileges to the command"),
        Flag::bool("tty", "Allocate a pseudo-TTY").short('t'),
        Flag::string(
            "user",
            "Username or UID (format: \"<name|uid>[:<group|gid>]\")",
        )
        .short('u'),
        Flag::string("workdir", "Working directory inside the container").short('w'),
    ],
    interspersed: false,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let name = m.args[0].as_str();
    super::check_name(name)?;
    let detach = m.bool("detach");
    let tty = m.bool("tty");
    let stdin = m.bool("interactive") && !detach;
    if stdin && tty && !stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let (wanted, detach_keys) = detach_keys(cli, m)?;
    let body = body(m, stdin, tty, detach, &wanted)?;
    let client = cli.client()?;
    cli.block_on(async {
        // The connection of the stream is opened while the engine prepares the process.
        let create = client.post(super::path(name, "/exec"), Some(Value::Object(body)));
        let (created, ()) = tokio::join!(create, client.warm(usize::from(!detach)));
        let created = created?;
        let id = created["Id"].as_str().unwrap_or_default();
        if id.is_empty() {
            return Err(Failure::new("exec ID empty"));
        }
        let mut start = json!({"Detach": detach, "Tty": tty});
        if let Some((rows, columns)) = terminal::size().filter(|_| tty) {
            start["ConsoleSize"] = json!([rows, columns]);
        }
        let start_path = format!("/exec/{id}/start");
        if detach {
            client.post(start_path, Some(start)).await?;
            return Ok(());
        }
        let stream = client.hijack(start_path, Some(start)).await?;
        let resize_path = format!("/exec/{id}/resize");
        let streams = Streams {
            stdin,
            stdout: true,
            stderr: true,
            tty,
            detach_keys,
        };
        let ended = tokio::select! {
            ended = streams.pump(stream) => ended?,
            () = follow_terminal_size(client, &resize_path, tty) => Ended::Closed,
        };
        if ended == Ended::Detached {
            return Err(Failure::new("read escape sequence"));
        }
        let state = client.get(format!("/exec/{id}/json")).await?;
        match state["ExitCode"].as_i64().unwrap_or(0) & 0xff {
            0 => Ok(()),
            status => Err(Failure::status(u8::try_from(status).unwrap_or(1))),
        }
    })
}

fn body(
    m: &Matches,
    stdin: bool,
    tty: bool,
    detach: bool,
    keys: &str,
) -> Outcome<Map<String, Value>> {
    let lookup = |name: &str| std::env::var(name).ok();
    let mut environment = Vec::new();
    for path in m.list("env-file") {
        let content = fs::read(path).map_err(|error| {
            Failure::new(format!("open {path}: {}", super::options::reason(&error)))
        })?;
        environment.extend(env::file(path, &content, lookup).map_err(Failure::new)?);
    }
    environment.extend(
        m.list("env")
            .into_iter()
            .map(|text| env::with_value(text, lookup)),
    );
    let mut body = Map::new();
    body.insert("AttachStdin".to_owned(), json!(stdin));
    body.insert("AttachStdout".to_owned(), json!(!detach));
    body.insert("AttachStderr".to_owned(), json!(!detach));
    body.insert("Tty".to_owned(), json!(tty));
    body.insert("Cmd".to_owned(), json!(m.args[1..]));
    let mut text = |key: &str, value: &str| {
        if !value.is_empty() {
            body.insert(key.to_owned(), json!(value));
        }
    };
    text("DetachKeys", keys);
    text("User", m.str("user"));
    text("WorkingDir", m.str("workdir"));
    if !environment.is_empty() {
        body.insert("Env".to_owned(), json!(environment));
    }
    if m.bool("privileged") {
        body.insert("Privileged".to_owned(), json!(true));
    }
    if let Some((rows, columns)) = terminal::size().filter(|_| tty) {
        body.insert("ConsoleSize".to_owned(), json!([rows, columns]));
    }
    Ok(body)
}
