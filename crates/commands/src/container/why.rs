//! `wharf why`: why a container runs, or does not, on one screen.
//!
//! It only repeats what the engine saw and recorded. What nobody knows is called unknown, also
//! with engines that record less.

use serde_json::{Value as Json, json};
use wharf_client::stdcopy::{Demultiplexer, UnknownStream};
use wharf_client::{Body, Client, Method, Query};
use wharf_go_template::Value;

use crate::cli::{Cli, print};
use crate::command::{Args, Command, Flag};
use crate::format::inspect::{parse, pretty};
use crate::format::units;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    short: "Explain why a container runs or does not",
    long: Some(
        "Explain why a container runs or does not: its state, how its last run ended and on whose\nbehalf, earlier runs, limits, and the last lines it wrote",
    ),
    aliases: &["container why", "why"],
    args: Args::Exact(1),
    flags: &[
        Flag::string(
            "format",
            "Format output using a custom template: 'json' or a Go template",
        )
        .short('f'),
        Flag::int("tail", "Number of lines of the log to show")
            .short('n')
            .default("10"),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let name = &m.args[0];
    super::check_name(name)?;
    let format = m.str("format");
    let template = match format {
        "" | "json" => None,
        text => Some(parse(text)?),
    };
    let lines = m.int("tail").unwrap_or(10).clamp(0, 1000);
    let client = cli.client()?;
    let answer = cli.block_on(async {
        let container = client.get(super::path(name, "/json")).await?;
        let log = match lines {
            0 => Ok(Vec::new()),
            lines => last_lines(client, name, &container, lines).await,
        };
        Ok::<_, Failure>(explain(&container, log, jiff::Timestamp::now().as_second()))
    })?;
    let text = match (&template, format) {
        (Some(template), _) => {
            let text = template
                .execute(&Value::from_json(&answer))
                .map_err(|error| Failure::new(format!("template parsing error: {error}")))?;
            text + "\n"
        }
        (None, "json") => pretty(&answer) + "\n",
        (None, _) => screen(&answer),
    };
    Ok(print(&text)?)
}

/// The last lines of a container's log. Some log drivers cannot be read; why not is shown.
async fn last_lines(
    client: &Client,
    name: &str,
    container: &Json,
    lines: i64,
) -> Result<Vec<String>, String> {
    let query = Query::new()
        .add("stdout", "1")
        .add("stderr", "1")
        .add("tail", lines.to_string());
    let read = async {
        let path = super::path(name, &format!("/logs{query}"));
        let mut response = client.request(Method::GET, path, Body::Empty, &[]).await?;
        let mut raw = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            raw.extend_from_slice(&chunk);
        }
        Ok::<_, Failure>(raw)
    };
    let raw = read.await.map_err(|failure| failure.text().to_owned())?;
    let text = if container["Config"]["Tty"].as_bool() == Some(true) {
        raw
    } else {
        let mut text = Vec::new();
        Demultiplexer::default()
            .feed(&raw, |_, piece| {
                text.extend_from_slice(piece);
                Ok::<_, UnknownStream>(())
            })
            .map_err(|error| error.to_string())?;
        text
    };
    Ok(String::from_utf8_lossy(&text).lines().map(plain).collect())
}

/// A line without anything a terminal would obey.
fn plain(line: &str) -> String {
    line.trim_end_matches('\r')
        .chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

fn text<'a>(object: &'a Json, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

/// Everything there is to say about a container, out of its inspection and the end of its log.
fn explain(container: &Json, log: Result<Vec<String>, String>, now: i64) -> Json {
    let (state, host) = (&container["State"], &container["HostConfig"]);
    let running = state["Running"].as_bool().unwrap_or(false);
    let last = match &state["LastExit"] {
        Json::Null => guess_nothing(state),
        exit => exit.clone(),
    };
    let limits = limits(host);
    let mut answer = json!({
        "Name": text(container, "Name").trim_start_matches('/'),
        "Id": container["Id"],
        "Status": state["Status"],
        "Running": running,
        "OOMKilled": state["OOMKilled"].as_bool().unwrap_or(false),
        "Why": why(state, &last, now),
        "LastExit": last,
        "EarlierExits": state.get("EarlierExits").cloned().unwrap_or_else(|| json!([])),
        "RestartPolicy": host["RestartPolicy"],
        "RestartCount": container["RestartCount"],
        "Limits": limits,
        "Health": state.get("Health").map_or(Json::Null, |health| health["Status"].clone()),
        "Hints": [],
    });
    let hints = hints(&answer, container);
    answer["Hints"] = json!(hints);
    match log {
        Ok(lines) => answer["Log"] = json!(lines),
        Err(error) => answer["LogError"] = json!(error),
    }
    answer
}

/// What an engine that records no causes still tells of the last run.
fn guess_nothing(state: &Json) -> Json {
    let finished = text(state, "FinishedAt");
    let error = text(state, "Error");
    if error.is_empty() && (finished.is_empty() || finished.starts_with("0001-")) {
        return Json::Null;
    }
    let code = state["ExitCode"].as_i64().unwrap_or(0);
    let summary = match (error, state["OOMKilled"].as_bool()) {
        ("", Some(true)) => format!(
            "exit code {code}; a process in it was killed for want of memory, more is unknown"
        ),
        ("", _) => format!("exit code {code}; the cause is unknown: it was not recorded"),
        (error, _) => error.to_owned(),
    };
    json!({"Kind": "unknown", "Summary": summary, "StartedAt": state["StartedAt"],
        "FinishedAt": finished, "ExitCode": code})
}

/// The answer in one sentence.
fn why(state: &Json, last: &Json, now: i64) -> String {
    let since = |key: &str| {
        units::unix_seconds(text(state, key))
            .filter(|at| *at > 0)
            .map(|at| units::duration(now - at))
    };
    let up = since("StartedAt").map_or(String::new(), |up| format!(" for {up}"));
    let summary = text(last, "Summary");
    let lost = match state["OOMKilled"].as_bool() {
        Some(true) => " A process in it was killed for want of memory; its main program goes on.",
        _ => "",
    };
    match text(state, "Status") {
        "running" => match text(&state["Health"], "Status") {
            "unhealthy" => format!("It has been running{up}, but its health check fails.{lost}"),
            "starting" => {
                format!("It has been running{up}; its health check has not succeeded yet.{lost}")
            }
            _ => format!("It has been running{up}.{lost}"),
        },
        "paused" => format!("It has been running{up} and is paused: a user froze it.{lost}"),
        "restarting" => format!(
            "It is not running; the restart policy will start it again. Its last run: {summary}."
        ),
        "created" if summary.is_empty() => "It was created and never started.".to_owned(),
        "removing" => "It is being removed.".to_owned(),
        "dead" => "Its removal failed half-way; remove it again.".to_owned(),
        _ if summary.is_empty() => "It is not running; the cause is unknown.".to_owned(),
        _ => format!("It is not running: {summary}."),
    }
}

/// Limits that are set, in words.
fn limits(host: &Json) -> Vec<String> {
    let number = |key: &str| host[key].as_i64().filter(|number| *number != 0);
    let bytes = |number: i64| units::binary_size(number as f64);
    let mut limits = Vec::new();
    if let Some(memory) = number("Memory") {
        limits.push(format!("memory {}", bytes(memory)));
        match number("MemorySwap") {
            Some(swap) if swap > memory => {
                limits.push(format!("swap {}", bytes(swap - memory)));
            }
            Some(..0) => limits.push("swap unlimited".to_owned()),
            _ => limits.push("no swap".to_owned()),
        }
    }
    if let Some(nano) = number("NanoCpus") {
        limits.push(format!("{} CPUs", nano as f64 / 1e9));
    } else if let Some(quota) = number("CpuQuota").filter(|quota| *quota > 0) {
        let period = number("CpuPeriod").unwrap_or(100_000);
        limits.push(format!("{} CPUs", quota as f64 / period as f64));
    }
    if let Some(pids) = number("PidsLimit").filter(|pids| *pids > 0) {
        limits.push(format!("{pids} tasks"));
    }
    for (key, what) in [
        ("CpusetCpus", "CPU numbers"),
        ("CpusetMems", "memory nodes"),
    ] {
        match text(host, key) {
            "" => {}
            list => limits.push(format!("{what} {list}")),
        }
    }
    limits
}

/// What can be done about it. Only where the cause is known.
fn hints(answer: &Json, container: &Json) -> Vec<String> {
    let name = text(answer, "Name");
    let (last, running) = (&answer["LastExit"], answer["Running"] == true);
    let policy = text(&answer["RestartPolicy"], "Name");
    let mut hints = Vec::new();
    if text(answer, "Health") == "unhealthy" {
        hints.push(format!(
            "what the health check says: inspect --format '{{{{json .State.Health}}}}' {name}"
        ));
    }
    if text(answer, "Status") == "paused" {
        hints.push(format!("go on: unpause {name}"));
    }
    let is_limited = container["HostConfig"]["Memory"].as_i64() > Some(0);
    if running {
        if answer["OOMKilled"] == true && is_limited {
            hints.push(format!(
                "a higher limit: update --memory BYTES --memory-swap BYTES {name}"
            ));
        }
        return hints;
    }
    // Also where the program ended by itself, which it may have done for the loss of a child.
    match text(&last["OOM"], "Scope") {
        "container" => hints.push(format!(
            "a higher limit: update --memory BYTES --memory-swap BYTES {name}, then start {name}"
        )),
        "host" => hints.push(
            "the machine itself was out of memory: limit what else runs on it, or add memory or swap"
                .to_owned(),
        ),
        _ => {}
    }
    let kind = text(last, "Kind");
    match kind {
        "seccomp" => hints.push(
            "allow the call with a profile of your own: run --security-opt seccomp=PROFILE.json"
                .to_owned(),
        ),
        "not-started" => hints.extend(not_started(last, container)),
        "stopped" if text(last, "RequestedBy") == "stop-timeout" => hints.push(
            "it did not react to its stop signal: its program may need run --init, another --stop-signal, or a longer --stop-timeout"
                .to_owned(),
        ),
        _ => {}
    }
    match last["ExitCode"].as_i64() {
        Some(code @ 129..=192) if kind == "exited" => hints.push(format!(
            "exit code {code} is what shells report when signal {} ended their last command",
            code - 128
        )),
        Some(127) if kind == "exited" => hints
            .push("exit code 127 is what shells report for a command they do not find".to_owned()),
        Some(126) if kind == "exited" => hints.push(
            "exit code 126 is what shells report for a command they may not execute".to_owned(),
        ),
        _ => {}
    }
    let failed = last["ExitCode"].as_i64().is_some_and(|code| code != 0);
    let tries = answer["RestartPolicy"]["MaximumRetryCount"]
        .as_i64()
        .unwrap_or(0);
    let count = container["RestartCount"].as_i64().unwrap_or(0);
    if policy == "on-failure" && failed && tries > 0 && count >= tries {
        hints.push(format!(
            "the restart policy gave up after {tries} tries: start {name}"
        ));
    } else if matches!(policy, "" | "no")
        && failed
        && !matches!(kind, "stopped" | "killed" | "not-started")
    {
        hints.push(format!(
            "no restart policy is set: update --restart on-failure {name}"
        ));
    }
    hints
}

/// What to look at when a program could not be started; the exit code says what was wrong with it.
fn not_started(last: &Json, container: &Json) -> Option<String> {
    let image = text(&container["Config"], "Image");
    let summary = text(last, "Summary");
    if summary.contains("unable to find user") || summary.contains("unable to find group") {
        return Some(format!(
            "the names the image knows: run --rm --entrypoint cat {image} /etc/passwd /etc/group; a number needs no entry"
        ));
    }
    match last["ExitCode"].as_i64()? {
        127 => Some(format!(
            "it has to be in the image or its volumes, with its interpreter, if by name then in $PATH: run --rm -it --entrypoint sh {image}"
        )),
        126 => Some(
            "it has to be a file with the right to be executed, made for this machine: neither a directory nor data"
                .to_owned(),
        ),
        _ => None,
    }
}

fn screen(answer: &Json) -> String {
    let id = text(answer, "Id");
    let id = id.get(..12).unwrap_or(id);
    let last = &answer["LastExit"];
    let mut out = format!(
        "{} ({id}): {}\n{}\n\n",
        text(answer, "Name"),
        text(answer, "Status"),
        text(answer, "Why")
    );
    let mut line = |title: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("{title:<10}{value}\n"));
        }
    };
    if !last.is_null() {
        line("Last run", span(last));
        let mut exit = format!("code {}", last["ExitCode"]);
        if let Some(signal) = last["Signal"].as_str() {
            exit.push_str(&format!(", {signal}"));
        }
        line("Exit", exit);
        if answer["Running"] == true {
            line("Cause", text(last, "Summary").to_owned());
        }
        line("Memory", memory(&last["OOM"]));
    }
    let policy = &answer["RestartPolicy"];
    let tries = policy["MaximumRetryCount"]
        .as_i64()
        .filter(|tries| *tries > 0);
    let count = &answer["RestartCount"];
    line(
        "Restarts",
        match (text(policy, "Name"), tries) {
            ("" | "no", _) => "no policy".to_owned(),
            (name, None) => format!("policy {name}; {count} so far"),
            (name, Some(tries)) => format!("policy {name}; {count} of {tries} tries so far"),
        },
    );
    let list = |key: &str| -> Vec<String> {
        let list = answer[key].as_array().into_iter().flatten();
        list.filter_map(Json::as_str).map(str::to_owned).collect()
    };
    line("Limits", {
        let limits = list("Limits").join(", ");
        if limits.is_empty() {
            "none".to_owned()
        } else {
            limits
        }
    });
    let earlier = answer["EarlierExits"]
        .as_array()
        .into_iter()
        .flatten()
        .rev();
    let earlier: Vec<String> = earlier
        .map(|exit| {
            format!(
                "  {}  code {}: {}\n",
                span(exit),
                exit["ExitCode"],
                text(exit, "Summary")
            )
        })
        .collect();
    if !earlier.is_empty() {
        out.push_str(&format!(
            "\nEarlier runs, latest first:\n{}",
            earlier.concat()
        ));
    }
    if let Some(error) = answer["LogError"].as_str() {
        out.push_str(&format!("\nThe log cannot be read: {error}\n"));
    }
    let log = list("Log");
    if !log.is_empty() {
        out.push_str("\nLast lines of the log:\n");
        log.iter()
            .for_each(|text| out.push_str(&format!("  {text}\n")));
    }
    let hints = list("Hints");
    if !hints.is_empty() {
        out.push_str("\nWhat to do:\n");
        hints
            .iter()
            .for_each(|hint| out.push_str(&format!("  {hint}\n")));
    }
    out
}

/// When a run ended and how long it took.
fn span(exit: &Json) -> String {
    let at = |key: &str| units::unix_seconds(text(exit, key)).filter(|at| *at > 0);
    let Some(finished) = at("FinishedAt") else {
        return "unknown".to_owned();
    };
    match at("StartedAt") {
        Some(started) => format!(
            "ended {}, took {}",
            units::local_time(finished),
            units::duration((finished - started).max(0)).to_lowercase()
        ),
        None => format!("failed {}", units::local_time(finished)),
    }
}

/// Memory at the end of a run in which processes were killed for it.
fn memory(oom: &Json) -> String {
    if oom.is_null() {
        return String::new();
    }
    let bytes = |key: &str, what: &str| {
        oom[key]
            .as_u64()
            .map(|number| format!("{what} {}", units::binary_size(number as f64)))
    };
    let kills = oom["Kills"].as_u64().unwrap_or(0);
    let mut parts = vec![format!(
        "{kills} killed for it, short was: {}",
        text(oom, "Scope")
    )];
    parts.extend(bytes("Limit", "limit"));
    parts.extend(bytes("LimitWithSwap", "with swap"));
    parts.extend(bytes("Peak", "peak"));
    parts.extend(
        oom["LimitHits"]
            .as_u64()
            // Kernels do not count every time.
            .filter(|hits| *hits > 0)
            .map(|hits| format!("limit hit {hits} times")),
    );
    parts.extend(
        oom["FullyStalledUs"]
            .as_u64()
            .map(|us| format!("all tasks stalled {:.1} s", us as f64 / 1e6)),
    );
    let victims = oom["Victims"].as_array().into_iter().flatten();
    let victims: Vec<String> = victims.map(|victim| plain(text(victim, "Name"))).collect();
    if !victims.is_empty() {
        parts.push(format!("victims: {}", victims.join(", ")));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: Json) -> Json {
        json!({
            "Name": "/db", "Id": "0123456789abcdef", "RestartCount": 3, "State": state,
            "HostConfig": {
                "Memory": 33_554_432, "MemorySwap": 33_554_432, "NanoCpus": 500_000_000,
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            },
        })
    }

    #[test]
    fn memory_exhaustion_is_explained() {
        let state = json!({
            "Status": "exited", "Running": false, "ExitCode": 137,
            "LastExit": {
                "Kind": "oom", "Summary": "the kernel killed it", "ExitCode": 137, "Signal": "SIGKILL",
                "StartedAt": "2026-01-02T03:04:05Z", "FinishedAt": "2026-01-02T03:05:05Z",
                "OOM": {"Kills": 1, "Scope": "container", "Limit": 33_554_432, "Peak": 33_554_432,
                    "Victims": [{"Pid": 7, "Name": "dd"}]},
            },
        });
        let answer = explain(&container(state), Ok(vec!["last words".to_owned()]), 0);
        let screen = screen(&answer);
        for part in [
            "It is not running: the kernel killed it.",
            "took about a minute",
            "code 137, SIGKILL",
            "1 killed for it, short was: container, limit 32MiB, peak 32MiB, victims: dd",
            "3 of 3 tries so far",
            "memory 32MiB, no swap, 0.5 CPUs",
            "  last words",
            "update --memory BYTES",
            "gave up after 3 tries",
        ] {
            assert!(screen.contains(part), "{part} in\n{screen}");
        }
    }

    #[test]
    fn what_was_not_recorded_is_unknown() {
        let state = json!({"Status": "exited", "Running": false, "ExitCode": 137, "OOMKilled": false,
            "Error": "", "StartedAt": "2026-01-02T03:04:05Z", "FinishedAt": "2026-01-02T03:05:05Z"});
        let answer = explain(&container(state), Err("no".to_owned()), 0);
        assert_eq!(answer["LastExit"]["Kind"], "unknown");
        assert!(text(&answer, "Why").contains("unknown"));
        assert!(screen(&answer).contains("cannot be read: no"));
        let created =
            json!({"Status": "created", "FinishedAt": "0001-01-01T00:00:00Z", "Error": ""});
        let answer = explain(&container(created), Ok(Vec::new()), 0);
        assert_eq!(text(&answer, "Why"), "It was created and never started.");
    }

    #[test]
    fn terminals_obey_nothing_a_container_wrote() {
        assert_eq!(plain("a\u{1b}[2Jb\tc\r"), "a\u{fffd}[2Jb c");
    }
}
