//! The server over raw sockets: negotiation, errors, limits, streams.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a failed step is a failed test"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use support::{Server, read_answer, status};
use wharf_server::Limits;

#[test]
fn every_answer_carries_dockers_headers() {
    let server = Server::start();
    let (head, body) = server.get("/_ping");
    assert_eq!((status(&head), body.as_str()), (200, "OK"));
    let lower = head.to_ascii_lowercase();
    for header in [
        "api-version: 1.55",
        "docker-experimental: false",
        "ostype: linux",
        "server: docker/29.7.2 (linux)",
        "swarm: inactive",
        "builder-version: 1",
        "cache-control: no-cache, no-store, must-revalidate",
    ] {
        assert!(lower.contains(header), "{header} in {head}");
    }
    let (head, body) = server.send("HEAD /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((status(&head), body.as_str()), (200, ""));
    assert!(
        head.to_ascii_lowercase().contains("content-length: 0"),
        "{head}"
    );
    let (head, _) = server.get("/no/such/page");
    assert!(
        head.to_ascii_lowercase().contains("api-version: 1.55"),
        "{head}"
    );
}

#[test]
fn versions_are_negotiated_as_docker_does() {
    let server = Server::start();
    for minor in [24, 30, 41, 50, 55] {
        let (head, body) = server.get(&format!("/v1.{minor}/version"));
        assert_eq!(status(&head), 200, "1.{minor}: {body}");
        assert!(body.contains("\"ApiVersion\":\"1.55\""), "{body}");
        assert!(body.contains("\"MinAPIVersion\":\"1.24\""), "{body}");
    }
    for (path, message) in [
        (
            "/v1.56/info",
            "client version 1.56 is too new. Maximum supported API version is 1.55",
        ),
        (
            "/v1.12/info",
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
        ),
    ] {
        let (head, body) = server.get(path);
        assert_eq!(status(&head), 400);
        assert_eq!(body, format!("{{\"message\":\"{message}\"}}\n"));
    }
}

#[test]
fn unknown_paths_and_operations_that_are_missing_say_so() {
    let server = Server::start();
    let (head, body) = server.get("/v1.41/nope");
    assert_eq!(
        (status(&head), body.as_str()),
        (404, "{\"message\":\"page not found\"}\n")
    );
    let (head, body) = server.post("/v1.41/build", "");
    assert_eq!(status(&head), 501);
    assert!(
        body.contains("building images is not supported by this version of Wharf"),
        "{body}"
    );
    let (head, body) = server.get("/v1.41/services");
    assert_eq!(status(&head), 503);
    assert!(body.contains("This node is not a swarm manager."), "{body}");
    let (head, body) = server.post("/v1.41/swarm/leave", "");
    assert_eq!(
        (status(&head), body.as_str()),
        (503, "{\"message\":\"This node is not part of a swarm\"}\n")
    );
}

#[test]
fn bodies_are_json_within_bounds() {
    let server = Server::start();
    let request = |content_type: &str, body: &str| {
        server.send(&format!(
            "POST /volumes/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let (head, body) = request("text/plain", "{}");
    assert_eq!(status(&head), 400);
    assert!(
        body.contains("unsupported Content-Type header (text/plain): must be 'application/json'"),
        "{body}"
    );
    for bad in ["{", "[]", "{\"Name\":1}", "\u{0}", "{}x"] {
        let (head, body) = request("application/json", bad);
        assert_eq!(status(&head), 400, "{bad}: {body}");
        assert!(body.contains("invalid JSON"), "{body}");
    }
    let (head, _) = request(
        "application/json; charset=utf-8",
        "{\"name\":\"v1\",\"Labels\":null}",
    );
    assert_eq!(status(&head), 201);
    // A body that never ends is refused as soon as it is too large.
    let mut stream = server.connect();
    stream
        .write_all(b"POST /volumes/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n")
        .unwrap();
    let chunk = vec![b' '; 64 * 1024];
    while stream.write_all(&chunk).is_ok() {}
    let mut answer = Vec::new();
    // The server may reset the connection because of the unread rest.
    drop(stream.read_to_end(&mut answer));
    if !answer.is_empty() {
        assert!(String::from_utf8_lossy(&answer).contains("400 Bad Request"));
    }
    assert_eq!(status(&server.get("/_ping").0), 200);
}

#[test]
fn hostile_requests_end_with_a_refusal_and_the_server_lives() {
    let server = Server::start();
    let long = "a".repeat(200 * 1024);
    for request in [
        "\r\n\r\n\r\n".to_owned(),
        "GARBAGE\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /info HTTP/1.1\r\nX: {long}\r\n\r\n"),
        "GET /info HTTP/9.9\r\n\r\n".to_owned(),
        "POST /volumes/create HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(),
        "POST /volumes/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n".to_owned(),
        "POST /volumes/create HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}"
            .to_owned(),
        format!("GET /info HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(500)),
        "GET /volumes/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /info?a=%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /volumes/..%2f..%2fetc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
    ] {
        let mut stream = server.connect();
        // The server may refuse before everything is written.
        drop(stream.write_all(request.as_bytes()));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 5"), "{request:.60}: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 2"), "{request:.60}: {answer}");
    }
    assert_eq!(status(&server.get("/_ping").0), 200);
}

#[test]
fn a_client_that_sends_no_head_is_dropped() {
    let limits = Limits {
        head_timeout: Duration::from_secs(2),
        ..Limits::default()
    };
    let server = Server::start_with(limits, |_| async { Vec::new() });
    let mut slow = server.connect();
    slow.write_all(b"GET /_ping HTTP/1.1\r\nHo").unwrap();
    let mut answer = Vec::new();
    // Ends with EOF, not with the test's own patience.
    slow.read_to_end(&mut answer).unwrap();
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
    assert_eq!(status(&server.get("/_ping").0), 200);
}

#[test]
fn connections_beyond_the_limit_wait_their_turn() {
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let server = Server::start_with(limits, |_| async { Vec::new() });
    let idle = [server.connect(), server.connect()];
    let mut waiting = server.connect();
    waiting
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    waiting
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(
        waiting.read(&mut [0]).is_err(),
        "no answer while the others hold their places"
    );
    drop(idle);
    waiting.set_read_timeout(Some(support::PATIENCE)).unwrap();
    assert_eq!(status(&read_answer(&mut waiting).0), 200);
}

#[test]
fn a_body_nobody_wants_does_not_cost_the_client_its_answer() {
    let server = Server::start();
    let mut stream = server.connect();
    let body = "x".repeat(100_000);
    write!(
        stream,
        "POST /v1.41/build HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    // The answer is on its way by now; the client is not done writing.
    std::thread::sleep(Duration::from_millis(50));
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(status(&read_answer(&mut stream).0), 501);
    // The same with the connection kept: the next request is understood.
    let mut stream = server.connect();
    write!(
        stream,
        "POST /v1.41/build HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    stream
        .write_all(b"abcdeGET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("501 Not Implemented") && text.ends_with("\r\n\r\nOK"),
        "{text}"
    );
}

#[test]
fn connections_are_kept_alive() {
    let server = Server::start();
    let mut stream = server.connect();
    for _ in 0..3 {
        stream
            .write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        while !answer.ends_with("OK") {
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "closed after {answer}");
            answer.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    }
}

#[test]
fn events_stream_until_the_client_leaves() {
    let server = Server::start();
    let mut stream = server.connect();
    stream
        .write_all(
            b"GET /v1.41/events?filters={%22type%22:[%22volume%22]} HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        .unwrap();
    // The head comes before any event.
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    assert_eq!(server.engine.events.listeners(), 1);
    assert_eq!(
        status(&server.post("/volumes/create", r#"{"Name":"watched"}"#).0),
        201
    );
    let mut seen = String::new();
    while !seen.contains("watched") {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed after {seen}");
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    drop(stream);
    let begin = std::time::Instant::now();
    while server.engine.events.listeners() > 0 {
        assert!(
            begin.elapsed() < support::PATIENCE,
            "the stream outlives its client"
        );
        std::thread::yield_now();
    }
    // The past can be asked for.
    let (_, past) =
        server.get("/v1.41/events?since=0&until=0s&filters=%7B%22event%22%3A%5B%22create%22%5D%7D");
    let event: serde_json::Value = serde_json::from_str(past.lines().next().unwrap()).unwrap();
    assert_eq!(
        (event["Type"].as_str(), event["Action"].as_str()),
        (Some("volume"), Some("create"))
    );
    assert_eq!(
        event["Actor"]["Attributes"]["driver"].as_str(),
        Some("local")
    );
    for bad in [
        "since=x",
        "until=1y",
        "since=2&until=1",
        "filters=refused",
        "filters={%22nope%22:[%22x%22]}",
    ] {
        assert_eq!(
            status(&server.get(&format!("/events?{bad}")).0),
            400,
            "{bad}"
        );
    }
}

#[test]
fn volumes_live_their_life() {
    let server = Server::start();
    let (head, body) = server.post(
        "/v1.41/volumes/create",
        r#"{"Name":"data","Labels":{"a":"b"}}"#,
    );
    assert_eq!(status(&head), 201);
    let volume: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (volume["Name"].as_str(), volume["Driver"].as_str()),
        (Some("data"), Some("local"))
    );
    assert!(std::path::Path::new(volume["Mountpoint"].as_str().unwrap()).is_dir());
    // The same again is the same volume.
    assert_eq!(
        server.post("/v1.41/volumes/create", r#"{"Name":"data"}"#).1,
        body
    );
    let (_, anonymous) = server.post("/volumes/create", "");
    let anonymous: serde_json::Value = serde_json::from_str(&anonymous).unwrap();
    assert_eq!(anonymous["Name"].as_str().unwrap().len(), 64);
    assert_eq!(
        anonymous["Labels"]["com.docker.volume.anonymous"].as_str(),
        Some("")
    );
    let names = |body: &str| -> Vec<String> {
        let list: serde_json::Value = serde_json::from_str(body).unwrap();
        list["Volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v["Name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(&server.get("/volumes?filters={%22label%22:[%22a=b%22]}").1),
        ["data"]
    );
    assert_eq!(names(&server.get("/volumes").1).len(), 2);
    let (head, body) = server.post("/v1.42/volumes/prune", "");
    assert_eq!(status(&head), 200);
    assert!(
        body.contains(anonymous["Name"].as_str().unwrap()) && !body.contains("\"data\""),
        "{body}"
    );
    assert_eq!(status(&server.delete("/volumes/data").0), 204);
    let (head, body) = server.delete("/volumes/data");
    assert_eq!(
        (status(&head), body.as_str()),
        (404, "{\"message\":\"get data: no such volume\"}\n")
    );
    assert_eq!(status(&server.delete("/volumes/data?force=1").0), 204);
    for (request, code, message) in [
        (
            r#"{"Name":"api/parity"}"#,
            400,
            "create api/parity: \\\"api/parity\\\" includes invalid characters for a local volume name",
        ),
        (r#"{"Name":"x"}"#, 400, "create x: volume name is too short"),
        (
            r#"{"Name":"xy","Driver":"nope"}"#,
            404,
            "create xy: error looking up volume plugin nope: plugin \\\"nope\\\" not found",
        ),
        (
            r#"{"Name":"xy","DriverOpts":{"type":"tmpfs"}}"#,
            400,
            "create xy: missing required option: \\\"device\\\"",
        ),
        (
            r#"{"Name":"xy","ClusterVolumeSpec":{}}"#,
            501,
            "cluster volumes",
        ),
    ] {
        let (head, body) = server.post("/volumes/create", request);
        assert_eq!(status(&head), code, "{body}");
        assert!(body.contains(message), "{body}");
    }
    assert_eq!(
        status(&server.post("/volumes/prune?filters=refused", "").0),
        400
    );
}
