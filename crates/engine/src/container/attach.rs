//! Connecting clients to a container's streams, before it starts or while it runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wharf_fault::{Error, Result};
use wharf_shim_protocol::{AttachMode, Request, Target};

use super::client_socket::ClientSocket;
use super::live::{Container, WaitingClient};
use super::logs::LogOptions;
use super::record::Phase;
use crate::Engine;

/// Most clients that may wait for one container's start.
const WAITING_MAX: usize = 64;

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// Replay the log first.
    pub logs: bool,
    /// Then stream.
    pub stream: bool,
    /// Send standard input.
    pub stdin: bool,
    /// Receive standard output.
    pub stdout: bool,
    /// Receive standard error.
    pub stderr: bool,
    /// Keys that detach; `None` for Docker's default.
    pub detach_keys: Option<String>,
    /// Without stream frames even without a terminal (websockets).
    pub raw: bool,
}

impl Engine {
    /// Checks an attach and says whether the container has a terminal. Errors with an HTTP status
    /// come from here, before the connection leaves HTTP.
    pub fn attach_check(
        &self,
        reference: &str,
        options: &AttachOptions,
    ) -> Result<(Arc<Container>, bool)> {
        detach_keys(options.detach_keys.as_deref())?;
        let container = self.containers.find(reference)?;
        let tty = {
            let cell = container.read();
            let state = &cell.record.state;
            if state.paused {
                return Err(Error::conflict(format!(
                    "container {} is paused, unpause the container before attach",
                    container.id
                )));
            }
            if state.restarting {
                return Err(Error::conflict(format!(
                    "container {} is restarting, wait until the container is running",
                    container.id
                )));
            }
            cell.record.config.tty
        };
        Ok((container, tty))
    }

    /// Hands a client's socket over to the container. Returns when that is done: the bytes then
    /// flow between client and shim.
    ///
    /// `greeting` is what the client is told when it is attached. A client that has read it and
    /// then starts the container gets every byte from the first.
    pub async fn attach(
        &self,
        container: &Arc<Container>,
        options: &AttachOptions,
        socket: OwnedFd,
        greeting: &[u8],
    ) -> Result<()> {
        let (tty, open_stdin) = {
            let cell = container.read();
            (cell.record.config.tty, cell.record.config.open_stdin)
        };
        let socket = ClientSocket::new(socket)
            .map_err(|source| Error::system("cannot use the client's socket").caused_by(source))?;
        let mut greeting = greeting;
        if options.logs || !options.stream {
            socket
                .write_all(std::mem::take(&mut greeting))
                .await
                .map_err(client_gone)?;
        }
        if options.logs {
            self.replay(container, options, tty, &socket).await?;
        }
        self.events.publish(
            "container",
            "attach",
            container.id.as_str(),
            container.event_attributes([]),
        );
        if !options.stream {
            return Ok(());
        }
        let mode = AttachMode {
            stdin: options.stdin && open_stdin,
            stdout: options.stdout,
            stderr: options.stderr,
            multiplexed: !tty && !options.raw,
            detach_keys: detach_keys(options.detach_keys.as_deref())?,
            token: self.containers.client_token(),
        };
        let socket = socket.into_inner();
        let link = {
            let mut cell = container.write();
            let dead = cell.record.state.phase == Phase::Dead || cell.gone;
            match &mut cell.run {
                Some(run) => {
                    greet(&socket, greeting)?;
                    if let Ok(copy) = socket.try_clone() {
                        run.clients.push((mode.token, copy));
                    }
                    run.link.clone()
                }
                None if dead => {
                    greet(&socket, greeting)?;
                    return Ok(());
                }
                // Docker keeps the client until the next start, also of a container that has ended.
                None => {
                    cell.waiting.retain(|client| !has_hung_up(&client.socket));
                    if cell.waiting.len() >= WAITING_MAX {
                        return Err(Error::conflict(format!(
                            "too many clients wait for container {}",
                            container.id
                        )));
                    }
                    // Under the lock: no start can come between the greeting and the entry.
                    greet(&socket, greeting)?;
                    cell.waiting.push(WaitingClient { socket, mode });
                    return Ok(());
                }
            }
        };
        link.command(
            Request::Attach {
                target: Target::Main,
                mode,
            },
            &[socket],
        )
        .await
        .map_err(Error::from)
    }

    async fn replay(
        &self,
        container: &Arc<Container>,
        options: &AttachOptions,
        tty: bool,
        socket: &ClientSocket,
    ) -> Result<()> {
        let log_options = LogOptions {
            stdout: options.stdout,
            stderr: options.stderr,
            raw: options.raw || tty,
            ..LogOptions::default()
        };
        let mut stream = self.container_logs(container.id.as_str(), &log_options)?;
        while let Some(chunk) = stream.next().await? {
            if socket.write_all(&chunk).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Sets the size of a container's terminal, in characters.
    pub async fn container_resize(&self, reference: &str, height: u16, width: u16) -> Result<()> {
        let container = self.containers.find(reference)?;
        let link = container.link()?;
        link.command(
            Request::Resize {
                target: Target::Main,
                width,
                height,
            },
            &[],
        )
        .await
        .map_err(Error::from)?;
        let attributes = container
            .event_attributes([("height", height.to_string()), ("width", width.to_string())]);
        self.events
            .publish("container", "resize", container.id.as_str(), attributes);
        Ok(())
    }
}

/// Sends the few bytes of a greeting without waiting: the buffer of a new connection has room.
fn greet(socket: &OwnedFd, greeting: &[u8]) -> Result<()> {
    if greeting.is_empty() {
        return Ok(());
    }
    match rustix::net::send(socket, greeting, rustix::net::SendFlags::NOSIGNAL) {
        Ok(sent) if sent == greeting.len() => Ok(()),
        Ok(_) => Err(Error::system("the client does not read")),
        Err(errno) => Err(client_gone(errno.into())),
    }
}

fn client_gone(source: std::io::Error) -> Error {
    Error::system("the client has closed its connection").caused_by(source)
}

/// Whether nobody is at the other end any more.
fn has_hung_up(socket: &OwnedFd) -> bool {
    let mut wait = [PollFd::new(socket, PollFlags::empty())];
    matches!(poll(&mut wait, Some(&Timespec::default())), Ok(1..))
}

/// `ctrl-p,ctrl-q` → `[16, 17]`; nothing is Docker's default.
pub(super) fn detach_keys(text: Option<&str>) -> Result<Vec<u8>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(vec![16, 17]);
    };
    let key = |part: &str| -> Result<u8> {
        let invalid = || Error::invalid(format!("Invalid detach keys ({text}) provided"));
        match part.as_bytes() {
            [byte] => Ok(*byte),
            _ => match part.strip_prefix("ctrl-").map(str::as_bytes) {
                Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
                Some(b"@") => Ok(0),
                Some(b"[") => Ok(27),
                Some(b"\\") => Ok(28),
                Some(b"]") => Ok(29),
                Some(b"^") => Ok(30),
                Some(b"_") => Ok(31),
                _ => Err(invalid()),
            },
        }
    };
    text.split(',').map(key).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn detach_keys_are_read() {
        assert_eq!(detach_keys(None).unwrap(), [16, 17]);
        assert_eq!(detach_keys(Some("ctrl-a,d")).unwrap(), [1, b'd']);
        assert_eq!(detach_keys(Some("ctrl-\\")).unwrap(), [28]);
        assert!(detach_keys(Some("ctrl-ä")).is_err());
        assert!(detach_keys(Some("ab")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_keys_or_an_error(text in ".*") {
            drop(detach_keys(Some(&text)));
        }
    }
}
