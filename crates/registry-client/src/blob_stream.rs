//! A blob's bytes as they come, going on where a cut connection left off.

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header;
use hyper::{Method, Response, StatusCode};
use wharf_ids::Digest;

use crate::answer::next_piece;
use crate::client::Call;
use crate::error::Error;
use crate::repository::Repository;

/// How often a blob's connection may be cut in all, however much came in between.
const CUT_COUNT_MAX: u32 = 100;

/// The rest of a blob. Exactly the declared number of bytes comes, or an error.
#[derive(Debug)]
pub struct BlobStream {
    repository: Repository,
    digest: Digest,
    size: u64,
    /// Bytes the caller has by now.
    offset: u64,
    body: Option<Incoming>,
    /// Bytes at the beginning of the answer that the caller has already.
    skip: u64,
    /// The server cannot begin in the middle.
    whole_only: bool,
    /// Failures since bytes last came.
    failures: u32,
    cuts: u32,
}

impl BlobStream {
    pub(crate) fn new(repository: Repository, digest: Digest, size: u64, offset: u64) -> Self {
        Self {
            repository,
            digest,
            size,
            offset,
            body: None,
            skip: 0,
            whole_only: false,
            failures: 0,
            cuts: 0,
        }
    }

    /// How many bytes of the blob the caller has.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes, `None` when the blob is complete.
    ///
    /// # Errors
    /// When the registry refuses the blob, sends more than declared, or the connection is cut
    /// too often.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.offset == self.size {
                // Dropped unread the connection would be closed; the end has come anyway.
                self.finish().await?;
                return Ok(None);
            }
            let Some(body) = &mut self.body else {
                self.open().await?;
                continue;
            };
            let idle_timeout = self.repository.inner.session.idle_timeout();
            match next_piece(body, idle_timeout).await {
                Ok(Some(bytes)) => {
                    if let Some(bytes) = self.accept(bytes)? {
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => self.cut("unexpected EOF".to_owned()).await?,
                Err(cause) => self.cut(cause).await?,
            }
        }
    }

    fn accept(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>, Error> {
        let known = self.skip.min(bytes.len() as u64);
        self.skip -= known;
        let bytes = bytes.split_off(usize::try_from(known).unwrap_or(usize::MAX));
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() as u64 > self.size - self.offset {
            return Err(self.too_long());
        }
        self.offset += bytes.len() as u64;
        self.failures = 0;
        Ok(Some(bytes))
    }

    fn too_long(&self) -> Error {
        let Self { digest, size, .. } = self;
        Error::Protocol(format!(
            "blob {digest} is longer than the declared {size} bytes"
        ))
    }

    /// Reads the end of the body, which must be empty.
    async fn finish(&mut self) -> Result<(), Error> {
        let Some(mut body) = self.body.take() else {
            return Ok(());
        };
        let idle_timeout = self.repository.inner.session.idle_timeout();
        match next_piece(&mut body, idle_timeout).await {
            Ok(Some(_)) => Err(self.too_long()),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// The connection broke: pause, then go on with another.
    async fn cut(&mut self, cause: String) -> Result<(), Error> {
        let client = self.repository.inner.session.client.clone();
        self.body = None;
        self.failures += 1;
        self.cuts += 1;
        if self.failures >= client.inner.options.attempts || self.cuts > CUT_COUNT_MAX {
            let link = self.repository.link().await?;
            let target = self
                .repository
                .target(&link, &format!("blobs/{}", self.digest));
            return Err(Error::Transport {
                method: "Get".to_owned(),
                url: target.to_string(),
                cause,
            });
        }
        tracing::debug!(digest = %self.digest, offset = self.offset, cause, "blob was cut off");
        tokio::time::sleep(client.inner.pause(self.failures, None)).await;
        Ok(())
    }

    async fn open(&mut self) -> Result<(), Error> {
        let repository = self.repository.clone();
        let link = repository.link().await?;
        let target = repository.target(&link, &format!("blobs/{}", self.digest));
        let mut call = Call::new(Method::GET);
        let ranged = self.offset > 0 && !self.whole_only;
        if ranged {
            call = call.header(header::RANGE, &format!("bytes={}-", self.offset))?;
        }
        let session = &repository.inner.session;
        let response = session
            .send(&link, &target, &repository.scopes(), &call)
            .await?;
        let length = response
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        match response.status() {
            StatusCode::OK => {
                self.skip = self.offset;
                self.check_length(length, self.size)?;
            }
            StatusCode::PARTIAL_CONTENT if ranged => {
                self.skip = 0;
                self.check_range(&response)?;
                self.check_length(length, self.size - self.offset)?;
            }
            StatusCode::RANGE_NOT_SATISFIABLE if ranged => {
                self.whole_only = true;
                return Ok(());
            }
            _ => return Err(repository.refused(response, None).await),
        }
        self.body = Some(response.into_body());
        Ok(())
    }

    fn check_length(&self, announced: Option<u64>, expected: u64) -> Result<(), Error> {
        match announced {
            Some(length) if length > expected => Err(self.too_long()),
            Some(length) if length < expected => Err(Error::Protocol(format!(
                "blob {} has {} bytes, {} were declared",
                self.digest,
                self.size - expected + length,
                self.size
            ))),
            _ => Ok(()),
        }
    }

    /// `bytes 100-199/200` has to begin where we are.
    fn check_range(&self, response: &Response<Incoming>) -> Result<(), Error> {
        let value = response
            .headers()
            .get(header::CONTENT_RANGE)
            .and_then(|v| v.to_str().ok());
        let first = value
            .and_then(|text| text.strip_prefix("bytes "))
            .and_then(|text| text.split('-').next()?.trim().parse::<u64>().ok());
        if first == Some(self.offset) {
            return Ok(());
        }
        Err(Error::Protocol(format!(
            "blob {}: not the range that was asked for",
            self.digest
        )))
    }
}
