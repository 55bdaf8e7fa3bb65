//! `eq`, `lt` and their kin.

use std::sync::Arc;

use crate::print::sprintf;
use crate::types::{Kind, Type};
use crate::value::{Data, Value};

const BAD_TYPE: &str = "invalid type for comparison";

/// How much of a value a message shows.
const SHOWN_MAX: usize = 1 << 16;

fn is_basic(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Bool | Kind::Int | Kind::Uint | Kind::Float | Kind::String
    )
}

/// Whether `first` equals one of `others`.
pub(crate) fn eq(first: &Value, others: &[Value]) -> Result<bool, String> {
    let first = first.clone().unboxed();
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(&first, &other.clone().unboxed())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    let (kind_a, kind_b) = (a.kind(), b.kind());
    match (&a.data, &b.data) {
        (Data::Int(int), Data::Uint(uint)) | (Data::Uint(uint), Data::Int(int)) => {
            return Ok(u64::try_from(*int) == Ok(*uint));
        }
        _ if is_basic(kind_a) || is_basic(kind_b) => {
            if kind_a == kind_b {
                return Ok(same(a, b));
            }
            if a.is_valid() && b.is_valid() {
                return Err(incompatible(a, b));
            }
            return Ok(false);
        }
        _ => {}
    }
    if kind_a != kind_b && a.is_valid() && b.is_valid() {
        let (a_text, b_text) = (shown(a, "%s"), shown(b, "%v"));
        return Err(format!(
            "non-comparable types {a_text}: {}, {}: {b_text}",
            a.ty, b.ty
        ));
    }
    if is_nil(a) || is_nil(b) {
        return Ok(is_nil(a) && is_nil(b));
    }
    if !is_comparable(&b.ty) {
        return Err(format!("non-comparable type {}: {}", shown(b, "%s"), b.ty));
    }
    Ok(a.ty == b.ty && same(a, b))
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", a.ty, b.ty)
}

fn shown(value: &Value, format: &str) -> String {
    sprintf(format, std::slice::from_ref(value), SHOWN_MAX).unwrap_or_else(|_| "...".to_owned())
}

fn is_nil(value: &Value) -> bool {
    matches!(
        value.data,
        Data::Invalid | Data::Nil | Data::List(None) | Data::Map(None) | Data::Pointer(None)
    )
}

fn is_comparable(ty: &Type) -> bool {
    match ty.underlying() {
        Type::Slice(_) | Type::Map(_) => false,
        Type::Struct(fields) => fields.fields.iter().all(|field| is_comparable(&field.ty)),
        _ => true,
    }
}

/// Go's `==` on two values of one kind.
fn same(a: &Value, b: &Value) -> bool {
    match (&a.data, &b.data) {
        (Data::Bool(a), Data::Bool(b)) => a == b,
        (Data::Int(a), Data::Int(b)) => a == b,
        (Data::Uint(a), Data::Uint(b)) => a == b,
        (Data::Float(a), Data::Float(b)) => a == b,
        (Data::Str(a), Data::Str(b)) => a == b,
        (Data::Struct(a), Data::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b))
        }
        (Data::Pointer(Some(a)), Data::Pointer(Some(b))) => Arc::ptr_eq(a, b),
        (Data::Object(a), Data::Object(b)) => Arc::ptr_eq(a, b),
        _ => is_nil(a) && is_nil(b),
    }
}

/// `a < b`.
pub(crate) fn lt(a: &Value, b: &Value) -> Result<bool, String> {
    let (a, b) = (a.clone().unboxed(), b.clone().unboxed());
    if !is_basic(a.kind()) || !is_basic(b.kind()) {
        return Err(BAD_TYPE.to_owned());
    }
    match (&a.data, &b.data) {
        (Data::Int(a), Data::Uint(b)) => Ok(u64::try_from(*a).is_ok_and(|a| a < *b) || *a < 0),
        (Data::Uint(a), Data::Int(b)) => Ok(u64::try_from(*b).is_ok_and(|b| *a < b)),
        (Data::Int(a), Data::Int(b)) => Ok(a < b),
        (Data::Uint(a), Data::Uint(b)) => Ok(a < b),
        (Data::Float(a), Data::Float(b)) => Ok(a < b),
        (Data::Str(a), Data::Str(b)) => Ok(a < b),
        (Data::Bool(_), Data::Bool(_)) => Err(BAD_TYPE.to_owned()),
        _ => Err(incompatible(&a, &b)),
    }
}

/// `a <= b`.
pub(crate) fn le(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(lt(a, b)? || eq(a, std::slice::from_ref(b))?)
}
