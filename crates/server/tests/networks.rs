//! Networks through the API.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a failed step is a failed test"
)]

mod support;

use support::{Server, status};

fn json(body: &str) -> serde_json::Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[test]
fn the_predefined_networks_are_dockers() {
    let server = Server::start();
    let list = json(&server.get("/v1.50/networks").1);
    let mut names: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["Name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["bridge", "host", "none"]);
    let bridge = json(&server.get("/v1.50/networks/bridge").1);
    assert_eq!(bridge["Driver"], "bridge");
    assert_eq!(bridge["Scope"], "local");
    assert_eq!(bridge["IPAM"]["Driver"], "default");
    assert_eq!(bridge["IPAM"]["Options"], serde_json::Value::Null);
    assert_eq!(bridge["IPAM"]["Config"][0]["Subnet"], "172.17.0.0/16");
    assert_eq!(bridge["IPAM"]["Config"][0]["Gateway"], "172.17.0.1");
    assert_eq!(bridge["Containers"], serde_json::json!({}));
    assert_eq!(bridge["ConfigFrom"], serde_json::json!({"Network": ""}));
    assert_eq!(
        bridge["Options"]["com.docker.network.bridge.default_bridge"],
        "true"
    );
    assert_eq!(bridge["EnableIPv4"], true);
    let none = json(&server.get("/v1.41/networks/none").1);
    assert_eq!(
        (none["Driver"].as_str(), none["EnableIPv4"].clone()),
        (Some("null"), serde_json::Value::Null)
    );
    for name in ["bridge", "host", "none"] {
        let (head, body) = server.delete(&format!("/networks/{name}"));
        assert_eq!(status(&head), 403);
        assert_eq!(
            body,
            format!("{{\"message\":\"{name} is a pre-defined network and cannot be removed\"}}\n")
        );
    }
}

#[test]
fn a_network_lives_its_life() {
    let server = Server::start();
    let request = r#"{"Name":"back","Labels":{"tier":"back"},"IPAM":{"Config":[{"Subnet":"10.77.0.0/24","Gateway":"10.77.0.1"}]},"CheckDuplicate":true}"#;
    let (head, body) = server.post("/v1.50/networks/create", request);
    assert_eq!(status(&head), 201, "{body}");
    let id = json(&body)["Id"].as_str().unwrap().to_owned();
    assert_eq!(json(&body)["Warning"], "");
    for reference in ["back", id.as_str(), &id[..12]] {
        let network = json(&server.get(&format!("/networks/{reference}")).1);
        assert_eq!(network["Id"], id.as_str());
        assert_eq!(network["IPAM"]["Config"][0]["Subnet"], "10.77.0.0/24");
        assert_eq!(network["IPAM"]["Options"], serde_json::json!({}));
        assert_eq!(network["Labels"]["tier"], "back");
    }
    let (head, body) = server.post("/networks/create", r#"{"Name":"back"}"#);
    assert_eq!(
        (status(&head), body.as_str()),
        (
            409,
            "{\"message\":\"network with name back already exists\"}\n"
        )
    );
    let names = |query: &str| -> Vec<String> {
        let list = json(&server.get(&format!("/networks?filters={query}")).1);
        list.as_array()
            .unwrap()
            .iter()
            .map(|n| n["Name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("{%22type%22:[%22custom%22]}"), ["back"]);
    assert_eq!(names("{%22label%22:[%22tier=back%22]}"), ["back"]);
    assert_eq!(names("{%22dangling%22:[%22true%22]}"), ["back"]);
    assert_eq!(names("{%22driver%22:[%22host%22]}"), ["host"]);
    assert_eq!(names("{%22name%22:[%22ac%22]}"), ["back"]);
    assert_eq!(
        status(&server.get("/networks?filters={%22type%22:[%22x%22]}").0),
        400
    );
    assert_eq!(status(&server.delete("/networks/back").0), 204);
    let (head, body) = server.get("/networks/back");
    assert_eq!(
        (status(&head), body.as_str()),
        (404, "{\"message\":\"network back not found\"}\n")
    );
    assert_eq!(
        status(&server.post("/networks/create", r#"{"Name":"p1"}"#).0),
        201
    );
    let (_, body) = server.post("/networks/prune", "");
    assert_eq!(json(&body)["NetworksDeleted"], serde_json::json!(["p1"]));
    assert_eq!(
        json(&server.post("/networks/prune", "").1)["NetworksDeleted"],
        serde_json::Value::Null
    );
    let seen = server
        .get("/events?since=0&until=0s&filters={%22type%22:[%22network%22]}")
        .1;
    for action in ["create", "destroy", "prune"] {
        assert!(
            seen.contains(&format!("\"Action\":\"{action}\"")),
            "{action} in {seen}"
        );
    }
}

#[test]
fn impossible_networks_are_refused() {
    let server = Server::start();
    for (request, code) in [
        (r#"{"Name":""}"#, 400),
        (r#"{"Name":"x","Driver":"nope"}"#, 404),
        (r#"{"Name":"bridge"}"#, 403),
        (
            r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.0.0.0/99"}]}}"#,
            400,
        ),
        (
            r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.1.0.0/24","Gateway":"10.2.0.1"}]}}"#,
            400,
        ),
        (
            r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.1.0.0/24","Gateway":"ten"}]}}"#,
            400,
        ),
        (
            r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"172.17.0.0/24"}]}}"#,
            403,
        ),
        (r#"{"Name":"x","ConfigOnly":true}"#, 501),
        (r#"{"Name":"x","Scope":"swarm"}"#, 501),
        (r#"{"Name":"x","Ingress":true}"#, 501),
    ] {
        let (head, body) = server.post("/networks/create", request);
        assert_eq!(status(&head), code, "{request}: {body}");
    }
    assert_eq!(
        json(&server.get("/networks").1).as_array().unwrap().len(),
        3
    );
    assert_eq!(
        status(&server.post("/networks/prune?filters=refused", "").0),
        400
    );
}
