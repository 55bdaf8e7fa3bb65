//! Requests to a registry: credentials, redirects, second attempts.
//!
//! A [`Session`] is what one user does at one registry. Its first request asks `/v2/` which of
//! the possible endpoints answers and what it wants to see; that endpoint is then kept.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::answer::Refusal;
use crate::auth;
use crate::challenge::{self, Challenge};
use crate::connection::{Pool, RequestBody, TransportFailure};
use crate::credentials::Credentials;
use crate::endpoint::{Directory, Endpoint, Trust};
use crate::error::Error;
use crate::options::Options;
use crate::target::Target;

/// Most redirects of one request.
const REDIRECT_COUNT_MAX: usize = 5;

/// The longest pause a registry may ask for before the next attempt.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A client for any number of registries: connections and settings. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<ClientInner>,
}

#[derive(Debug)]
pub(crate) struct ClientInner {
    pub(crate) options: Arc<Options>,
    pub(crate) directory: Directory,
    pub(crate) pool: Pool,
    /// Insecure registries that turned out to speak plain HTTP: asked so first the next time.
    plain: Mutex<HashSet<String>>,
}

impl Client {
    /// A client with these settings.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming an insecure registry or mirror that cannot be read.
    pub fn new(options: Options) -> Result<Self, Error> {
        let options = Arc::new(options);
        let directory = Directory::new(&options)?;
        let pool = Pool::new(options.clone());
        let inner = ClientInner {
            options,
            directory,
            pool,
            plain: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Closes idle connections and reads certificate files anew when they are needed next.
    pub fn forget_connections(&self) {
        self.inner.pool.forget();
    }
}

impl ClientInner {
    /// How a host other than the endpoint's own is spoken to; `None`: not at all.
    pub(crate) async fn trust_in(&self, target: &Target, from: Trust) -> Option<Trust> {
        let insecure = self.directory.is_insecure(&target.host, target.port).await;
        match (target.tls, insecure, from) {
            (true, true, _) => Some(Trust::AnyCertificate),
            (true, false, _) => Some(Trust::Verified),
            // What came over TLS is not continued without.
            (false, true, Trust::Plain | Trust::AnyCertificate) | (false, _, Trust::Plain) => {
                Some(Trust::Plain)
            }
            (false, ..) => None,
        }
    }

    /// One exchange without credentials of its own, redirects or second attempts.
    pub(crate) async fn exchange(
        &self,
        method: &Method,
        target: &Target,
        trust: Trust,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<Response<Incoming>, TransportFailure> {
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = target
            .path
            .parse()
            .map_err(|_| TransportFailure::bad_target())?;
        *request.headers_mut() = headers.clone();
        let user_agent = HeaderValue::from_str(&self.options.user_agent);
        request.headers_mut().insert(
            header::USER_AGENT,
            user_agent.unwrap_or_else(|_| HeaderValue::from_static("wharf")),
        );
        let host = HeaderValue::from_str(&target.authority());
        request.headers_mut().insert(
            header::HOST,
            host.map_err(|_| TransportFailure::bad_target())?,
        );
        self.pool.exchange(target, trust, request).await
    }

    /// The pause before attempt number `attempt` (the first is 0).
    pub(crate) fn pause(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let factor = 1_u32 << attempt.saturating_sub(1).min(4);
        let own = self.options.backoff.saturating_mul(factor);
        asked.unwrap_or(Duration::ZERO).min(PAUSE_MAX).max(own)
    }
}

/// The endpoint a session uses and what it wants to see.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) endpoint: Endpoint,
    challenges: Mutex<Vec<Challenge>>,
}

impl Link {
    pub(crate) fn challenges(&self) -> Vec<Challenge> {
        self.challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What one user does at one registry.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) registry: String,
    credentials: Credentials,
    tokens: Mutex<HashMap<String, Token>>,
}

#[derive(Clone)]
struct Token {
    value: String,
    expires: Instant,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A request as callers describe it.
#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

impl Call {
    pub(crate) fn new(method: Method) -> Self {
        Self {
            method,
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Result<Self, Error> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Error::Invalid(format!("invalid value for header {name}")))?;
        self.headers.append(name, value);
        Ok(self)
    }

    pub(crate) fn body(mut self, bytes: Bytes) -> Self {
        self.body = Some(bytes);
        self
    }
}

impl Session {
    pub(crate) fn new(client: &Client, registry: &str, credentials: Credentials) -> Self {
        Self {
            client: client.clone(),
            registry: registry.to_owned(),
            credentials,
            tokens: Mutex::default(),
        }
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.client.inner.options.idle_timeout
    }

    /// Where to look for this registry, in order of preference.
    pub(crate) async fn endpoints(&self, writing: bool) -> Result<Vec<Endpoint>, Error> {
        let inner = &self.client.inner;
        let mut endpoints = inner.directory.endpoints(&self.registry, writing).await?;
        let plain = inner.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if plain.contains(&self.registry) {
            endpoints.sort_by_key(|endpoint| endpoint.trust != Trust::Plain);
        }
        Ok(endpoints)
    }

    /// Asks an endpoint's `/v2/` whether it is a registry and what it wants to see.
    pub(crate) async fn link(&self, endpoint: Endpoint) -> Result<Link, Error> {
        let target = endpoint.api("");
        let inner = &self.client.inner;
        let mut attempt = 0;
        let response = loop {
            attempt += 1;
            let answer = inner
                .exchange(
                    &Method::GET,
                    &target,
                    endpoint.trust,
                    &HeaderMap::new(),
                    RequestBody::Empty,
                )
                .await;
            match answer {
                Err(failure) => return Err(failure.into_error(&Method::GET, &target)),
                Ok(response)
                    if is_temporary(response.status()) && attempt < inner.options.attempts =>
                {
                    tokio::time::sleep(inner.pause(attempt, retry_after(&response))).await;
                }
                Ok(response) => break response,
            }
        };
        let challenges = challenges_of(&response);
        if response.status().is_server_error() {
            return Err(Refusal::read(response, &challenges, self.idle_timeout())
                .await
                .into_error());
        }
        let mut plain = inner.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if endpoint.trust == Trust::Plain && !endpoint.mirror && plain.len() < 1024 {
            plain.insert(self.registry.clone());
        } else if !endpoint.mirror {
            plain.remove(&self.registry);
        }
        Ok(Link {
            endpoint,
            challenges: Mutex::new(challenges),
        })
    }

    /// Sends a request to the endpoint or, for uploads, to the address it gave. `scopes` are the
    /// rights it needs.
    ///
    /// Follows redirects of `GET` and `HEAD`, tries again when the network or the server fails,
    /// and once more with new credentials after a 401. The answer may still be a refusal.
    pub(crate) async fn send(
        &self,
        link: &Link,
        target: &Target,
        scopes: &[String],
        call: &Call,
    ) -> Result<Response<Incoming>, Error> {
        let inner = &self.client.inner;
        let mut attempt = 0;
        let mut refused = false;
        loop {
            attempt += 1;
            let last = attempt >= inner.options.attempts;
            let body = || {
                call.body
                    .clone()
                    .map_or(RequestBody::Empty, RequestBody::full)
            };
            match self.send_once(link, target, scopes, call, body).await {
                Err(Failed::Transport(failure, at)) if last => {
                    return Err(failure.into_error(&call.method, &at));
                }
                Err(Failed::Transport(failure, _)) => {
                    tracing::debug!(
                        target = target.shown(),
                        cause = failure.cause,
                        "registry request failed"
                    );
                    tokio::time::sleep(inner.pause(attempt, None)).await;
                }
                Err(Failed::Final(error)) => return Err(error),
                Ok(response) if is_temporary(response.status()) && !last => {
                    let pause = inner.pause(attempt, retry_after(&response));
                    tracing::debug!(target = target.shown(), status = %response.status(), "registry is busy");
                    tokio::time::sleep(pause).await;
                }
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !refused => {
                    refused = true;
                    attempt -= 1;
                    if !self.learn(link, &response) {
                        return Ok(response);
                    }
                    self.forget_tokens();
                }
                Ok(response) => return Ok(response),
            }
        }
    }

    /// The same for a body that comes in pieces and cannot be sent twice.
    pub(crate) async fn send_stream(
        &self,
        link: &Link,
        target: &Target,
        scopes: &[String],
        call: &Call,
        body: RequestBody,
    ) -> Result<Response<Incoming>, Error> {
        let mut body = Some(body);
        let body = || body.take().unwrap_or(RequestBody::Empty);
        match self.send_once(link, target, scopes, call, body).await {
            Ok(response) => {
                if response.status() == StatusCode::UNAUTHORIZED {
                    self.learn(link, &response);
                    self.forget_tokens();
                }
                Ok(response)
            }
            Err(Failed::Transport(failure, at)) => Err(failure.into_error(&call.method, &at)),
            Err(Failed::Final(error)) => Err(error),
        }
    }

    async fn send_once(
        &self,
        link: &Link,
        target: &Target,
        scopes: &[String],
        call: &Call,
        mut body: impl FnMut() -> RequestBody,
    ) -> Result<Response<Incoming>, Failed> {
        let inner = &self.client.inner;
        let endpoint = &link.endpoint;
        let mut at = target.clone();
        for _ in 0..=REDIRECT_COUNT_MAX {
            let mut headers = call.headers.clone();
            let trust = if at.same_origin(&endpoint.base) {
                // Only the endpoint itself ever sees who we are.
                if let Some(value) = self.authorization(link, call, &at, scopes).await? {
                    headers.insert(header::AUTHORIZATION, value);
                }
                endpoint.trust
            } else {
                inner.trust_in(&at, endpoint.trust).await.ok_or_else(|| {
                    Failed::Final(Error::Protocol(format!(
                        "redirect from HTTPS to {}",
                        at.shown()
                    )))
                })?
            };
            let response = inner
                .exchange(&call.method, &at, trust, &headers, body())
                .await
                .map_err(|failure| Failed::Transport(failure, at.clone()))?;
            let follow = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
                && (call.method == Method::GET || call.method == Method::HEAD);
            if !follow {
                return Ok(response);
            }
            at = location(&response, &at).map_err(Failed::Final)?;
        }
        Err(Failed::Final(Error::Protocol(format!(
            "more than {REDIRECT_COUNT_MAX} redirects from {}",
            target.shown()
        ))))
    }

    /// Takes over the challenges of a 401. `false` when there are none to meet.
    fn learn(&self, link: &Link, response: &Response<Incoming>) -> bool {
        let found = challenges_of(response);
        let insufficient = found
            .iter()
            .any(|one| one.get("error") == "insufficient_scope");
        let usable = found
            .iter()
            .any(|one| matches!(&*one.scheme, "basic" | "bearer"));
        let mut known = link
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // With the same name and password a second attempt ends as the first.
        let hopeless = *known == found && found.iter().all(|one| one.scheme != "bearer");
        if !usable || hopeless {
            return false;
        }
        *known = found;
        !insufficient || self.has_tokens()
    }

    fn has_tokens(&self) -> bool {
        !self
            .tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    fn forget_tokens(&self) {
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// The `Authorization` header the endpoint wants to see.
    async fn authorization(
        &self,
        link: &Link,
        call: &Call,
        at: &Target,
        scopes: &[String],
    ) -> Result<Option<HeaderValue>, Failed> {
        let anonymous = Credentials::default();
        let credentials = if link.endpoint.mirror {
            &anonymous
        } else {
            &self.credentials
        };
        let challenges = link.challenges();
        if !credentials.registry_token.is_empty() {
            return secret(&format!("Bearer {}", credentials.registry_token)).map(Some);
        }
        if let Some(bearer) = challenges.iter().find(|one| one.scheme == "bearer") {
            let token = self
                .token(link, bearer, credentials, scopes, call, at)
                .await?;
            return secret(&format!("Bearer {token}")).map(Some);
        }
        if challenges.iter().any(|one| one.scheme == "basic") {
            if credentials.username.is_empty() {
                return Err(Failed::Final(Error::Unauthorized(format!(
                    "{} \"{}\": {}",
                    auth::go_method(&call.method),
                    at.shown(),
                    auth::NO_CREDENTIALS
                ))));
            }
            return secret(&auth::basic(credentials)).map(Some);
        }
        Ok(None)
    }

    async fn token(
        &self,
        link: &Link,
        bearer: &Challenge,
        credentials: &Credentials,
        scopes: &[String],
        call: &Call,
        at: &Target,
    ) -> Result<String, Failed> {
        let mut wanted: Vec<String> = scopes.to_vec();
        for scope in bearer
            .get("scope")
            .split(' ')
            .filter(|scope| !scope.is_empty())
        {
            if wanted.len() < 8 && !wanted.iter().any(|known| known == scope) {
                wanted.push(scope.to_owned());
            }
        }
        let key = wanted.join(" ");
        let known = {
            let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens
                .get(&key)
                .filter(|token| token.expires > Instant::now())
                .cloned()
        };
        if let Some(token) = known {
            return Ok(token.value);
        }
        let inner = &self.client.inner;
        let ask = auth::TokenRequest {
            bearer,
            credentials,
            scopes: &wanted,
            offline: false,
        };
        let answer = match auth::fetch_token(inner, &link.endpoint, &ask).await {
            Ok(answer) => answer,
            Err(Error::Unauthorized(text)) => {
                let method = auth::go_method(&call.method);
                return Err(Failed::Final(Error::Unauthorized(format!(
                    "{method} \"{}\": {text}",
                    at.shown()
                ))));
            }
            Err(error) => return Err(Failed::Final(error)),
        };
        let token = Token {
            value: answer.token,
            expires: Instant::now() + answer.lifetime,
        };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(key, token.clone());
        Ok(token.value)
    }
}

/// Why one attempt failed.
enum Failed {
    /// On the way to this address; another attempt may do.
    Transport(TransportFailure, Target),
    /// For good.
    Final(Error),
}

fn secret(text: &str) -> Result<HeaderValue, Failed> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Failed::Final(Error::Invalid(
            "credentials contain characters HTTP cannot carry".to_owned(),
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where an answer sends us.
pub(crate) fn location(response: &Response<Incoming>, from: &Target) -> Result<Target, Error> {
    let header = response.headers().get(header::LOCATION);
    let text = header
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| {
            Error::Protocol(format!(
                "{} without a location from {from}",
                response.status()
            ))
        })?;
    from.join(text)
}

/// All challenges of an answer.
pub(crate) fn challenges_of(response: &Response<Incoming>) -> Vec<Challenge> {
    let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
    let texts = headers
        .iter()
        .take(4)
        .filter_map(|value| value.to_str().ok());
    texts.flat_map(challenge::parse).collect()
}

/// Whether the same request may succeed a little later.
fn is_temporary(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// The pause the server asks for, when it says so in seconds.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
