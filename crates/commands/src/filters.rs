//! `--filter key=value` as the JSON the API takes: `{"key": {"value": true}}`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Filters by key, each with its values.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

/// Checks one `--filter` value while parsing flags.
pub(crate) fn check(text: &str) -> Result<(), String> {
    split(text).map(|_| ())
}

fn split(text: &str) -> Result<Option<(String, String)>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "bad format of filter (expected name=value)".to_owned())?;
    Ok(Some((key.trim().to_lowercase(), value.trim().to_owned())))
}

impl Filters {
    /// Collects checked `--filter` values.
    pub(crate) fn parse(values: &[&str]) -> Self {
        let mut filters = Self::default();
        for (key, value) in values.iter().filter_map(|text| split(text).ok().flatten()) {
            filters.add(&key, &value);
        }
        filters
    }

    /// Adds one value.
    pub(crate) fn add(&mut self, key: &str, value: &str) {
        let values = self.0.entry(key.to_owned()).or_default();
        if !values.iter().any(|known| known == value) {
            values.push(value.to_owned());
        }
    }

    /// Whether a filter with this key was given.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Each filter as `key=value`, for questions.
    pub(crate) fn describe(&self) -> Vec<String> {
        self.0
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| format!("{key}={value}")))
            .collect()
    }

    /// The JSON text, empty when there are no filters.
    pub(crate) fn to_wire(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut out = Map::new();
        for (key, values) in &self.0 {
            let set: Map<String, Value> = values
                .iter()
                .map(|value| (value.clone(), json!(true)))
                .collect();
            out.insert(key.clone(), Value::Object(set));
        }
        Value::Object(out).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_sets() {
        let filters = Filters::parse(&["label=a=b", "Status=running", "label=a=b", "label=c"]);
        assert_eq!(
            filters.to_wire(),
            r#"{"label":{"a=b":true,"c":true},"status":{"running":true}}"#
        );
        assert!(check("x").is_err());
    }
}
