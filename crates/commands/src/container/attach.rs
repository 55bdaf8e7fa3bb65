//! `docker attach`.

use serde_json::Value;
use wharf_client::{Body, Method, Query};

use super::run::exit_status;
use super::streams::{Ended, Streams, detach_keys, follow_terminal_size, forward_signals, redraw};
use crate::cli::{Cli, stdin_is_terminal, stdout_is_terminal};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    short: "Attach local standard input, output, and error streams to a running container",
    long: None,
    aliases: &["container attach", "attach"],
    args: Args::Exact(1),
    flags: &[
        Flag::string(
            "detach-keys",
            "Override the key sequence for detaching a container",
        ),
        Flag::bool("no-stdin", "Do not attach STDIN"),
        Flag::bool("sig-proxy", "Proxy all received signals to the process").default("true"),
    ],
    interspersed: true,
    run,
};

/// Why one cannot attach to a container in this state.
fn check_state(container: &Value) -> Outcome {
    let on = |key: &str| container["State"][key].as_bool().unwrap_or(false);
    if !on("Running") {
        return Err(Failure::new(
            "You cannot attach to a stopped container, start it first",
        ));
    }
    if on("Paused") {
        return Err(Failure::new(
            "You cannot attach to a paused container, unpause it first",
        ));
    }
    if on("Restarting") {
        return Err(Failure::new(
            "You cannot attach to a restarting container, wait until it is running",
        ));
    }
    Ok(())
}

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let name = m.args[0].as_str();
    super::check_name(name)?;
    let client = cli.client()?;
    let (wanted, detach_keys) = detach_keys(cli, m)?;
    cli.block_on(async {
        let container = client.get(super::path(name, "/json")).await?;
        check_state(&container)?;
        let on = |key: &str| container["Config"][key].as_bool().unwrap_or(false);
        let tty = on("Tty");
        let stdin = !m.bool("no-stdin") && on("OpenStdin");
        if stdin && tty && !stdin_is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let query = Query::new()
            .add("stream", "1")
            .flag("stdin", stdin)
            .add("stdout", "1")
            .add("stderr", "1")
            .non_empty("detachKeys", &wanted);
        let id = container["Id"].as_str().unwrap_or(name);
        let (stream, exit) = tokio::join!(
            client.hijack(super::path(id, &format!("/attach{query}")), None),
            client.request(Method::POST, super::path(id, "/wait"), Body::Empty, &[]),
        );
        let (stream, exit) = (stream?, exit?);
        let streams = Streams {
            stdin,
            stdout: true,
            stderr: true,
            tty,
            detach_keys,
        };
        let resize_path = super::path(id, "/resize");
        let resizing = async {
            if tty && stdout_is_terminal() {
                redraw(client, &resize_path).await;
            }
            follow_terminal_size(client, &resize_path, tty).await;
        };
        let ended = tokio::select! {
            ended = streams.pump(stream) => ended?,
            () = resizing => Ended::Closed,
            () = forward_signals(client, id, m.bool_or("sig-proxy", true) && !tty) => Ended::Closed,
        };
        if ended == Ended::Detached {
            return Err(Failure::new("read escape sequence"));
        }
        match exit_status(client, id, exit).await? {
            0 => Ok(()),
            status => Err(Failure::status(status)),
        }
    })
}
