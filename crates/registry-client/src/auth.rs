//! Token servers (distribution's `auth/token` and `auth/oauth` documents) and basic credentials.
//!
//! `GET realm?service=&scope=…` with basic credentials, or, with an identity token,
//! `POST realm` with an OAuth2 refresh grant.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;

use crate::answer::{Refusal, read_bounded};
use crate::challenge::Challenge;
use crate::client::ClientInner;
use crate::connection::RequestBody;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::target::{Target, query_escape, shorten};

/// Most bytes of a token document.
const DOCUMENT_LENGTH_MAX: u64 = 256 << 10;
/// Most bytes of a token: it must fit a header.
const TOKEN_LENGTH_MAX: usize = 32 << 10;
/// How long a token lives when its server does not say, and at least.
const LIFETIME_MIN: Duration = Duration::from_secs(60);
/// How we introduce ourselves; token servers know this name.
const CLIENT_ID: &str = "docker";

/// Docker's text for a password that is needed and not there.
pub(crate) const NO_CREDENTIALS: &str = "no basic auth credentials";

/// What a token server is asked.
#[derive(Debug)]
pub(crate) struct TokenRequest<'a> {
    pub(crate) bearer: &'a Challenge,
    pub(crate) credentials: &'a Credentials,
    pub(crate) scopes: &'a [String],
    /// Ask for a refresh token too (a login).
    pub(crate) offline: bool,
}

/// What it answers.
pub(crate) struct TokenAnswer {
    pub(crate) token: String,
    pub(crate) lifetime: Duration,
    pub(crate) refresh_token: String,
}

#[derive(Deserialize)]
struct TokenDocument {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    refresh_token: String,
    #[serde(default)]
    expires_in: u64,
}

/// `Get`, `Head`: how Go begins its errors.
pub(crate) fn go_method(method: &Method) -> String {
    let name = method.as_str();
    format!("{}{}", &name[..1], name[1..].to_ascii_lowercase())
}

/// The value of a basic `Authorization` header.
pub(crate) fn basic(credentials: &Credentials) -> String {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    format!("Basic {}", STANDARD.encode(pair))
}

/// Fetches a token.
pub(crate) async fn fetch_token(
    client: &ClientInner,
    endpoint: &Endpoint,
    ask: &TokenRequest<'_>,
) -> Result<TokenAnswer, Error> {
    let realm = Target::parse(ask.bearer.get("realm"))?;
    let trust = match endpoint.trust {
        trust if realm.same_origin(&endpoint.base) => trust,
        trust => client.trust_in(&realm, trust).await.ok_or_else(|| {
            Error::Protocol(format!("token server {} does not use HTTPS", realm.shown()))
        })?,
    };
    let (method, target, headers, body) = request(ask, &realm)?;
    let mut attempt = 0;
    let response = loop {
        attempt += 1;
        let sent = body.clone().map_or(RequestBody::Empty, RequestBody::full);
        let last = attempt >= client.options.attempts;
        match client
            .exchange(&method, &target, trust, &headers, sent)
            .await
        {
            Ok(response) if response.status().is_server_error() && !last => {}
            Ok(response) => break response,
            Err(failure) if last => return Err(failure.into_error(&method, &realm)),
            Err(_) => {}
        }
        tokio::time::sleep(client.pause(attempt, None)).await;
    };
    let idle_timeout = client.options.idle_timeout;
    let status = response.status();
    if status != StatusCode::OK {
        let refusal = Refusal::read(response, &[], idle_timeout).await;
        return Err(match status.as_u16() {
            401 | 403 => Error::Unauthorized(refusal.text()),
            status => Error::Registry {
                status,
                message: format!(
                    "failed to fetch token from {}: {}",
                    realm.host,
                    refusal.text()
                ),
            },
        });
    }
    let bad = |why: &str| Error::Protocol(format!("token from {}: {why}", shorten(&realm.host)));
    let bytes = read_bounded(response.into_body(), DOCUMENT_LENGTH_MAX, idle_timeout)
        .await
        .map_err(|why| bad(&why))?;
    let document: TokenDocument =
        serde_json::from_slice(&bytes).map_err(|_| bad("not a token document"))?;
    let token = if document.token.is_empty() {
        document.access_token
    } else {
        document.token
    };
    if token.is_empty() {
        return Err(bad(
            "authorization server did not include a token in the response",
        ));
    }
    if token.len() > TOKEN_LENGTH_MAX || document.refresh_token.len() > TOKEN_LENGTH_MAX {
        return Err(bad("too long"));
    }
    let lifetime = Duration::from_secs(document.expires_in.min(24 * 3600)).max(LIFETIME_MIN);
    // Renewed before it expires under way.
    let lifetime = lifetime * 9 / 10;
    Ok(TokenAnswer {
        token,
        lifetime,
        refresh_token: document.refresh_token,
    })
}

type Parts = (Method, Target, HeaderMap, Option<bytes::Bytes>);

fn request(ask: &TokenRequest<'_>, realm: &Target) -> Result<Parts, Error> {
    let credentials = ask.credentials;
    let service = ask.bearer.get("service");
    let mut headers = HeaderMap::new();
    if !credentials.identity_token.is_empty() {
        let form = [
            ("grant_type", "refresh_token"),
            ("service", service),
            ("client_id", CLIENT_ID),
            ("scope", &ask.scopes.join(" ")),
            ("refresh_token", &credentials.identity_token),
        ]
        .map(|(name, value)| format!("{name}={}", query_escape(value)))
        .join("&");
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form_type);
        return Ok((Method::POST, realm.clone(), headers, Some(form.into())));
    }
    let mut query = Vec::new();
    if !service.is_empty() {
        query.push(format!("service={}", query_escape(service)));
    }
    query.extend(
        ask.scopes
            .iter()
            .map(|scope| format!("scope={}", query_escape(scope))),
    );
    if ask.offline {
        query.push("offline_token=true".to_owned());
    }
    query.push(format!("client_id={CLIENT_ID}"));
    if !credentials.username.is_empty() {
        query.push(format!("account={}", query_escape(&credentials.username)));
        let mut value = HeaderValue::from_str(&basic(credentials))
            .map_err(|_| Error::Invalid("credentials HTTP cannot carry".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    let separator = if realm.path.contains('?') { '&' } else { '?' };
    let target = realm.with_path(format!("{}{separator}{}", realm.path, query.join("&")));
    Ok((Method::GET, target, headers, None))
}
