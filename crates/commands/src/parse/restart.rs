//! `--restart`: `no`, `always`, `unless-stopped`, `on-failure[:RETRIES]`.

use serde_json::{Value, json};

/// Parses a restart policy; the empty text is none.
pub fn parse(text: &str) -> Result<Option<Value>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let count = match count {
        None | Some("") => 0,
        Some(text) => text.parse::<i64>().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(Some(json!({"Name": name, "MaximumRetryCount": count})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read() {
        assert_eq!(
            parse("on-failure:3").unwrap(),
            Some(json!({"Name": "on-failure", "MaximumRetryCount": 3}))
        );
        assert_eq!(parse("").unwrap(), None);
        assert!(parse(":3").is_err() && parse("a:b").is_err() && parse("a:1:2").is_err());
    }
}
