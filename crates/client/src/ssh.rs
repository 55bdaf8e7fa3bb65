//! `ssh://` hosts: the `ssh` program runs `system dial-stdio` on the other machine and its
//! standard streams carry the HTTP connection.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The standard streams of a running `ssh`.
#[derive(Debug)]
pub struct SshStream {
    /// Ends with the stream: `kill_on_drop` is set.
    _child: Child,
    /// Taken at the half close.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

/// What runs on the other side: whichever of the two programs is there.
const REMOTE: &str = "if command -v wharf >/dev/null 2>&1; then exec wharf system dial-stdio; else exec docker system dial-stdio; fi";

/// Starts `ssh` to the host.
pub(crate) fn connect(
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
    socket: Option<&str>,
) -> io::Result<SshStream> {
    let mut command = Command::new("ssh");
    command.args(["-o", "ConnectTimeout=30", "-T"]);
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", host]);
    match socket {
        Some(socket) => {
            let address = quote(&format!("unix://{socket}"));
            command.arg(REMOTE.replace(" system", &format!(" -H {address} system")));
        }
        None => {
            command.arg(REMOTE);
        }
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        // A Ctrl-C at the terminal belongs to the container, not to the tunnel.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let missing = || io::Error::other("ssh started without its standard streams");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    Ok(SshStream {
        _child: child,
        stdin: Some(stdin),
        stdout,
    })
}

/// A word for the remote shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quotes_cannot_be_escaped() {
        assert_eq!(quote("a'; rm -rf /"), "'a'\\''; rm -rf /'");
    }
}
