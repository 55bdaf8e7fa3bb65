//! Token servers, resumption, redirects, mirrors, second attempts: against a registry of our own.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use support::fake::{Asked, Fake, Image, answer};
use support::memory::{Store, digest_of};
use wharf_ids::ImageRef;
use wharf_oci::platform::Platform;
use wharf_registry_client::{
    Access, Client, Credentials, Error, Event, LayerStatus, Options, PullRequest, Pulled,
    Reference, Repository, pull,
};

fn repository(client: &Client, host: &str, credentials: Credentials) -> Repository {
    let name = ImageRef::parse(&format!("{host}/test/image")).unwrap();
    client.repository(&name, credentials, Access::Pull)
}

fn request(concurrency: usize) -> PullRequest {
    PullRequest {
        reference: Reference::Tag("latest".to_owned()),
        platform: Platform::new("linux", "amd64", ""),
        concurrency,
    }
}

async fn pull_as(
    client: &Client,
    host: &str,
    credentials: Credentials,
    store: &Store,
) -> Result<Pulled, Error> {
    pull(
        &repository(client, host, credentials),
        &request(3),
        store,
        &|_| {},
    )
    .await
}

fn layers(count: u8, length: usize) -> Vec<Bytes> {
    (0..count)
        .map(|index| Bytes::from(vec![index; length]))
        .collect()
}

fn assert_complete(image: &Image, store: &Store) {
    for layer in &image.layers {
        assert!(store.get(&digest_of(layer)).is_some());
    }
    assert!(store.get(&image.manifest).is_some());
}

/// A registry that wants tokens, with its token server: `secret-N` for pull, where N counts.
async fn start_with_tokens(
    image: Image,
    valid: impl Fn(usize, &str) -> bool + Send + Sync + 'static,
) -> (Fake, Arc<Mutex<Vec<Asked>>>) {
    let tokens: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let seen = tokens.clone();
    let token_server = Fake::start(move |asked| {
        let mut seen = seen.lock().unwrap();
        seen.push(asked.clone());
        let token = format!("secret-{}", seen.len());
        answer(
            200,
            &[],
            format!(r#"{{"token":"{token}","expires_in":300,"refresh_token":"refresh-me"}}"#),
        )
    })
    .await;
    let realm = format!("http://{}/token", token_server.host());
    let number = AtomicUsize::new(0);
    let registry = Fake::start(move |asked| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let token = asked
            .header("authorization")
            .strip_prefix("Bearer secret-")
            .unwrap_or_default();
        if token.is_empty() || !valid(number, token) {
            let challenge = format!(
                "Bearer realm=\"{realm}\",service=\"the registry\",error=\"invalid_token\""
            );
            return answer(
                401,
                &[("www-authenticate", &challenge)],
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
            );
        }
        image.serve(asked)
    })
    .await;
    (registry, tokens)
}

#[tokio::test]
async fn one_token_serves_a_whole_pull() {
    let image = Image::new(&layers(4, 1000)).with_index();
    let (registry, tokens) = start_with_tokens(image.clone(), |_, _| true).await;
    let store = Store::default();
    let client = support::client(|_| {});
    let credentials = Credentials::basic("user name", "pass");
    let pulled = pull_as(&client, &registry.host(), credentials, &store)
        .await
        .unwrap();
    assert_ne!(pulled.target.digest, pulled.manifest.digest);
    assert!(store.get(&pulled.target.digest).is_some());
    assert_complete(&image, &store);
    let tokens = tokens.lock().unwrap();
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        tokens[0].path,
        "/token?service=the+registry&scope=repository%3Atest%2Fimage%3Apull&client_id=docker&account=user+name"
    );
    assert_eq!(
        tokens[0].header("authorization"),
        "Basic dXNlciBuYW1lOnBhc3M="
    );
}

#[tokio::test]
async fn a_token_that_ran_out_is_renewed() {
    // Token 1 is no longer good from the fifth request on.
    let image = Image::new(&layers(4, 1000));
    let (registry, tokens) =
        start_with_tokens(image.clone(), |number, token| number < 5 || token != "1").await;
    let store = Store::default();
    let client = support::client(|_| {});
    pull_as(&client, &registry.host(), Credentials::default(), &store)
        .await
        .unwrap();
    assert_complete(&image, &store);
    let tokens = tokens.lock().unwrap();
    assert!((2..=4).contains(&tokens.len()), "{}", tokens.len());
    assert_eq!(tokens[0].header("authorization"), "");
}

#[tokio::test]
async fn identity_tokens_are_exchanged_by_post() {
    let image = Image::new(&layers(1, 10));
    let (registry, tokens) = start_with_tokens(image.clone(), |_, _| true).await;
    let store = Store::default();
    let client = support::client(|_| {});
    let credentials = Credentials {
        identity_token: "id&en".to_owned(),
        ..Credentials::default()
    };
    pull_as(&client, &registry.host(), credentials, &store)
        .await
        .unwrap();
    let tokens = tokens.lock().unwrap();
    assert_eq!(
        (tokens[0].method.as_str(), tokens[0].path.as_str()),
        ("POST", "/token")
    );
    assert_eq!(
        tokens[0].body,
        "grant_type=refresh_token&service=the+registry&client_id=docker&scope=repository%3Atest%2Fimage%3Apull&refresh_token=id%26en"
    );
}

#[tokio::test]
async fn a_registry_token_is_used_as_it_is() {
    let image = Image::new(&layers(1, 10));
    let (registry, tokens) = start_with_tokens(image.clone(), |_, token| token == "own").await;
    let store = Store::default();
    let client = support::client(|_| {});
    let credentials = Credentials {
        registry_token: "secret-own".to_owned(),
        ..Credentials::default()
    };
    pull_as(&client, &registry.host(), credentials, &store)
        .await
        .unwrap();
    assert!(tokens.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_login_brings_a_refresh_token() {
    let (registry, tokens) = start_with_tokens(Image::new(&[]), |_, _| true).await;
    let client = support::client(|_| {});
    let login = client
        .login(&registry.host(), &Credentials::basic("u", "p"))
        .await
        .unwrap();
    assert_eq!(login.identity_token, "refresh-me");
    assert_eq!(
        tokens.lock().unwrap()[0].path,
        "/token?service=the+registry&offline_token=true&client_id=docker&account=u"
    );
}

#[tokio::test]
async fn a_wrong_password_at_the_token_server_is_unauthorized() {
    let token_server =
        Fake::start(|_| answer(401, &[], r#"{"details":"incorrect username or password"}"#)).await;
    let challenge = format!("Bearer realm=\"http://{}/t\"", token_server.host());
    let registry = Fake::start(move |_| answer(401, &[("www-authenticate", &challenge)], "")).await;
    let client = support::client(|_| {});
    let error = client
        .login(&registry.host(), &Credentials::basic("u", "p"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::LoginFailed(_)));
    assert_eq!(
        error.to_string(),
        format!(
            "Get \"http://{}/v2/\": unauthorized: incorrect username or password",
            registry.host()
        )
    );
}

#[tokio::test]
async fn what_a_token_does_not_cover_is_denied() {
    let token_server = Fake::start(|_| answer(200, &[], r#"{"access_token":"t"}"#)).await;
    let realm = format!("Bearer realm=\"http://{}/t\"", token_server.host());
    let registry = Fake::start(move |asked| {
        let challenge = match asked.header("authorization") {
            "" => realm.clone(),
            _ => format!("{realm},error=\"insufficient_scope\""),
        };
        answer(401, &[("www-authenticate", &challenge)], "")
    })
    .await;
    let client = support::client(|_| {});
    let host = registry.host();
    let error = pull_as(&client, &host, Credentials::default(), &Store::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "pull access denied for {host}/test/image, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
        )
    );
    assert!(registry.asked().len() < 6, "{:?}", registry.asked());
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was() {
    let image = Image::new(&[Bytes::from(
        (0..200_000_u32)
            .flat_map(u32::to_le_bytes)
            .collect::<Vec<_>>(),
    )]);
    let layer = format!("blobs/{}", digest_of(&image.layers[0]));
    let served = image.clone();
    let ranges: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = ranges.clone();
    let registry = Fake::start_raw(move |_, head| {
        let path = head.split(' ').nth(1)?.to_owned();
        let range = head
            .lines()
            .find_map(|line| line.strip_prefix("range: "))
            .unwrap_or("");
        let asked = Asked {
            method: "GET".to_owned(),
            path: path.clone(),
            headers: HashMap::from([("range".to_owned(), range.to_owned())]),
            body: Bytes::new(),
        };
        if head.as_bytes()[0] == 22 {
            return Some(b"HTTP/1.0 400 Bad Request\r\n\r\n".to_vec());
        }
        let answer = served.serve(&asked);
        let (parts, body) = answer.into_parts();
        let body = http_body_of(body);
        let mut raw = format!(
            "HTTP/1.1 {}\r\ncontent-length: {}\r\n",
            parts.status.as_u16(),
            body.len()
        );
        for (name, value) in &parts.headers {
            raw.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        raw.push_str("connection: close\r\n\r\n");
        let mut raw = raw.into_bytes();
        // Each answer about the layer ends after 150 kB.
        let kept = if path.ends_with(&layer) {
            seen.lock().unwrap().push(range.to_owned());
            body.len().min(150_000)
        } else {
            body.len()
        };
        raw.extend_from_slice(&body[..kept]);
        Some(raw)
    })
    .await;
    let store = Store::default();
    let client = support::client(|_| {});
    pull_as(&client, &registry.host(), Credentials::default(), &store)
        .await
        .unwrap();
    assert_complete(&image, &store);
    let ranges = ranges.lock().unwrap();
    assert_eq!(ranges[0], "");
    assert_eq!(ranges[1], "bytes=150000-");
    assert_eq!(ranges.len(), 6);
}

fn http_body_of(body: http_body_util::Full<Bytes>) -> Bytes {
    use http_body_util::BodyExt as _;
    let mut body = std::pin::pin!(body.collect());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match body.as_mut().poll(&mut context) {
        std::task::Poll::Ready(Ok(body)) => body.to_bytes(),
        _ => unreachable!("a full body is there at once"),
    }
}

#[tokio::test]
async fn a_cancelled_pull_is_resumed_by_the_next() {
    let image = Image::new(&[Bytes::from(vec![5; 400_000])]);
    let digest = digest_of(&image.layers[0]);
    let served = image.clone();
    let registry = Fake::start(move |asked| served.serve(asked)).await;
    let store = Store::default();
    store
        .partial
        .lock()
        .unwrap()
        .insert(digest.clone(), vec![5; 123_456]);
    let client = support::client(|_| {});
    // Cancelled at the first sign of life of the layer.
    {
        let repository = repository(&client, &registry.host(), Credentials::default());
        let (seen, mut wait) = tokio::sync::mpsc::unbounded_channel();
        let report = move |event| {
            if let Event::Layer {
                status: LayerStatus::Downloading { current, .. },
                ..
            } = event
            {
                let _ = seen.send(current);
            }
        };
        let request = request(3);
        let pulling = pull(&repository, &request, &store, &report);
        tokio::select! {
            biased;
            current = wait.recv() => assert_eq!(current, Some(123_456)),
            _ = pulling => panic!("not cancelled"),
        }
    }
    let kept = store.partial.lock().unwrap()[&digest].len();
    assert!(kept >= 123_456);
    pull_as(&client, &registry.host(), Credentials::default(), &store)
        .await
        .unwrap();
    assert_complete(&image, &store);
    let log = registry.log.lock().unwrap();
    assert!(
        log.iter()
            .any(|asked| asked.header("range") == format!("bytes={kept}-"))
    );
}

#[tokio::test]
async fn a_server_without_ranges_sends_all_again() {
    let image = Image::new(&[Bytes::from(vec![5; 400_000])]);
    let digest = digest_of(&image.layers[0]);
    for refuse in [false, true] {
        let served = image.clone();
        let registry = Fake::start(move |asked| {
            if refuse && !asked.header("range").is_empty() {
                return answer(416, &[], "");
            }
            let mut asked = asked.clone();
            asked.headers.remove("range");
            served.serve(&asked)
        })
        .await;
        let store = Store::default();
        store
            .partial
            .lock()
            .unwrap()
            .insert(digest.clone(), vec![5; 123_456]);
        let client = support::client(|_| {});
        pull_as(&client, &registry.host(), Credentials::default(), &store)
            .await
            .unwrap();
        assert_complete(&image, &store);
    }
}

#[tokio::test]
async fn a_wrong_beginning_is_thrown_away() {
    let image = Image::new(&[Bytes::from(vec![5; 400_000])]);
    let served = image.clone();
    let registry = Fake::start(move |asked| served.serve(asked)).await;
    let store = Store::default();
    store
        .partial
        .lock()
        .unwrap()
        .insert(digest_of(&image.layers[0]), vec![6; 1000]);
    let client = support::client(|_| {});
    pull_as(&client, &registry.host(), Credentials::default(), &store)
        .await
        .unwrap();
    assert_complete(&image, &store);
}

#[tokio::test]
async fn redirects_to_other_hosts_carry_no_credentials() {
    let image = Image::new(&layers(2, 5000));
    let served = image.clone();
    let storage = Fake::start(move |asked| {
        let mut asked = asked.clone();
        asked.path = asked.path.replace("/storage/", "/v2/test/image/blobs/");
        served.serve(&asked)
    })
    .await;
    let served = image.clone();
    let storage_host = storage.host();
    let registry = Fake::start(move |asked| {
        if asked.header("authorization").is_empty() {
            return answer(401, &[("www-authenticate", "Basic realm=\"x\"")], "");
        }
        if let Some((_, digest)) = asked.path.split_once("/blobs/") {
            let location = format!("http://{storage_host}/storage/{digest}");
            return answer(307, &[("location", &location)], "");
        }
        served.serve(asked)
    })
    .await;
    let store = Store::default();
    let client = support::client(|_| {});
    let credentials = Credentials::basic("u", "p");
    pull_as(&client, &registry.host(), credentials, &store)
        .await
        .unwrap();
    assert_complete(&image, &store);
    let log = storage.log.lock().unwrap();
    assert_eq!(log.len(), 3);
    assert!(
        log.iter()
            .all(|asked| asked.header("authorization").is_empty())
    );
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    let image = Image::new(&layers(2, 100));
    let served = image.clone();
    let count = AtomicUsize::new(0);
    let registry = Fake::start(move |asked| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(503, &[], ""),
        2 => answer(429, &[("retry-after", "0")], ""),
        4 => answer(500, &[], ""),
        _ => served.serve(asked),
    })
    .await;
    let store = Store::default();
    let client = support::client(|_| {});
    pull_as(&client, &registry.host(), Credentials::default(), &store)
        .await
        .unwrap();
    assert_complete(&image, &store);
}

#[tokio::test]
async fn attempts_are_bounded() {
    let registry = Fake::start(|asked| match asked.path.as_str() {
        "/v2/" => answer(200, &[], ""),
        _ => answer(
            429,
            &[],
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#,
        ),
    })
    .await;
    let client = support::client(|options| options.attempts = 3);
    let error = pull_as(
        &client,
        &registry.host(),
        Credentials::default(),
        &Store::default(),
    )
    .await
    .unwrap_err();
    assert_eq!(error.to_string(), "toomanyrequests: slow down");
    assert_eq!(registry.asked().len(), 4);
}

#[tokio::test]
async fn at_most_so_many_layers_at_once() {
    let image = Image::new(&layers(8, 50_000));
    let served = image.clone();
    let registry = Fake::start(move |asked| served.serve(asked)).await;
    let store = Store::default();
    let client = support::client(|_| {});
    let events = Mutex::new(Vec::new());
    let report = |event| events.lock().unwrap().push(event);
    let repository = repository(&client, &registry.host(), Credentials::default());
    pull(&repository, &request(2), &store, &report)
        .await
        .unwrap();
    assert_complete(&image, &store);
    let events = events.into_inner().unwrap();
    let count = |wanted: &LayerStatus| {
        events
            .iter()
            .filter(|event| matches!(event, Event::Layer { status, .. } if status == wanted))
            .count()
    };
    assert_eq!(count(&LayerStatus::PullingFsLayer), 8);
    assert_eq!(count(&LayerStatus::Waiting), 6);
    assert_eq!(count(&LayerStatus::DownloadComplete), 8);
    let (mut running, mut most) = (0_usize, 0);
    for event in &events {
        match event {
            Event::Layer {
                status: LayerStatus::Downloading { current: 0, .. },
                ..
            } => running += 1,
            Event::Layer {
                status: LayerStatus::DownloadComplete,
                ..
            } => running -= 1,
            _ => {}
        }
        most = most.max(running);
    }
    assert!((1..=2).contains(&most), "{most}");
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_anonymously() {
    let image = Image::new(&layers(2, 100));
    let served = image.clone();
    let mirror = Fake::start(move |asked| {
        let mut asked = asked.clone();
        asked.path = asked
            .path
            .replace("/mirror/v2/library/image/", "/v2/test/image/");
        asked.path = asked.path.replace("/mirror/v2/", "/v2/");
        served.serve(&asked)
    })
    .await;
    let broken = Fake::start(|_| answer(404, &[], "")).await;
    let mirrors = vec![
        format!("http://{}", broken.host()),
        format!("http://{}/mirror/", mirror.host()),
    ];
    let client = support::client(|options: &mut Options| options.mirrors = mirrors);
    let name = ImageRef::parse("image").unwrap();
    let repository = client.repository(&name, Credentials::basic("hub", "secret"), Access::Pull);
    let store = Store::default();
    pull(&repository, &request(3), &store, &|_| {})
        .await
        .unwrap();
    assert_complete(&image, &store);
    assert_eq!(
        broken.asked(),
        ["GET /v2/", "GET /v2/library/image/manifests/latest"]
    );
    let log = mirror.log.lock().unwrap();
    assert!(
        log.iter()
            .all(|asked| asked.header("authorization").is_empty())
    );
}

#[tokio::test]
async fn tags_come_in_pages() {
    let registry = Fake::start(|asked| match asked.path.as_str() {
        "/v2/" => answer(200, &[], ""),
        "/v2/test/image/tags/list" => answer(
            200,
            &[("link", "</v2/test/image/tags/list?last=b>; rel=\"next\"")],
            r#"{"name":"test/image","tags":["a","b","not a tag"]}"#,
        ),
        _ => answer(200, &[], r#"{"name":"test/image","tags":["c"]}"#),
    })
    .await;
    let client = support::client(|_| {});
    let repository = repository(&client, &registry.host(), Credentials::default());
    assert_eq!(repository.tags().await.unwrap(), ["a", "b", "c"]);
}

#[tokio::test]
async fn plain_http_is_remembered() {
    let image = Image::new(&layers(1, 10));
    let served = image.clone();
    let registry = Fake::start(move |asked| served.serve(asked)).await;
    let client = support::client(|_| {});
    for _ in 0..2 {
        let repository = repository(&client, &registry.host(), Credentials::default());
        let descriptor = repository
            .resolve(&Reference::Tag("latest".to_owned()))
            .await
            .unwrap();
        assert_eq!(descriptor.digest, image.manifest);
    }
}
