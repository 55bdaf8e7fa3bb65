//! Images through the API: load, list, inspect, tag, save, import, remove, prune, push, pull.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a failed step is a failed test"
)]

mod support;

use std::io::{Read as _, Write as _};

use sha2::Digest as _;
use support::{Server, status};

fn hex(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A `docker save` archive of an image with one layer.
fn docker_archive(name: &str, content: &str) -> Vec<u8> {
    let layer = tar(&[("hello", content.as_bytes())]);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2020-01-02T03:04:05Z",
        "config": {"Cmd": ["/hello"], "Env": ["A=b"], "Labels": {"made": "here"}, "Hostname": "old"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
        "history": [{"created": "2020-01-02T03:04:05Z", "created_by": "COPY hello", "comment": "c"}],
    })
    .to_string();
    let config_name = format!("{}.json", hex(config.as_bytes()));
    let manifest =
        serde_json::json!([{"Config": config_name, "RepoTags": [name], "Layers": ["l/layer.tar"]}])
            .to_string();
    tar(&[
        ("manifest.json", manifest.as_bytes()),
        (&config_name, config.as_bytes()),
        ("l/layer.tar", &layer),
    ])
}

fn upload(server: &Server, path: &str, body: &[u8]) -> (String, String) {
    let mut stream = server.connect();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    // A refused body is not read to its end.
    drop(stream.write_all(body));
    support::read_answer(&mut stream)
}

fn json(body: &str) -> serde_json::Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[test]
fn an_image_lives_its_life() {
    let server = Server::start();
    let (head, body) = upload(
        &server,
        "/v1.50/images/load?quiet=1",
        &docker_archive("hello:1", "hi"),
    );
    assert_eq!(
        (status(&head), body.as_str()),
        (200, "{\"stream\":\"Loaded image: hello:1\\n\"}\r\n")
    );

    let list = json(&server.get("/v1.50/images/json").1);
    assert_eq!(list[0]["RepoTags"], serde_json::json!(["hello:1"]));
    assert_eq!(list[0]["Labels"]["made"], "here");
    assert_eq!(list[0]["Created"], 1_577_934_245);
    assert!(list[0]["Size"].as_i64().unwrap() > 0);
    let id = list[0]["Id"].as_str().unwrap().to_owned();

    for name in [
        "hello:1",
        id.as_str(),
        &id["sha256:".len()..][..12],
        "docker.io/library/hello:1",
    ] {
        let (head, body) = server.get(&format!("/v1.50/images/{name}/json"));
        assert_eq!(status(&head), 200, "{name}: {body}");
        let image = json(&body);
        assert_eq!(image["Id"], id.as_str());
        assert_eq!(
            image["Config"],
            serde_json::json!({"Cmd": ["/hello"], "Env": ["A=b"], "Labels": {"made": "here"}})
        );
        assert_eq!(image["Os"], "linux");
    }
    // Older clients get the fields they know.
    assert_eq!(
        json(&server.get("/v1.41/images/hello:1/json").1)["Config"]["Hostname"],
        ""
    );

    let with_manifests = json(&server.get("/v1.50/images/json?manifests=1").1);
    let manifest = &with_manifests[0]["Manifests"][0];
    assert_eq!(
        (manifest["Kind"].as_str(), manifest["Available"].as_bool()),
        (Some("image"), Some(true))
    );
    assert_eq!(manifest["ImageData"]["Platform"]["architecture"], "amd64");
    assert_eq!(list[0]["Manifests"], serde_json::Value::Null);

    let history = json(&server.get("/images/hello:1/history").1);
    assert_eq!(history[0]["CreatedBy"], "COPY hello");
    assert_eq!(history[0]["Tags"], serde_json::json!(["hello:1"]));

    assert_eq!(
        status(
            &server
                .post(
                    "/images/hello:1/tag?repo=localhost:5000/x/hello&tag=two",
                    ""
                )
                .0
        ),
        201
    );
    let (head, body) = server.post("/images/hello:1/tag?repo=UPPER&tag=two", "");
    assert_eq!(status(&head), 400, "{body}");
    assert!(
        body.contains("repository name (UPPER) must be lowercase")
            || body.contains("must be lowercase"),
        "{body}"
    );
    let filtered = |filter: &str| {
        let encoded: String = filter.bytes().map(|byte| format!("%{byte:02x}")).collect();
        json(&server.get(&format!("/images/json?filters={encoded}")).1)
            .as_array()
            .map_or(0, Vec::len)
    };
    assert_eq!(filtered(r#"{"reference":["*/x/*"]}"#), 1);
    assert_eq!(filtered(r#"{"reference":["hello"]}"#), 1);
    assert_eq!(filtered(r#"{"reference":["bye*"]}"#), 0);
    assert_eq!(filtered(r#"{"label":["made=here"]}"#), 1);
    assert_eq!(filtered(r#"{"dangling":["true"]}"#), 0);
    assert_eq!(filtered(r#"{"before":["hello:1"]}"#), 0);
    assert_eq!(
        status(&server.get("/images/json?filters={%22nope%22:[%22x%22]}").0),
        400
    );

    let mut stream = server.connect();
    stream
        .write_all(
            b"GET /images/get?names=hello:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer[..200]).contains("200 OK"));
    assert!(String::from_utf8_lossy(&answer).contains("oci-layout"));

    let removed = json(&server.delete("/images/hello:1").1);
    assert_eq!(removed, serde_json::json!([{"Untagged": "hello:1"}]));
    let removed = json(&server.delete("/images/localhost:5000/x/hello:two").1);
    assert_eq!(removed[0]["Untagged"], "localhost:5000/x/hello:two");
    assert!(
        removed
            .as_array()
            .unwrap()
            .iter()
            .any(|item| item["Deleted"] == id.as_str()),
        "{removed}"
    );
    let (head, body) = server.get("/images/hello:1/json");
    assert_eq!(
        (status(&head), body.as_str()),
        (404, "{\"message\":\"No such image: hello:1\"}\n")
    );
    let seen = server
        .get("/events?since=0&until=0s&filters={%22type%22:[%22image%22]}")
        .1;
    for action in ["load", "tag", "untag", "delete", "save"] {
        assert!(
            seen.contains(&format!("\"Action\":\"{action}\"")),
            "{action} in {seen}"
        );
    }
}

#[test]
fn an_archive_that_is_none_is_refused() {
    let server = Server::start();
    for (name, archive) in [
        ("text", b"this is no archive".to_vec()),
        ("nothing", Vec::new()),
        ("other tar", tar(&[("hello", b"x")])),
        ("cut", docker_archive("cut:1", "x")[..3000].to_vec()),
    ] {
        let (head, body) = upload(&server, "/images/load", &archive);
        assert!(
            status(&head) >= 400 || body.contains("errorDetail"),
            "{name}: {head} {body}"
        );
        assert!(!head.contains(" 501 "), "{name}");
    }
    assert_eq!(json(&server.get("/images/json").1), serde_json::json!([]));
}

#[test]
fn a_file_system_becomes_an_image() {
    let server = Server::start();
    let archive = tar(&[("etc/name", b"x")]);
    let (head, body) = upload(
        &server,
        "/images/create?fromSrc=-&repo=mine&tag=v1&message=made&changes=CMD%20%5B%22%2Fx%22%5D&changes=ENV%20A%3Db",
        &archive,
    );
    assert_eq!(status(&head), 200, "{body}");
    let id = json(&body)["status"].as_str().unwrap().to_owned();
    assert!(id.starts_with("sha256:"), "{body}");
    let image = json(&server.get("/images/mine:v1/json").1);
    assert_eq!(
        (
            image["Config"]["Cmd"].clone(),
            image["Config"]["Env"].clone()
        ),
        (serde_json::json!(["/x"]), serde_json::json!(["A=b"]))
    );
    assert_eq!(image["Comment"], "made");
    let (head, body) = upload(
        &server,
        "/images/create?fromSrc=-&repo=mine&changes=FROM%20x",
        &archive,
    );
    assert_eq!(status(&head), 400, "{body}");
    assert_eq!(
        status(
            &server
                .post("/images/create?fromSrc=http%3A%2F%2Fx%2F", "")
                .0
        ),
        501
    );
    assert_eq!(status(&server.post("/images/create", "").0), 400);
    // Nothing is dangling, so nothing is pruned; with all, everything is.
    assert_eq!(
        json(&server.post("/images/prune", "").1)["ImagesDeleted"],
        serde_json::Value::Null
    );
    let pruned = json(
        &server
            .post("/images/prune?filters={%22dangling%22:[%22false%22]}", "")
            .1,
    );
    assert_eq!(pruned["ImagesDeleted"][0]["Untagged"], "mine:v1");
    assert!(pruned["SpaceReclaimed"].as_i64().unwrap() > 0);
}

#[test]
fn a_client_that_leaves_during_a_load_leaves_nothing() {
    let server = Server::start();
    let archive = docker_archive("half:1", &"x".repeat(500_000));
    let mut stream = server.connect();
    write!(
        stream,
        "POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        archive.len()
    )
    .unwrap();
    stream.write_all(&archive[..200_000]).unwrap();
    drop(stream);
    // The same again works: nothing of the first attempt is in the way.
    let (_, body) = upload(&server, "/images/load", &archive);
    assert!(body.contains("Loaded image: half:1"), "{body}");
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    let server = Server::start();
    let registry = server.start_registry();
    assert!(
        upload(&server, "/images/load", &docker_archive("hello:1", "hi"))
            .1
            .contains("Loaded image")
    );
    let name = format!("{}/some/hello", registry.address);
    for tag in ["one", "two"] {
        assert_eq!(
            status(
                &server
                    .post(&format!("/images/hello:1/tag?repo={name}&tag={tag}"), "")
                    .0
            ),
            201
        );
    }
    let (head, body) = server.post(&format!("/v1.50/images/{name}/push?tag=one"), "");
    assert_eq!(status(&head), 200, "{body}");
    let messages = statuses(&body);
    assert_eq!(
        messages[0],
        format!("The push refers to repository [{name}]")
    );
    assert!(messages.iter().any(|text| text == "Pushed"), "{messages:?}");
    assert!(
        messages.last().unwrap().starts_with("one: digest: sha256:"),
        "{messages:?}"
    );
    // The second tag has nothing to send.
    let body = server.post(&format!("/images/{name}/push"), "").1;
    assert!(
        statuses(&body)
            .iter()
            .any(|text| text == "Layer already exists"),
        "{body}"
    );
    assert!(
        statuses(&body)
            .iter()
            .any(|text| text.starts_with("two: digest: ")),
        "{body}"
    );

    let distribution = json(&server.get(&format!("/distribution/{name}:one/json")).1);
    assert_eq!(
        distribution["Platforms"],
        serde_json::json!([{"architecture": "amd64", "os": "linux"}])
    );

    for reference in [
        "hello:1".to_owned(),
        format!("{name}:one"),
        format!("{name}:two"),
    ] {
        assert_eq!(
            status(&server.delete(&format!("/images/{reference}")).0),
            200,
            "{reference}"
        );
    }
    assert_eq!(json(&server.get("/images/json").1), serde_json::json!([]));

    let (head, body) = server.post(&format!("/images/create?fromImage={name}&tag=one"), "");
    assert_eq!(status(&head), 200, "{body}");
    let messages = statuses(&body);
    assert_eq!(messages[0], "Pulling from some/hello");
    for expected in ["Pulling fs layer", "Download complete", "Pull complete"] {
        assert!(
            messages.iter().any(|text| text == expected),
            "{expected} in {messages:?}"
        );
    }
    let digest = messages[messages.len() - 2]
        .strip_prefix("Digest: ")
        .unwrap()
        .to_owned();
    assert_eq!(
        messages.last().unwrap(),
        &format!("Status: Downloaded newer image for {name}:one")
    );
    let image = json(&server.get(&format!("/images/{name}:one/json")).1);
    assert_eq!(
        image["RepoDigests"],
        serde_json::json!([format!("{name}@{digest}")])
    );

    let messages = statuses(
        &server
            .post(&format!("/images/create?fromImage={name}:one"), "")
            .1,
    );
    assert!(
        messages.iter().any(|text| text == "Already exists"),
        "{messages:?}"
    );
    assert_eq!(
        messages.last().unwrap(),
        &format!("Status: Image is up to date for {name}:one")
    );
    // By digest, and all tags.
    let messages = statuses(
        &server
            .post(&format!("/images/create?fromImage={name}&tag={digest}"), "")
            .1,
    );
    assert!(
        messages
            .last()
            .unwrap()
            .ends_with(&format!("{name}@{digest}")),
        "{messages:?}"
    );
    let messages = statuses(
        &server
            .post(&format!("/images/create?fromImage={name}"), "")
            .1,
    );
    assert!(
        messages
            .iter()
            .any(|text| text.ends_with(&format!("{name}:two"))),
        "{messages:?}"
    );

    for (query, code, text) in [
        (format!("fromImage={name}&tag=nope"), 404, "not found"),
        (
            format!("fromImage={}/no/such&tag=x", registry.address),
            404,
            "not found",
        ),
        (
            "fromImage=127.0.0.1:1/no/such&tag=x".to_owned(),
            500,
            "connection refused",
        ),
        ("fromImage=UPPER&tag=x".to_owned(), 400, "must be lowercase"),
        (
            format!("fromImage={name}&tag=one&platform=linux/s390x"),
            200,
            "no matching manifest for linux/s390x",
        ),
        (
            format!("fromImage={name}&tag=one&platform=what/is/that/then"),
            400,
            "what/is/that",
        ),
    ] {
        let (head, body) = server.post(&format!("/images/create?{query}"), "");
        assert_eq!(status(&head), code, "{query}: {body}");
        assert!(body.contains(text), "{query}: {body}");
    }
    let (head, body) = server.post("/images/never:seen/push?tag=x", "");
    assert_eq!(status(&head), 404, "{body}");
    let seen = server
        .get("/events?since=0&until=0s&filters={%22type%22:[%22image%22]}")
        .1;
    for action in ["push", "pull"] {
        assert!(
            seen.contains(&format!("\"Action\":\"{action}\"")),
            "{action} in {seen}"
        );
    }
}

/// The status texts of a progress stream, which must not contain an error.
fn statuses(body: &str) -> Vec<String> {
    assert!(!body.contains("errorDetail"), "{body}");
    let messages = body.split("\r\n").filter(|line| !line.is_empty()).map(json);
    messages
        .filter_map(|message| message["status"].as_str().map(str::to_owned))
        .collect()
}
