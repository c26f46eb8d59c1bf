//! The little of protocol buffers that CRIU's RPC takes: numbers, texts and
//! messages inside messages.

/// A message in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// The bytes as they are sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }

    /// Adds a number, an enumeration or an identifier.
    pub(crate) fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    /// Adds a number that may be negative.
    pub(crate) fn integer(&mut self, field: u32, value: i32) -> &mut Self {
        self.number(field, i64::from(value).cast_unsigned())
    }

    /// Adds a truth value.
    pub(crate) fn flag(&mut self, field: u32, value: bool) -> &mut Self {
        self.number(field, u64::from(value))
    }

    fn block(&mut self, field: u32, bytes: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds a text.
    pub(crate) fn text(&mut self, field: u32, text: &str) -> &mut Self {
        self.block(field, text.as_bytes())
    }

    /// Adds a message.
    pub(crate) fn message(&mut self, field: u32, message: &Self) -> &mut Self {
        self.block(field, &message.0)
    }
}

/// A received value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Block(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number, 0 for a block.
    pub(crate) fn as_number(self) -> u64 {
        match self {
            Value::Number(number) => number,
            Value::Block(_) => 0,
        }
    }

    /// The number as a signed one of 32 bits.
    pub(crate) fn as_i32(self) -> i32 {
        let low = self.as_number() & 0xffff_ffff;
        u32::try_from(low).unwrap_or(0).cast_signed()
    }

    /// The block, empty for a number.
    pub(crate) fn as_block(self) -> &'a [u8] {
        match self {
            Value::Number(_) => &[],
            Value::Block(bytes) => bytes,
        }
    }

    /// The block as text.
    pub(crate) fn as_text(self) -> String {
        String::from_utf8_lossy(self.as_block()).into_owned()
    }
}

/// The fields of a message in their order; none if it is malformed.
pub(crate) fn parse(mut bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Number(take_varint(&mut bytes)?),
            1 => Value::Block(take(&mut bytes, 8)?),
            2 => {
                let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                Value::Block(take(&mut bytes, length)?)
            }
            5 => Value::Block(take(&mut bytes, 4)?),
            _ => return None,
        };
        fields.push((u32::try_from(key >> 3).ok()?, value));
    }
    Some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?.first().copied()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_back_as_it_was_written() {
        let mut inner = Message::default();
        inner.text(1, "key").integer(2, -1);
        let mut message = Message::default();
        message.number(1, 300).flag(24, true).message(5, &inner);
        let fields = parse(message.bytes()).expect("well-formed");
        assert_eq!(fields[0], (1, Value::Number(300)));
        assert_eq!(fields[1], (24, Value::Number(1)));
        let inner = parse(fields[2].1.as_block()).expect("well-formed");
        assert_eq!((inner[0].1.as_text(), inner[1].1.as_i32()), ("key".to_owned(), -1));
    }

    #[test]
    fn the_encoding_is_the_one_of_the_specification() {
        let mut message = Message::default();
        message.number(1, 150).text(2, "testing");
        assert_eq!(message.bytes(), b"\x08\x96\x01\x12\x07testing");
        // An answer of CRIU 3.17.1 to the question for its version.
        let fields = parse(b"\x08\n\x10\x01R\x06\x08\x03\x10\x11 \x01").expect("well-formed");
        assert_eq!(fields[0], (1, Value::Number(10)));
        let version = parse(fields[2].1.as_block()).expect("well-formed");
        assert_eq!(
            version.iter().map(|(_, part)| part.as_number()).collect::<Vec<_>>(),
            [3, 17, 1]
        );
    }

    #[test]
    fn malformed_messages_are_refused() {
        for bytes in [
            &b"\x08"[..],
            b"\x12\x05abc",
            b"\x0b",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x12\xff\xff\xff\xff\x0f",
        ] {
            assert_eq!(parse(bytes), None, "{bytes:?}");
        }
    }
}
