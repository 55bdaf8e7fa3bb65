//! Standard input and output of a container, carried between its hijacked connection and the
//! user's terminal or pipes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wharf_client::stdcopy::{Demultiplexer, Stream, UnknownStream};
use wharf_client::{Client, Hijacked, Query};

use crate::cli::{Cli, stdout_is_terminal};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::terminal::keys::{self, Watcher};
use crate::terminal::{self, Raw};

/// Size of one read in bytes: what a unix socket can hold at most in one go.
const CHUNK: usize = 128 << 10;

/// What is connected and how.
#[derive(Debug)]
pub(super) struct Streams {
    /// Standard input goes in.
    pub(super) stdin: bool,
    /// Standard output comes out.
    pub(super) stdout: bool,
    /// Standard error comes out.
    pub(super) stderr: bool,
    /// The container has a terminal: output is not framed.
    pub(super) tty: bool,
    /// Keys that detach while standard input is a terminal.
    pub(super) detach_keys: Vec<u8>,
}

/// Why the streams ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The container closed them.
    Closed,
    /// The user typed the detach keys.
    Detached,
}

impl Streams {
    /// Carries bytes until the output ends or the user detaches. With a terminal on both sides
    /// the user's is in raw mode meanwhile.
    pub(super) async fn pump(self, stream: Hijacked) -> Outcome<Ended> {
        let raw = if self.stdin && self.tty {
            Raw::stdin()?
        } else {
            None
        };
        let (mut reader, mut writer) = tokio::io::split(stream);
        let stdin = self.stdin;
        let watcher = (self.stdin && self.tty).then(|| Watcher::new(self.detach_keys));
        let input = async move {
            let ended = match stdin {
                true => forward_input(&mut writer, watcher).await,
                // The engine is told at once that nothing will come.
                false => Ok(Ended::Closed),
            };
            if matches!(ended, Ok(Ended::Closed)) {
                // Half close; a container that has exited already does not mind.
                let _ = writer.shutdown().await;
            }
            ended
        };
        let output = async {
            if self.tty {
                copy_raw(&mut reader).await
            } else {
                copy_framed(&mut reader, [self.stdout, self.stderr]).await
            }
        };
        tokio::pin!(input, output);
        let mut input_ended = false;
        let result = loop {
            tokio::select! {
                result = &mut output => break result.map(|()| Ended::Closed),
                result = &mut input, if !input_ended => {
                    input_ended = true;
                    match result {
                        Ok(Ended::Detached) => break Ok(Ended::Detached),
                        // Nothing more will come from the container that we asked for.
                        Ok(Ended::Closed) if stdin && !(self.stdout || self.stderr) => break Ok(Ended::Closed),
                        // The container stopped reading; its output goes on.
                        Ok(Ended::Closed) | Err(_) => {}
                    }
                }
            }
        };
        drop(raw);
        result
    }
}

async fn forward_input(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    mut watcher: Option<Watcher>,
) -> io::Result<Ended> {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 32 << 10];
    let mut kept = Vec::new();
    loop {
        let read = stdin.read(&mut buffer).await?;
        if read == 0 {
            return Ok(Ended::Closed);
        }
        match &mut watcher {
            None => writer.write_all(&buffer[..read]).await?,
            Some(watcher) => {
                kept.clear();
                let detached = watcher.filter(&buffer[..read], &mut kept);
                writer.write_all(&kept).await?;
                if detached {
                    return Ok(Ended::Detached);
                }
            }
        }
        writer.flush().await?;
    }
}

async fn copy_raw(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> Outcome {
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(()),
            read => write_all(rustix::stdio::stdout(), &buffer[..read])?,
        }
    }
}

async fn copy_framed(
    reader: &mut (impl tokio::io::AsyncRead + Unpin),
    wanted: [bool; 2],
) -> Outcome {
    let mut buffer = vec![0; CHUNK];
    let mut splitter = Splitter::new(wanted);
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(()),
            read => splitter.write(&buffer[..read])?,
        }
    }
}

/// Brings framed output to where it belongs.
///
/// An engine frames every write of the container, often every line. What one read brings is put
/// together again and written in as few pieces as the order of the two streams allows.
#[derive(Debug)]
pub(super) struct Splitter {
    demultiplexer: Demultiplexer,
    /// Which of output and error are wanted; frames of the other are dropped.
    wanted: [bool; 2],
    pending: Vec<u8>,
    stream: Stream,
}

impl Splitter {
    pub(super) fn new(wanted: [bool; 2]) -> Self {
        Self {
            demultiplexer: Demultiplexer::default(),
            wanted,
            pending: Vec::new(),
            stream: Stream::Stdout,
        }
    }

    /// Writes out the frames of one read.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Outcome {
        let Self {
            demultiplexer,
            wanted,
            pending,
            stream: current,
        } = self;
        demultiplexer.feed(bytes, |stream, piece| {
            match stream {
                Stream::Stdout if !wanted[0] => return Ok(()),
                Stream::Stderr if !wanted[1] => return Ok(()),
                Stream::SystemError => {
                    let text = String::from_utf8_lossy(piece);
                    return Err(Failure::new(format!("error from daemon in stream: {text}")));
                }
                Stream::Stdout | Stream::Stderr => {}
            }
            if stream != *current {
                flush(*current, pending)?;
                *current = stream;
            }
            pending.extend_from_slice(piece);
            Ok(())
        })?;
        flush(*current, pending)
    }
}

fn flush(stream: Stream, pending: &mut Vec<u8>) -> Outcome {
    let fd = match stream {
        Stream::Stderr => rustix::stdio::stderr(),
        Stream::Stdout | Stream::SystemError => rustix::stdio::stdout(),
    };
    write_all(fd, pending)?;
    pending.clear();
    Ok(())
}

impl From<UnknownStream> for Failure {
    fn from(error: UnknownStream) -> Self {
        Self::new(error.to_string())
    }
}

/// Writes everything, waiting where the other side of a non-blocking descriptor is slow.
pub(super) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                poll(
                    &mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)],
                    None,
                )?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The keys that detach, as `--detach-keys` or else the configuration has them: how they are written, and they
/// themselves.
pub(super) fn detach_keys(cli: &Cli, m: &Matches) -> Outcome<(String, Vec<u8>)> {
    let wanted = match m.str("detach-keys") {
        "" => cli.config().text("detachKeys").to_owned(),
        given => given.to_owned(),
    };
    let keys = parsed_keys(&wanted)?;
    Ok((wanted, keys))
}

/// The same, already found.
pub(super) fn parsed_keys(wanted: &str) -> Outcome<Vec<u8>> {
    keys::parse(wanted)
        .map_err(|error| Failure::new(format!("invalid detach keys ({wanted}) provided: {error}")))
}

/// Tells the engine the size of the user's terminal, now and at every change, if there is one on both sides. Never
/// returns.
pub(super) async fn follow_terminal_size(client: &Client, resize_path: &str, tty: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    if !tty || !stdout_is_terminal() {
        return std::future::pending().await;
    }
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return std::future::pending().await;
    };
    loop {
        resize(client, resize_path).await;
        changes.recv().await;
    }
}

/// Makes a full-screen program draw itself again: its terminal changes its size for a moment.
pub(super) async fn redraw(client: &Client, resize_path: &str) {
    let Some((rows, columns)) = terminal::size() else {
        return;
    };
    let query = Query::new()
        .add("h", rows.saturating_add(1).to_string())
        .add("w", columns.saturating_add(1).to_string());
    let _ = client.post(format!("{resize_path}{query}"), None).await;
}

async fn resize(client: &Client, resize_path: &str) {
    let Some((rows, columns)) = terminal::size() else {
        return;
    };
    let query = Query::new()
        .add("h", rows.to_string())
        .add("w", columns.to_string());
    // The process may not be there yet or any more; the next change tries again.
    let _ = client.post(format!("{resize_path}{query}"), None).await;
}

/// Passes every caught signal on to the container. Never returns.
pub(super) async fn forward_signals(client: &Client, id: &str, catch: bool) {
    if catch && let Ok(mut signals) = terminal::signals::catch() {
        while let Some(name) = signals.recv().await {
            // A container that is gone needs no signal.
            let _ = client
                .post(super::path(id, &format!("/kill?signal={name}")), None)
                .await;
        }
    }
    std::future::pending().await
}
