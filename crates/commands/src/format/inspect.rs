//! Output of the `inspect` commands: one JSON array, or a template per object.
//!
//! Docker's client runs a template on its own Go structs first and, when that fails, on the JSON
//! as it came. The structs show: absent fields have zero values, maps and structs print in a
//! fixed order. So a template sees a typed value here too where [`super::types`] declares it.

use serde_json::Value as Json;
use wharf_go_template::{MissingKey, Template, Value};

use super::types;
use crate::cli::{print, say_error};
use crate::outcome::{Failure, Outcome};

/// What kind of object is inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

impl Kind {
    /// The declared type of such an object.
    fn type_name(self) -> &'static str {
        match self {
            Self::Container => "container.InspectResponse",
            Self::Image => "image.InspectResponse",
            Self::Network => "network.Inspect",
            Self::Volume => "volume.Volume",
        }
    }
}

/// Looks up every name and prints what was found; names that are not there are reported after it
/// and make the command fail.
pub(crate) fn run(
    names: &[String],
    format: &str,
    kind: Kind,
    mut get: impl FnMut(&str) -> Outcome<Json>,
) -> Outcome {
    run_mixed(names, format, |name| Ok((kind, get(name)?)))
}

/// The same for objects of several kinds.
pub(crate) fn run_mixed(
    names: &[String],
    format: &str,
    mut get: impl FnMut(&str) -> Outcome<(Kind, Json)>,
) -> Outcome {
    let template = match format {
        "" | "json" => None,
        text => Some(parse(text)?),
    };
    let mut found = Vec::new();
    let mut errors = Vec::new();
    let mut out = String::new();
    for name in names {
        let object = get(name);
        match (object, &template) {
            (Err(failure), _) => errors.push(failure),
            (Ok((_, object)), None) => found.push(object),
            (Ok((kind, object)), Some(template)) => match render(template, kind, &object) {
                Ok(text) => {
                    out.push_str(&text);
                    out.push('\n');
                }
                Err(failure) => {
                    errors.push(failure);
                    break;
                }
            },
        }
    }
    match template {
        None if format == "json" => out = Json::Array(found).to_string() + "\n",
        None => out = pretty(&Json::Array(found)) + "\n",
        // Docker ends even an empty output with a line.
        Some(_) if out.is_empty() => out.push('\n'),
        Some(_) => {}
    }
    print(&out)?;
    finish(errors)
}

/// Reports each failure on a line and ends with the status of a failed command.
pub(crate) fn finish(errors: Vec<Failure>) -> Outcome {
    match errors.last() {
        None => Ok(()),
        Some(last) => {
            let status = last.status;
            errors
                .iter()
                .filter(|failure| failure.message.is_some())
                .for_each(|failure| say_error(failure.text()));
            Err(Failure::status(status))
        }
    }
}

/// Parses the template of an `inspect` command; its mistakes have an exit status of their own.
pub(crate) fn parse(text: &str) -> Outcome<Template> {
    Template::parse(text)
        .map_err(|error| Failure::new(format!("template parsing error: {error}")).with_status(64))
}

fn render(template: &Template, kind: Kind, object: &Json) -> Outcome<String> {
    if let Some(text) =
        types::value(kind.type_name(), object).and_then(|typed| template.execute(&typed).ok())
    {
        return Ok(text);
    }
    template
        .clone()
        .missing_key(MissingKey::Error)
        .execute(&Value::from_json(object))
        .map_err(|error| Failure::new(format!("template parsing error: {error}")))
}

/// JSON with four blanks of indentation, as Docker prints it.
pub(crate) fn pretty(value: &Json) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    if serde::Serialize::serialize(value, &mut serializer).is_err() {
        return String::new();
    }
    String::from_utf8(text).unwrap_or_default()
}
