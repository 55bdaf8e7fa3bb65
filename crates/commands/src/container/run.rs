//! `docker run`: create, attach, wait and start, in this order, so that nothing the container
//! writes and no exit is missed.
//!
//! ```text
//! client                                   engine
//!   create ───────────────────────────────▶          connection 1
//!   attach ─────────▶ (becomes raw bytes)            connection 2
//!   wait?condition=… ▶ (answers at the exit)         connection 3
//!   start ────────────────────────────────▶          connection 1 again
//!   ◀──────────────────────────── output … EOF
//!   ◀──────────────────────────── exit status
//! ```

use wharf_client::{Body, Client, Error, Method, Query, Response};

use super::create::{create, with_help};
use super::options::{self, Spec};
use super::streams::{Ended, Streams, follow_terminal_size, forward_signals, parsed_keys};
use crate::cli::{Cli, println, say_error, stdin_is_terminal};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

const OWN: &[Flag] = &[
    Flag::bool(
        "detach",
        "Run container in background and print container ID",
    )
    .short('d'),
    Flag::string(
        "detach-keys",
        "Override the key sequence for detaching a container",
    ),
    Flag::string(
        "pull",
        "Pull image before running (\"always\", \"missing\", \"never\")",
    )
    .default("missing"),
    Flag::bool("sig-proxy", "Proxy received signals to the process").default("true"),
];

static FLAGS: [Flag; options::SHARED.len() + OWN.len()] = options::join(options::SHARED, OWN);

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    short: "Create and run a new container from an image",
    long: None,
    aliases: &["container run", "run"],
    args: Args::Min(1),
    flags: &FLAGS,
    interspersed: false,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    options::refuse_windows_only(m)?;
    let mut spec =
        options::parse(m, &cli.proxies()).map_err(|failure| with_help(cli, m, failure))?;
    if m.bool("detach") {
        if m.given("attach") {
            return Err(Failure::new(
                "conflicting options: cannot specify both --attach and --detach",
            ));
        }
        spec.attach = [false; 3];
        for key in ["AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"] {
            spec.body.remove(key);
        }
    } else if spec.tty && spec.attach[0] && !stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let keys = match m.str("detach-keys") {
        "" if spec.attach[0] && spec.tty => cli.config().text("detachKeys").to_owned(),
        given => given.to_owned(),
    };
    let client = cli.client().map_err(|failure| with_help(cli, m, failure))?;
    cli.block_on(async {
        if spec.attach == [false; 3] {
            return detached(cli, m, client, &spec).await;
        }
        // The connections of attach and wait are opened while the engine works on the container.
        let (created, ()) = tokio::join!(create(cli, client, &spec), client.warm(2));
        let id = created.map_err(|failure| with_help(cli, m, failure))?;
        let proxy = m.bool_or("sig-proxy", true);
        tokio::select! {
            // The requests go out first; signals are set up while they are answered.
            biased;
            result = attached(cli, m, client, &spec, &id, &keys) => result,
            () = forward_signals(client, &id, proxy) => Ok(()),
        }
    })
}

async fn detached(cli: &Cli, m: &Matches, client: &Client, spec: &Spec) -> Outcome {
    let id = create(cli, client, spec)
        .await
        .map_err(|failure| with_help(cli, m, failure))?;
    println(&id)?;
    start(client, &id)
        .await
        .map_err(|failure| with_help(cli, m, failure))
}

async fn attached(
    cli: &Cli,
    m: &Matches,
    client: &Client,
    spec: &Spec,
    id: &str,
    keys: &str,
) -> Outcome {
    let [stdin, stdout, stderr] = spec.attach;
    let query = Query::new()
        .add("stream", "1")
        .flag("stdin", stdin)
        .flag("stdout", stdout)
        .flag("stderr", stderr)
        .non_empty("detachKeys", keys);
    let detach_keys = match stdin && spec.tty {
        true => parsed_keys(keys).map_err(|failure| failure.with_status(125))?,
        false => Vec::new(),
    };
    let (stream, exit) = tokio::join!(
        client.hijack(super::path(id, &format!("/attach{query}")), None),
        wait_registered(client, id, spec.auto_remove),
    );
    let (stream, exit) = (stream?, exit?);
    if let Err(failure) = start(client, id).await {
        drop(stream);
        if spec.auto_remove && failure.http_status.is_some() {
            // The engine removes what could not start; the name is free once this is over.
            let _ = exit_status(client, id, exit).await;
        }
        return Err(with_help(cli, m, failure));
    }
    let streams = Streams {
        stdin,
        stdout,
        stderr,
        tty: spec.tty,
        detach_keys,
    };
    let resize_path = super::path(id, "/resize");
    let ended = tokio::select! {
        ended = streams.pump(stream) => ended?,
        () = follow_terminal_size(client, &resize_path, spec.tty) => Ended::Closed,
    };
    if ended == Ended::Detached || !(stdout || stderr) {
        return Ok(());
    }
    match exit_status(client, id, exit).await? {
        0 => Ok(()),
        status => Err(Failure::status(status)),
    }
}

/// Starts the container; the exit status says what kind of failure it was.
async fn start(client: &Client, id: &str) -> Outcome {
    match client.post(super::path(id, "/start"), None).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let failure = Failure::from(error);
            let status = start_status(failure.text());
            Err(failure.with_status(status))
        }
    }
}

/// 127 for a command that is not there, 126 for one that cannot be run, 125 for the rest.
fn start_status(message: &str) -> u8 {
    let has = |part: &str| message.contains(part);
    if has("executable file not found")
        || has("no such file or directory")
        || has("system cannot find the file specified")
    {
        127
    } else if has("permission denied") || has("is a directory") {
        126
    } else {
        125
    }
}

/// Asks for the exit status before there is one, so that it cannot be missed: returns when the
/// engine has answered with the head.
pub(super) async fn wait_registered(client: &Client, id: &str, removed: bool) -> Outcome<Response> {
    let condition = if removed { "removed" } else { "next-exit" };
    let path = super::path(id, &format!("/wait?condition={condition}"));
    Ok(client.request(Method::POST, path, Body::Empty, &[]).await?)
}

/// The exit status; 125 when the engine cannot tell.
///
/// A container outlives its daemon, and so does the wait for it: when the connection breaks the
/// question is asked again of whoever answers next.
pub(super) async fn exit_status(client: &Client, id: &str, response: Response) -> Outcome<u8> {
    /// How often a new daemon is looked for, and how long to wait in between.
    const ATTEMPTS: u32 = 40;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(250);
    let mut answer = response.json().await;
    for _ in 0..ATTEMPTS {
        match answer {
            Err(Error::Http(_) | Error::Connect { .. }) => {}
            _ => break,
        }
        tokio::time::sleep(PAUSE).await;
        answer = client.post(super::path(id, "/wait"), None).await;
    }
    let (code, message) = match answer {
        Ok(answer) => (
            answer["StatusCode"].as_i64().unwrap_or(125),
            answer["Error"]["Message"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        ),
        Err(error) => (125, Failure::from(error).text().to_owned()),
    };
    if !message.is_empty() {
        say_error(&format!("Error waiting for container: {message}"));
        return Ok(125);
    }
    // The shell sees the low byte, as with any process.
    Ok(u8::try_from(code & 0xff).unwrap_or(125))
}

#[cfg(test)]
mod tests {
    use super::start_status;

    #[test]
    fn failures_to_start_have_their_status() {
        assert_eq!(
            start_status("exec: \"x\": executable file not found in $PATH"),
            127
        );
        assert_eq!(
            start_status("exec: \"/x\": stat /x: no such file or directory"),
            127
        );
        assert_eq!(start_status("exec: \"/etc\": permission denied"), 126);
        assert_eq!(
            start_status("driver failed programming external connectivity"),
            125
        );
    }
}
