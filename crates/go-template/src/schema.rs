//! Struct types declared in a text, and JSON read as values of them.
//!
//! Docker's command line hands Go structs to its templates, and that shows: `{{.State}}` prints
//! the values in the order of the struct, a field that JSON left out is there with its zero
//! value, a misspelt one is an error that names the type. The declarations look like Go's:
//!
//! ```text
//! type container.State struct {
//!     Status   string
//!     Pid      int
//!     Health   *container.Health `Health,omitempty`
//! }
//! type container.NetworkMode string
//! ```
//!
//! Behind a field may stand its JSON name in backquotes when it differs, `-` for a field JSON does
//! not have. A field that is only a type is embedded. Types are declared before they are used.
//! Known without declaration: Go's basic types, `interface {}` (or `any`), `time.Time`,
//! `time.Duration` and `json.Number`. Map keys are of string types.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::types::{Field, Kind, NamedType, StructType, TextForm, Type};
use crate::value::{Data, Value};

/// A declaration that cannot be read, or JSON that does not fit one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A mistake in the declarations.
    #[error("type declarations, line {line}: {message}")]
    Declaration {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// No type of this name is declared.
    #[error("type {0} is not declared")]
    UnknownType(String),
    /// JSON of another type than declared.
    #[error("cannot read JSON {found} into Go value of type {ty}")]
    Mismatch {
        /// What stood there: `string`, `object`, ….
        found: &'static str,
        /// The declared type.
        ty: String,
    },
}

/// A set of declared types.
#[derive(Debug, Clone)]
pub struct Schema {
    types: HashMap<String, Type>,
}

impl Schema {
    /// Reads type declarations.
    ///
    /// # Errors
    /// [`SchemaError::Declaration`] with the line of the first mistake.
    pub fn parse(declarations: &str) -> Result<Self, SchemaError> {
        let mut reader = Reader {
            tokens: tokens(declarations)?,
            at: 0,
            types: builtin_types(),
        };
        while reader.peek().is_some() {
            reader.declaration()?;
        }
        Ok(Self {
            types: reader.types,
        })
    }

    /// `json` as a value of the declared type `type_name`, which may be written with `*` or `[]`
    /// in front.
    ///
    /// # Errors
    /// When the type is not declared or the JSON does not fit it.
    pub fn value(&self, type_name: &str, json: &Json) -> Result<Value, SchemaError> {
        let ty = self.lookup(type_name)?;
        convert(&ty, json)
    }

    fn lookup(&self, name: &str) -> Result<Type, SchemaError> {
        if let Some(target) = name.strip_prefix('*') {
            return Ok(Type::Pointer(Arc::new(self.lookup(target)?)));
        }
        if let Some(element) = name.strip_prefix("[]") {
            return Ok(Type::slice_of(self.lookup(element)?));
        }
        self.types
            .get(name)
            .cloned()
            .ok_or_else(|| SchemaError::UnknownType(name.to_owned()))
    }
}

fn named(name: &str, underlying: Type, text: TextForm) -> Type {
    Type::Named(Arc::new(NamedType {
        name: name.to_owned(),
        underlying,
        text,
    }))
}

fn builtin_types() -> HashMap<String, Type> {
    let mut types = HashMap::new();
    for name in ["int", "int8", "int16", "int32", "int64"] {
        types.insert(name.to_owned(), Type::Int(name));
    }
    for name in ["uint", "uint8", "uint16", "uint32", "uint64", "uintptr"] {
        types.insert(name.to_owned(), Type::Uint(name));
    }
    types.insert("byte".to_owned(), Type::Uint("uint8"));
    types.insert("rune".to_owned(), Type::Int("int32"));
    types.insert("float32".to_owned(), Type::Float("float32"));
    types.insert("float64".to_owned(), Type::Float("float64"));
    types.insert("bool".to_owned(), Type::Bool);
    types.insert("string".to_owned(), Type::String);
    types.insert("any".to_owned(), Type::Any);
    types.insert("json.Number".to_owned(), Type::json_number());
    types.insert(
        "time.Time".to_owned(),
        named("time.Time", Type::String, TextForm::Time),
    );
    let duration = named("time.Duration", Type::Int("int64"), TextForm::Duration);
    types.insert("time.Duration".to_owned(), duration);
    types
}

/// The zero value of a type.
pub(crate) fn zero(ty: &Type) -> Value {
    let data = match ty.underlying() {
        Type::Any => return Value::nil(),
        Type::Bool => Data::Bool(false),
        Type::Int(_) => Data::Int(0),
        Type::Uint(_) => Data::Uint(0),
        Type::Float(_) => Data::Float(0.0),
        Type::String if ty.text_form() == TextForm::Time => {
            Data::Str("0001-01-01T00:00:00Z".into())
        }
        Type::String => Data::Str("".into()),
        Type::Slice(_) => Data::List(None),
        Type::Map(_) => Data::Map(None),
        Type::Struct(fields) => {
            Data::Struct(fields.fields.iter().map(|field| zero(&field.ty)).collect())
        }
        Type::Pointer(_) | Type::Object(_) => Data::Pointer(None),
        Type::Named(_) => unreachable!("underlying() resolved every name"),
    };
    Value::new(ty.clone(), data)
}

fn convert(ty: &Type, json: &Json) -> Result<Value, SchemaError> {
    if json.is_null() {
        return Ok(zero(ty));
    }
    let mismatch = || SchemaError::Mismatch {
        found: json_kind(json),
        ty: ty.to_string(),
    };
    let data = match (ty.underlying(), json) {
        (Type::Any, _) => return Ok(any(json)),
        (Type::Bool, Json::Bool(value)) => Data::Bool(*value),
        (Type::Int(_), Json::Number(number)) => Data::Int(number.as_i64().ok_or_else(mismatch)?),
        (Type::Uint(_), Json::Number(number)) => Data::Uint(number.as_u64().ok_or_else(mismatch)?),
        (Type::Float(name), Json::Number(number)) => {
            let number = number.as_f64().ok_or_else(mismatch)?;
            Data::Float(if *name == "float32" {
                f64::from(number as f32)
            } else {
                number
            })
        }
        (Type::String, Json::String(text)) => Data::Str(text.as_str().into()),
        (Type::String, Json::Number(number)) if ty.text_form() == TextForm::JsonNumber => {
            Data::Str(number.to_string().into())
        }
        (Type::Slice(element), Json::Array(items)) => {
            let items = items.iter().map(|item| convert(element, item));
            Data::List(Some(items.collect::<Result<Arc<[Value]>, _>>()?))
        }
        (Type::Map(entry), Json::Object(entries)) => {
            let entries = entries
                .iter()
                .map(|(key, value)| Ok((key.clone(), convert(&entry.1, value)?)))
                .collect::<Result<BTreeMap<String, Value>, SchemaError>>()?;
            Data::Map(Some(Arc::new(entries)))
        }
        (Type::Struct(fields), Json::Object(entries)) => {
            let values = fields.fields.iter().map(|field| {
                if field.embedded {
                    return convert(&field.ty, json);
                }
                let found = field.json.as_ref().and_then(|name| {
                    // Go's decoder takes any spelling of the name when the exact one is absent.
                    entries.get(name).or_else(|| {
                        let same = |entry: &(&String, &Json)| entry.0.eq_ignore_ascii_case(name);
                        entries.iter().find(same).map(|(_, value)| value)
                    })
                });
                found.map_or_else(|| Ok(zero(&field.ty)), |value| convert(&field.ty, value))
            });
            Data::Struct(values.collect::<Result<Arc<[Value]>, _>>()?)
        }
        (Type::Pointer(target), _) => Data::Pointer(Some(Arc::new(convert(target, json)?))),
        _ => return Err(mismatch()),
    };
    Ok(Value::new(ty.clone(), data))
}

/// JSON in an `interface {}`, as Go's decoder makes it without further instructions.
fn any(json: &Json) -> Value {
    match json {
        Json::Number(number) => Value::from(number.as_f64().unwrap_or(f64::NAN)).into_boxed(),
        Json::Array(items) => Value::list(items.iter().map(any)).into_boxed(),
        Json::Object(entries) => Value::map(
            entries
                .iter()
                .map(|(key, value)| (key.as_str(), any(value))),
        )
        .into_boxed(),
        other => Value::from_json(other).into_boxed(),
    }
}

fn json_kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Lexeme {
    Word(String),
    Tag(String),
    Mark(char),
    /// End of a line or `;`.
    End,
}

fn tokens(text: &str) -> Result<Vec<(usize, Lexeme)>, SchemaError> {
    let mut out = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let mut rest = line.split("//").next().unwrap_or_default().trim();
        while let Some(first) = rest.chars().next() {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '/';
            let length = match first {
                '`' => {
                    let end = rest[1..].find('`').ok_or(SchemaError::Declaration {
                        line: number,
                        message: "unterminated tag".to_owned(),
                    })?;
                    out.push((number, Lexeme::Tag(rest[1..=end].to_owned())));
                    end + 2
                }
                _ if word(first) => {
                    let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
                    out.push((number, Lexeme::Word(rest[..end].to_owned())));
                    end
                }
                ';' => {
                    out.push((number, Lexeme::End));
                    1
                }
                _ => {
                    out.push((number, Lexeme::Mark(first)));
                    first.len_utf8()
                }
            };
            rest = rest[length..].trim_start();
        }
        out.push((number, Lexeme::End));
    }
    while out.last().is_some_and(|(_, lexeme)| *lexeme == Lexeme::End) {
        out.pop();
    }
    Ok(out)
}

struct Reader {
    tokens: Vec<(usize, Lexeme)>,
    at: usize,
    types: HashMap<String, Type>,
}

impl Reader {
    fn peek(&self) -> Option<&Lexeme> {
        self.tokens.get(self.at).map(|(_, lexeme)| lexeme)
    }

    fn next(&mut self) -> Option<Lexeme> {
        let lexeme = self.peek().cloned();
        self.at += 1;
        lexeme
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, SchemaError> {
        let at = self
            .at
            .saturating_sub(1)
            .min(self.tokens.len().saturating_sub(1));
        let line = self.tokens.get(at).map_or(1, |(line, _)| *line);
        Err(SchemaError::Declaration {
            line,
            message: message.into(),
        })
    }

    fn expect(&mut self, mark: char) -> Result<(), SchemaError> {
        match self.next() {
            Some(Lexeme::Mark(found)) if found == mark => Ok(()),
            _ => self.error(format!("`{mark}` expected")),
        }
    }

    fn word(&mut self) -> Result<String, SchemaError> {
        match self.next() {
            Some(Lexeme::Word(word)) => Ok(word),
            _ => self.error("a name expected"),
        }
    }

    fn declaration(&mut self) -> Result<(), SchemaError> {
        if self.peek() == Some(&Lexeme::End) {
            self.at += 1;
            return Ok(());
        }
        if self.word()? != "type" {
            return self.error("`type` expected");
        }
        let name = self.word()?;
        let ty = match self.peek() {
            Some(Lexeme::Word(word)) if word == "struct" => {
                self.at += 1;
                self.structure(name.clone())?
            }
            _ => named(&name, self.ty()?, TextForm::Plain),
        };
        self.types.insert(name, ty);
        Ok(())
    }

    fn structure(&mut self, name: String) -> Result<Type, SchemaError> {
        self.expect('{')?;
        let mut fields = Vec::new();
        loop {
            match self.peek() {
                Some(Lexeme::End) => self.at += 1,
                Some(Lexeme::Mark('}')) => {
                    self.at += 1;
                    return Ok(Type::Struct(Arc::new(StructType { name, fields })));
                }
                Some(_) => fields.push(self.field()?),
                None => return self.error("`}` expected"),
            }
        }
    }

    fn field(&mut self) -> Result<Field, SchemaError> {
        let only_type = self.peek() == Some(&Lexeme::Mark('*'))
            || matches!(
                self.tokens.get(self.at + 1),
                Some((_, Lexeme::End | Lexeme::Mark('}')))
            );
        if only_type {
            let ty = self.ty()?;
            let full = ty.to_string();
            let name = full.rsplit(['.', '*']).next().unwrap_or(&full).to_owned();
            return Ok(Field {
                name,
                json: None,
                omit_empty: false,
                embedded: true,
                ty,
            });
        }
        let name = self.word()?;
        let ty = self.ty()?;
        let mut json = Some(name.clone());
        let mut omit_empty = false;
        if let Some(Lexeme::Tag(tag)) = self.peek() {
            let (json_name, options) = tag.split_once(',').unwrap_or((tag, ""));
            omit_empty = options.split(',').any(|option| option == "omitempty");
            json = match json_name {
                "-" => None,
                "" => Some(name.clone()),
                other => Some(other.to_owned()),
            };
            self.at += 1;
        }
        Ok(Field {
            name,
            json,
            omit_empty,
            embedded: false,
            ty,
        })
    }

    fn ty(&mut self) -> Result<Type, SchemaError> {
        match self.next() {
            Some(Lexeme::Mark('*')) => Ok(Type::Pointer(Arc::new(self.ty()?))),
            Some(Lexeme::Mark('[')) => {
                self.expect(']')?;
                Ok(Type::slice_of(self.ty()?))
            }
            Some(Lexeme::Word(word)) if word == "map" => {
                self.expect('[')?;
                let key = self.ty()?;
                self.expect(']')?;
                if key.kind() != Kind::String {
                    return self.error("map keys must be of a string type");
                }
                Ok(Type::Map(Arc::new((key, self.ty()?))))
            }
            Some(Lexeme::Word(word)) if word == "interface" => {
                self.expect('{')?;
                self.expect('}')?;
                Ok(Type::Any)
            }
            Some(Lexeme::Word(word)) if word == "struct" => self.structure(String::new()),
            Some(Lexeme::Word(word)) => match self.types.get(&word) {
                Some(ty) => Ok(ty.clone()),
                None => self.error(format!("type {word} is not declared")),
            },
            _ => self.error("a type expected"),
        }
    }
}
