//! JSON objects as requests want them: without what says nothing.

use serde_json::{Map, Value, json};

use crate::matches::Matches;

/// A JSON object that takes only what says something.
#[derive(Debug, Default)]
pub(super) struct Object(pub(super) Map<String, Value>);

impl Object {
    pub(super) fn put(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    pub(super) fn flag(&mut self, key: &str, on: bool) {
        if on {
            self.put(key, json!(true));
        }
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.put(key, json!(text));
        }
    }

    pub(super) fn number(&mut self, key: &str, number: i64) {
        if number != 0 {
            self.put(key, json!(number));
        }
    }

    pub(super) fn list(&mut self, key: &str, list: Vec<String>) {
        if !list.is_empty() {
            self.put(key, json!(list));
        }
    }

    pub(super) fn values(&mut self, key: &str, list: Vec<Value>) {
        if !list.is_empty() {
            self.put(key, Value::Array(list));
        }
    }

    pub(super) fn object(&mut self, key: &str, map: Map<String, Value>) {
        if !map.is_empty() {
            self.put(key, Value::Object(map));
        }
    }

    pub(super) fn pairs(&mut self, key: &str, pairs: Vec<(String, String)>) {
        self.object(
            key,
            pairs
                .into_iter()
                .map(|(k, v)| (k, Value::String(v)))
                .collect(),
        );
    }

    pub(super) fn texts(&mut self, key: &str, m: &Matches, flag: &str) {
        self.list(key, m.list(flag).into_iter().map(str::to_owned).collect());
    }
}
