//! `--format` of commands that print rows: `table`, `table TEMPLATE`, `json` or a template.

use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;
use wharf_go_template::{Functions, Methods, Template, Value};

use super::table;
use crate::outcome::{Failure, Outcome};

/// One field of a row: the name templates use and its value, `None` for Go's nil.
pub(crate) type Field = (&'static str, Option<String>);

/// A field with a text.
pub(crate) fn field(name: &'static str, text: impl Into<String>) -> Field {
    (name, Some(text.into()))
}

/// What kind of rows a list has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The Go type templates see, for their error messages.
    pub(crate) type_name: &'static str,
    /// The columns of the default table.
    pub(crate) columns: &'static [&'static str],
    /// Headers by field name, in the order fields are declared.
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

/// One row of a list: named values, and labels for `.Label "key"`.
pub(crate) struct Row {
    type_name: &'static str,
    fields: Vec<Field>,
    labels: Option<Vec<(String, String)>>,
}

impl Row {
    /// A row of these fields.
    pub(crate) fn new(shape: &Shape, fields: Vec<Field>) -> Self {
        Self {
            type_name: shape.type_name,
            fields,
            labels: None,
        }
    }

    /// The same that answers `.Label "key"`.
    pub(crate) fn with_labels(mut self, labels: Vec<(String, String)>) -> Self {
        self.labels = Some(labels);
        self
    }

    fn get(&self, name: &str) -> Option<&Option<String>> {
        self.fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }

    /// The row as JSON, fields by name.
    pub(crate) fn json(&self) -> Json {
        self.to_json()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.type_name).finish_non_exhaustive()
    }
}

impl Methods for Row {
    fn type_name(&self) -> &str {
        self.type_name
    }

    fn arity(&self, method: &str) -> Option<usize> {
        match method {
            "Label" if self.labels.is_some() => Some(1),
            _ => self.get(method).map(|_| 0),
        }
    }

    fn call(&self, method: &str, args: &[&str]) -> Result<Value, String> {
        if let ("Label", [key], Some(labels)) = (method, args, &self.labels) {
            let value = labels
                .iter()
                .find(|(name, _)| name == key)
                .map_or("", |(_, value)| value.as_str());
            return Ok(value.into());
        }
        match self.get(method) {
            Some(Some(text)) => Ok(text.as_str().into()),
            Some(None) => Ok(Value::nil()),
            None => Err(format!("no method {method}")),
        }
    }

    fn to_json(&self) -> Json {
        let mut fields: Vec<&Field> = self.fields.iter().collect();
        fields.sort_unstable_by_key(|(name, _)| *name);
        let json = |value: &Option<String>| value.clone().map_or(Json::Null, Json::String);
        Json::Object(
            fields
                .into_iter()
                .map(|(name, value)| ((*name).to_owned(), json(value)))
                .collect(),
        )
    }
}

/// Headers stand in for a row while the head of a table is made.
#[derive(Debug)]
struct Head(&'static [(&'static str, &'static str)]);

impl Methods for Head {
    fn type_name(&self) -> &str {
        "formatter.SubHeaderContext"
    }

    fn arity(&self, method: &str) -> Option<usize> {
        match method {
            "Label" => Some(1),
            _ => Some(0),
        }
    }

    fn call(&self, method: &str, args: &[&str]) -> Result<Value, String> {
        if let ("Label", [key]) = (method, args) {
            // The last part of a dotted label, as Docker heads such a column.
            let name = key.rsplit('.').next().unwrap_or(key);
            return Ok(name.replace(['-', '_'], " ").as_str().into());
        }
        let header = self
            .0
            .iter()
            .find(|(name, _)| *name == method)
            .map_or("<no value>", |(_, header)| *header);
        Ok(header.into())
    }

    fn to_json(&self) -> Json {
        Json::Object(
            self.0
                .iter()
                .map(|(name, header)| ((*name).to_owned(), Json::from(*header)))
                .collect(),
        )
    }
}

/// How rows are printed.
pub(crate) enum Format {
    /// The default table.
    Table,
    /// Columns of the user's choice under headers.
    TableOf {
        /// For the rows.
        rows: Template,
        /// For the headers.
        head: Template,
    },
    /// Each row through a template.
    Each(Template),
}

impl Format {
    /// Reads `--format`; an empty one is the default table.
    pub(crate) fn parse(text: &str) -> Outcome<Self> {
        let wrong = |error| Failure::new(format!("template parsing error: {error}"));
        let template = |text: &str| Template::parse(text).map_err(wrong);
        let unescaped = text.replace("\\t", "\t").replace("\\n", "\n");
        Ok(match text {
            "" | "table" => Self::Table,
            "json" => Self::Each(template("{{json .}}")?),
            _ => match unescaped.trim_matches(' ').strip_prefix("table") {
                Some(columns) => Self::TableOf {
                    rows: template(columns.trim_matches(' '))?,
                    head: Template::with_functions(columns.trim_matches(' '), Functions::Header)
                        .map_err(wrong)?,
                },
                None => Self::Each(template(unescaped.trim_matches(' '))?),
            },
        })
    }

    /// Renders rows as one text, line ends included.
    pub(crate) fn render(&self, shape: &Shape, rows: Vec<Row>) -> Outcome<String> {
        self.render_columns(shape, shape.columns, rows)
    }

    /// The same with other columns in the default table.
    pub(crate) fn render_columns(
        &self,
        shape: &Shape,
        columns: &[&'static str],
        rows: Vec<Row>,
    ) -> Outcome<String> {
        let mut out = String::new();
        match self {
            Self::Table => {
                let header = |column: &&str| {
                    shape
                        .headers
                        .iter()
                        .find(|(name, _)| name == column)
                        .map_or("", |(_, header)| *header)
                };
                out.push_str(&columns.iter().map(header).collect::<Vec<_>>().join("\t"));
                out.push('\n');
                for row in &rows {
                    for (at, column) in columns.iter().enumerate() {
                        if at > 0 {
                            out.push('\t');
                        }
                        if let Some(Some(text)) = row.get(column) {
                            out.push_str(text);
                        }
                    }
                    out.push('\n');
                }
                Ok(table::align(&out, table::LIST))
            }
            Self::TableOf {
                rows: template,
                head,
            } => {
                let head = head
                    .execute(&Value::methods(Arc::new(Head(shape.headers))))
                    .map_err(|error| Failure::new(format!("template parsing error: {error}")))?;
                out.push_str(&head);
                out.push('\n');
                execute(template, rows, &mut out)?;
                Ok(table::align(&out, table::LIST))
            }
            Self::Each(template) => {
                execute(template, rows, &mut out)?;
                Ok(out)
            }
        }
    }

    /// Whether this is a table of any kind.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self, Self::Table | Self::TableOf { .. })
    }

    /// Whether this is the default table.
    pub(crate) fn is_default(&self) -> bool {
        matches!(self, Self::Table)
    }
}

fn execute(template: &Template, rows: Vec<Row>, out: &mut String) -> Outcome {
    for row in rows {
        let text = template
            .execute(&Value::methods(Arc::new(row)))
            .map_err(|error| Failure::new(format!("template parsing error: {error}")))?;
        out.push_str(&text);
        out.push('\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    static SHAPE: Shape = Shape {
        type_name: "*test.rowContext",
        columns: &["ID", "Name"],
        headers: &[("ID", "ROW ID"), ("Name", "NAME"), ("Size", "SIZE")],
    };

    fn rows() -> Vec<Row> {
        let row = |id: &str, name: &str| {
            Row::new(
                &SHAPE,
                vec![field("ID", id), field("Name", name), ("Size", None)],
            )
            .with_labels(vec![("com.x.role".to_owned(), format!("role of {name}"))])
        };
        vec![row("1", "a & b"), row("2", "")]
    }

    fn render(format: &str) -> Result<String, String> {
        let format = Format::parse(format).map_err(|failure| failure.text().to_owned())?;
        format
            .render(&SHAPE, rows())
            .map_err(|failure| failure.text().to_owned())
    }

    #[test]
    fn every_form_of_format_is_rendered() {
        let table = "ROW ID    NAME\n1         a & b\n2         \n";
        assert_eq!(render("").unwrap(), table);
        assert_eq!(render("table").unwrap(), table);
        assert_eq!(
            render(r#"table {{.Name}}\t{{.Label "com.x.role"}}"#).unwrap(),
            "NAME      role\na & b     role of a & b\n          role of \n"
        );
        assert_eq!(render("{{.ID}}:{{upper .Name}}").unwrap(), "1:A & B\n2:\n");
        assert_eq!(
            render("json").unwrap(),
            "{\"ID\":\"1\",\"Name\":\"a \\u0026 b\",\"Size\":null}\n{\"ID\":\"2\",\"Name\":\"\",\"Size\":null}\n"
        );
    }

    #[test]
    fn a_wrong_field_names_the_type() {
        assert_eq!(
            render("{{.Foo}}").unwrap_err(),
            "template parsing error: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *test.rowContext"
        );
        assert!(
            render("{{")
                .unwrap_err()
                .starts_with("template parsing error: ")
        );
    }
}
