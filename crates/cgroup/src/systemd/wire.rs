//! Values and messages of D-Bus (D-Bus specification, "Marshaling" and "Message Protocol"), as far
//! as systemd's interface needs them.

use super::error::SystemdError;

/// Longest message taken.
const MAX_MESSAGE: usize = 1 << 24;
/// How deep values may nest.
const MAX_DEPTH: u32 = 32;
/// Bytes of a header before its fields.
pub(crate) const FIXED_HEADER: usize = 16;

/// A value; types that systemd's interface has no use for are left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    Int16(i16),
    /// `q`
    Uint16(u16),
    /// `i`
    Int32(i32),
    /// `u`
    Uint32(u32),
    /// `x`
    Int64(i64),
    /// `t`
    Uint64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a` of this signature.
    Array(String, Vec<Value>),
    /// `(...)`
    Tuple(Vec<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Its signature.
    pub fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::Int16(_) => "n".into(),
            Self::Uint16(_) => "q".into(),
            Self::Int32(_) => "i".into(),
            Self::Uint32(_) => "u".into(),
            Self::Int64(_) => "x".into(),
            Self::Uint64(_) => "t".into(),
            Self::Double(_) => "d".into(),
            Self::Text(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Tuple(items) => format!("({})", signature_of(items)),
            Self::Variant(_) => "v".into(),
        }
    }

    /// The text of a text, path or signature.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            Self::Variant(inner) => inner.as_text(),
            _ => None,
        }
    }
}

fn signature_of(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

/// Boundary on which a type begins.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') | None => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        Some(_) => 4,
    }
}

/// A message of any kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) serial: u32,
    pub(crate) reply_to: Option<u32>,
    pub(crate) path: Option<String>,
    pub(crate) interface: Option<String>,
    pub(crate) member: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) destination: Option<String>,
    pub(crate) body: Vec<Value>,
}

/// What a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

impl Message {
    /// The message as bytes, little endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Encoder::default();
        self.body.iter().for_each(|value| body.put(value));
        let mut out = Encoder::default();
        out.bytes.extend([b'l', self.kind as u8, 0, 1]);
        out.put(&Value::Uint32(u32::try_from(body.bytes.len()).unwrap_or(u32::MAX)));
        out.put(&Value::Uint32(self.serial));
        out.put(&Value::Array("(yv)".into(), self.fields()));
        out.align(8);
        out.bytes.extend(body.bytes);
        out.bytes
    }

    fn fields(&self) -> Vec<Value> {
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        let signature = signature_of(&self.body);
        let all = [
            (1, self.path.clone().map(Value::Path)),
            (2, text(&self.interface)),
            (3, text(&self.member)),
            (4, text(&self.error)),
            (5, self.reply_to.map(Value::Uint32)),
            (6, text(&self.destination)),
            (8, (!signature.is_empty()).then_some(Value::Signature(signature))),
        ];
        let field = |(code, value): (u8, Option<Value>)| {
            Some(Value::Tuple(vec![Value::Byte(code), Value::Variant(Box::new(value?))]))
        };
        all.into_iter().filter_map(field).collect()
    }

    /// Length of the whole message that begins with these [`FIXED_HEADER`] bytes.
    pub(crate) fn length(header: &[u8]) -> Result<usize, SystemdError> {
        let mut decoder = Decoder::new(header)?;
        decoder.at = 4;
        let body = decoder.size()?;
        decoder.at = 12;
        let fields = decoder.size()?;
        let whole = FIXED_HEADER + fields.next_multiple_of(8) + body;
        if whole > MAX_MESSAGE {
            Err(malformed("it is too long"))
        } else {
            Ok(whole)
        }
    }

    /// Reads a whole message.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SystemdError> {
        let mut decoder = Decoder::new(bytes)?;
        let kind = match bytes.get(1) {
            Some(1) => Kind::Call,
            Some(2) => Kind::Return,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            _ => return Err(malformed("its kind is unknown")),
        };
        decoder.at = 8;
        let serial = decoder.u32()?;
        let fields = decoder.value(&mut "a(yv)", 0)?;
        decoder.align(8)?;
        let mut message = Self {
            kind,
            serial,
            ..Self::default()
        };
        let signature = message.take_fields(fields);
        let mut rest = signature.as_str();
        while !rest.is_empty() {
            message.body.push(decoder.value(&mut rest, 0)?);
        }
        Ok(message)
    }

    /// Fills in the header's fields; answers the signature of the body.
    fn take_fields(&mut self, fields: Value) -> String {
        let mut signature = String::new();
        let Value::Array(_, items) = fields else {
            return signature;
        };
        for item in items {
            let Value::Tuple(parts) = item else { continue };
            let [Value::Byte(code), Value::Variant(value)] = parts.as_slice() else {
                continue;
            };
            let text = value.as_text().map(str::to_owned);
            match (code, &**value) {
                (1, _) => self.path = text,
                (2, _) => self.interface = text,
                (3, _) => self.member = text,
                (4, _) => self.error = text,
                (5, Value::Uint32(serial)) => self.reply_to = Some(*serial),
                (6, _) => self.destination = text,
                (8, _) => signature = text.unwrap_or_default(),
                _ => {}
            }
        }
        signature
    }
}

#[derive(Default)]
struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn put(&mut self, value: &Value) {
        self.align(alignment(&value.signature()));
        match value {
            Value::Byte(byte) => self.bytes.push(*byte),
            Value::Bool(flag) => self.bytes.extend(u32::from(*flag).to_le_bytes()),
            Value::Int16(number) => self.bytes.extend(number.to_le_bytes()),
            Value::Uint16(number) => self.bytes.extend(number.to_le_bytes()),
            Value::Int32(number) => self.bytes.extend(number.to_le_bytes()),
            Value::Uint32(number) => self.bytes.extend(number.to_le_bytes()),
            Value::Int64(number) => self.bytes.extend(number.to_le_bytes()),
            Value::Uint64(number) => self.bytes.extend(number.to_le_bytes()),
            Value::Double(number) => self.bytes.extend(number.to_le_bytes()),
            Value::Text(text) | Value::Path(text) => {
                self.length(text.len());
                self.terminated(text);
            }
            Value::Signature(text) => {
                self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                self.terminated(text);
            }
            Value::Array(element, items) => self.array(element, items),
            Value::Tuple(items) => items.iter().for_each(|item| self.put(item)),
            Value::Variant(inner) => {
                self.put(&Value::Signature(inner.signature()));
                self.put(inner);
            }
        }
    }

    fn array(&mut self, element: &str, items: &[Value]) {
        let at = self.bytes.len();
        self.length(0);
        // The padding before the first element does not count.
        self.align(alignment(element));
        let start = self.bytes.len();
        items.iter().for_each(|item| self.put(item));
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        self.bytes
            .extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn terminated(&mut self, text: &str) {
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }
}

fn malformed(what: &'static str) -> SystemdError {
    SystemdError::Malformed { what }
}

struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big: bool,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, SystemdError> {
        let is_big = match bytes.first() {
            Some(b'l') => false,
            Some(b'B') => true,
            _ => return Err(malformed("its byte order is unknown")),
        };
        Ok(Self { bytes, at: 0, is_big })
    }

    fn align(&mut self, to: usize) -> Result<(), SystemdError> {
        self.at = self.at.next_multiple_of(to);
        if self.at > self.bytes.len() {
            Err(malformed("it ends early"))
        } else {
            Ok(())
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], SystemdError> {
        let end = self
            .at
            .checked_add(length)
            .ok_or_else(|| malformed("a length overflows"))?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| malformed("it ends early"))?;
        self.at = end;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], SystemdError> {
        self.align(N)?;
        let mut bytes: [u8; N] = self.take(N)?.try_into().map_err(|_| malformed("it ends early"))?;
        if self.is_big {
            bytes.reverse();
        }
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, SystemdError> {
        self.number().map(u32::from_le_bytes)
    }

    /// A length; nothing in a message is longer than the longest message.
    fn size(&mut self) -> Result<usize, SystemdError> {
        let size = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if size > MAX_MESSAGE {
            Err(malformed("it is too long"))
        } else {
            Ok(size)
        }
    }

    fn string(&mut self, length: usize) -> Result<String, SystemdError> {
        let text = self.take(length)?.to_vec();
        self.take(1)?;
        String::from_utf8(text).map_err(|_| malformed("a text is not UTF-8"))
    }

    /// The value of the first complete type of `signature`, which is shortened by it.
    fn value(&mut self, signature: &mut &str, depth: u32) -> Result<Value, SystemdError> {
        if depth > MAX_DEPTH {
            return Err(malformed("it nests too deep"));
        }
        let length = type_length(signature).ok_or_else(|| malformed("a signature is incomplete"))?;
        let (kind, rest) = signature.split_at(length);
        *signature = rest;
        self.align(alignment(kind))?;
        Ok(match kind.as_bytes()[0] {
            b'y' => Value::Byte(self.take(1)?[0]),
            b'b' => Value::Bool(self.u32()? != 0),
            b'n' => Value::Int16(self.number().map(i16::from_le_bytes)?),
            b'q' => Value::Uint16(self.number().map(u16::from_le_bytes)?),
            b'i' => Value::Int32(self.number().map(i32::from_le_bytes)?),
            b'u' | b'h' => Value::Uint32(self.u32()?),
            b'x' => Value::Int64(self.number().map(i64::from_le_bytes)?),
            b't' => Value::Uint64(self.number().map(u64::from_le_bytes)?),
            b'd' => Value::Double(self.number().map(f64::from_le_bytes)?),
            b's' | b'o' => {
                let length = self.size()?;
                let text = self.string(length)?;
                if kind == "o" {
                    Value::Path(text)
                } else {
                    Value::Text(text)
                }
            }
            b'g' => {
                let length = usize::from(self.take(1)?[0]);
                Value::Signature(self.string(length)?)
            }
            b'v' => {
                let length = usize::from(self.take(1)?[0]);
                let inner = self.string(length)?;
                Value::Variant(Box::new(self.value(&mut inner.as_str(), depth + 1)?))
            }
            b'a' => self.array(&kind[1..], depth)?,
            b'(' | b'{' => {
                let mut inner = &kind[1..kind.len() - 1];
                let mut items = Vec::new();
                while !inner.is_empty() {
                    items.push(self.value(&mut inner, depth + 1)?);
                }
                Value::Tuple(items)
            }
            _ => return Err(malformed("a type is unknown")),
        })
    }

    fn array(&mut self, element: &str, depth: u32) -> Result<Value, SystemdError> {
        let length = self.size()?;
        self.align(alignment(element))?;
        let end = self.at + length;
        let mut items = Vec::new();
        while self.at < end {
            let before = self.at;
            items.push(self.value(&mut &*element, depth + 1)?);
            if self.at == before {
                return Err(malformed("an array has items without length"));
            }
        }
        Ok(Value::Array(element.to_owned(), items))
    }
}

/// Bytes of the first complete type of a signature.
fn type_length(signature: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in signature.bytes().enumerate() {
        match byte {
            b'(' | b'{' => depth += 1,
            b')' | b'}' => depth = depth.checked_sub(1)?,
            b'a' => continue,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: Vec<Value>) -> Message {
        Message {
            kind: Kind::Call,
            serial: 7,
            path: Some("/org/freedesktop/systemd1".into()),
            interface: Some("org.freedesktop.systemd1.Manager".into()),
            member: Some("StartTransientUnit".into()),
            destination: Some("org.freedesktop.systemd1".into()),
            body,
            ..Message::default()
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let property = |name: &str, value| Value::Tuple(vec![Value::text(name), Value::Variant(Box::new(value))]);
        let pids = Value::Array("u".into(), vec![Value::Uint32(1), Value::Uint32(2)]);
        let bytes = Value::Array("y".into(), vec![Value::Byte(3)]);
        let devices = Value::Array(
            "(ss)".into(),
            vec![Value::Tuple(vec![Value::text("/dev/null"), Value::text("rwm")])],
        );
        let body = vec![
            Value::text("x.scope"),
            Value::Array(
                "(sv)".into(),
                vec![
                    property("PIDs", pids),
                    property("Delegate", Value::Bool(true)),
                    property("AllowedCPUs", bytes),
                    property("TasksMax", Value::Uint64(u64::MAX)),
                    property("DeviceAllow", devices),
                ],
            ),
            Value::Array("(sa(sv))".into(), vec![]),
            Value::Int32(-5),
            Value::Double(1.5),
            Value::Path("/a".into()),
        ];
        let sent = message(body);
        let bytes = sent.encode();
        assert_eq!(Message::length(&bytes[..FIXED_HEADER]).ok(), Some(bytes.len()));
        assert_eq!(Message::decode(&bytes).ok(), Some(sent));
    }

    #[test]
    fn bytes_are_those_of_the_specification() {
        let mut hello = Message {
            serial: 1,
            ..Message::default()
        };
        hello.path = Some("/".into());
        hello.member = Some("Hi".into());
        let expected = b"l\x01\x00\x01\0\0\0\0\x01\0\0\0\x1b\0\0\0\
            \x01\x01o\0\x01\0\0\0/\0\0\0\0\0\0\0\x03\x01s\0\x02\0\0\0Hi\0\0\0\0\0\0";
        assert_eq!(hello.encode(), expected);
    }

    #[test]
    fn both_byte_orders_are_read() {
        let big = b"B\x02\x00\x01\0\0\0\x04\0\0\0\x09\0\0\0\x0f\
            \x05\x01u\0\0\0\0\x07\x08\x01g\0\x01u\0\0\0\0\0\x05";
        let read = Message::decode(big).expect("a message");
        assert_eq!((read.kind, read.reply_to), (Kind::Return, Some(7)));
        assert_eq!(read.body, [Value::Uint32(5)]);
    }

    #[test]
    fn every_cut_or_changed_message_is_refused_or_read_but_never_a_panic() {
        let bytes = message(vec![Value::Array("(sv)".into(), vec![]), Value::text("text")]).encode();
        for length in 0..bytes.len() {
            assert!(Message::decode(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, b'a', b'(', b'v', 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = Message::decode(&changed);
            }
        }
        let deep = "v".repeat(3);
        assert_eq!(type_length(&deep), Some(1));
        assert_eq!(
            (type_length("a(ss)u"), type_length("a"), type_length(")")),
            (Some(5), None, None)
        );
    }
}
