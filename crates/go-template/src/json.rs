//! JSON as Go's encoder writes it without HTML escaping.

use crate::print::Printer;
use crate::types::{TextForm, Type};
use crate::value::{Data, Value};

/// Deeper values are not encoded; JSON parsers stop earlier.
const DEPTH_MAX: usize = 200;

/// Encodes a value; `Err` when the text would exceed `limit` bytes or cannot be made.
pub(crate) fn encode(value: &Value, limit: usize) -> Result<String, String> {
    let mut out = String::new();
    write(value, &mut out, limit, 0)?;
    Ok(out)
}

fn write(value: &Value, out: &mut String, limit: usize, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX || out.len() > limit {
        return Err("output too large".to_owned());
    }
    match &value.data {
        Data::Invalid | Data::Nil | Data::Pointer(None) | Data::List(None) | Data::Map(None) => {
            out.push_str("null");
        }
        Data::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Data::Int(number) => out.push_str(&number.to_string()),
        Data::Uint(number) => out.push_str(&number.to_string()),
        Data::Float(number) => write_float(*number, &value.ty, out)?,
        Data::Str(text) if value.ty.text_form() == TextForm::JsonNumber => {
            out.push_str(if text.is_empty() { "0" } else { text });
        }
        Data::Str(text) if value.ty.text_form() == TextForm::Time => {
            write_string(&shorten_fraction(text), out);
        }
        Data::Str(text) => write_string(text, out),
        Data::List(Some(items)) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out, limit, depth + 1)?;
            }
            out.push(']');
        }
        Data::Map(Some(entries)) => {
            out.push('{');
            for (index, (key, entry)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write(entry, out, limit, depth + 1)?;
            }
            out.push('}');
        }
        Data::Struct(_) => {
            out.push('{');
            let mut first = true;
            write_fields(value, out, &mut first, limit, depth)?;
            out.push('}');
        }
        Data::Pointer(Some(target)) => write(target, out, limit, depth + 1)?,
        Data::Object(object) => {
            let start = out.len();
            write_json(&object.to_json(), out, limit)?;
            // Such objects marshal themselves, and there Go escapes what HTML reads; outside of
            // strings JSON has none of these characters.
            let escaped = out[start..]
                .replace('&', "\\u0026")
                .replace('<', "\\u003c")
                .replace('>', "\\u003e");
            out.replace_range(start.., &escaped);
        }
    }
    Ok(())
}

/// The fields of a struct, those of embedded ones among them.
fn write_fields(
    value: &Value,
    out: &mut String,
    first: &mut bool,
    limit: usize,
    depth: usize,
) -> Result<(), String> {
    let Ok(target) = value.indirect() else {
        return Ok(());
    };
    let (Type::Struct(ty), Data::Struct(values)) = (target.ty.underlying(), &target.data) else {
        return Ok(());
    };
    for (field, entry) in ty.fields.iter().zip(values.iter()) {
        if field.embedded {
            write_fields(entry, out, first, limit, depth + 1)?;
            continue;
        }
        let Some(name) = &field.json else { continue };
        if field.omit_empty && is_empty(entry) {
            continue;
        }
        if !std::mem::take(first) {
            out.push(',');
        }
        write_string(name, out);
        out.push(':');
        write(entry, out, limit, depth + 1)?;
    }
    Ok(())
}

/// RFC 3339 without zeros at the end of the seconds' fraction.
fn shorten_fraction(text: &str) -> String {
    let Some((whole, rest)) = text.split_once('.') else {
        return text.to_owned();
    };
    let zone_at = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, zone) = rest.split_at(zone_at);
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!("{whole}{point}{digits}{zone}")
}

/// What `omitempty` leaves out: a struct never.
fn is_empty(value: &Value) -> bool {
    !matches!(value.data, Data::Struct(_)) && !value.is_true()
}

fn write_float(number: f64, ty: &Type, out: &mut String) -> Result<(), String> {
    if !number.is_finite() {
        let mut printer = Printer::new(100);
        printer.arg(&Value::from(number), 'v');
        let shown = printer.finish().unwrap_or_default();
        return Err(format!("json: unsupported value: {shown}"));
    }
    let single = matches!(ty.underlying(), Type::Float("float32"));
    let magnitude = number.abs();
    let verb = if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        'e'
    } else {
        'f'
    };
    let precision = crate::float::Precision::Shortest;
    let text = crate::float::format_float(number, verb, precision, single);
    // ES6 style: one digit of exponent where one is enough.
    out.push_str(&text.replace("e-0", "e-"));
    Ok(())
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // The line separators would end a line of JavaScript.
            '\0'..' ' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

fn write_json(json: &serde_json::Value, out: &mut String, limit: usize) -> Result<(), String> {
    use serde_json::Value as Json;
    if out.len() > limit {
        return Err("output too large".to_owned());
    }
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Json::Number(number) => out.push_str(&number.to_string()),
        Json::String(text) => write_string(text, out),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out, limit)?;
            }
            out.push(']');
        }
        Json::Object(entries) => {
            out.push('{');
            for (index, (key, entry)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_json(entry, out, limit)?;
            }
            out.push('}');
        }
    }
    Ok(())
}
