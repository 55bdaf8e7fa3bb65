//! The values templates work on: Go's, as far as a template can tell.
//!
//! A value is made in one of four ways:
//! - [`Value::from_json`]: maps and lists without types, as `docker inspect` falls back to;
//! - [`Schema::value`](crate::Schema::value): JSON read as a declared struct type;
//! - [`Value::record`]: a struct put together by hand;
//! - [`Value::methods`]: an object whose "fields" are methods, as the rows of `docker ps` are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::types::{Field, Kind, StructType, TextForm, Type};

/// An object that answers to method names, some of which take arguments (`.Label "x"`).
pub trait Methods: fmt::Debug + Send + Sync {
    /// The type's name in messages: `*formatter.ContainerContext`.
    fn type_name(&self) -> &str;

    /// How many arguments (all strings) the method takes; `None` when there is no such method.
    fn arity(&self, method: &str) -> Option<usize>;

    /// Calls a method that [`arity`](Self::arity) knows, with that many arguments.
    ///
    /// # Errors
    /// The text becomes `error calling <method>: <text>` and ends the execution.
    fn call(&self, method: &str, args: &[&str]) -> Result<Value, String>;

    /// What `{{json .}}` prints.
    fn to_json(&self) -> serde_json::Value;
}

/// A value with its Go type. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Value {
    pub(crate) ty: Type,
    pub(crate) data: Data,
    /// Taken out of a container of `interface {}`: error messages name that type then.
    pub(crate) boxed: bool,
}

/// What a value holds; always fits its [`Type`].
#[derive(Debug, Clone)]
pub(crate) enum Data {
    /// No value at all: the result of asking a map for a key it has not.
    Invalid,
    /// A nil `interface {}`.
    Nil,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(Arc<str>),
    /// `None` is the nil slice.
    List(Option<Arc<[Value]>>),
    /// `None` is the nil map.
    Map(Option<Arc<BTreeMap<String, Value>>>),
    Struct(Arc<[Value]>),
    /// `None` is the nil pointer.
    Pointer(Option<Arc<Value>>),
    Object(Arc<dyn Methods>),
}

impl Value {
    pub(crate) fn new(ty: Type, data: Data) -> Self {
        Self {
            ty,
            data,
            boxed: false,
        }
    }

    /// Go's `nil`.
    pub fn nil() -> Self {
        Self {
            ty: Type::Any,
            data: Data::Nil,
            boxed: true,
        }
    }

    /// The absence of a value, printed `<no value>`.
    pub(crate) fn invalid() -> Self {
        Self::new(Type::Any, Data::Invalid)
    }

    /// JSON without types: objects become maps (a missing key is `<no value>`), numbers keep
    /// their text (Go's `json.Number`).
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::nil(),
            Json::Bool(value) => (*value).into(),
            Json::Number(number) => {
                Self::new(Type::json_number(), Data::Str(number.to_string().into()))
            }
            Json::String(text) => text.as_str().into(),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json)),
            Json::Object(entries) => Self::map(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), Self::from_json(value))),
            ),
        }
    }

    /// A struct of type `type_name` (`container.Summary`) with `fields` in printing order. A
    /// name that is not among them is an error for a template.
    pub fn record<N: Into<String>>(
        type_name: &str,
        fields: impl IntoIterator<Item = (N, Value)>,
    ) -> Self {
        let (fields, values): (Vec<Field>, Vec<Value>) = fields
            .into_iter()
            .map(|(name, value)| {
                let name = name.into();
                let field = Field {
                    json: Some(name.clone()),
                    name,
                    omit_empty: false,
                    embedded: false,
                    ty: if value.boxed {
                        Type::Any
                    } else {
                        value.ty.clone()
                    },
                };
                (field, value)
            })
            .unzip();
        let ty = StructType {
            name: type_name.to_owned(),
            fields,
        };
        Self::new(Type::Struct(Arc::new(ty)), Data::Struct(values.into()))
    }

    /// An object known by its methods.
    pub fn methods(object: Arc<dyn Methods>) -> Self {
        let name = Arc::from(object.type_name());
        Self::new(Type::Object(name), Data::Object(object))
    }

    /// A list of anything (`[]interface {}`).
    pub fn list(items: impl IntoIterator<Item = Value>) -> Self {
        let items = items.into_iter().map(Self::into_boxed).collect();
        Self::new(Type::slice_of(Type::Any), Data::List(Some(items)))
    }

    /// A list of strings (`[]string`).
    pub fn strings<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> Self {
        let items = items
            .into_iter()
            .map(|item| Self::from(item.as_ref()))
            .collect();
        Self::new(Type::slice_of(Type::String), Data::List(Some(items)))
    }

    /// A map from strings to anything (`map[string]interface {}`).
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        let entries = entries
            .into_iter()
            .map(|(key, value)| (key.into(), value.into_boxed()))
            .collect();
        Self::new(
            Type::string_map_of(Type::Any),
            Data::Map(Some(Arc::new(entries))),
        )
    }

    /// A map from strings to strings (`map[string]string`).
    pub fn string_map<K: Into<String>, V: AsRef<str>>(
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let entries = entries
            .into_iter()
            .map(|(key, value)| (key.into(), Self::from(value.as_ref())))
            .collect();
        Self::new(
            Type::string_map_of(Type::String),
            Data::Map(Some(Arc::new(entries))),
        )
    }

    /// As it comes out of a container of `interface {}`.
    pub(crate) fn into_boxed(mut self) -> Self {
        self.boxed = true;
        self
    }

    /// As a pipeline passes it on: no longer inside an `interface {}`, and nil is no value.
    pub(crate) fn unboxed(mut self) -> Self {
        self.boxed = false;
        if matches!(self.data, Data::Nil) {
            self.data = Data::Invalid;
        }
        self
    }

    pub(crate) fn is_valid(&self) -> bool {
        !matches!(self.data, Data::Invalid)
    }

    /// The kind of the concrete value; `Interface` only for a nil one.
    pub(crate) fn kind(&self) -> Kind {
        match self.data {
            Data::Invalid => Kind::Invalid,
            Data::Nil => Kind::Interface,
            // Text here, but a struct in Go.
            Data::Str(_) if self.ty.text_form() == TextForm::Time => Kind::Struct,
            _ => self.ty.kind(),
        }
    }

    /// The name of the type as Go's reflection sees it, `interface {}` while boxed.
    pub(crate) fn static_type(&self) -> Type {
        if self.boxed {
            Type::Any
        } else {
            self.ty.clone()
        }
    }

    /// A key of this map with its type.
    pub(crate) fn map_key(&self, key: &str) -> Value {
        let ty = match self.ty.underlying() {
            Type::Map(entry) => entry.0.clone(),
            _ => Type::String,
        };
        Self::new(ty, Data::Str(key.into()))
    }

    /// Follows pointers. `Err` is the nil pointer or interface at the end.
    pub(crate) fn indirect(&self) -> Result<Value, Value> {
        let mut value = self.clone();
        loop {
            value = match &value.data {
                Data::Nil | Data::Pointer(None) => return Err(value),
                Data::Pointer(Some(target)) => Self::clone(target),
                _ => {
                    value.boxed = false;
                    return Ok(value);
                }
            };
        }
    }

    /// Go's truth: not the zero value of its type; a struct is always true.
    pub(crate) fn is_true(&self) -> bool {
        match &self.data {
            Data::Invalid | Data::Nil | Data::Pointer(None) => false,
            Data::Bool(value) => *value,
            Data::Int(value) => *value != 0,
            Data::Uint(value) => *value != 0,
            Data::Float(value) => *value != 0.0,
            Data::Str(text) => !text.is_empty() || self.kind() == Kind::Struct,
            Data::List(items) => items.as_ref().is_some_and(|items| !items.is_empty()),
            Data::Map(entries) => entries.as_ref().is_some_and(|entries| !entries.is_empty()),
            Data::Struct(_) | Data::Pointer(Some(_)) | Data::Object(_) => true,
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::new(Type::Bool, Data::Bool(value))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::new(Type::Int("int64"), Data::Int(value))
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::new(Type::Int("int"), Data::Int(value.into()))
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::new(Type::Uint("uint64"), Data::Uint(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::new(Type::Float("float64"), Data::Float(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::new(Type::String, Data::Str(value.into()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::new(Type::String, Data::Str(value.into()))
    }
}

/// An `int`, which is what Go's own functions return.
pub(crate) fn int(value: i64) -> Value {
    Value::new(Type::Int("int"), Data::Int(value))
}
