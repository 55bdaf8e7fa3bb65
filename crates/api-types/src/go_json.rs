//! Decoding of request bodies as Go's `encoding/json` does it.
//!
//! Clients written against Docker rely on three habits of Go's decoder that serde does not have:
//! `null` leaves any field at its zero value, keys match without regard to letter case, and
//! unknown keys are skipped. [`from_slice`] gives all `Deserialize` types with `#[serde(default)]`
//! these habits; values of maps and elements of lists that are `null` become zero values too and
//! are kept.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde_json::{Map, Value};

/// A body that is not what the request needs.
#[derive(Debug)]
pub struct GoJsonError(String);

impl fmt::Display for GoJsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid JSON: {}", self.0)
    }
}

impl std::error::Error for GoJsonError {}

impl serde::de::Error for GoJsonError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Decodes `bytes`; nothing at all is the zero value.
pub fn from_slice<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, GoJsonError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    from_value(serde_json::from_slice(bytes).map_err(|error| GoJsonError(error.to_string()))?)
}

/// Decodes a value that is JSON already.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, GoJsonError> {
    T::deserialize(Lenient(value))
}

struct Lenient(Value);

impl Lenient {
    fn wrong<T>(&self, expected: &str) -> Result<T, GoJsonError> {
        let found = match &self.0 {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        Err(GoJsonError::custom(format_args!(
            "cannot decode {found} into {expected}"
        )))
    }
}

impl IntoDeserializer<'_, GoJsonError> for Lenient {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $kind:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
            match &self.0 {
                Value::Null => visitor.$visit(<$kind>::default()),
                Value::Number(_) => self.0.deserialize_any(visitor).map_err(GoJsonError::custom),
                _ => self.wrong("a number"),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = GoJsonError;

    numbers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        match self.0 {
            Value::Array(list) => visitor.visit_seq(elements(list)),
            Value::Object(object) => visitor.visit_map(entries(object)),
            other => other.deserialize_any(visitor).map_err(GoJsonError::custom),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        match self.0 {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(value),
            _ => self.wrong("a boolean"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        match self.0 {
            Value::Null => visitor.visit_string(String::new()),
            Value::String(value) => visitor.visit_string(value),
            _ => self.wrong("a string"),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        self.0
            .deserialize_char(visitor)
            .map_err(GoJsonError::custom)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        self.0
            .deserialize_bytes(visitor)
            .map_err(GoJsonError::custom)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        self.0
            .deserialize_byte_buf(visitor)
            .map_err(GoJsonError::custom)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, GoJsonError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, GoJsonError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        match self.0 {
            Value::Null => visitor.visit_seq(elements(Vec::new())),
            Value::Array(list) => visitor.visit_seq(elements(list)),
            _ => self.wrong("a list"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, GoJsonError> {
        match self.0 {
            Value::Null => visitor.visit_seq(elements(vec![Value::Null; len])),
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, GoJsonError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        match self.0 {
            Value::Null => visitor.visit_map(entries(Map::new())),
            Value::Object(object) => visitor.visit_map(entries(object)),
            _ => self.wrong("an object"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, GoJsonError> {
        match self.0 {
            Value::Object(object) => visitor.visit_map(entries(with_field_names(object, fields))),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, GoJsonError> {
        self.0
            .deserialize_enum(name, variants, visitor)
            .map_err(GoJsonError::custom)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GoJsonError> {
        visitor.visit_unit()
    }
}

fn elements<'de>(list: Vec<Value>) -> SeqDeserializer<impl Iterator<Item = Lenient>, GoJsonError>
where
    Lenient: IntoDeserializer<'de, GoJsonError>,
{
    SeqDeserializer::new(list.into_iter().map(Lenient))
}

fn entries<'de>(
    object: Map<String, Value>,
) -> MapDeserializer<'de, impl Iterator<Item = (String, Lenient)>, GoJsonError>
where
    Lenient: IntoDeserializer<'de, GoJsonError>,
{
    MapDeserializer::new(object.into_iter().map(|(key, value)| (key, Lenient(value))))
}

/// Gives keys the letter case of the struct's fields. Of keys that are one field the last wins,
/// as in Go; `null` never overwrites.
fn with_field_names(object: Map<String, Value>, fields: &[&str]) -> Map<String, Value> {
    let mut named = Map::with_capacity(object.len());
    for (key, value) in object {
        let exact = fields.iter().any(|field| *field == key);
        let field = if exact {
            key
        } else {
            match fields.iter().find(|field| field.eq_ignore_ascii_case(&key)) {
                Some(field) => (*field).to_owned(),
                None => key,
            }
        };
        if !(value.is_null() && named.contains_key(&field)) {
            named.insert(field, value);
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Thing {
        name: String,
        count: i64,
        flag: bool,
        list: Vec<String>,
        map: BTreeMap<String, Inner>,
        maybe: Option<i64>,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        id: String,
    }

    #[test]
    fn null_is_the_zero_value_everywhere() {
        let thing: Thing = from_slice(
            br#"{"Name":null,"Count":null,"Flag":null,"List":null,"Map":{"a":null},"Maybe":null,"Inner":null,"Other":1}"#,
        )
        .unwrap();
        let map = BTreeMap::from([("a".to_owned(), Inner::default())]);
        assert_eq!(
            thing,
            Thing {
                map,
                ..Thing::default()
            }
        );
    }

    #[test]
    fn keys_match_in_any_case() {
        let thing: Thing = from_slice(
            br#"{"name":"x","COUNT":3,"flag":true,"list":["a",null],"maybe":2,"inner":{"ID":"i"}}"#,
        )
        .unwrap();
        assert_eq!(thing.name, "x");
        assert_eq!(thing.count, 3);
        assert_eq!(thing.list, ["a", ""]);
        assert_eq!(thing.maybe, Some(2));
        assert_eq!(thing.inner.id, "i");
    }

    #[test]
    fn wrong_types_and_garbage_are_refused() {
        for bad in [
            r#"{"Name":1}"#,
            r#"{"Count":"1"}"#,
            r#"{"List":"a"}"#,
            "[",
            "{} {}",
            "\"x\"",
            r#"{"Map":[]}"#,
        ] {
            assert!(from_slice::<Thing>(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(from_slice::<Thing>(b" \n").unwrap(), Thing::default());
        let deep = "[".repeat(100_000);
        assert!(from_slice::<Thing>(deep.as_bytes()).is_err());
    }
}
