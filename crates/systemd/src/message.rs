//! D-Bus messages, as far as they are needed here (D-Bus specification, "Message Protocol").
//!
//! ```text
//! 'l' type flags 1   body length u32   serial u32   fields a(yv)   padding to 8   body
//! ```
//!
//! Everything is aligned to its own size from the beginning of the message; we write little-endian
//! and read both.

/// The longest message taken; the specification's own limit is 128 MiB.
pub const LENGTH_MAX: usize = 1 << 20;

/// Bytes before the array of header fields, its length included.
pub const FIXED: usize = 16;

/// A value of a unit's property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `t`
    U64(u64),
    /// `s`
    Text(String),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `as`
    Texts(Vec<String>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::U64(_) => "t",
            Self::Text(_) => "s",
            Self::Numbers(_) => "au",
            Self::Bytes(_) => "ay",
            Self::Texts(_) => "as",
            Self::Pairs(_) => "a(ss)",
        }
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A call.
    Call = 1,
    /// The answer to one.
    Return,
    /// The failure of one.
    Error,
    /// Something that happened.
    Signal,
}

/// Writes values, aligned.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// `u`
    pub fn u32(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.align(8);
        self.0.extend(number.to_le_bytes());
    }

    /// `s` and `o`
    pub fn text(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0
            .push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    /// An array whose elements are aligned to `element`.
    pub fn array(&mut self, element: usize, write: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_at = self.0.len() - 4;
        self.align(element);
        let start = self.0.len();
        write(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// `v`
    pub fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(value) => self.u32(u32::from(*value)),
            Value::U64(number) => self.u64(*number),
            Value::Text(text) => self.text(text),
            Value::Numbers(numbers) => self.array(4, |w| numbers.iter().for_each(|n| w.u32(*n))),
            Value::Bytes(bytes) => self.array(1, |w| w.0.extend(bytes)),
            Value::Texts(texts) => self.array(4, |w| texts.iter().for_each(|text| w.text(text))),
            Value::Pairs(pairs) => self.array(8, |w| {
                for (one, other) in pairs {
                    w.align(8);
                    w.text(one);
                    w.text(other);
                }
            }),
        }
    }

    /// `a(sv)`
    pub fn properties(&mut self, properties: &[(&str, Value)]) {
        self.array(8, |w| {
            for (name, value) in properties {
                w.align(8);
                w.text(name);
                w.variant(value);
            }
        });
    }
}

/// A call to be sent.
#[derive(Debug)]
pub struct Call<'a> {
    /// Whom; empty on a connection without a bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// Types of the body.
    pub signature: &'a str,
    /// The body.
    pub body: Writer,
}

impl Call<'_> {
    /// The message.
    pub fn encode(self, serial: u32) -> Vec<u8> {
        const PATH: u8 = 1;
        const INTERFACE: u8 = 2;
        const MEMBER: u8 = 3;
        const DESTINATION: u8 = 6;
        const SIGNATURE: u8 = 8;
        let mut writer = Writer(vec![b'l', Kind::Call as u8, 0, 1]);
        writer.u32(u32::try_from(self.body.0.len()).unwrap_or(u32::MAX));
        writer.u32(serial);
        writer.array(8, |w| {
            let mut field = |code: u8, kind: &str, text: &str| {
                if !text.is_empty() {
                    w.align(8);
                    w.0.push(code);
                    w.signature(kind);
                    if kind == "g" {
                        w.signature(text);
                    } else {
                        w.text(text);
                    }
                }
            };
            field(PATH, "o", self.path);
            field(INTERFACE, "s", self.interface);
            field(MEMBER, "s", self.member);
            field(DESTINATION, "s", self.destination);
            field(SIGNATURE, "g", self.signature);
        });
        writer.align(8);
        writer.0.extend(self.body.0);
        writer.0
    }
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The call it answers; 0 for none.
    pub reply_to: u32,
    /// The signal's or method's name.
    pub member: String,
    /// The error's name.
    pub error: String,
    /// The texts and object paths of the body, in order, as far as it begins with numbers and
    /// texts; a variant's content counts.
    pub texts: Vec<String>,
}

/// How long the message is whose first [`FIXED`] bytes these are. `None` for what is no message.
pub fn length(fixed: &[u8; FIXED]) -> Option<usize> {
    let reader = Reader::new(fixed)?;
    let body = usize::try_from(reader.u32_at(4)?).ok()?;
    let fields = usize::try_from(reader.u32_at(12)?).ok()?;
    let length = FIXED
        .checked_add(fields)?
        .checked_next_multiple_of(8)?
        .checked_add(body)?;
    (length <= LENGTH_MAX).then_some(length)
}

impl Message {
    /// Reads a whole message.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes)?;
        let kind = match bytes.get(1)? {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return None,
        };
        let fields = usize::try_from(reader.u32_at(12)?).ok()?;
        let end = FIXED.checked_add(fields)?;
        let mut message = Self {
            kind,
            reply_to: 0,
            member: String::new(),
            error: String::new(),
            texts: Vec::new(),
        };
        let mut signature = String::new();
        reader.at = FIXED;
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            match (code, reader.signature()?.as_str()) {
                (5, "u") => message.reply_to = reader.u32()?,
                (3, "s") => message.member = reader.text()?,
                (4, "s") => message.error = reader.text()?,
                (8, "g") => signature = reader.signature()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.u32()?),
                _ => return None,
            }
        }
        reader.align(8);
        message.texts = reader.texts(&signature, 0);
        Some(message)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = match bytes.first()? {
            b'l' => false,
            b'B' => true,
            _ => return None,
        };
        Some(Self {
            bytes,
            at: 0,
            big_endian,
        })
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let number = self.u32_at(self.at)?;
        self.at += 4;
        Some(number)
    }

    fn take(&mut self, length: usize) -> Option<String> {
        let end = self.at.checked_add(length)?;
        let text = std::str::from_utf8(self.bytes.get(self.at..end)?).ok()?;
        // The zero behind it.
        self.bytes.get(end)?;
        self.at = end + 1;
        Some(text.to_owned())
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        self.take(length)
    }

    fn texts(&mut self, signature: &str, depth: u8) -> Vec<String> {
        let mut texts = Vec::new();
        for kind in signature.bytes() {
            let read = match kind {
                b's' | b'o' => self.text().map(|text| texts.push(text)),
                b'u' | b'i' | b'b' => self.u32().map(drop),
                b'v' if depth == 0 => self
                    .signature()
                    .map(|inner| texts.extend(self.texts(&inner, depth + 1))),
                _ => None,
            };
            if read.is_none() {
                break;
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(body: Writer, signature: &str) -> Vec<u8> {
        let call = Call {
            destination: "org.x",
            path: "/org/x",
            interface: "org.x.Y",
            member: "Do",
            signature,
            body,
        };
        call.encode(7)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut body = Writer::default();
        body.text("one");
        body.u32(3);
        body.text("/two");
        body.variant(&Value::Text("three".into()));
        let bytes = call(body, "suov");
        let fixed: &[u8; FIXED] = bytes[..FIXED].try_into().unwrap();
        assert_eq!(length(fixed), Some(bytes.len()));
        let message = Message::decode(&bytes).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (Kind::Call, "Do"));
        assert_eq!(message.texts, ["one", "/two", "three"]);
    }

    #[test]
    fn properties_are_aligned() {
        let mut body = Writer::default();
        body.properties(&[
            ("A", Value::Bool(true)),
            ("B", Value::U64(5)),
            ("C", Value::Pairs(vec![("x".into(), "y".into())])),
        ]);
        let bytes = body.0;
        // Length; then each structure begins at a multiple of eight.
        assert_eq!(
            u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize,
            bytes.len() - 8
        );
        assert_eq!(&bytes[8..16], b"\x01\0\0\0A\0\x01b");
        assert_eq!(&bytes[16..24], b"\0\0\0\0\x01\0\0\0");
        assert_eq!(&bytes[24..32], b"\x01\0\0\0B\0\x01t");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Message::decode(&bytes));
            let mut bytes = bytes;
            bytes.resize(bytes.len().max(FIXED), 0);
            bytes[0] = b'l';
            bytes[1] = bytes[1] % 4 + 1;
            drop(Message::decode(&bytes));
            let fixed: &[u8; FIXED] = bytes[..FIXED].try_into().unwrap();
            prop_assert!(length(fixed).is_none_or(|length| length <= LENGTH_MAX));
        }
    }
}
