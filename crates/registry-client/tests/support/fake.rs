//! A registry of a few lines whose every answer a test can replace.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::memory::digest_of;

/// A request as the tests look at it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Bytes,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

pub type Answer = Response<Full<Bytes>>;

/// An answer with a status, headers and a body.
pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(body.into())).unwrap()
}

/// A server; it ends with the test's runtime.
#[derive(Debug, Clone)]
pub struct Fake {
    pub port: u16,
    pub log: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Serves each request with what `handler` makes of it.
    pub async fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let handler = Arc::new(handler);
        let seen = log.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, seen) = (handler.clone(), seen.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (handler, seen) = (handler.clone(), seen.clone());
                        async move {
                            let asked = read(request).await;
                            let answer = handler(&asked);
                            seen.lock().unwrap().push(asked);
                            Ok::<_, Infallible>(answer)
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { port, log }
    }

    /// Serves every connection with raw bytes and closes it; `None` keeps it open in silence.
    pub async fn start_raw(
        reply: impl Fn(usize, &str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let reply = Arc::new(reply);
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let (reply, this) = (reply.clone(), number);
                number += 1;
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    let mut buffer = [0; 4096];
                    // A TLS hello has no blank line; it is answered as what it is: no HTTP.
                    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n")
                        && head.first() != Some(&22)
                    {
                        match stream.read(&mut buffer).await {
                            Ok(0) | Err(_) => return,
                            Ok(length) => head.extend_from_slice(&buffer[..length]),
                        }
                    }
                    match reply(this, &String::from_utf8_lossy(&head)) {
                        Some(bytes) => {
                            let _ = stream.write_all(&bytes).await;
                            let _ = stream.shutdown().await;
                        }
                        None => std::future::pending::<()>().await,
                    }
                });
            }
        });
        Self {
            port,
            log: Arc::default(),
        }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `METHOD path` of each request so far.
    pub fn asked(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter()
            .map(|asked| format!("{} {}", asked.method, asked.path))
            .collect()
    }
}

async fn read(request: Request<Incoming>) -> Asked {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.iter().map(|(name, value)| {
        (
            name.to_string(),
            value.to_str().unwrap_or_default().to_owned(),
        )
    });
    Asked {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: headers.collect(),
        body: body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default(),
    }
}

/// An image that an honest fake serves: paths (`manifests/…`, `blobs/…`) and their bytes.
#[derive(Debug, Clone)]
pub struct Image {
    pub files: HashMap<String, (String, Bytes)>,
    pub manifest: wharf_ids::Digest,
    pub layers: Vec<Bytes>,
}

impl Image {
    /// An image of these layers under the tag `latest`.
    pub fn new(layers: &[Bytes]) -> Self {
        let mut files = HashMap::new();
        let mut blob = |media_type: &str, bytes: Bytes| {
            let digest = digest_of(&bytes);
            let described =
                serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
            files.insert(
                format!("blobs/{digest}"),
                ("application/octet-stream".to_owned(), bytes),
            );
            described
        };
        let config = blob(
            "application/vnd.oci.image.config.v1+json",
            Bytes::from_static(b"{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}"),
        );
        let described: Vec<_> = layers
            .iter()
            .map(|layer| blob("application/vnd.oci.image.layer.v1.tar", layer.clone()))
            .collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": described,
        })
        .to_string();
        let digest = digest_of(manifest.as_bytes());
        let file = (media_type.to_owned(), Bytes::from(manifest));
        files.insert("manifests/latest".to_owned(), file.clone());
        files.insert(format!("manifests/{digest}"), file);
        Self {
            files,
            manifest: digest,
            layers: layers.to_vec(),
        }
    }

    /// Adds an index with this image for `linux/amd64`, tagged `latest` instead of it.
    pub fn with_index(mut self) -> Self {
        let media_type = "application/vnd.oci.image.index.v1+json";
        let manifest = &self.files[&format!("manifests/{}", self.manifest)];
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type,
            "manifests": [
                {"mediaType": manifest.0, "digest": digest_of(b"other"), "size": 5, "platform": {"os": "linux", "architecture": "s390x"}},
                {"mediaType": manifest.0, "digest": self.manifest, "size": manifest.1.len(), "platform": {"os": "linux", "architecture": "amd64"}},
            ],
        })
        .to_string();
        let digest = digest_of(index.as_bytes());
        let file = (media_type.to_owned(), Bytes::from(index));
        self.files
            .insert("manifests/latest".to_owned(), file.clone());
        self.files.insert(format!("manifests/{digest}"), file);
        self
    }

    /// What an honest registry without authentication answers.
    pub fn serve(&self, asked: &Asked) -> Answer {
        if asked.path == "/v2/" {
            return answer(200, &[], "{}");
        }
        let Some(rest) = asked.path.strip_prefix("/v2/test/image/") else {
            return answer(
                404,
                &[],
                r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#,
            );
        };
        let Some((media_type, bytes)) = self.files.get(rest) else {
            return answer(
                404,
                &[],
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
            );
        };
        let digest = digest_of(bytes);
        let mut headers = vec![
            ("content-type", media_type.as_str()),
            ("docker-content-digest", digest.as_str()),
        ];
        let range = asked
            .header("range")
            .strip_prefix("bytes=")
            .and_then(|text| text.strip_suffix('-'));
        if let Some(first) = range.and_then(|first| first.parse::<usize>().ok()) {
            let content_range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
            headers.push(("content-range", &content_range));
            return answer(206, &headers, bytes.slice(first..));
        }
        answer(200, &headers, bytes.clone())
    }
}
