//! The functions templates may call: Go's own and those Docker adds.

use crate::compare;
use crate::error::Error;
use crate::escape;
use crate::json;
use crate::print::{sprint, sprintf, sprintln};
use crate::text::quote;
use crate::types::{Kind, Type};
use crate::value::{Data, Value, int};

/// Which functions a template knows besides Go's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Functions {
    /// `json`, `split`, `join`, `title`, `lower`, `upper`, `pad`, `truncate`.
    #[default]
    Docker,
    /// The same names leaving their argument as it is (but for `pad`): a table's header is made
    /// by running the row's template over the column titles.
    Header,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Param {
    /// Anything, with its place in a container remembered.
    Reflect,
    /// Anything (`interface {}`).
    Any,
    String,
    Int,
    /// `[]string`.
    Strings,
}

impl Param {
    /// The name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reflect => "reflect.Value",
            Self::Any => "interface {}",
            Self::String => "string",
            Self::Int => "int",
            Self::Strings => "[]string",
        }
    }

    pub(crate) fn can_be_nil(self) -> bool {
        matches!(self, Self::Reflect | Self::Any | Self::Strings)
    }
}

/// A function's parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signature {
    pub(crate) fixed: &'static [Param],
    pub(crate) variadic: Option<Param>,
}

impl Functions {
    pub(crate) fn has(self, name: &str) -> bool {
        self.signature(name).is_some()
    }

    pub(crate) fn signature(self, name: &str) -> Option<Signature> {
        use Param::{Any, Int, Reflect, String, Strings};
        let header = self == Self::Header;
        let (fixed, variadic): (&'static [Param], _) = match name {
            "and" | "or" | "index" | "slice" | "call" | "eq" => (&[Reflect], Some(Reflect)),
            "not" | "len" => (&[Reflect], None),
            "ne" | "lt" | "le" | "gt" | "ge" => (&[Reflect, Reflect], None),
            "print" | "println" | "html" | "js" | "urlquery" => (&[], Some(Any)),
            "printf" => (&[String], Some(Any)),
            "json" if header => (&[String], None),
            "json" => (&[Any], None),
            "join" if !header => (&[Strings, String], None),
            "split" | "join" => (&[String, String], None),
            "title" | "lower" | "upper" => (&[String], None),
            "pad" => (&[String, Int, Int], None),
            "truncate" => (&[String, Int], None),
            _ => return None,
        };
        Some(Signature { fixed, variadic })
    }

    /// Calls `name` with arguments its signature allows. `Ok(Err(text))` is the function's own
    /// error; `limit` bounds the length of a text it makes.
    pub(crate) fn call(
        self,
        name: &str,
        callee: &str,
        args: &[Value],
        limit: usize,
    ) -> Result<Result<Value, String>, Error> {
        let text = |text: String| Ok(Value::from(text));
        Ok(match name {
            "not" => Ok(Value::from(!args[0].is_true())),
            "len" => length(&args[0]),
            "index" => index(&args[0], &args[1..]),
            "slice" => slice(&args[0], &args[1..]),
            "call" => Err(match args[0].clone().unboxed() {
                function if !function.is_valid() => "call of nil".to_owned(),
                function => format!("non-function {callee} of type {}", function.ty),
            }),
            "eq" => compare::eq(&args[0], &args[1..]).map(Value::from),
            "ne" => compare::eq(&args[0], &args[1..]).map(|equal| Value::from(!equal)),
            "lt" => compare::lt(&args[0], &args[1]).map(Value::from),
            "le" => compare::le(&args[0], &args[1]).map(Value::from),
            "gt" => compare::le(&args[0], &args[1]).map(|le| Value::from(!le)),
            "ge" => compare::lt(&args[0], &args[1]).map(|lt| Value::from(!lt)),
            "print" => text(sprint(args, limit)?),
            "println" => text(sprintln(args, limit)?),
            "printf" => text(sprintf(string(&args[0]), &args[1..], limit)?),
            "html" => text(escape::html(&plain(args, limit)?)),
            "js" => text(escape::js(&plain(args, limit)?)),
            "urlquery" => text(escape::url_query(&plain(args, limit)?)),
            "pad" => pad(
                string(&args[0]),
                integer(&args[1]),
                integer(&args[2]),
                limit,
            )?,
            _ if self == Self::Header => Ok(args[0].clone()),
            "json" => json::encode(&args[0], limit).map(Value::from),
            "split" => Ok(split(string(&args[0]), string(&args[1]))),
            "join" => text(join(&args[0], string(&args[1]), limit)?),
            "title" => text(title(string(&args[0]))),
            "lower" => text(string(&args[0]).chars().map(lower).collect()),
            "upper" => text(string(&args[0]).chars().map(upper).collect()),
            "truncate" => truncate(string(&args[0]), integer(&args[1])),
            _ => Err(format!("{} is not a defined function", quote(name))),
        })
    }
}

fn string(value: &Value) -> &str {
    match &value.data {
        Data::Str(text) => text,
        _ => "",
    }
}

fn integer(value: &Value) -> i64 {
    match value.data {
        Data::Int(number) => number,
        _ => 0,
    }
}

/// The operands as one text, as they would be printed on their own.
fn plain(args: &[Value], limit: usize) -> Result<String, Error> {
    let shown: Vec<Value> = args.iter().map(printable).collect();
    sprint(&shown, limit)
}

/// What printing a value prints: pointers followed, no value said so.
pub(crate) fn printable(value: &Value) -> Value {
    match &value.data {
        Data::Invalid | Data::Nil => Value::from("<no value>"),
        Data::Pointer(_) => value.indirect().unwrap_or_else(|nil| nil),
        _ => value.clone(),
    }
}

fn length(value: &Value) -> Result<Value, String> {
    let target = value.indirect().map_err(|_| "len of nil pointer")?;
    let length = match &target.data {
        Data::Invalid => return Err("reflect: call of reflect.Value.Type on zero Value".to_owned()),
        Data::Str(text) if target.kind() == Kind::String => text.len(),
        Data::List(items) => items.as_ref().map_or(0, |items| items.len()),
        Data::Map(entries) => entries.as_ref().map_or(0, |entries| entries.len()),
        _ => return Err(format!("len of type {}", target.ty)),
    };
    Ok(int(i64::try_from(length).unwrap_or(i64::MAX)))
}

/// An index between 0 and `max`, both included.
fn index_arg(index: &Value, max: usize) -> Result<usize, String> {
    let number = match &index.data {
        Data::Int(number) => *number,
        Data::Uint(number) => *number as i64, // wraps as Go's conversion does
        Data::Invalid => return Err("cannot index slice/array with nil".to_owned()),
        _ => return Err(format!("cannot index slice/array with type {}", index.ty)),
    };
    match usize::try_from(number) {
        Ok(position) if position <= max => Ok(position),
        _ => Err(format!("index out of range: {number}")),
    }
}

fn index(item: &Value, indexes: &[Value]) -> Result<Value, String> {
    let mut item = item.clone();
    if matches!(item.data, Data::Invalid | Data::Nil) {
        return Err("index of untyped nil".to_owned());
    }
    for index in indexes {
        let index = index.clone().unboxed();
        let target = item.indirect().map_err(|_| "index of nil pointer")?;
        item = match (&target.data, target.ty.underlying()) {
            (Data::List(items), _) => {
                let items = items.as_deref().unwrap_or_default();
                let at = index_arg(&index, items.len())?;
                items
                    .get(at)
                    .ok_or("reflect: slice index out of range")?
                    .clone()
            }
            (Data::Str(text), _) if target.kind() == Kind::String => {
                let at = index_arg(&index, text.len())?;
                let byte = text
                    .as_bytes()
                    .get(at)
                    .ok_or("reflect: string index out of range")?;
                Value::new(Type::Uint("uint8"), Data::Uint((*byte).into()))
            }
            (Data::Map(entries), Type::Map(types)) => {
                if !index.is_valid() {
                    return Err(format!("value is nil; should be of type {}", types.0));
                }
                if index.ty != types.0 {
                    return Err(format!(
                        "value has type {}; should be {}",
                        index.ty, types.0
                    ));
                }
                let entry = entries
                    .as_ref()
                    .and_then(|entries| entries.get(string(&index)));
                entry
                    .cloned()
                    .unwrap_or_else(|| crate::schema::zero(&types.1))
            }
            _ => return Err(format!("can't index item of type {}", target.ty)),
        };
    }
    Ok(item)
}

fn slice(item: &Value, indexes: &[Value]) -> Result<Value, String> {
    if matches!(item.data, Data::Invalid | Data::Nil) {
        return Err("slice of untyped nil".to_owned());
    }
    let target = item.indirect().map_err(|_| "slice of nil pointer")?;
    if indexes.len() > 3 {
        return Err(format!("too many slice indexes: {}", indexes.len()));
    }
    let length = match &target.data {
        Data::Str(text) if target.kind() == Kind::String => {
            if indexes.len() == 3 {
                return Err("cannot 3-index slice a string".to_owned());
            }
            text.len()
        }
        Data::List(items) => items.as_ref().map_or(0, |items| items.len()),
        _ => return Err(format!("can't slice item of type {}", target.ty)),
    };
    let mut bounds = [0, length, length];
    for (bound, index) in bounds.iter_mut().zip(indexes) {
        if index.boxed {
            // Unlike `index`, Go's `slice` does not look into interfaces.
            return Err("cannot index slice/array with type interface {}".to_owned());
        }
        *bound = index_arg(index, length)?;
    }
    let [from, to, capacity] = bounds;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    if to > capacity {
        return Err(format!("invalid slice index: {to} > {capacity}"));
    }
    let data = match &target.data {
        // Go cuts between bytes; half a character becomes the replacement character here.
        Data::Str(text) => Data::Str(
            String::from_utf8_lossy(&text.as_bytes()[from..to])
                .into_owned()
                .into(),
        ),
        Data::List(items) => Data::List(items.as_ref().map(|items| items[from..to].into())),
        other => other.clone(),
    };
    Ok(Value::new(target.ty, data))
}

fn pad(
    source: &str,
    before: i64,
    after: i64,
    limit: usize,
) -> Result<Result<Value, String>, Error> {
    if source.is_empty() {
        return Ok(Ok(Value::from("")));
    }
    let (Ok(before), Ok(after)) = (usize::try_from(before), usize::try_from(after)) else {
        return Ok(Err("strings: negative Repeat count".to_owned()));
    };
    if before.saturating_add(after).saturating_add(source.len()) > limit {
        return Err(Error::Limit("output too large".to_owned()));
    }
    Ok(Ok(Value::from(format!(
        "{}{source}{}",
        " ".repeat(before),
        " ".repeat(after)
    ))))
}

fn truncate(source: &str, length: i64) -> Result<Value, String> {
    let Ok(length) = usize::try_from(length) else {
        return Err(format!(
            "runtime error: slice bounds out of range [:{length}]"
        ));
    };
    let bytes = source.as_bytes();
    Ok(Value::from(
        String::from_utf8_lossy(&bytes[..length.min(bytes.len())]).into_owned(),
    ))
}

fn split(source: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return Value::strings(source.chars().map(String::from));
    }
    Value::strings(source.split(separator))
}

fn join(list: &Value, separator: &str, limit: usize) -> Result<String, Error> {
    let mut out = String::new();
    if let Data::List(Some(items)) = &list.data {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(separator);
            }
            out.push_str(string(item));
            if out.len() > limit {
                return Err(Error::Limit("output too large".to_owned()));
            }
        }
    }
    Ok(out)
}

/// One character for one, as Go's `unicode.ToUpper`.
fn upper(c: char) -> char {
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(mapped), None) => mapped,
        _ => c,
    }
}

fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// Go's `strings.Title`: each letter that begins a word in upper case.
fn title(source: &str) -> String {
    let mut begins = true;
    source
        .chars()
        .map(|c| {
            let shown = if begins { upper(c) } else { c };
            begins = if c.is_ascii() {
                !(c.is_ascii_alphanumeric() || c == '_')
            } else {
                !c.is_alphanumeric() && c.is_whitespace()
            };
            shown
        })
        .collect()
}
