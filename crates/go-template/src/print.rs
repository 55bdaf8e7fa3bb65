//! Go's `fmt` package: `Sprint`, `Sprintln`, `Sprintf` over template values.
//!
//! Output is cut off, and [`Printer::finish`] reports it, once it exceeds the limit; so a width
//! of a million costs no more than that.

use crate::error::Error;
use crate::float::{Precision, format_float};
use crate::text::{is_printable, quote, quote_ascii, quote_char};
use crate::types::{Kind, TextForm, Type};
use crate::value::{Data, Value};

/// Widths and precisions beyond this are taken for mistakes, as Go does.
const NUMBER_MAX: i64 = 1_000_000;

/// Nested values deeper than this are not printed; JSON parsers stop earlier.
const DEPTH_MAX: usize = 200;

/// Go prints addresses; ours mean nothing, so all pointers print the same one.
const ADDRESS: u64 = 0xc0_0000_0000;

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    width: Option<usize>,
    precision: Option<usize>,
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%+v`.
    plus_v: bool,
    /// `%#v`.
    sharp_v: bool,
}

/// Collects formatted text.
#[derive(Debug)]
pub(crate) struct Printer {
    out: String,
    flags: Flags,
    /// Printing the value inside an error: its methods are not asked again.
    erroring: bool,
    limit: usize,
    overflow: bool,
}

/// `fmt.Sprint`: spaces between operands when neither is a string.
pub(crate) fn sprint(values: &[Value], limit: usize) -> Result<String, Error> {
    let mut printer = Printer::new(limit);
    let mut previous_is_string = false;
    for (index, value) in values.iter().enumerate() {
        let is_string = value.kind() == Kind::String;
        if index > 0 && !is_string && !previous_is_string {
            printer.push_char(' ');
        }
        printer.arg(value, 'v');
        previous_is_string = is_string;
    }
    printer.finish()
}

/// `fmt.Sprintln`: spaces between all operands and a newline behind.
pub(crate) fn sprintln(values: &[Value], limit: usize) -> Result<String, Error> {
    let mut printer = Printer::new(limit);
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            printer.push_char(' ');
        }
        printer.arg(value, 'v');
    }
    printer.push_char('\n');
    printer.finish()
}

/// `fmt.Sprintf`.
pub(crate) fn sprintf(format: &str, values: &[Value], limit: usize) -> Result<String, Error> {
    let mut printer = Printer::new(limit);
    Directives {
        format,
        at: 0,
        values,
        next: 0,
        reordered: false,
        good_index: true,
    }
    .run(&mut printer);
    printer.finish()
}

/// The walk through a format string.
struct Directives<'a> {
    format: &'a str,
    at: usize,
    values: &'a [Value],
    /// The operand the next verb takes.
    next: usize,
    reordered: bool,
    good_index: bool,
}

impl Directives<'_> {
    fn byte(&self) -> Option<u8> {
        self.format.as_bytes().get(self.at).copied()
    }

    fn run(mut self, printer: &mut Printer) {
        while self.at < self.format.len() && !printer.overflow {
            let rest = &self.format[self.at..];
            let plain = rest.find('%').unwrap_or(rest.len());
            printer.push(&rest[..plain]);
            self.at += plain;
            if self.at < self.format.len() {
                self.at += 1;
                self.directive(printer);
            }
        }
        if !self.reordered && self.next < self.values.len() {
            printer.flags = Flags::default();
            printer.push("%!(EXTRA ");
            for (index, value) in self.values[self.next..].iter().enumerate() {
                if index > 0 {
                    printer.push(", ");
                }
                if matches!(value.data, Data::Nil | Data::Invalid) {
                    printer.push("<nil>");
                } else {
                    printer.push(&format!("{}=", value.ty));
                    printer.arg(value, 'v');
                }
            }
            printer.push_char(')');
        }
    }

    fn directive(&mut self, printer: &mut Printer) {
        self.good_index = true;
        let mut flags = Flags::default();
        while let Some(byte) = self.byte() {
            match byte {
                b'#' => flags.sharp = true,
                b'0' => flags.zero = true,
                b'+' => flags.plus = true,
                b'-' => flags.minus = true,
                b' ' => flags.space = true,
                _ => break,
            }
            self.at += 1;
        }
        let mut after_index = self.index();
        if self.byte() == Some(b'*') {
            self.at += 1;
            match self.star() {
                Some(width) => {
                    if width < 0 {
                        flags.minus = true;
                        flags.zero = false;
                    }
                    flags.width = usize::try_from(width.abs()).ok();
                }
                None => printer.push("%!(BADWIDTH)"),
            }
            after_index = false;
        } else {
            flags.width = self.number();
            if after_index && flags.width.is_some() {
                self.good_index = false;
            }
        }
        if self.byte() == Some(b'.') && self.at + 1 < self.format.len() {
            self.at += 1;
            if after_index {
                self.good_index = false;
            }
            after_index = self.index();
            if self.byte() == Some(b'*') {
                self.at += 1;
                let precision = self.star();
                flags.precision = precision.and_then(|value| usize::try_from(value).ok());
                if flags.precision.is_none() {
                    printer.push("%!(BADPREC)");
                }
                after_index = false;
            } else {
                flags.precision = Some(self.number().unwrap_or(0));
            }
        }
        if !after_index {
            self.index();
        }
        printer.flags = flags;
        let Some(verb) = self.format[self.at..].chars().next() else {
            printer.push("%!(NOVERB)");
            return;
        };
        self.at += verb.len_utf8();
        if verb == '%' {
            printer.push_char('%');
        } else if !self.good_index {
            printer.push(&format!("%!{verb}(BADINDEX)"));
        } else if let Some(value) = self.values.get(self.next) {
            if verb == 'v' {
                let flags = &mut printer.flags;
                (flags.sharp_v, flags.sharp) = (flags.sharp, false);
                (flags.plus_v, flags.plus) = (flags.plus, false);
            }
            printer.arg(value, verb);
            self.next += 1;
        } else {
            printer.push(&format!("%!{verb}(MISSING)"));
        }
    }

    /// Digits here; too many of them are swallowed together with the rest of the format.
    fn number(&mut self) -> Option<usize> {
        let mut value: Option<i64> = None;
        while let Some(digit @ b'0'..=b'9') = self.byte() {
            if value.unwrap_or(0) > NUMBER_MAX {
                self.at = self.format.len();
                return None;
            }
            value = Some(value.unwrap_or(0) * 10 + i64::from(digit - b'0'));
            self.at += 1;
        }
        value.and_then(|value| usize::try_from(value).ok())
    }

    /// `[n]` here: the operand the next verb takes.
    fn index(&mut self) -> bool {
        if self.byte() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let rest = &self.format[self.at + 1..];
        let Some(length) = rest.find(']').filter(|_| rest.len() >= 2) else {
            self.at += 1;
            self.good_index = false;
            return false;
        };
        self.at += length + 2;
        let digits = &rest[..length];
        let number = digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse::<usize>().ok())
            .flatten();
        match number {
            Some(number) if (1..=self.values.len()).contains(&number) => {
                self.next = number - 1;
                true
            }
            other => {
                self.good_index = false;
                other.is_some()
            }
        }
    }

    /// The operand for a `*`.
    fn star(&mut self) -> Option<i64> {
        let value = self.values.get(self.next)?;
        self.next += 1;
        let number = match value.data {
            Data::Int(number) => number,
            Data::Uint(number) => i64::try_from(number).ok()?,
            _ => return None,
        };
        (-NUMBER_MAX..=NUMBER_MAX)
            .contains(&number)
            .then_some(number)
    }
}

impl Printer {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            out: String::new(),
            flags: Flags::default(),
            erroring: false,
            limit,
            overflow: false,
        }
    }

    pub(crate) fn finish(self) -> Result<String, Error> {
        if self.overflow {
            return Err(Error::Limit("output too large".to_owned()));
        }
        Ok(self.out)
    }

    fn push(&mut self, text: &str) {
        if self.overflow || self.out.len() + text.len() > self.limit {
            self.overflow = true;
        } else {
            self.out.push_str(text);
        }
    }

    fn push_char(&mut self, c: char) {
        self.push(c.encode_utf8(&mut [0; 4]));
    }

    fn push_padding(&mut self, count: usize, padding: char) {
        if self.overflow || self.out.len() + count > self.limit {
            self.overflow = true;
        } else {
            self.out.extend(std::iter::repeat_n(padding, count));
        }
    }

    /// Adds `text`, filled up to the width.
    fn pad(&mut self, text: &str) {
        let Some(width) = self.flags.width else {
            return self.push(text);
        };
        let missing = width.saturating_sub(text.chars().count());
        if self.flags.minus {
            self.push(text);
            self.push_padding(missing, ' ');
        } else {
            self.push_padding(missing, if self.flags.zero { '0' } else { ' ' });
            self.push(text);
        }
    }

    fn pad_with_spaces(&mut self, text: &str) {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(text);
        self.flags.zero = zero;
    }

    /// Prints one operand.
    pub(crate) fn arg(&mut self, value: &Value, verb: char) {
        if matches!(value.data, Data::Nil | Data::Invalid) {
            match verb {
                'T' | 'v' => self.pad("<nil>"),
                _ => self.bad_verb(value, verb),
            }
            return;
        }
        match verb {
            'T' => self.string(&value.ty.to_string(), 's'),
            'p' => self.pointer(value, verb),
            _ => self.value(value, verb, 0),
        }
    }

    fn bad_verb(&mut self, value: &Value, verb: char) {
        self.push(&format!("%!{verb}("));
        if matches!(value.data, Data::Nil | Data::Invalid) {
            self.push("<nil>");
        } else {
            self.push(&format!("{}=", value.ty));
            let erroring = std::mem::replace(&mut self.erroring, true);
            self.value(value, 'v', 0);
            self.erroring = erroring;
        }
        self.push_char(')');
    }

    fn value(&mut self, value: &Value, verb: char, depth: usize) {
        if depth > DEPTH_MAX || self.overflow {
            self.overflow = true;
            return;
        }
        if !self.erroring
            && !self.flags.sharp_v
            && matches!(verb, 'v' | 's' | 'x' | 'X' | 'q')
            && let Some(text) = string_method(value)
        {
            return self.string(&text, verb);
        }
        match &value.data {
            // Only inside another value: `arg` keeps a bare nil away.
            Data::Invalid | Data::Nil if self.flags.sharp_v => self.push("interface {}(nil)"),
            Data::Invalid | Data::Nil => self.push("<nil>"),
            Data::Bool(flag) => match verb {
                't' | 'v' => self.pad(if *flag { "true" } else { "false" }),
                _ => self.bad_verb(value, verb),
            },
            Data::Int(number) => {
                self.integer(value, number.unsigned_abs(), *number < 0, true, verb);
            }
            Data::Uint(number) => self.integer(value, *number, false, false, verb),
            Data::Float(number) => self.float(value, *number, verb),
            Data::Str(text) => match verb {
                'v' | 's' | 'x' | 'X' | 'q' => self.string(text, verb),
                _ => self.bad_verb(value, verb),
            },
            Data::List(items) => self.list(&value.ty, items.as_deref(), verb, depth),
            Data::Map(entries) => {
                let sharp = self.flags.sharp_v;
                let (open, close) = if sharp { ("{", '}') } else { ("map[", ']') };
                if sharp {
                    self.push(&value.ty.to_string());
                    if entries.is_none() {
                        return self.push("(nil)");
                    }
                }
                self.push(open);
                for (index, (key, entry)) in entries.iter().flat_map(|map| map.iter()).enumerate() {
                    if index > 0 {
                        self.push(if sharp { ", " } else { " " });
                    }
                    self.value(&value.map_key(key), verb, depth + 1);
                    self.push_char(':');
                    self.value(entry, verb, depth + 1);
                }
                self.push_char(close);
            }
            Data::Struct(values) => {
                let Type::Struct(ty) = value.ty.underlying() else {
                    return;
                };
                let sharp = self.flags.sharp_v;
                if sharp {
                    self.push(&value.ty.to_string());
                }
                self.push_char('{');
                for (index, (field, entry)) in ty.fields.iter().zip(values.iter()).enumerate() {
                    if index > 0 {
                        self.push(if sharp { ", " } else { " " });
                    }
                    if sharp || self.flags.plus_v {
                        self.push(&field.name);
                        self.push_char(':');
                    }
                    self.value(entry, verb, depth + 1);
                }
                self.push_char('}');
            }
            Data::Pointer(target) => match target.as_deref() {
                Some(target)
                    if depth == 0
                        && matches!(
                            target.data,
                            Data::List(_) | Data::Map(_) | Data::Struct(_)
                        )
                        && string_method(target).is_none() =>
                {
                    self.push_char('&');
                    self.value(target, verb, depth + 1);
                }
                _ => self.pointer(value, verb),
            },
            Data::Object(object) => {
                let json = Value::from_json(&object.to_json());
                self.value(&json, verb, depth + 1);
            }
        }
    }

    fn list(&mut self, ty: &Type, items: Option<&[Value]>, verb: char, depth: usize) {
        let sharp = self.flags.sharp_v;
        if sharp {
            self.push(&ty.to_string());
            if items.is_none() {
                return self.push("(nil)");
            }
        }
        self.push_char(if sharp { '{' } else { '[' });
        for (index, item) in items.unwrap_or_default().iter().enumerate() {
            if index > 0 {
                self.push(if sharp { ", " } else { " " });
            }
            self.value(item, verb, depth + 1);
        }
        self.push_char(if sharp { '}' } else { ']' });
    }

    fn pointer(&mut self, value: &Value, verb: char) {
        let address = match &value.data {
            Data::Pointer(None) | Data::List(None) | Data::Map(None) => 0,
            Data::Pointer(_) | Data::List(_) | Data::Map(_) => ADDRESS,
            _ => return self.bad_verb(value, verb),
        };
        match verb {
            'v' if self.flags.sharp_v => {
                let inner = if address == 0 {
                    "nil".to_owned()
                } else {
                    format!("{address:#x}")
                };
                self.push(&format!("({})({inner})", value.ty));
            }
            'v' if address == 0 => self.pad("<nil>"),
            'v' | 'p' => {
                let sharp = self.flags.sharp;
                self.flags.sharp = !sharp;
                self.digits(address, false, false, 16, verb);
                self.flags.sharp = sharp;
            }
            'b' | 'o' | 'd' | 'x' | 'X' => self.integer(value, address, false, false, verb),
            _ => self.bad_verb(value, verb),
        }
    }

    fn string(&mut self, text: &str, verb: char) {
        let cut = match (verb, self.flags.precision) {
            ('x' | 'X', _) | (_, None) => text,
            (_, Some(count)) => text
                .char_indices()
                .nth(count)
                .map_or(text, |(at, _)| &text[..at]),
        };
        match verb {
            'x' | 'X' => self.hex(text.as_bytes(), verb),
            'q' => self.quoted(cut),
            'v' if self.flags.sharp_v => self.quoted(cut),
            _ => self.pad(cut),
        }
    }

    fn quoted(&mut self, text: &str) {
        let can_backquote = || {
            text.chars()
                .all(|c| c == '\t' || (c >= ' ' && c != '`' && c != '\x7f' && c != '\u{feff}'))
        };
        if self.flags.sharp && can_backquote() {
            self.pad(&format!("`{text}`"));
        } else if self.flags.plus {
            self.pad(&quote_ascii(text));
        } else {
            self.pad(&quote(text));
        }
    }

    fn hex(&mut self, bytes: &[u8], verb: char) {
        let length = self
            .flags
            .precision
            .map_or(bytes.len(), |count| count.min(bytes.len()));
        if length * 5 > self.limit.saturating_sub(self.out.len()) {
            self.overflow = true;
            return;
        }
        let prefix = match (self.flags.sharp, verb) {
            (false, _) => "",
            (true, 'x') => "0x",
            (true, _) => "0X",
        };
        let mut text = String::with_capacity(length * 5);
        for (index, byte) in bytes[..length].iter().enumerate() {
            if index > 0 && self.flags.space {
                text.push(' ');
            }
            if index == 0 || self.flags.space {
                text.push_str(prefix);
            }
            if verb == 'x' {
                text.push_str(&format!("{byte:02x}"));
            } else {
                text.push_str(&format!("{byte:02X}"));
            }
        }
        self.pad(&text);
    }

    fn integer(&mut self, value: &Value, magnitude: u64, negative: bool, signed: bool, verb: char) {
        match verb {
            'v' if self.flags.sharp_v && !signed => {
                self.flags.sharp = true;
                self.digits(magnitude, false, false, 16, 'v');
                self.flags.sharp = false;
            }
            'v' | 'd' => self.digits(magnitude, negative, true, 10, verb),
            'b' => self.digits(magnitude, negative, true, 2, verb),
            'o' | 'O' => self.digits(magnitude, negative, true, 8, verb),
            'x' | 'X' => self.digits(magnitude, negative, true, 16, verb),
            'c' | 'q' | 'U' => {
                let code = if negative {
                    magnitude.wrapping_neg()
                } else {
                    magnitude
                };
                self.character(code, verb);
            }
            _ => self.bad_verb(value, verb),
        }
    }

    fn character(&mut self, code: u64, verb: char) {
        let c = u32::try_from(code).ok().and_then(char::from_u32);
        let shown = c.unwrap_or(char::REPLACEMENT_CHARACTER);
        match verb {
            'c' => self.pad(shown.encode_utf8(&mut [0; 4])),
            'q' => self.pad(&quote_char(shown, self.flags.plus)),
            _ => {
                let digits = self.flags.precision.unwrap_or(0).max(4);
                let mut text = format!("U+{code:0digits$X}");
                if let Some(c) = c.filter(|c| self.flags.sharp && is_printable(*c)) {
                    text.push_str(&format!(" '{c}'"));
                }
                self.pad_with_spaces(&text);
            }
        }
    }

    fn digits(&mut self, magnitude: u64, negative: bool, signed: bool, base: u32, verb: char) {
        let flags = self.flags;
        let mut wanted = 0;
        if let Some(precision) = flags.precision {
            wanted = precision;
            if precision == 0 && magnitude == 0 {
                return self.pad_with_spaces("");
            }
        } else if let (true, false, Some(width)) = (flags.zero, flags.minus, flags.width) {
            let sign = usize::from((negative && signed) || flags.plus || flags.space);
            wanted = width.saturating_sub(sign);
        }
        let mut text = match (base, verb) {
            (2, _) => format!("{magnitude:b}"),
            (8, _) => format!("{magnitude:o}"),
            (16, 'X') => format!("{magnitude:X}"),
            (16, _) => format!("{magnitude:x}"),
            _ => magnitude.to_string(),
        };
        if text.len() < wanted {
            text.insert_str(0, &"0".repeat(wanted - text.len()));
        }
        if flags.sharp {
            match (base, verb) {
                (2, _) => text.insert_str(0, "0b"),
                (8, _) if !text.starts_with('0') => text.insert(0, '0'),
                (16, 'X') => text.insert_str(0, "0X"),
                (16, _) => text.insert_str(0, "0x"),
                _ => {}
            }
        }
        if verb == 'O' {
            text.insert_str(0, "0o");
        }
        if negative {
            text.insert(0, '-');
        } else if flags.plus {
            text.insert(0, '+');
        } else if flags.space {
            text.insert(0, ' ');
        }
        self.pad_with_spaces(&text);
    }

    fn float(&mut self, value: &Value, number: f64, verb: char) {
        let single = matches!(value.ty.underlying(), Type::Float("float32"));
        let (format, default) = match verb {
            'v' => ('g', Precision::Shortest),
            'b' | 'g' | 'G' | 'x' | 'X' => (verb, Precision::Shortest),
            'e' | 'E' => (verb, Precision::Digits(6)),
            'f' | 'F' => ('f', Precision::Digits(6)),
            _ => return self.bad_verb(value, verb),
        };
        let precision = self.flags.precision.map_or(default, Precision::Digits);
        if let Precision::Digits(count) = precision
            && count > self.limit.saturating_sub(self.out.len())
        {
            self.overflow = true;
            return;
        }
        let text = format_float(number, format, precision, single);
        let (mut sign, mut digits) = match text.strip_prefix(['+', '-']) {
            Some(digits) => (text.chars().next(), digits.to_owned()),
            None => (Some('+'), text),
        };
        let flags = self.flags;
        if flags.space && sign == Some('+') && !flags.plus {
            sign = Some(' ');
        }
        if !number.is_finite() {
            // Only an infinity shows a plus nobody asked for.
            let shown = match sign {
                Some(sign) if number.is_infinite() || flags.plus || flags.space => {
                    format!("{sign}{digits}")
                }
                _ => digits,
            };
            return self.pad_with_spaces(&shown);
        }
        if flags.sharp && format != 'b' {
            digits = keep_point(&digits, format, precision);
        }
        if flags.plus || sign != Some('+') {
            let sign = sign.unwrap_or('+');
            let width = flags.width.unwrap_or(0);
            if flags.zero && !flags.minus && width > digits.len() + 1 {
                self.push_char(sign);
                self.push_padding(width - digits.len() - 1, '0');
                return self.push(&digits);
            }
            return self.pad(&format!("{sign}{digits}"));
        }
        self.pad(&digits);
    }
}

/// `%#g` and its like: a point always, and the zeros behind it.
fn keep_point(digits: &str, verb: char, precision: Precision) -> String {
    let mark = if matches!(verb, 'x' | 'X') {
        ['p', 'P']
    } else {
        ['e', 'E']
    };
    let end = digits.find(mark).unwrap_or(digits.len());
    let (number, tail) = digits.split_at(end);
    let mut missing = match (verb, precision) {
        ('g' | 'G' | 'x', Precision::Shortest) => 6,
        ('g' | 'G' | 'x', Precision::Digits(count)) => count,
        _ => 0,
    };
    let significant = number
        .chars()
        .skip_while(|c| matches!(c, '0' | '.'))
        .filter(|c| *c != '.');
    missing = missing.saturating_sub(significant.count());
    let mut out = number.to_owned();
    if !number.contains('.') {
        if number == "0" {
            missing = missing.saturating_sub(1);
        }
        out.push('.');
    }
    out.extend(std::iter::repeat_n('0', missing));
    out + tail
}

/// What the value's `String` method returns, if its type has one.
pub(crate) fn string_method(value: &Value) -> Option<String> {
    match (value.ty.text_form(), &value.data) {
        (TextForm::Time, Data::Str(text)) => Some(time_string(text)),
        (TextForm::Duration, Data::Int(nanoseconds)) => Some(duration_string(*nanoseconds)),
        (TextForm::JsonNumber, Data::Str(text)) => Some(text.to_string()),
        (TextForm::Plain, Data::Pointer(Some(target))) => string_method(target),
        _ => None,
    }
}

/// RFC 3339 as Go's `Time.String` shows it: `2006-01-02 15:04:05.9 +0000 UTC`.
fn time_string(text: &str) -> String {
    let Some((date, time)) = text.split_once(['T', ' ']) else {
        return text.to_owned();
    };
    let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let clock = match clock.split_once('.') {
        Some((clock, fraction)) if fraction.trim_end_matches('0').is_empty() => clock.to_owned(),
        Some((clock, fraction)) => format!("{clock}.{}", fraction.trim_end_matches('0')),
        None => clock.to_owned(),
    };
    let zone = match zone {
        "" | "Z" => "+0000 UTC".to_owned(),
        _ => {
            let offset = zone.replace(':', "");
            format!("{offset} {offset}")
        }
    };
    format!("{date} {clock} {zone}")
}

/// Go's `Duration.String`: `1h2m3.5s`, `1.5ms`, `0s`.
fn duration_string(nanoseconds: i64) -> String {
    let magnitude = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let fraction = |value: u64, unit: u64| {
        let width = unit.ilog10() as usize;
        let digits = format!("{:0width$}", value % unit);
        let digits = digits.trim_end_matches('0');
        let point = if digits.is_empty() { "" } else { "." };
        format!("{}{point}{digits}", value / unit)
    };
    match magnitude {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{magnitude}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", fraction(magnitude, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", fraction(magnitude, 1_000_000)),
        _ => {
            let seconds = fraction(magnitude % 60_000_000_000, 1_000_000_000);
            let minutes = magnitude / 60_000_000_000;
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}
