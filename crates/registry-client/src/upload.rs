//! Writing to a repository: blobs, blobs of other repositories, manifests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header;
use hyper::{Method, Response, StatusCode};
use tokio::sync::mpsc;
use wharf_ids::Digest;
use wharf_oci::image::Descriptor;

use crate::auth::NO_CREDENTIALS;
use crate::client::{Call, Link, location};
use crate::connection::RequestBody;
use crate::error::Error;
use crate::repository::{CONTENT_DIGEST, Reference, Repository, digest_of};
use crate::sink::{BlobReader as _, BlobSource};
use crate::target::{Target, query_escape};

/// Pieces read ahead of the network.
const PIECES_AHEAD: usize = 2;

impl Repository {
    /// Whether the repository has a blob.
    ///
    /// # Errors
    /// When the registry refuses to say.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let link = self.link().await?;
        let target = self.target(&link, &format!("blobs/{digest}"));
        let call = Call::new(Method::HEAD);
        let response = self
            .inner
            .session
            .send(&link, &target, &self.scopes(), &call)
            .await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused(response, None).await),
        }
    }

    /// Lets the registry take a blob over from its repository `from` (a path). `false` when it
    /// does not.
    ///
    /// # Errors
    /// When the registry refuses writes altogether.
    pub async fn mount_blob(&self, digest: &Digest, from: &str) -> Result<bool, Error> {
        let link = self.link().await?;
        let mut scopes = self.scopes();
        scopes.push(format!("repository:{from}:pull"));
        let query = format!(
            "?mount={}&from={}",
            query_escape(digest.as_str()),
            query_escape(from)
        );
        let response = self.begin_upload(&link, &scopes, &query).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(true);
        }
        // The registry has begun an upload instead; nobody will go on with it.
        if let Ok(upload) = location(&response, &self.target(&link, "blobs/uploads/")) {
            let call = Call::new(Method::DELETE);
            let _ = self
                .inner
                .session
                .send(&link, &upload, &self.scopes(), &call)
                .await;
        }
        Ok(false)
    }

    /// Uploads a blob. `sent` hears how many bytes have left.
    ///
    /// # Errors
    /// When the source fails, or the registry does after several attempts.
    pub async fn upload_blob<S: BlobSource>(
        &self,
        digest: &Digest,
        size: u64,
        source: &S,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Error> {
        let attempts = self.inner.session.client.inner.options.attempts;
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.upload_once(digest, size, source, sent).await {
                Err(error) if attempt < attempts && is_worth_another(&error) => {
                    tracing::debug!(%digest, %error, "blob upload failed");
                    let pause = self.inner.session.client.inner.pause(attempt, None);
                    tokio::time::sleep(pause).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Puts a manifest or index under its digest or a tag.
    ///
    /// # Errors
    /// When the registry refuses it or stores something else.
    pub async fn put_manifest(
        &self,
        reference: &Reference,
        manifest_type: &str,
        bytes: Bytes,
    ) -> Result<Descriptor, Error> {
        let link = self.link().await?;
        let target = self.target(&link, &format!("manifests/{reference}"));
        let digest = digest_of(&bytes);
        let size = bytes.len() as u64;
        let call = Call::new(Method::PUT)
            .header(header::CONTENT_TYPE, manifest_type)?
            .body(bytes);
        let response = self
            .inner
            .session
            .send(&link, &target, &self.scopes(), &call)
            .await?;
        if !response.status().is_success() {
            return Err(self.refused(response, Some(reference)).await);
        }
        let stored = response
            .headers()
            .get(CONTENT_DIGEST)
            .and_then(|v| v.to_str().ok());
        match stored {
            Some(stored) if stored.starts_with("sha256:") && stored != digest.as_str() => Err(
                Error::Protocol(format!("manifest {digest} was stored as {stored:?}")),
            ),
            _ => Ok(Descriptor::new(manifest_type, digest, size)),
        }
    }

    async fn begin_upload(
        &self,
        link: &Link,
        scopes: &[String],
        query: &str,
    ) -> Result<Response<Incoming>, Error> {
        let target = self.target(link, &format!("blobs/uploads/{query}"));
        let call = Call::new(Method::POST).body(Bytes::new());
        let response = self
            .inner
            .session
            .send(link, &target, scopes, &call)
            .await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::ACCEPTED => Ok(response),
            _ => Err(self.refused(response, None).await),
        }
    }

    async fn upload_once<S: BlobSource>(
        &self,
        digest: &Digest,
        size: u64,
        source: &S,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Error> {
        let link = self.link().await?;
        let scopes = self.scopes();
        let session = &self.inner.session;
        let begun = self.begin_upload(&link, &scopes, "").await?;
        let upload = location(&begun, &self.target(&link, "blobs/uploads/"))?;
        self.check_upload_target(&link, &upload)?;
        drop(begun);

        let (pieces_in, pieces) = mpsc::channel(PIECES_AHEAD);
        let taken = Arc::new(AtomicU64::new(0));
        let body = RequestBody::Stream {
            pieces,
            remaining: size,
            taken: taken.clone(),
        };
        let call =
            Call::new(Method::PATCH).header(header::CONTENT_TYPE, "application/octet-stream")?;
        let feed = async {
            let mut reader = source.open(digest, 0).await.map_err(Error::Store)?;
            while let Some(bytes) = reader.next().await.map_err(Error::Store)? {
                // The request ended early: its answer says why.
                if pieces_in.send(bytes).await.is_err() {
                    break;
                }
                sent(taken.load(Ordering::Relaxed));
            }
            drop(pieces_in);
            Ok::<(), Error>(())
        };
        let patch = session.send_stream(&link, &upload, &scopes, &call, body);
        let (fed, patched) = tokio::join!(feed, patch);
        fed?;
        let patched = patched?;
        if patched.status() != StatusCode::ACCEPTED && patched.status() != StatusCode::CREATED {
            return Err(self.refused(patched, None).await);
        }
        sent(size);

        // Some registries name the next address only once.
        let upload = location(&patched, &upload).unwrap_or(upload);
        self.check_upload_target(&link, &upload)?;
        let separator = if upload.path.contains('?') { '&' } else { '?' };
        let digest_query = query_escape(digest.as_str());
        let commit = upload.with_path(format!("{}{separator}digest={digest_query}", upload.path));
        let call = Call::new(Method::PUT).body(Bytes::new());
        let response = session.send(&link, &commit, &scopes, &call).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::ACCEPTED => Ok(()),
            _ => Err(self.refused(response, None).await),
        }
    }

    /// An upload may lead to another host, but never from TLS to plain HTTP.
    fn check_upload_target(&self, link: &Link, upload: &Target) -> Result<(), Error> {
        if link.endpoint.base.tls && !upload.tls {
            return Err(Error::Protocol(format!(
                "upload is to go on without TLS at {}",
                upload.shown()
            )));
        }
        Ok(())
    }
}

/// Whether a failed upload may succeed when begun anew.
fn is_worth_another(error: &Error) -> bool {
    match error {
        Error::Transport { .. } => true,
        // A token that ran out under way is renewed by the next attempt.
        Error::Unauthorized(text) => !text.contains(NO_CREDENTIALS),
        Error::Registry { status, .. } => matches!(status, 404 | 408 | 416 | 429 | 500..=599),
        _ => false,
    }
}
