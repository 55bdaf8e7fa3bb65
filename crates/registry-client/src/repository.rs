//! One repository: find, read and check its manifests, stream its blobs, list its tags.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName};
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use wharf_ids::reference::DEFAULT_TAG;
use wharf_ids::{Digest, ImageRef};
use wharf_oci::image::{Descriptor, Document, MANIFEST_SIZE_MAX, media_type};

use crate::answer::{Refusal, read_bounded};
use crate::blob_stream::BlobStream;
use crate::client::{Call, Client, Link, Session, challenges_of};
use crate::credentials::Credentials;
use crate::error::Error;
use crate::target::Target;

/// The media types a tag may point to, in the order we prefer them.
const ACCEPT: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::DOCKER_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST,
];

/// Most tags of one repository, and most pages they come in.
const TAG_COUNT_MAX: usize = 100_000;
const TAG_PAGE_COUNT_MAX: usize = 1000;
/// Most bytes of one page of tags.
const TAG_PAGE_LENGTH_MAX: u64 = 8 << 20;

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A piece of work in a box: compilers do not see that closures returning futures are `Send`.
pub(crate) type Job<'s, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 's>>;

/// What will be done with a repository: the rights asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read; mirrors are asked first.
    Pull,
    /// Read and write.
    Push,
}

/// Which manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The one a tag points to.
    Tag(String),
    /// Exactly this one.
    Digest(Digest),
}

impl Reference {
    /// What an image name refers to: its digest, else its tag, else `latest`.
    pub fn of(name: &ImageRef) -> Self {
        match (&name.digest, &name.tag) {
            (Some(digest), _) => Self::Digest(digest.clone()),
            (None, Some(tag)) => Self::Tag(tag.clone()),
            (None, None) => Self::Tag(DEFAULT_TAG.to_owned()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A manifest or index with its checked bytes.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Media type, digest and length.
    pub descriptor: Descriptor,
    /// Exactly what the registry sent.
    pub bytes: Bytes,
    /// The same, parsed.
    pub document: Document,
}

/// A repository of a registry, as one user sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) inner: Arc<RepositoryInner>,
}

#[derive(Debug)]
pub(crate) struct RepositoryInner {
    pub(crate) session: Session,
    /// Neither tag nor digest.
    pub(crate) name: ImageRef,
    access: Access,
    link: Mutex<Option<Arc<Link>>>,
}

impl Client {
    /// The repository of `name`, whose tag and digest do not matter.
    pub fn repository(
        &self,
        name: &ImageRef,
        credentials: Credentials,
        access: Access,
    ) -> Repository {
        let inner = RepositoryInner {
            session: Session::new(self, &name.registry, credentials),
            name: name.repository(),
            access,
            link: Mutex::new(None),
        };
        Repository {
            inner: Arc::new(inner),
        }
    }
}

impl Repository {
    /// Its name, without tag or digest.
    pub fn name(&self) -> &ImageRef {
        &self.inner.name
    }

    /// Media type, digest and length of a manifest, without its bytes (`HEAD`).
    ///
    /// # Errors
    /// As [`manifest`](Self::manifest).
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor, Error> {
        self.on_any_link(|link| Box::pin(async move { self.resolve_on(&link, reference).await }))
            .await
    }

    /// Fetches a manifest or index and checks it: against the digest asked for, else against the
    /// one the registry announces.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] and [`Error::PullDenied`] in Docker's words; all others as they
    /// come.
    pub async fn manifest(&self, reference: &Reference) -> Result<Fetched, Error> {
        self.on_any_link(|link| Box::pin(async move { self.manifest_on(&link, reference).await }))
            .await
    }

    /// A blob's bytes from `offset` on. `size` is its declared length and enforced.
    pub fn blob(&self, digest: &Digest, size: u64, offset: u64) -> BlobStream {
        BlobStream::new(self.clone(), digest.clone(), size, offset)
    }

    /// All tags.
    ///
    /// # Errors
    /// [`Error::RepositoryUnknown`] when there is no such repository.
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        self.on_any_link(|link| Box::pin(async move { self.tags_on(&link).await }))
            .await
    }

    /// The endpoint in use; the first call finds out which.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, Error> {
        self.on_any_link(|link| Box::pin(async move { Ok(link) }))
            .await
    }

    /// Runs a first request on each endpoint in turn until one of them serves it; that one stays.
    async fn on_any_link<'s, T>(
        &'s self,
        request: impl Fn(Arc<Link>) -> Job<'s, T>,
    ) -> Result<T, Error> {
        let session = &self.inner.session;
        let mut chosen = self.inner.link.lock().await;
        if let Some(link) = chosen.clone() {
            drop(chosen);
            return request(link).await;
        }
        let mut failure = Error::Invalid("no endpoint".to_owned());
        for endpoint in session.endpoints(self.inner.access == Access::Push).await? {
            let link = match session.link(endpoint).await {
                Ok(link) => Arc::new(link),
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            match request(link.clone()).await {
                Err(error) if link.endpoint.mirror => {
                    tracing::info!(mirror = %link.endpoint.base, %error, "mirror does not serve the request");
                    failure = error;
                }
                outcome => {
                    *chosen = Some(link);
                    return outcome;
                }
            }
        }
        Err(failure)
    }

    /// The rights requests to this repository need.
    pub(crate) fn scopes(&self) -> Vec<String> {
        let actions = match self.inner.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        vec![format!("repository:{}:{actions}", self.inner.name.path)]
    }

    /// The address of something of this repository.
    pub(crate) fn target(&self, link: &Link, rest: &str) -> Target {
        link.endpoint
            .api(&format!("{}/{rest}", self.inner.name.path))
    }

    pub(crate) fn familiar(&self, reference: &Reference) -> String {
        let separator = if matches!(reference, Reference::Tag(_)) {
            ':'
        } else {
            '@'
        };
        format!("{}{separator}{reference}", self.inner.name.familiar_name())
    }

    pub(crate) async fn refusal(&self, response: Response<Incoming>) -> Refusal {
        let challenges = challenges_of(&response);
        Refusal::read(response, &challenges, self.inner.session.idle_timeout()).await
    }

    /// The error for a refused read.
    pub(crate) async fn refused(
        &self,
        response: Response<Incoming>,
        reference: Option<&Reference>,
    ) -> Error {
        let refusal = self.refusal(response).await;
        let repository = self.inner.name.familiar_name();
        match (refusal.status, refusal.code.as_str()) {
            (_, "DENIED") if self.inner.access == Access::Push => Error::PushDenied {
                detail: refusal.text(),
            },
            (_, "DENIED") => Error::PullDenied {
                repository,
                detail: refusal.text(),
            },
            (404, "NAME_UNKNOWN") => Error::RepositoryUnknown {
                repository,
                detail: refusal.text(),
            },
            (404, code) => match reference {
                Some(reference) => Error::ManifestUnknown {
                    reference: self.familiar(reference),
                    detail: match code {
                        "" => "manifest unknown: manifest unknown".to_owned(),
                        _ => refusal.text(),
                    },
                },
                None => refusal.into_error(),
            },
            _ => refusal.into_error(),
        }
    }

    async fn ask_for_manifest(
        &self,
        link: &Link,
        method: Method,
        reference: &Reference,
    ) -> Result<Response<Incoming>, Error> {
        let target = self.target(link, &format!("manifests/{reference}"));
        let call = Call::new(method).header(header::ACCEPT, &ACCEPT.join(", "))?;
        let response = self
            .inner
            .session
            .send(link, &target, &self.scopes(), &call)
            .await?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        Err(self.refused(response, Some(reference)).await)
    }

    async fn resolve_on(&self, link: &Link, reference: &Reference) -> Result<Descriptor, Error> {
        let response = self.ask_for_manifest(link, Method::HEAD, reference).await?;
        let size = response
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let (media_type, digest) = (content_type(&response), announced_digest(&response)?);
        match (digest, size) {
            (Some(found), _) if matches!(reference, Reference::Digest(wanted) if *wanted != found) => {
                Err(Error::Protocol(format!(
                    "{reference} was asked for, {found} announced"
                )))
            }
            (Some(digest), Some(size)) if !media_type.is_empty() && size <= MANIFEST_SIZE_MAX => {
                Ok(Descriptor::new(media_type, digest, size))
            }
            // Not all registries say everything without the document itself.
            _ => Ok(self.manifest_on(link, reference).await?.descriptor),
        }
    }

    async fn manifest_on(&self, link: &Link, reference: &Reference) -> Result<Fetched, Error> {
        let response = self.ask_for_manifest(link, Method::GET, reference).await?;
        let announced = announced_digest(&response)?;
        let media_type = content_type(&response);
        let idle_timeout = self.inner.session.idle_timeout();
        let bytes = read_bounded(response.into_body(), MANIFEST_SIZE_MAX, idle_timeout)
            .await
            .map_err(|why| {
                Error::Protocol(format!("manifest {}: {why}", self.familiar(reference)))
            })?;
        let found = digest_of(&bytes);
        let expected = match reference {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(_) => announced.as_ref(),
        };
        if let Some(expected) = expected
            && *expected != found
        {
            return Err(Error::Protocol(format!(
                "manifest verification failed for digest {expected}: its content has digest {found}"
            )));
        }
        let document = Document::parse(&bytes, &media_type).map_err(Error::Document)?;
        let descriptor = Descriptor::new(document.media_type(), found, bytes.len() as u64);
        Ok(Fetched {
            descriptor,
            bytes,
            document,
        })
    }

    async fn tags_on(&self, link: &Link) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let session = &self.inner.session;
        let mut tags = Vec::new();
        let mut target = self.target(link, "tags/list");
        for _ in 0..TAG_PAGE_COUNT_MAX {
            let call = Call::new(Method::GET);
            let response = session.send(link, &target, &self.scopes(), &call).await?;
            if response.status() != StatusCode::OK {
                return Err(self.refused(response, None).await);
            }
            let next = next_page(&response)
                .map(|next| target.join(&next))
                .transpose()?;
            let bytes = read_bounded(
                response.into_body(),
                TAG_PAGE_LENGTH_MAX,
                session.idle_timeout(),
            )
            .await
            .map_err(|why| Error::Protocol(format!("list of tags: {why}")))?;
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|_| Error::Protocol("list of tags is not valid".to_owned()))?;
            let found = page.tags.unwrap_or_default();
            tags.extend(
                found
                    .into_iter()
                    .filter(|tag| wharf_ids::reference::is_tag(tag)),
            );
            if tags.len() > TAG_COUNT_MAX {
                return Err(Error::Protocol(format!("more than {TAG_COUNT_MAX} tags")));
            }
            match next {
                Some(next) if next.same_origin(&target) => target = next,
                Some(_) => {
                    return Err(Error::Protocol("list of tags goes on elsewhere".to_owned()));
                }
                None => return Ok(tags),
            }
        }
        Err(Error::Protocol(format!(
            "more than {TAG_PAGE_COUNT_MAX} pages of tags"
        )))
    }
}

/// `</v2/…?last=x>; rel="next"` (RFC 8288).
fn next_page(response: &Response<Incoming>) -> Option<String> {
    let text = response.headers().get(header::LINK)?.to_str().ok()?;
    let (address, parameters) = text.strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then(|| address.to_owned())
}

/// The media type of an answer when it is one of a manifest, else nothing: what the document says
/// of itself counts then.
fn content_type(response: &Response<Incoming>) -> String {
    let value = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let bare = value
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if ACCEPT.contains(&bare) {
        bare.to_owned()
    } else {
        String::new()
    }
}

/// The digest an answer claims.
fn announced_digest(response: &Response<Incoming>) -> Result<Option<Digest>, Error> {
    let Some(value) = response.headers().get(CONTENT_DIGEST) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    if !text.starts_with("sha256:") {
        // Another algorithm: nothing to compare with.
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| Error::Protocol("malformed content digest".to_owned()))
}

pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}
