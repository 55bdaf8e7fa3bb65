//! The types a value can have: just enough of Go's for its printing rules and messages.

use std::fmt;
use std::sync::Arc;

/// A Go type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Type {
    /// `interface {}`.
    Any,
    Bool,
    /// A signed integer with the name Go gives it (`int`, `int64`).
    Int(&'static str),
    /// An unsigned integer with the name Go gives it (`uint64`, `uint8`).
    Uint(&'static str),
    /// `float32` or `float64`.
    Float(&'static str),
    String,
    Slice(Arc<Type>),
    /// A map whose keys are of the first type, which is always of kind string.
    Map(Arc<(Type, Type)>),
    Struct(Arc<StructType>),
    Pointer(Arc<Type>),
    /// A named type that is no struct.
    Named(Arc<NamedType>),
    /// Something known only by its methods, with its full name.
    Object(Arc<str>),
}

/// A struct: its fields in the order Go prints them.
#[derive(Debug, PartialEq)]
pub(crate) struct StructType {
    /// `container.State`; empty for a struct without a name.
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
}

/// One field of a struct.
#[derive(Debug, PartialEq)]
pub(crate) struct Field {
    /// The name templates use.
    pub(crate) name: String,
    /// The name in JSON; `None` for a field that JSON leaves out.
    pub(crate) json: Option<String>,
    /// Left out of JSON when it is the zero value.
    pub(crate) omit_empty: bool,
    /// The fields of this one are reached without naming it.
    pub(crate) embedded: bool,
    pub(crate) ty: Type,
}

/// A named type with another one's representation.
#[derive(Debug, PartialEq)]
pub(crate) struct NamedType {
    /// `container.NetworkMode`.
    pub(crate) name: String,
    pub(crate) underlying: Type,
    pub(crate) text: TextForm,
}

/// How a named type prints itself (Go's `String` method).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextForm {
    /// As its underlying type does.
    Plain,
    /// `json.Number`: a string that JSON writes as a number.
    JsonNumber,
    /// `time.Time`, held as RFC 3339 text.
    Time,
    /// `time.Duration`, held in nanoseconds.
    Duration,
}

/// What a type is at its bottom, without names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Invalid,
    Interface,
    Bool,
    Int,
    Uint,
    Float,
    String,
    Slice,
    Map,
    Struct,
    Pointer,
    Object,
}

impl Type {
    pub(crate) fn underlying(&self) -> &Type {
        match self {
            Self::Named(named) => named.underlying.underlying(),
            other => other,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.underlying() {
            Self::Any => Kind::Interface,
            Self::Bool => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Uint(_) => Kind::Uint,
            Self::Float(_) => Kind::Float,
            Self::String => Kind::String,
            Self::Slice(_) => Kind::Slice,
            Self::Map(_) => Kind::Map,
            Self::Struct(_) => Kind::Struct,
            Self::Pointer(_) => Kind::Pointer,
            Self::Object(_) => Kind::Object,
            Self::Named(_) => unreachable!("underlying() resolved every name"),
        }
    }

    pub(crate) fn text_form(&self) -> TextForm {
        match self {
            Self::Named(named) => named.text,
            _ => TextForm::Plain,
        }
    }

    pub(crate) fn slice_of(element: Type) -> Self {
        Self::Slice(Arc::new(element))
    }

    pub(crate) fn string_map_of(element: Type) -> Self {
        Self::Map(Arc::new((Self::String, element)))
    }

    pub(crate) fn json_number() -> Self {
        Self::Named(Arc::new(NamedType {
            name: "json.Number".to_owned(),
            underlying: Self::String,
            text: TextForm::JsonNumber,
        }))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("interface {}"),
            Self::Bool => f.write_str("bool"),
            Self::Int(name) | Self::Uint(name) | Self::Float(name) => f.write_str(name),
            Self::String => f.write_str("string"),
            Self::Slice(element) => write!(f, "[]{element}"),
            Self::Map(entry) => write!(f, "map[{}]{}", entry.0, entry.1),
            Self::Struct(ty) if !ty.name.is_empty() => f.write_str(&ty.name),
            Self::Struct(ty) => {
                f.write_str("struct {")?;
                for (index, field) in ty.fields.iter().enumerate() {
                    write!(
                        f,
                        "{} {} {}",
                        if index == 0 { "" } else { ";" },
                        field.name,
                        field.ty
                    )?;
                }
                f.write_str(" }")
            }
            Self::Pointer(target) => write!(f, "*{target}"),
            Self::Named(named) => f.write_str(&named.name),
            Self::Object(name) => f.write_str(name),
        }
    }
}
