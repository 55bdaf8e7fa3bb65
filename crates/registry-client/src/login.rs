//! Checking a user's credentials, as `docker login` asks for.

use std::fmt;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use crate::auth::{TokenRequest, basic, fetch_token};
use crate::client::{Client, Link, Session};
use crate::connection::RequestBody;
use crate::credentials::Credentials;
use crate::endpoint::is_hub;
use crate::error::Error;

/// A successful login.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// For the user: `Login Succeeded`.
    pub status: String,
    /// A refresh token to keep instead of the password; often empty.
    pub identity_token: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The registry host of a server address as users and credential files write it:
/// `https://index.docker.io/v1/` is `docker.io`.
pub fn server_host(address: &str) -> &str {
    let bare = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"));
    let host = bare
        .unwrap_or(address)
        .split('/')
        .next()
        .unwrap_or_default();
    if host.is_empty() || is_hub(host) {
        "docker.io"
    } else {
        host
    }
}

impl Client {
    /// Proves `credentials` to the registry at `server` (empty: Docker Hub).
    ///
    /// # Errors
    /// [`Error::LoginFailed`] when the registry does not accept them.
    pub async fn login(&self, server: &str, credentials: &Credentials) -> Result<Login, Error> {
        let session = Session::new(self, server_host(server), credentials.clone());
        let mut failure = Error::Invalid("no endpoint".to_owned());
        for endpoint in session.endpoints(true).await? {
            match session.link(endpoint).await {
                Ok(link) => return self.login_on(&link, credentials).await,
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn login_on(&self, link: &Link, credentials: &Credentials) -> Result<Login, Error> {
        let target = link.endpoint.api("");
        let challenges = link.challenges();
        let mut identity_token = String::new();
        let mut headers = HeaderMap::new();
        let mut authorize = |text: &str| {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| Error::Invalid("credentials HTTP cannot carry".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
            Ok::<(), Error>(())
        };
        if let Some(bearer) = challenges.iter().find(|one| one.scheme == "bearer") {
            let ask = TokenRequest {
                bearer,
                credentials,
                scopes: &[],
                offline: true,
            };
            let answer = fetch_token(&self.inner, &link.endpoint, &ask).await;
            let answer = answer.map_err(|error| match error {
                Error::Unauthorized(text) => {
                    Error::LoginFailed(format!("Get \"{target}\": {text}"))
                }
                other => other,
            })?;
            authorize(&format!("Bearer {}", answer.token))?;
            identity_token = answer.refresh_token;
        } else if challenges.iter().any(|one| one.scheme == "basic") {
            authorize(&basic(credentials))?;
        }
        let trust = link.endpoint.trust;
        let response = self
            .inner
            .exchange(
                &Method::GET,
                &target,
                trust,
                &headers,
                RequestBody::full(Bytes::new()),
            )
            .await
            .map_err(|failure| failure.into_error(&Method::GET, &target))?;
        match response.status() {
            StatusCode::OK => Ok(Login {
                status: "Login Succeeded".to_owned(),
                identity_token,
            }),
            status => {
                let text = format!("login attempt to {target} failed with status: {status}");
                match status {
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                        Err(Error::LoginFailed(text))
                    }
                    _ => Err(Error::Registry {
                        status: status.as_u16(),
                        message: text,
                    }),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::server_host;

    #[test]
    fn server_addresses_name_hosts() {
        for (address, host) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://reg.example/v2/", "reg.example"),
        ] {
            assert_eq!(server_host(address), host);
        }
    }
}
