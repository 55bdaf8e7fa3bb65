//! The client against a scripted engine on a unix socket.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use wharf_client::{Body, Client, Error, Host, Method, Settings};

/// What the engine answers to a request line; `None` closes the connection.
type Script = fn(&str) -> Option<String>;

struct Engine {
    _directory: tempfile::TempDir,
    socket: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Engine {
    fn start(script: Script) -> Self {
        let directory = tempfile::tempdir().expect("the scripted engine works");
        let socket = directory.path().join("engine.sock");
        let engine = Self {
            _directory: directory,
            socket: socket.clone(),
            requests: Arc::default(),
            connections: Arc::default(),
        };
        let listener = UnixListener::bind(&socket).expect("the scripted engine works");
        let (requests, connections) = (
            Arc::clone(&engine.requests),
            Arc::clone(&engine.connections),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, script, Arc::clone(&requests)));
            }
        });
        engine
    }

    fn client(&self) -> Client {
        Client::new(settings(self.socket.clone()))
    }

    fn requests(&self) -> Vec<String> {
        self.requests
            .lock()
            .expect("the scripted engine works")
            .clone()
    }
}

fn settings(socket: PathBuf) -> Settings {
    Settings {
        host: Host::Unix(socket),
        tls: None,
        pinned_version: None,
        user_agent: "test".to_owned(),
        headers: vec![("X-Test".to_owned(), "yes".to_owned())],
        autostart: None,
    }
}

async fn serve(stream: UnixStream, script: Script, requests: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            stream
                .read_line(&mut header)
                .await
                .expect("the scripted engine works");
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("the scripted engine works");
            }
        }
        let mut body = vec![0; length];
        stream
            .read_exact(&mut body)
            .await
            .expect("the scripted engine works");
        let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
        requests
            .lock()
            .expect("the scripted engine works")
            .push(line.clone());
        let Some(answer) = script(&line) else { return };
        let upgraded = answer.starts_with("HTTP/1.1 101");
        stream
            .write_all(answer.as_bytes())
            .await
            .expect("the scripted engine works");
        if line.contains("/close") {
            return;
        }
        if upgraded {
            // An echo that ends after the other side has closed its half.
            let mut input = String::new();
            stream
                .read_to_string(&mut input)
                .await
                .expect("the scripted engine works");
            stream
                .write_all(format!("<{input}>").as_bytes())
                .await
                .expect("the scripted engine works");
            return;
        }
    }
}

fn answer(status: u16, body: &str) -> Option<String> {
    Some(format!(
        "HTTP/1.1 {status} X\r\nApi-Version: 1.41\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let engine = Engine::start(|_| answer(200, "{\"a\":1}"));
    let client = engine.client();
    for _ in 0..3 {
        assert_eq!(client.get("/x").await.unwrap(), json!({"a": 1}));
    }
    assert_eq!(engine.connections.load(Ordering::SeqCst), 1);
    assert_eq!(
        engine.requests()[0],
        format!("GET /v{}/x", wharf_client::API_VERSION)
    );
}

#[tokio::test]
async fn a_closed_kept_connection_is_replaced() {
    let engine = Engine::start(|line| answer(200, if line.contains("/close") { "1" } else { "2" }));
    let client = engine.client();
    assert_eq!(client.get("/close").await.unwrap(), json!(1));
    assert_eq!(client.get("/second").await.unwrap(), json!(2));
    assert_eq!(engine.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_older_engine_costs_one_more_round_trip() {
    let engine = Engine::start(|line| match line {
        "GET /_ping" => answer(200, "OK"),
        line if line.contains("/v1.41/") => answer(200, "[]"),
        _ => answer(
            400,
            r#"{"message":"client version 1.50 is too new. Maximum supported API version is 1.41"}"#,
        ),
    });
    let client = engine.client();
    assert_eq!(client.post("/x", Some(json!({}))).await.unwrap(), json!([]));
    assert_eq!(client.get("/y").await.unwrap(), json!([]));
    assert_eq!(client.api_version(), "1.41");
    let requests = engine.requests();
    assert_eq!(
        &requests[1..],
        ["GET /_ping", "POST /v1.41/x", "GET /v1.41/y"]
    );
}

#[tokio::test]
async fn a_pinned_version_is_not_negotiated() {
    let engine = Engine::start(|_| answer(400, r#"{"message":"client version 1.50 is too new."}"#));
    let mut settings = settings(engine.socket.clone());
    settings.pinned_version = Some("1.50".to_owned());
    let error = Client::new(settings).get("/x").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Error response from daemon: client version 1.50 is too new."
    );
    assert_eq!(engine.requests().len(), 1);
}

#[tokio::test]
async fn a_body_that_can_be_sent_once_is_sent_after_negotiation() {
    let engine = Engine::start(|line| match line {
        "GET /_ping" => answer(200, "OK"),
        _ => None,
    });
    let client = engine.client();
    let chunks = futures_util::stream::iter([Ok(bytes::Bytes::from_static(b"x"))]);
    let body = Body::Stream {
        content_type: "application/x-tar",
        chunks: Box::pin(chunks),
    };
    let _ = client
        .request(Method::POST, "/images/load", body, &[])
        .await;
    assert_eq!(engine.requests(), ["GET /_ping", "POST /v1.41/images/load"]);
}

#[tokio::test]
async fn errors_carry_status_and_message() {
    let engine = Engine::start(|line| match line {
        line if line.ends_with("/json") => answer(404, r#"{"message":"No such container: x"}"#),
        line if line.ends_with("/text") => answer(500, "plain words\n"),
        _ => answer(503, ""),
    });
    let client = engine.client();
    let error = client.get("/json").await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(
        error.to_string(),
        "Error response from daemon: No such container: x"
    );
    let error = client.get("/text").await.unwrap_err();
    assert_eq!(error.to_string(), "Error response from daemon: plain words");
    let error = client.get("/empty").await.unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (Some(503), "Error response from daemon: Service Unavailable")
    );
}

#[tokio::test]
async fn messages_of_a_stream_may_be_split_anywhere() {
    let engine = Engine::start(|_| {
        let chunks = [
            "{\"a\":",
            "1}\r\n{\"b\"",
            ":2}",
            "{\"c\":3}\n\n",
            "{\"d\":4}",
        ];
        let body: String = chunks
            .iter()
            .map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()))
            .collect();
        Some(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n"
        ))
    });
    let client = engine.client();
    let mut lines = client
        .request(Method::GET, "/events", Body::Empty, &[])
        .await
        .unwrap()
        .json_lines();
    let mut found = Vec::new();
    while let Some(message) = lines.next().await.unwrap() {
        found.push(message);
    }
    assert_eq!(
        found,
        [
            json!({"a": 1}),
            json!({"b": 2}),
            json!({"c": 3}),
            json!({"d": 4})
        ]
    );
}

#[tokio::test]
async fn an_upgraded_connection_is_raw_and_closes_by_halves() {
    let engine = Engine::start(|_| {
        Some(
            "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly ".to_owned(),
        )
    });
    let mut stream = engine
        .client()
        .hijack("/containers/x/attach", None)
        .await
        .unwrap();
    stream.write_all(b"input").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut output = String::new();
    stream.read_to_string(&mut output).await.unwrap();
    assert_eq!(output, "early <input>");
}

#[tokio::test]
async fn a_refused_upgrade_is_the_engines_error() {
    let engine = Engine::start(|_| answer(409, r#"{"message":"container is paused"}"#));
    let error = engine
        .client()
        .hijack("/containers/x/attach", None)
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(409));
}

#[tokio::test]
async fn warm_connections_are_used() {
    let engine = Engine::start(|_| answer(200, "{}"));
    let client = engine.client();
    client.warm(2).await;
    let (a, b) = tokio::join!(client.get("/a"), client.get("/b"));
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(engine.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn nobody_there_is_said_in_dockers_words() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let error = Client::new(settings(socket.clone()))
        .get("/x")
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Cannot connect to the Docker daemon at unix://{}. Is the docker daemon running?",
            socket.display()
        )
    );
}

#[tokio::test]
async fn a_daemon_that_cannot_be_started_is_an_error_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path().join("none.sock"));
    settings.autostart = Some(|| Err(io::Error::other("no room")));
    let error = Client::new(settings).get("/x").await.unwrap_err();
    assert!(matches!(error, Error::Autostart { .. }));
    assert_eq!(
        wharf_fault::chain(&error).rsplit(": ").next(),
        Some("no room")
    );
}
