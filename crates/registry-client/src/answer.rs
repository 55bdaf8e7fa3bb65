//! What a registry answers when it refuses, and documents of bounded length.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::connection::exchange_cause;
use crate::error::Error;
use crate::target::shorten;

/// Most bytes of an error document.
const ERROR_LENGTH_MAX: u64 = 64 << 10;

/// A refusal: status and the first of the errors in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// `MANIFEST_UNKNOWN`, `DENIED`, …; empty when the registry gave none.
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Refusal {
    /// Docker's text: `manifest unknown: manifest unknown`.
    pub(crate) fn text(&self) -> String {
        if self.code.is_empty() {
            return self.message.clone();
        }
        let code = self.code.to_ascii_lowercase().replace('_', " ");
        if self.message.is_empty() {
            code
        } else {
            format!("{code}: {}", self.message)
        }
    }

    /// Reads the rest of an answer that is no success.
    pub(crate) async fn read(
        response: Response<Incoming>,
        challenges: &[Challenge],
        idle_timeout: Duration,
    ) -> Self {
        let status = response.status();
        let body = read_bounded(response.into_body(), ERROR_LENGTH_MAX, idle_timeout).await;
        Self::new(status, challenges, &body.unwrap_or_default())
    }

    fn new(status: hyper::StatusCode, challenges: &[Challenge], body: &[u8]) -> Self {
        let refusal = |code: &str, message: &str| Self {
            status: status.as_u16(),
            code: code.to_owned(),
            message: message.to_owned(),
        };
        // RFC 6750 section 3.1: the token is fine but does not cover this.
        let bearer = challenges
            .iter()
            .find(|challenge| challenge.scheme == "bearer");
        if status.as_u16() == 401
            && let Some(challenge) = bearer
            && challenge.get("error") == "insufficient_scope"
        {
            return refusal("DENIED", "requested access to the resource is denied");
        }
        if let Some((code, message)) = first_error(body) {
            return refusal(&code, &message);
        }
        match status.as_u16() {
            401 => refusal("UNAUTHORIZED", "authentication required"),
            403 => refusal("DENIED", "requested access to the resource is denied"),
            429 => refusal("TOOMANYREQUESTS", "too many requests"),
            _ => refusal("", &format!("received unexpected HTTP status: {status}")),
        }
    }

    /// Where no more special error fits.
    pub(crate) fn into_error(self) -> Error {
        match self.status {
            401 => Error::Unauthorized(self.text()),
            status => Error::Registry {
                status,
                message: self.text(),
            },
        }
    }
}

#[derive(Deserialize)]
struct ErrorDocument {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
    /// Docker Hub's token server.
    #[serde(default)]
    details: Option<String>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

fn first_error(body: &[u8]) -> Option<(String, String)> {
    let document: ErrorDocument = serde_json::from_slice(body).ok()?;
    let clean = |text: &str| {
        let printable: String = text.chars().filter(|c| !c.is_control()).collect();
        shorten(&printable)
    };
    if let Some(error) = document
        .errors
        .first()
        .filter(|error| !error.code.is_empty())
    {
        return Some((clean(&error.code), clean(&error.message)));
    }
    document
        .details
        .map(|details| ("UNAUTHORIZED".to_owned(), clean(&details)))
}

/// A whole body of at most `max` bytes. `Err` says what is wrong.
pub(crate) async fn read_bounded(
    mut body: Incoming,
    max: u64,
    idle_timeout: Duration,
) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = next_piece(&mut body, idle_timeout).await? {
        if bytes.len() as u64 + piece.len() as u64 > max {
            return Err(format!("answer is longer than {max} bytes"));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// The next bytes of a body, `None` at its end. `Err` is what broke it off.
pub(crate) async fn next_piece(
    body: &mut Incoming,
    idle_timeout: Duration,
) -> Result<Option<Bytes>, String> {
    loop {
        match tokio::time::timeout(idle_timeout, body.frame()).await {
            Err(_) => return Err("i/o timeout".to_owned()),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(exchange_cause(&error)),
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data()
                    && !bytes.is_empty()
                {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    fn text(status: u16, header: &str, body: &str) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        Refusal::new(status, &crate::challenge::parse(header), body.as_bytes()).text()
    }

    #[test]
    fn refusals_read_as_docker_words_them() {
        let body =
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#;
        assert_eq!(text(404, "", body), "manifest unknown: manifest unknown");
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        assert_eq!(
            text(401, "Basic realm=x", body),
            "unauthorized: authentication required"
        );
        assert_eq!(
            text(401, "Bearer realm=\"x\",error=\"insufficient_scope\"", body),
            "denied: requested access to the resource is denied"
        );
        assert_eq!(
            text(401, "", r#"{"details":"incorrect username or password"}"#),
            "unauthorized: incorrect username or password"
        );
        assert_eq!(
            text(403, "", "<html>"),
            "denied: requested access to the resource is denied"
        );
        assert_eq!(
            text(500, "", ""),
            "received unexpected HTTP status: 500 Internal Server Error"
        );
        assert!(
            text(
                400,
                "",
                &format!(r#"{{"errors":[{{"code":"{}"}}]}}"#, "x".repeat(9999))
            )
            .len()
                < 300
        );
    }
}
