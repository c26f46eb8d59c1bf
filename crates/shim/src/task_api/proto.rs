//! Protobuf's encoding (proto3), as far as the task service needs it.
//!
//! A message is a plain structure declared by [`message!`]; fields that equal their default are left out, unknown ones
//! are skipped, and of a field given twice the last one counts, as the encoding's rules say.

use std::collections::BTreeMap;

/// Bytes that are no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// A number or a length goes past the end.
    #[error("message is cut off")]
    CutOff,
    /// A number of more than 64 bits.
    #[error("number is too long")]
    Overlong,
    /// A kind of value that proto3 does not have, or not for this field.
    #[error("field {number} has a value of the wrong kind")]
    WrongKind {
        /// The field's number.
        number: u32,
    },
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    NotText,
}

/// One value as it stands in a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Eight or four bytes; no message here has them.
    Fixed,
}

/// What a field of a message can be.
pub(crate) trait Field {
    /// Appends the field, unless it has its default.
    fn put(&self, number: u32, out: &mut Vec<u8>);
    /// Takes a value that was read.
    fn take(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed>;
}

/// A message; made by [`message!`].
pub(crate) trait Message: Default {
    fn put_fields(&self, out: &mut Vec<u8>);
    fn take_field(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed>;

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_fields(&mut out);
        out
    }

    fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let mut message = Self::default();
        while !bytes.is_empty() {
            let (number, value) = read_field(&mut bytes)?;
            message.take_field(number, value)?;
        }
        Ok(message)
    }
}

/// Declares messages: `Name { field: Type = number, .. }`.
macro_rules! message {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $number:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(crate) struct $name { $($(#[$field_doc])* pub(crate) $field: $kind),* }

        impl $crate::task_api::proto::Message for $name {
            #[allow(unused_variables)]
            fn put_fields(&self, out: &mut Vec<u8>) {
                $($crate::task_api::proto::Field::put(&self.$field, $number, out);)*
            }

            #[allow(unused_variables)]
            fn take_field(
                &mut self,
                number: u32,
                value: $crate::task_api::proto::Value<'_>,
            ) -> Result<(), $crate::task_api::proto::Malformed> {
                match number {
                    $($number => $crate::task_api::proto::Field::take(&mut self.$field, number, value),)*
                    _ => Ok(()),
                }
            }
        }
    )*};
}
pub(crate) use message;

fn read_field<'a>(bytes: &mut &'a [u8]) -> Result<(u32, Value<'a>), Malformed> {
    let key = read_number(bytes)?;
    let number = u32::try_from(key >> 3).map_err(|_| Malformed::Overlong)?;
    let value = match key & 7 {
        0 => Value::Number(read_number(bytes)?),
        1 => read_bytes(bytes, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = read_number(bytes)?;
            Value::Bytes(read_bytes(
                bytes,
                usize::try_from(length).map_err(|_| Malformed::CutOff)?,
            )?)
        }
        5 => read_bytes(bytes, 4).map(|_| Value::Fixed)?,
        _ => return Err(Malformed::WrongKind { number }),
    };
    Ok((number, value))
}

fn read_bytes<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (head, rest) = bytes.split_at_checked(length).ok_or(Malformed::CutOff)?;
    *bytes = rest;
    Ok(head)
}

fn read_number(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0u64;
    for shift in (0..70).step_by(7) {
        let [byte] = read_bytes(bytes, 1)? else {
            return Err(Malformed::CutOff);
        };
        if shift == 63 && *byte > 1 {
            return Err(Malformed::Overlong);
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed::Overlong)
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_number(u64::from(number) << 3 | 2, out);
    put_number(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn bytes_of(number: u32, value: Value<'_>) -> Result<&[u8], Malformed> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Number(_) | Value::Fixed => Err(Malformed::WrongKind { number }),
    }
}

/// Fields that are written as one number.
macro_rules! number_field {
    ($kind:ty, |$from:ident| $to_number:expr, |$read:ident| $from_number:expr) => {
        impl Field for $kind {
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                let $from = *self;
                if $from != Self::default() {
                    put_number(u64::from(number) << 3, out);
                    put_number($to_number, out);
                }
            }

            fn take(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
                let Value::Number($read) = value else {
                    return Err(Malformed::WrongKind { number });
                };
                *self = $from_number;
                Ok(())
            }
        }
    };
}

number_field!(bool, |from| u64::from(from), |read| read != 0);
number_field!(u64, |from| from, |read| read);
// The rules of the encoding: what does not fit loses its upper bits; negative numbers take ten bytes.
number_field!(u32, |from| u64::from(from), |read| (read & 0xffff_ffff) as u32);
number_field!(i64, |from| from.cast_unsigned(), |read| read.cast_signed());
number_field!(i32, |from| i64::from(from).cast_unsigned(), |read| {
    ((read & 0xffff_ffff) as u32).cast_signed()
});

impl Field for String {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            put_bytes(number, self.as_bytes(), out);
        }
    }

    fn take(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
        let text = std::str::from_utf8(bytes_of(number, value)?).map_err(|_| Malformed::NotText)?;
        text.clone_into(self);
        Ok(())
    }
}

impl Field for Vec<u8> {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            put_bytes(number, self, out);
        }
    }

    fn take(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
        bytes_of(number, value)?.clone_into(self);
        Ok(())
    }
}

impl Field for Vec<u64> {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            let mut packed = Vec::new();
            self.iter().for_each(|value| put_number(*value, &mut packed));
            put_bytes(number, &packed, out);
        }
    }

    fn take(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
        match value {
            Value::Number(value) => self.push(value),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    self.push(read_number(&mut packed)?);
                }
            }
            Value::Fixed => return Err(Malformed::WrongKind { number }),
        }
        Ok(())
    }
}

impl Field for Vec<String> {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        self.iter().for_each(|text| put_bytes(number, text.as_bytes(), out));
    }

    fn take(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
        let mut text = String::new();
        text.take(number, value)?;
        self.push(text);
        Ok(())
    }
}

impl<M: Message> Field for Option<M> {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        if let Some(message) = self {
            put_bytes(number, &message.encode(), out);
        }
    }

    fn take(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
        *self = Some(M::decode(bytes_of(number, value)?)?);
        Ok(())
    }
}

impl<M: Message> Field for Vec<M> {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        self.iter()
            .for_each(|message| put_bytes(number, &message.encode(), out));
    }

    fn take(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
        self.push(M::decode(bytes_of(number, value)?)?);
        Ok(())
    }
}

message! {
    /// An entry of a map.
    Entry { key: String = 1, value: String = 2 }
}

impl Field for BTreeMap<String, String> {
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        for (key, value) in self {
            let (key, value) = (key.clone(), value.clone());
            put_bytes(number, &Entry { key, value }.encode(), out);
        }
    }

    fn take(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
        let entry = Entry::decode(bytes_of(number, value)?)?;
        self.insert(entry.key, entry.value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    message! {
        Inner { text: String = 1 }
        Outer {
            flag: bool = 1,
            number: u32 = 2,
            signed: i64 = 3,
            bytes: Vec<u8> = 4,
            inner: Option<Inner> = 5,
            many: Vec<Inner> = 6,
            map: BTreeMap<String, String> = 7,
            numbers: Vec<u64> = 8,
            words: Vec<String> = 16,
        }
    }

    fn outer() -> Outer {
        Outer {
            flag: true,
            number: 300,
            signed: -1,
            bytes: vec![0, 255],
            inner: Some(Inner::default()),
            many: vec![Inner { text: "é".into() }, Inner::default()],
            map: BTreeMap::from([("k".into(), "v".into())]),
            numbers: vec![1, u64::MAX],
            words: vec![String::new(), "w".into()],
        }
    }

    #[test]
    fn every_kind_of_field_survives() {
        assert_eq!(Outer::decode(&outer().encode()), Ok(outer()));
        assert!(Outer::default().encode().is_empty());
    }

    #[test]
    fn bytes_are_those_of_the_specification() {
        let number = Outer {
            number: 150,
            ..Outer::default()
        };
        assert_eq!(number.encode(), [0x10, 0x96, 0x01]);
        let text = Inner { text: "testing".into() };
        assert_eq!(text.encode(), b"\x0a\x07testing");
    }

    #[test]
    fn what_is_cut_off_or_of_the_wrong_kind_is_refused_and_the_unknown_skipped() {
        let whole = outer().encode();
        for end in 0..whole.len() {
            // A cut between two fields leaves a message; anywhere else it is noticed, and nowhere is it a panic.
            let _ = Outer::decode(&whole[..end]);
        }
        assert_eq!(Inner::decode(b"\x0a\x07test"), Err(Malformed::CutOff));
        assert_eq!(Inner::decode(b"\x08\x01"), Err(Malformed::WrongKind { number: 1 }));
        assert_eq!(Inner::decode(b"\x0a\x01\xff"), Err(Malformed::NotText));
        assert_eq!(Inner::decode(&[0xff; 12]), Err(Malformed::Overlong));
        let unknown = b"\x11\0\0\0\0\0\0\0\0\x1d\0\0\0\0\x20\x01\x0a\x01x";
        assert_eq!(Inner::decode(unknown), Ok(Inner { text: "x".into() }));
    }
}
