//! Pull, push and login against Debian's `docker-registry`.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod support;

use std::sync::Mutex;

use support::memory::{Store, digest_of};
use support::real::{Registry, Setup, available};
use wharf_ids::ImageRef;
use wharf_oci::image::Document;
use wharf_oci::platform::Platform;
use wharf_registry_client::{
    Access, Client, Credentials, Error, Event, LayerStatus, PullRequest, Pulled, PushLayer,
    PushManifest, PushRequest, Reference, pull, push,
};

fn name(registry: &Registry, rest: &str) -> ImageRef {
    ImageRef::parse(&format!("{}/{rest}", registry.host())).unwrap()
}

async fn pull_into(
    client: &Client,
    name: &ImageRef,
    credentials: Credentials,
    store: &Store,
) -> (Result<Pulled, Error>, Vec<Event>) {
    let repository = client.repository(name, credentials, Access::Pull);
    let request = PullRequest {
        reference: Reference::of(name),
        platform: Platform::new("linux", "amd64", ""),
        concurrency: 3,
    };
    let events = Mutex::new(Vec::new());
    let report = |event| events.lock().unwrap().push(event);
    let pulled = pull(&repository, &request, store, &report).await;
    (pulled, events.into_inner().unwrap())
}

/// The engine runs pulls on other threads.
fn assert_send<F: Future + Send>(future: F) -> F {
    future
}

fn push_request(store: &Store, pulled: &Pulled, tag: &str, mount_from: &[&str]) -> PushRequest {
    let bytes = store.get(&pulled.manifest.digest).unwrap();
    PushRequest {
        reference: Reference::Tag(tag.to_owned()),
        layers: pulled
            .image
            .layers
            .iter()
            .map(|layer| PushLayer {
                descriptor: layer.clone(),
                mount_from: mount_from.iter().map(|from| (*from).to_owned()).collect(),
            })
            .collect(),
        configs: vec![pulled.image.config.clone()],
        manifests: vec![PushManifest {
            media_type: pulled.manifest.media_type.clone(),
            digest: pulled.manifest.digest.clone(),
            bytes,
        }],
        concurrency: 5,
    }
}

async fn round_trip(setup: Setup, client: Client, registry: &Registry) {
    let credentials = match setup.htpasswd {
        true => Credentials::basic("user", "secret"),
        false => Credentials::default(),
    };
    let from = name(registry, "test/busybox:1");
    registry.fill("test/busybox", "1");
    let store = Store::default();
    let (pulled, events) =
        assert_send(pull_into(&client, &from, credentials.clone(), &store)).await;
    let pulled = pulled.unwrap();
    assert_eq!(pulled.target.digest, pulled.manifest.digest);
    assert_eq!(pulled.image.layers.len(), 2);
    for blob in pulled
        .image
        .layers
        .iter()
        .chain([&pulled.image.config, &pulled.manifest])
    {
        let bytes = store.get(&blob.digest).unwrap();
        assert_eq!(
            (digest_of(&bytes), bytes.len() as u64),
            (blob.digest.clone(), blob.size)
        );
    }
    for layer in &pulled.image.layers {
        let texts: Vec<String> = events
            .iter()
            .filter_map(|event| match event {
                Event::Layer { digest, status } if *digest == layer.digest => Some(status.text()),
                _ => None,
            })
            .collect();
        assert_eq!(texts.first().map(String::as_str), Some("Pulling fs layer"));
        assert_eq!(
            texts[texts.len() - 3..],
            ["Downloading", "Verifying Checksum", "Download complete"]
        );
    }

    // Again: nothing is fetched.
    let (again, events) = pull_into(&client, &from, credentials.clone(), &store).await;
    again.unwrap();
    assert_eq!(events.len(), 1, "{events:?}");

    // With one layer gone, only that one.
    let gone = &pulled.image.layers[0].digest;
    store.whole.lock().unwrap().remove(gone);
    let (again, events) = pull_into(&client, &from, credentials.clone(), &store).await;
    again.unwrap();
    let existing = events.iter().filter(|event| {
        matches!(
            event,
            Event::Layer {
                status: LayerStatus::AlreadyExists,
                ..
            }
        )
    });
    assert_eq!(existing.count(), 1);
    assert!(store.get(gone).is_some());

    let repository = client.repository(&from, credentials.clone(), Access::Pull);
    let head = repository.resolve(&Reference::of(&from)).await.unwrap();
    assert_eq!(head, pulled.manifest);
    assert_eq!(repository.tags().await.unwrap(), ["1"]);

    // Push the same layers elsewhere: uploaded without a hint, mounted with one.
    let run_push = async |to: &str, mount_from: &[&str]| {
        let target = client.repository(&name(registry, to), credentials.clone(), Access::Push);
        let request = push_request(&store, &pulled, "pushed", mount_from);
        let events = Mutex::new(Vec::new());
        let report = |event| events.lock().unwrap().push(event);
        let pushed = push(&target, &request, &store, &report).await.unwrap();
        assert_eq!(pushed, pulled.manifest);
        let events = events.into_inner().unwrap();
        let last_of = |layer: &wharf_oci::image::Descriptor| {
            let mut own = events.iter().rev().filter_map(|event| match event {
                Event::Layer { digest, status } if *digest == layer.digest => Some(status.text()),
                _ => None,
            });
            own.next().unwrap()
        };
        pulled.image.layers.iter().map(last_of).collect::<Vec<_>>()
    };
    assert_eq!(run_push("test/uploaded", &[]).await, ["Pushed", "Pushed"]);
    assert_eq!(
        run_push("test/uploaded", &[]).await,
        ["Layer already exists", "Layer already exists"]
    );
    assert_eq!(
        run_push("test/mounted", &["test/nothing", "test/busybox"]).await,
        ["Mounted from test/busybox", "Mounted from test/busybox"]
    );
    let copied = registry.copy_out("test/uploaded", "pushed");
    assert!(
        copied
            .join("blobs/sha256")
            .join(pulled.manifest.digest.hex())
            .exists()
    );
}

#[tokio::test]
async fn plain_http_on_loopback() {
    if !available() {
        return;
    }
    let setup = Setup::default();
    let registry = Registry::start(setup);
    round_trip(setup, support::client(|_| {}), &registry).await;

    let client = support::client(|_| {});
    let store = Store::default();
    let missing = name(&registry, "test/busybox:nope");
    let (pulled, _) = pull_into(&client, &missing, Credentials::default(), &store).await;
    assert_eq!(
        pulled.unwrap_err().to_string(),
        format!(
            "manifest for {missing} not found: manifest unknown: manifest unknown",
            missing = missing.familiar()
        )
    );
    let (pulled, _) = pull_into(
        &client,
        &name(&registry, "no/such:1"),
        Credentials::default(),
        &store,
    )
    .await;
    assert!(matches!(
        pulled.unwrap_err(),
        Error::ManifestUnknown { .. } | Error::RepositoryUnknown { .. }
    ));
    let unknown = client.repository(
        &name(&registry, "no/such"),
        Credentials::default(),
        Access::Pull,
    );
    let error = unknown.tags().await.unwrap_err().to_string();
    assert!(
        error.contains("repository name not known to registry"),
        "{error}"
    );
    let login = client
        .login(&registry.host(), &Credentials::basic("a", "b"))
        .await
        .unwrap();
    assert_eq!(login.status, "Login Succeeded");
}

#[tokio::test]
async fn a_pull_by_digest_gives_the_same_image() {
    if !available() {
        return;
    }
    let registry = Registry::start(Setup::default());
    registry.fill("test/busybox", "1");
    let client = support::client(|_| {});
    let tagged = name(&registry, "test/busybox:1");
    let repository = client.repository(&tagged, Credentials::default(), Access::Pull);
    let fetched = repository.manifest(&Reference::of(&tagged)).await.unwrap();
    assert!(matches!(fetched.document, Document::Manifest(_)));
    let by_digest = tagged.with_digest(fetched.descriptor.digest.clone());
    let store = Store::default();
    let (pulled, _) = pull_into(&client, &by_digest, Credentials::default(), &store).await;
    assert_eq!(pulled.unwrap().target, fetched.descriptor);
}

#[tokio::test]
async fn tls_with_an_authority_of_our_own() {
    if !available() {
        return;
    }
    let setup = Setup {
        tls: true,
        htpasswd: false,
    };
    let registry = Registry::start(setup);
    // Loopback: any certificate will do.
    round_trip(setup, support::client(|_| {}), &registry).await;
}

#[tokio::test]
async fn htpasswd() {
    if !available() {
        return;
    }
    let setup = Setup {
        tls: true,
        htpasswd: true,
    };
    let registry = Registry::start(setup);
    let client = support::client(|_| {});
    round_trip(setup, client.clone(), &registry).await;

    let image = name(&registry, "test/busybox:1");
    let store = Store::default();
    let (anonymous, _) = pull_into(&client, &image, Credentials::default(), &store).await;
    let host = registry.host();
    assert_eq!(
        anonymous.unwrap_err().to_string(),
        format!("Get \"https://{host}/v2/test/busybox/manifests/1\": no basic auth credentials")
    );
    let target = client.repository(&image, Credentials::default(), Access::Push);
    let digest = store.put("x");
    let layer = wharf_oci::image::Descriptor::new(
        "application/vnd.oci.image.layer.v1.tar",
        digest.clone(),
        1,
    );
    let request = PushRequest {
        reference: Reference::Tag("x".to_owned()),
        layers: vec![PushLayer {
            descriptor: layer,
            mount_from: Vec::new(),
        }],
        configs: Vec::new(),
        manifests: vec![PushManifest {
            media_type: String::new(),
            digest,
            bytes: "{}".into(),
        }],
        concurrency: 5,
    };
    let refused = push(&target, &request, &store, &|_| {}).await.unwrap_err();
    assert_eq!(refused.to_string(), "no basic auth credentials");

    let wrong = Credentials::basic("user", "wrong");
    let (refused, _) = pull_into(&client, &image, wrong.clone(), &store).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, Error::Unauthorized(_)), "{refused}");
    assert_eq!(refused.to_string(), "unauthorized: authentication required");

    let login = client
        .login(&host, &Credentials::basic("user", "secret"))
        .await
        .unwrap();
    assert_eq!(login.status, "Login Succeeded");
    assert_eq!(
        client.login(&host, &wrong).await.unwrap_err().to_string(),
        format!("login attempt to https://{host}/v2/ failed with status: 401 Unauthorized")
    );
}

#[tokio::test]
async fn an_upload_whose_source_breaks_off_is_not_stored() {
    if !available() {
        return;
    }
    let registry = Registry::start(Setup::default());
    let client = support::client(|options| options.attempts = 2);
    let repository = client.repository(
        &name(&registry, "test/broken"),
        Credentials::default(),
        Access::Push,
    );
    let store = Store::default();
    let digest = store.put(vec![7_u8; 300_000]);
    // More was declared than the source has.
    let error = repository
        .upload_blob(&digest, 400_000, &store, &|_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error}");
    assert!(!repository.has_blob(&digest).await.unwrap());
    repository
        .upload_blob(&digest, 300_000, &store, &|_| {})
        .await
        .unwrap();
    assert!(repository.has_blob(&digest).await.unwrap());
}
