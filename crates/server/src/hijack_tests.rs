//! Leaving HTTP, over a socket pair: exact bytes with and without `Upgrade`, early bytes, TLS.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use tokio::sync::watch;
use wharf_engine::config::DaemonConfig;
use wharf_engine::{Engine, EngineConfig, ShimProgram};

#[path = "../tests/support/certificates.rs"]
mod certificates;

use crate::connection::{self, ClientStream};
use crate::dispatch::Dispatch;
use crate::reply;
use crate::request::Request;
use crate::router::{Route, Router, route};
use crate::serve::Limits;
use crate::tls::TlsFiles;

/// Echoes what the client sends, early bytes first, through the raw descriptor.
async fn echo(mut request: Request) -> reply::Reply {
    let body: serde_json::Value = request.json().await?;
    let own_headers = request.query.flag("headers");
    let socket = request
        .hijack("application/vnd.docker.multiplexed-stream", own_headers)
        .await?;
    std::thread::spawn(move || {
        let mut stream = UnixStream::from(socket.fd);
        stream.set_nonblocking(false).unwrap();
        writeln!(stream, "body {body}").unwrap();
        stream.write_all(&socket.early).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..count]).unwrap();
        }
        stream.write_all(b"<eof>").unwrap();
    });
    Ok(reply::no_content())
}

fn routes() -> Vec<Route> {
    vec![
        route(Method::POST, "/echo", echo),
        route(Method::GET, "/hello", |_| async {
            Ok(reply::text("hello"))
        }),
    ]
}

/// Runs `client` against a connection served with [`routes`].
fn with_connection(client: impl FnOnce(UnixStream) + Send + 'static) {
    with_stream(client, async |near| ClientStream::Unix(near));
}

/// The same over the stream that `wrap` makes of the server's end of a socket pair.
fn with_stream<W>(client: impl FnOnce(UnixStream) + Send + 'static, wrap: W)
where
    W: AsyncFnOnce(tokio::net::UnixStream) -> ClientStream + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    let server = std::thread::spawn(move || {
        wharf_sys::namespace::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
        let up = std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
            .unwrap();
        assert!(up.success());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let daemon = DaemonConfig {
                data_root: root.join("data"),
                exec_root: root.join("exec"),
                ..DaemonConfig::default()
            };
            let engine = Engine::open(EngineConfig {
                data_root: daemon.data_root.clone(),
                exec_root: daemon.exec_root.clone(),
                instance: "-hijack01".to_owned(),
                shim: ShimProgram::File("/bin/true".into()),
                daemon,
                rootless: None,
            })
            .await
            .unwrap();
            let dispatch = Arc::new(Dispatch::new(engine.clone(), Router::new(routes())));
            let (near, far) = UnixStream::pair().unwrap();
            far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            near.set_nonblocking(true).unwrap();
            let near = tokio::net::UnixStream::from_std(near).unwrap();
            let (_stop, stopping) = watch::channel(false);
            let client = tokio::task::spawn_blocking(move || client(far));
            let near = wrap(near).await;
            connection::serve(near, dispatch, Limits::default(), stopping).await;
            client.await.unwrap();
            engine.shutdown().await;
        });
        runtime.shutdown_timeout(Duration::from_secs(2));
    });
    if let Err(panic) = server.join() {
        std::panic::resume_unwind(panic);
    }
    drop(folder);
}

fn read_all(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end.as_bytes()) {
        assert_eq!(
            stream.read(&mut byte).unwrap(),
            1,
            "ended after {:?}",
            String::from_utf8_lossy(&text)
        );
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn with_upgrade_the_answer_is_101_upgraded() {
    with_connection(|mut stream| {
        stream
            .write_all(b"POST /v1.41/echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly")
            .unwrap();
        stream.write_all(b" late").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(
            read_all(stream),
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nbody {}\nearly late<eof>"
                .replace("{}", "null")
        );
    });
}

#[test]
fn without_upgrade_the_answer_is_200_and_a_raw_stream() {
    with_connection(|mut stream| {
        stream
            .write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let head = read_until(&mut stream, "\r\n\r\n");
        assert_eq!(
            head,
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
        );
        stream.write_all(b"ping").unwrap();
        assert_eq!(read_until(&mut stream, "ping"), "body null\nping");
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_all(stream), "<eof>");
    });
}

#[test]
fn a_body_is_read_before_the_stream_begins() {
    with_connection(|mut stream| {
        let body = r#"{"Tty":true}"#;
        // Body and first bytes of the stream in one packet.
        let request = format!(
            "POST /echo?headers=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}stdin",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let head = read_until(&mut stream, "\r\n\r\n");
        assert!(
            head.starts_with("HTTP/1.1 101 UPGRADED\r\n")
                && head.contains("\r\nApi-Version: 1.55\r\n"),
            "{head}"
        );
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_all(stream), format!("body {body}\nstdin<eof>"));
    });
}

#[test]
fn a_connection_that_served_requests_can_still_leave() {
    with_connection(|mut stream| {
        stream
            .write_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert!(read_until(&mut stream, "hello").starts_with("HTTP/1.1 200 OK\r\n"));
        stream.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n1\r\n7\r\n0\r\n\r\nrest").unwrap();
        assert_eq!(read_until(&mut stream, "rest").lines().last(), Some("rest"));
    });
}

#[test]
fn a_failure_before_the_stream_is_an_http_answer() {
    with_connection(|mut stream| {
        stream
            .write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{")
            .unwrap();
        let head = read_until(&mut stream, "\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        drop(stream);
    });
}

#[test]
fn over_tls_the_route_gets_a_socket_too() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates::Certificates::make(folder.path());
    let config = certificates.server(false).load().unwrap();
    let client_config = certificates.client(None);
    let client = move |stream: UnixStream| {
        // The pair's far end stands for a TCP connection: bytes are carried between the two.
        let connection =
            rustls::ClientConnection::new(client_config, "localhost".try_into().unwrap()).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        stream.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly").unwrap();
        stream.conn.send_close_notify();
        let mut text = String::new();
        // The server closes without a farewell of its own.
        drop(stream.read_to_string(&mut text));
        assert!(text.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{text}");
        assert!(text.ends_with("body null\nearly<eof>"), "{text}");
    };
    with_stream(client, async move |near| {
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut near = near;
            let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
            drop(tokio::io::copy_bidirectional(&mut near, &mut tcp).await);
        });
        let (stream, _) = listener.accept().await.unwrap();
        ClientStream::Tls(Box::new(acceptor.accept(stream).await.unwrap()))
    });
}
