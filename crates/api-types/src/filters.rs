//! The `filters` query parameter of lists, prunes and events.
//!
//! A JSON object in one of two forms: `{"label":["a=b","c"]}`, or the older
//! `{"label":{"a=b":true,"c":true}}`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// Values per filter name, in the order given, without duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    fields: BTreeMap<String, Vec<String>>,
}

/// A `filters` parameter that can not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterError {
    /// Not JSON of either form.
    Syntax(String),
    /// The list has no such filter.
    UnknownName(String),
    /// The value makes no sense for this filter.
    Value {
        /// The filter.
        name: String,
        /// Its value or values.
        value: String,
    },
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(why) => write!(f, "invalid filter: {why}"),
            Self::UnknownName(name) => write!(f, "invalid filter '{name}'"),
            Self::Value { name, value } => write!(f, "invalid filter '{name}={value}'"),
        }
    }
}

impl std::error::Error for FilterError {}

impl Filters {
    /// No filters: everything matches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses the query parameter; the empty string means no filters.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let syntax = |why: &str| FilterError::Syntax(why.to_owned());
        let value: Value =
            serde_json::from_str(text).map_err(|error| FilterError::Syntax(error.to_string()))?;
        let object = match value {
            Value::Object(object) => object,
            Value::Null => return Ok(Self::default()),
            _ => return Err(syntax("a JSON object is expected")),
        };
        let mut filters = Self::default();
        for (name, values) in object {
            match values {
                Value::Array(list) => {
                    for value in list {
                        let Value::String(value) = value else {
                            return Err(syntax("filter values must be strings"));
                        };
                        filters.add(&name, value);
                    }
                }
                Value::Object(set) => {
                    for (value, wanted) in set {
                        match wanted {
                            Value::Bool(true) => filters.add(&name, value),
                            Value::Bool(false) | Value::Null => {}
                            _ => return Err(syntax("filter values must be booleans")),
                        }
                    }
                }
                Value::Null => {}
                _ => return Err(syntax("filter values must be a list of strings")),
            }
        }
        Ok(filters)
    }

    /// Adds one value.
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        let values = self.fields.entry(name.to_owned()).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }

    /// Removes a filter and returns its values.
    pub fn take(&mut self, name: &str) -> Vec<String> {
        self.fields.remove(name).unwrap_or_default()
    }

    /// Whether there is no filter at all.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether this filter is given.
    pub fn contains(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The values of one filter; empty when it is not given.
    pub fn get(&self, name: &str) -> &[String] {
        self.fields.get(name).map_or(&[], Vec::as_slice)
    }

    /// All filters with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.fields
            .iter()
            .map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// Refuses names that are not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), FilterError> {
        match self
            .fields
            .keys()
            .find(|name| !known.contains(&name.as_str()))
        {
            Some(name) => Err(FilterError::UnknownName(name.clone())),
            None => Ok(()),
        }
    }

    /// A filter with a truth value; `default` when it is not given.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, FilterError> {
        let values = self.get(name);
        let has = |wanted: &[&str]| values.iter().any(|value| wanted.contains(&value.as_str()));
        match (values.is_empty(), has(&["1", "true"]), has(&["0", "false"])) {
            (true, ..) => Ok(default),
            (false, true, false) => Ok(true),
            (false, false, true) => Ok(false),
            _ => Err(FilterError::Value {
                name: name.to_owned(),
                value: format!("[{}]", values.join(" ")),
            }),
        }
    }

    /// Not given, or one of its values equals `value`.
    pub fn matches_exactly(&self, name: &str, value: &str) -> bool {
        let values = self.get(name);
        values.is_empty() || values.iter().any(|wanted| wanted == value)
    }

    /// Not given, or one of its values is a part of `value`. Docker takes the value as a regular
    /// expression; `^` and `$` are honoured here, other characters stand for themselves.
    pub fn matches_part(&self, name: &str, value: &str) -> bool {
        let values = self.get(name);
        values.is_empty() || values.iter().any(|wanted| part_matches(wanted, value))
    }

    /// Not given, or one of its values is a prefix of `value`.
    pub fn matches_prefix(&self, name: &str, value: &str) -> bool {
        let values = self.get(name);
        values.is_empty()
            || values
                .iter()
                .any(|wanted| value.starts_with(wanted.as_str()))
    }

    /// Not given, or all of its values (`key` or `key=value`) are among `labels`.
    pub fn matches_labels(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(name)
            .iter()
            .all(|wanted| label_matches(wanted, labels))
    }

    /// The opposite sense of `label!`: none of its values is among `labels`.
    pub fn excludes_labels(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        !self
            .get(name)
            .iter()
            .any(|wanted| label_matches(wanted, labels))
    }

    /// The query parameter, in the list form.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.fields).expect("strings always have a JSON form")
    }
}

/// Whether `value` contains `wanted`, which may be anchored with `^` and `$`.
pub fn part_matches(wanted: &str, value: &str) -> bool {
    let (anchored_start, rest) = match wanted.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, wanted),
    };
    let (anchored_end, rest) = match rest.strip_suffix('$') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    match (anchored_start, anchored_end) {
        (true, true) => value == rest,
        (true, false) => value.starts_with(rest),
        (false, true) => value.ends_with(rest),
        (false, false) => value.contains(rest),
    }
}

fn label_matches(wanted: &str, labels: &BTreeMap<String, String>) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let list = Filters::parse(r#"{"label":["a=b","c"],"dangling":["true"]}"#).unwrap();
        let map =
            Filters::parse(r#"{"label":{"a=b":true,"c":true,"d":false},"dangling":{"true":true}}"#)
                .unwrap();
        assert_eq!(list, map);
        assert!(list.flag("dangling", false).unwrap());
        assert!(!list.flag("all", false).unwrap());
        assert_eq!(Filters::parse(&list.to_json()).unwrap(), list);
    }

    #[test]
    fn garbage_is_refused() {
        for bad in [
            "refused",
            "[]",
            "1",
            r#"{"a":1}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"b":1}}"#,
            "{",
        ] {
            assert!(Filters::parse(bad).is_err(), "{bad}");
        }
        let filters = Filters::parse(r#"{"x":["1"]}"#).unwrap();
        assert_eq!(
            filters.only(&["label"]).unwrap_err().to_string(),
            "invalid filter 'x'"
        );
        let both = Filters::parse(r#"{"d":["1","0"]}"#).unwrap();
        assert_eq!(
            both.flag("d", false).unwrap_err().to_string(),
            "invalid filter 'd=[1 0]'"
        );
    }

    #[test]
    fn label_filters_are_joined_by_and() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let matches = |text| {
            Filters::parse(text)
                .unwrap()
                .matches_labels("label", &labels)
        };
        assert!(matches(r#"{"label":["a"]}"#));
        assert!(matches(r#"{"label":["a=b"]}"#));
        assert!(!matches(r#"{"label":["a=b","c"]}"#));
        assert!(matches("{}"));
    }
}
