//! `docker start`.

use serde_json::Value;
use wharf_client::{Client, Query};

use super::run::{exit_status, wait_registered};
use super::streams::{Ended, Streams, detach_keys, follow_terminal_size, forward_signals};
use crate::cli::{Cli, println, say_error, stdin_is_terminal};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    short: "Start one or more stopped containers",
    long: None,
    aliases: &["container start", "start"],
    args: Args::Min(1),
    flags: &[
        Flag::bool("attach", "Attach STDOUT/STDERR and forward signals").short('a'),
        Flag::string("checkpoint", "Restore from this checkpoint"),
        Flag::string(
            "checkpoint-dir",
            "Use a custom checkpoint storage directory",
        ),
        Flag::string(
            "detach-keys",
            "Override the key sequence for detaching a container",
        ),
        Flag::bool("interactive", "Attach container's STDIN").short('i'),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    if m.given("checkpoint-dir") && !m.given("checkpoint") {
        return Err(Failure::new("--checkpoint-dir needs --checkpoint"));
    }
    if m.given("checkpoint") && m.args.len() > 1 {
        return Err(Failure::new(
            "you cannot restore multiple containers at once",
        ));
    }
    let client = cli.client()?;
    if m.bool("attach") || m.bool("interactive") {
        if m.args.len() > 1 {
            return Err(Failure::new(
                "you cannot start and attach multiple containers at once",
            ));
        }
        return cli.block_on(attached(cli, m, client));
    }
    let mut failed = Vec::new();
    cli.block_on(async {
        for name in &m.args {
            let started = async {
                super::check_name(name)?;
                client
                    .post(start_path(m, name), None)
                    .await
                    .map_err(Failure::from)
            };
            match started.await {
                // Docker says nothing about a restored one.
                Ok(_) if m.given("checkpoint") => {}
                Ok(_) => println(name)?,
                Err(failure) => {
                    say_error(failure.text());
                    failed.push(name.as_str());
                }
            }
        }
        Ok::<(), Failure>(())
    })?;
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "Error: failed to start containers: {}",
        failed.join(", ")
    )))
}

fn start_path(m: &Matches, name: &str) -> String {
    let query = Query::new()
        .non_empty("checkpoint", m.str("checkpoint"))
        .non_empty("checkpoint-dir", m.str("checkpoint-dir"));
    super::path(name, &format!("/start{query}"))
}

async fn attached(cli: &Cli, m: &Matches, client: &Client) -> Outcome {
    let name = m.args[0].as_str();
    super::check_name(name)?;
    let container: Value = client.get(super::path(name, "/json")).await?;
    let on = |object: &str, key: &str| container[object][key].as_bool().unwrap_or(false);
    let id = container["Id"].as_str().unwrap_or(name);
    let tty = on("Config", "Tty");
    let stdin = m.bool("interactive") && on("Config", "OpenStdin");
    if stdin && tty && !stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let (wanted, detach_keys) = detach_keys(cli, m)?;
    let query = Query::new()
        .add("stream", "1")
        .flag("stdin", stdin)
        .add("stdout", "1")
        .add("stderr", "1")
        .non_empty("detachKeys", &wanted);
    let auto_remove = on("HostConfig", "AutoRemove");
    let (stream, exit) = tokio::join!(
        client.hijack(super::path(id, &format!("/attach{query}")), None),
        wait_registered(client, id, auto_remove),
    );
    let (stream, exit) = (stream?, exit?);
    if let Err(error) = client.post(start_path(m, id), None).await {
        drop(stream);
        if auto_remove {
            let _ = exit_status(client, id, exit).await;
        }
        return Err(error.into());
    }
    let resize_path = super::path(id, "/resize");
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
        () = forward_signals(client, id, !tty) => Ended::Closed,
    };
    if ended == Ended::Detached {
        return Ok(());
    }
    match exit_status(client, id, exit).await? {
        0 => Ok(()),
        status => Err(Failure::status(status)),
    }
}
