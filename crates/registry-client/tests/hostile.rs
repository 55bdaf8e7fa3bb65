//! A registry that lies, floods, loops or falls silent: every time an error that says so, soon.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use support::fake::{Answer, Asked, Fake, Image, answer};
use support::memory::{Store, digest_of};
use wharf_ids::ImageRef;
use wharf_oci::platform::Platform;
use wharf_registry_client::{Access, Credentials, Error, Options, PullRequest, Reference, pull};

/// Pulls `latest` from a host and expects to fail.
async fn refused_with(host: &str, change: impl FnOnce(&mut Options)) -> Error {
    let client = support::client(|options| {
        options.attempts = 2;
        change(options);
    });
    let name = ImageRef::parse(&format!("{host}/test/image")).unwrap();
    let repository = client.repository(&name, Credentials::basic("u", "p"), Access::Pull);
    let request = PullRequest {
        reference: Reference::Tag("latest".to_owned()),
        platform: Platform::new("linux", "amd64", ""),
        concurrency: 3,
    };
    let store = Store::default();
    let pulling = pull(&repository, &request, &store, &|_| {});
    // Far beyond every timeout: only a hang ends here.
    let pulled = tokio::time::timeout(Duration::from_secs(60), pulling)
        .await
        .unwrap();
    pulled.unwrap_err()
}

/// An honest registry but for the requests `lie` answers.
async fn start(
    image: Image,
    lie: impl Fn(&Image, &Asked) -> Option<Answer> + Send + Sync + 'static,
) -> Fake {
    let image = Arc::new(image);
    Fake::start(move |asked| lie(&image, asked).unwrap_or_else(|| image.serve(asked))).await
}

fn image() -> Image {
    Image::new(&[Bytes::from(vec![1; 1000]), Bytes::from(vec![2; 1000])])
}

async fn refused(lie: impl Fn(&Image, &Asked) -> Option<Answer> + Send + Sync + 'static) -> String {
    let registry = start(image(), lie).await;
    let error = refused_with(&registry.host(), |_| {}).await;
    wharf_fault::chain(&error)
}

fn is_layer(image: &Image, asked: &Asked) -> bool {
    asked.path.ends_with(digest_of(&image.layers[0]).as_str())
}

#[tokio::test]
async fn blobs_of_another_length_are_refused() {
    let longer =
        refused(|image, asked| is_layer(image, asked).then(|| answer(200, &[], vec![1; 1001])))
            .await;
    assert!(
        longer.contains("is longer than the declared 1000 bytes"),
        "{longer}"
    );
    let shorter =
        refused(|image, asked| is_layer(image, asked).then(|| answer(200, &[], vec![1; 999])))
            .await;
    assert!(
        shorter.contains("has 999 bytes, 1000 were declared"),
        "{shorter}"
    );
}

#[tokio::test]
async fn other_bytes_are_refused() {
    let layer =
        refused(|image, asked| is_layer(image, asked).then(|| answer(200, &[], vec![9; 1000])))
            .await;
    assert!(
        layer.contains("verification failed for digest sha256:"),
        "{layer}"
    );

    let manifest = refused(|_, asked| {
        let headers = [(
            "docker-content-digest",
            "sha256:0000000000000000000000000000000000000000000000000000000000000000",
        )];
        asked
            .path
            .ends_with("/latest")
            .then(|| answer(200, &headers, "{}"))
    })
    .await;
    assert!(
        manifest.contains("manifest verification failed"),
        "{manifest}"
    );
}

#[tokio::test]
async fn documents_are_bounded_and_checked() {
    let large = refused(|_, asked| {
        asked
            .path
            .ends_with("/latest")
            .then(|| answer(200, &[], vec![b' '; 5 << 20]))
    })
    .await;
    assert!(large.contains("longer than 4194304 bytes"), "{large}");

    let document = async |body: &'static str| {
        refused(move |_, asked| {
            asked
                .path
                .ends_with("/latest")
                .then(|| answer(200, &[], body))
        })
        .await
    };
    assert!(document("<html>").await.contains("invalid manifest"));
    assert!(
        document(r#"{"schemaVersion":1}"#)
            .await
            .contains("schema version 1")
    );
    assert!(
        document(r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#)
            .await
            .contains("both")
    );
    assert_eq!(
        document(r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#).await,
        "no matching manifest for linux/amd64 in the manifest list entries"
    );
    let chart = document(
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[],"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}}"#,
    )
    .await;
    assert!(
        chart.contains("application/vnd.cncf.helm.config.v1+json"),
        "{chart}"
    );
}

#[tokio::test]
async fn an_index_that_names_itself_ends() {
    // The digest cannot be right, whatever the index says.
    let error = refused(|_, asked| {
        let digest = digest_of(b"x");
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{digest}","size":10}}]}}"#
        );
        asked.path.contains("/manifests/").then(|| answer(200, &[], index))
    })
    .await;
    assert!(error.contains("manifest verification failed"), "{error}");
}

#[tokio::test]
async fn redirects_end() {
    let error = refused(|_, asked| {
        asked
            .path
            .contains("/manifests/")
            .then(|| answer(302, &[("location", &format!("{}x", asked.path))], ""))
    })
    .await;
    assert!(error.contains("more than 5 redirects"), "{error}");
    for location in ["", "ftp://a/", "http://a b/", "https://user:pw@host/"] {
        let error = refused(move |_, asked| {
            asked
                .path
                .contains("/blobs/")
                .then(|| answer(307, &[("location", location)], ""))
        })
        .await;
        assert!(
            error.contains("invalid answer") || error.contains("redirects"),
            "{location}: {error}"
        );
    }
    let nowhere =
        refused(|_, asked| asked.path.contains("/blobs/").then(|| answer(307, &[], ""))).await;
    assert!(nowhere.contains("without a location"), "{nowhere}");
}

#[tokio::test]
async fn strange_challenges_do_no_harm() {
    for challenge in [
        "",
        "Bearer",
        "Bearer realm=",
        "Bearer realm=\"not an address\"",
        "Bearer realm=\"file:///etc/passwd\"",
        "Negotiate",
        "Basic",
        ",,,=,\"",
        "Bearer realm=\"http://127.0.0.1:1/\"",
    ] {
        let error =
            refused(move |_, _| Some(answer(401, &[("www-authenticate", challenge)], ""))).await;
        assert!(!error.is_empty());
    }
}

#[tokio::test]
async fn token_servers_lie_too() {
    for (status, body) in [
        (200, "{}".to_owned()),
        (200, "no json".to_owned()),
        (200, format!(r#"{{"token":"{}"}}"#, "x".repeat(100_000))),
        (200, "x".repeat(1 << 20)),
        (200, r#"{"token":"with\nnewline"}"#.to_owned()),
        (500, String::new()),
        (302, String::new()),
    ] {
        let token_server = Fake::start(move |_| answer(status, &[], body.clone())).await;
        let challenge = format!("Bearer realm=\"http://{}/\"", token_server.host());
        let error =
            refused(move |_, _| Some(answer(401, &[("www-authenticate", &challenge)], ""))).await;
        assert!(!error.is_empty());
    }
}

#[tokio::test]
async fn raw_answers_are_bounded() {
    let reply = |bytes: Vec<u8>| async move {
        let registry = Fake::start_raw(move |_, _| Some(bytes.clone())).await;
        wharf_fault::chain(&refused_with(&registry.host(), |_| {}).await)
    };
    let mut flood = b"HTTP/1.1 200 OK\r\n".to_vec();
    for index in 0..2000 {
        flood.extend_from_slice(format!("x-{index}: {}\r\n", "y".repeat(100)).as_bytes());
    }
    let flooded = reply(flood).await;
    assert!(flooded.starts_with("Get \"http"), "{flooded}");
    assert!(
        reply(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())
            .await
            .starts_with("Get \"http")
    );
    assert!(reply(Vec::new()).await.contains("EOF"));
}

#[tokio::test]
async fn silence_ends_with_a_timeout() {
    let registry = Fake::start_raw(|_, _| None).await;
    let within = |time| {
        move |options: &mut Options| {
            options.connect_timeout = time;
            options.idle_timeout = time;
        }
    };
    let error = refused_with(&registry.host(), within(Duration::from_millis(200)))
        .await
        .to_string();
    assert!(error.contains("timeout"), "{error}");

    // Silence in the middle of a document, whose beginning has come by then.
    let registry =
        Fake::start_raw(|_, _| Some(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()))
            .await;
    let error = refused_with(&registry.host(), within(Duration::from_secs(2)))
        .await
        .to_string();
    assert!(error.contains("EOF"), "{error}");
}

#[tokio::test]
async fn unreachable_registries_are_named_as_docker_names_them() {
    // Nobody listens there, and nobody else can while we have it.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let host = socket.local_addr().unwrap().to_string();
    assert_eq!(
        refused_with(&host, |_| {}).await.to_string(),
        format!("Get \"http://{host}/v2/\": dial tcp {host}: connect: connection refused")
    );
    let error = refused_with("registry.invalid", |options| {
        // A name server that does not answer is given up after ten seconds.
        options.connect_timeout = std::time::Duration::from_secs(60);
        options.attempts = 1;
    })
    .await
    .to_string();
    assert!(
        error.starts_with(
            "Get \"https://registry.invalid/v2/\": dial tcp: lookup registry.invalid: "
        ),
        "{error}"
    );
}
