//! `GET /containers/{id}/attach/ws`: a container's streams over a websocket.
//!
//! Frames are not multiplexed: what the container writes comes as it is, in messages of any size.
//! Messages of the client are its standard input; closing the websocket ends it.

use std::os::unix::net::UnixStream as StdUnixStream;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use wharf_engine::container::AttachOptions;
use wharf_fault::{Error, Result};

use super::streams::{Stream, into_stream};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::{Route, route};

/// The largest message of a client.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The largest message to a client.
const CHUNK_BYTES: usize = 32 * 1024;

pub(super) fn routes() -> Vec<Route> {
    vec![route(Method::GET, "/containers/{id}/attach/ws", attach).finished_without_client()]
}

async fn attach(mut request: Request) -> Reply {
    let query = &request.query;
    // The parameters count from API 1.42 on; before, everything was attached.
    let flag = |name: &str| query.flag(name) || !request.version.at_least(42);
    let options = AttachOptions {
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        stdin: flag("stdin"),
        stdout: flag("stdout"),
        stderr: flag("stderr"),
        detach_keys: query.get("detachKeys").map(str::to_owned),
        raw: true,
    };
    let key = handshake_key(&request)?;
    let binary = request.version.at_least(28);
    let engine = request.engine.clone();
    let (container, _) = engine.attach_check(request.param("id"), &options)?;
    let failed = |source| Error::system("cannot connect the websocket").caused_by(source);
    let (near, far) = StdUnixStream::pair().map_err(failed)?;
    for end in [&near, &far] {
        end.set_nonblocking(true).map_err(failed)?;
    }
    let near = UnixStream::from_std(near).map_err(failed)?;
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    let socket = request.hijack_with(head.as_bytes()).await?;
    let client = into_stream(socket.fd).map_err(failed)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let websocket = WebSocketStream::from_partially_read(
        client,
        socket.early.to_vec(),
        Role::Server,
        Some(config),
    )
    .await;
    tokio::spawn(pump(websocket, near, binary));
    engine.attach(&container, &options, far.into(), &[]).await?;
    Ok(reply::no_content())
}

/// Checks that the client asks for a websocket (RFC 6455, section 4.2.1) and gives its key.
fn handshake_key(request: &Request) -> Result<String> {
    let has = |name: &str, wanted: &str| {
        let value = request.header(name).unwrap_or_default();
        value
            .split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(wanted))
    };
    let key = request.header("sec-websocket-key").unwrap_or_default();
    if !has("connection", "upgrade") || !has("upgrade", "websocket") || key.is_empty() {
        return Err(Error::invalid(
            "this is the address of a websocket: `Upgrade: websocket` is required",
        ));
    }
    if !has("sec-websocket-version", "13") {
        return Err(Error::invalid(
            "only version 13 of the websocket protocol is supported",
        ));
    }
    Ok(key.to_owned())
}

/// Carries messages until the container's side ends. Errors of the client end its input only.
async fn pump(websocket: WebSocketStream<Box<dyn Stream>>, container: UnixStream, binary: bool) {
    let (mut to_client, mut from_client) = websocket.split();
    let (mut output, mut input) = container.into_split();
    let reading = tokio::spawn(async move {
        while let Some(Ok(message)) = from_client.next().await {
            let bytes = match message {
                Message::Text(text) => Bytes::from(text),
                Message::Binary(bytes) => bytes,
                Message::Close(_) => break,
                // Pings are answered by the library.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if input.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // The container sees the end of its input.
        let _ = input.shutdown().await;
    });
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        let message = if binary {
            Message::binary(buffer[..count].to_vec())
        } else {
            Message::text(String::from_utf8_lossy(&buffer[..count]).into_owned())
        };
        if to_client.send(message).await.is_err() {
            break;
        }
    }
    let _ = to_client.close().await;
    reading.abort();
}
