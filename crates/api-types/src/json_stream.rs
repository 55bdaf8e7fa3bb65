//! One message of a progress stream (pull, push, load, import, build): a JSON object and `\r\n`.

use serde::{Deserialize, Serialize};

/// A message of a progress stream; only what is set is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamMessage {
    /// Text to print as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// A status line, of the whole operation or, with `id`, of one part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// How far a part is.
    #[serde(
        default,
        rename = "progressDetail",
        skip_serializing_if = "Option::is_none"
    )]
    pub progress_detail: Option<ProgressDetail>,
    /// The part: the first 12 digits of a layer, a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A bar drawn by the server, for clients that draw none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// The error that ended the stream.
    #[serde(
        default,
        rename = "errorDetail",
        skip_serializing_if = "Option::is_none"
    )]
    pub error_detail: Option<ErrorDetail>,
    /// The same error as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Machine-readable result: `{"ID":"sha256:…"}` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

/// How far a part is; empty when unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressDetail {
    /// Done so far, in `units` (bytes when empty).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub current: i64,
    /// All there is to do; 0 when unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub total: i64,
    /// Unix time of the begin, seconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start: i64,
    /// Show no counts.
    #[serde(
        default,
        rename = "hidecounts",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub hide_counts: bool,
    /// What is counted; bytes when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub units: String,
}

/// The error that ended a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// Exit code of a failed build step; 0 otherwise.
    #[serde(default, skip_serializing_if = "is_zero32")]
    pub code: i32,
    /// What went wrong.
    #[serde(default)]
    pub message: String,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_zero32(number: &i32) -> bool {
    *number == 0
}

impl StreamMessage {
    /// A status line of the whole operation.
    pub fn status(text: impl Into<String>) -> Self {
        Self {
            status: Some(text.into()),
            ..Self::default()
        }
    }

    /// A status of part `id`.
    pub fn part(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: Some(id.into()),
            progress_detail: Some(ProgressDetail::default()),
            ..Self::status(text)
        }
    }

    /// Progress of part `id`, in bytes.
    pub fn progress(
        id: impl Into<String>,
        text: impl Into<String>,
        current: u64,
        total: u64,
    ) -> Self {
        let as_i64 = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let detail = ProgressDetail {
            current: as_i64(current),
            total: as_i64(total),
            ..ProgressDetail::default()
        };
        Self {
            progress_detail: Some(detail),
            ..Self::part(id, text)
        }
    }

    /// Text to print as it is.
    pub fn stream(text: impl Into<String>) -> Self {
        Self {
            stream: Some(text.into()),
            ..Self::default()
        }
    }

    /// The error that ends the stream.
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            error_detail: Some(ErrorDetail {
                code: 0,
                message: message.clone(),
            }),
            error: Some(message),
            ..Self::default()
        }
    }

    /// The object and `\r\n`, ready to be sent.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line =
            serde_json::to_vec(self).expect("strings and numbers always have a JSON form");
        line.extend_from_slice(b"\r\n");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_dockers_form() {
        let text = |message: StreamMessage| String::from_utf8(message.to_line()).unwrap();
        assert_eq!(
            text(StreamMessage::part("abc", "Pulling fs layer")),
            "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"abc\"}\r\n"
        );
        assert_eq!(
            text(StreamMessage::progress("abc", "Downloading", 1, 2)),
            "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"abc\"}\r\n"
        );
        assert_eq!(
            text(StreamMessage::failure("no")),
            "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n"
        );
    }
}
