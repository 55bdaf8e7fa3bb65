//! One `run --rm`, step by step: where the time between the kernel's floor and the user's prompt goes.
//!
//! The daemon is asked over its socket, as a client would, so that each step has its own figure.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::engine::Engine;
use super::measure::Samples;
use super::report::Table;

pub(crate) fn measure(
    engine: &Engine,
    folder: &Path,
    runs: usize,
    table: &mut Table,
) -> Result<(), String> {
    let mut client = [Samples::new(1), Samples::new(1)];
    for _ in 0..runs {
        client[0].add(0, engine.time(&["--version"])?);
        client[1].add(0, engine.time(&["version", "--format", "x"])?);
    }
    let [alone, asking] = client;
    table.latency("a client that asks nothing (`--version`)", alone);
    table.latency("a client that asks once (`version`)", asking);
    let socket = folder.join("wharf.sock");
    for network in ["host", "none", "bridge"] {
        let mut steps = [
            Samples::new(1),
            Samples::new(1),
            Samples::new(1),
            Samples::new(1),
        ];
        for _ in 0..runs {
            let [create, start, end, whole] = one(&socket, network).map_err(|e| e.to_string())?;
            for (step, value) in steps.iter_mut().zip([create, start, end, whole]) {
                step.add(0, value);
            }
        }
        let names = ["create", "start", "program, exit, removal", "these three"];
        for (name, samples) in names.iter().zip(steps) {
            table.latency(&format!("{network}: {name}"), samples);
        }
    }
    Ok(())
}

/// Milliseconds of create, of start, from there until the removal is told, and of all.
fn one(socket: &Path, network: &str) -> std::io::Result<[f64; 4]> {
    let body = json!({
        "Image": "busybox", "Cmd": ["true"],
        "HostConfig": {"AutoRemove": true, "NetworkMode": network},
    });
    let mut control = Connection::open(socket)?;
    let mut waiter = Connection::open(socket)?;
    let since = |start: Instant| start.elapsed().as_secs_f64() * 1000.0;
    let begin = Instant::now();
    control.send("/v1.43/containers/create", &body.to_string())?;
    let created: Value = serde_json::from_slice(&control.answer()?)?;
    let create = since(begin);
    let id = created["Id"].as_str().unwrap_or_default();
    let path = |what: &str| format!("/v1.43/containers/{id}/{what}");
    waiter.send(&path("wait?condition=removed"), "")?;
    waiter.head()?;
    let starting = Instant::now();
    control.send(&path("start"), "")?;
    control.answer()?;
    let start = since(starting);
    let ending = Instant::now();
    waiter.rest()?;
    Ok([create, start, since(ending), create + start + since(ending)])
}

/// A connection to the daemon: one request after the other.
struct Connection {
    reader: BufReader<UnixStream>,
    /// Of the last answer.
    length: usize,
}

impl Connection {
    fn open(socket: &Path) -> std::io::Result<Self> {
        let reader = BufReader::new(UnixStream::connect(socket)?);
        Ok(Self { reader, length: 0 })
    }

    fn send(&mut self, path: &str, body: &str) -> std::io::Result<()> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: wharf\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.reader.get_mut().write_all(head.as_bytes())
    }

    /// Reads the head of an answer.
    fn head(&mut self) -> std::io::Result<()> {
        let mut line = String::new();
        self.length = 0;
        self.reader.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 2") {
            return Err(std::io::Error::other(line));
        }
        while line != "\r\n" {
            line.clear();
            self.reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                self.length = value.trim().parse().unwrap_or(0);
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> std::io::Result<Vec<u8>> {
        self.head()?;
        let mut body = vec![0; self.length];
        self.reader.read_exact(&mut body)?;
        Ok(body)
    }

    /// Waits for the first chunk of an answer whose head has been read.
    fn rest(&mut self) -> std::io::Result<()> {
        let mut size = String::new();
        self.reader.read_line(&mut size)?;
        Ok(())
    }
}
