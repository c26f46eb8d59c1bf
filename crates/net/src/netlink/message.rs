//! Building and reading netlink messages (netlink(7), rtnetlink(7)).

/// Answer with an acknowledgement.
pub(crate) const F_REQUEST: u16 = 0x1;
pub(crate) const F_ACK: u16 = 0x4;
pub(crate) const F_REPLACE: u16 = 0x100;
pub(crate) const F_EXCL: u16 = 0x200;
pub(crate) const F_CREATE: u16 = 0x400;
pub(crate) const F_DUMP: u16 = 0x300;

/// `NLA_F_NESTED`, set on nests by nftables' and newer rtnetlink's rules.
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// Length of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;

/// One request: header, fixed part, attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of this type; `flags` beside `F_REQUEST`.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Message {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        Message { bytes }.padded()
    }

    fn padded(mut self) -> Message {
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// One attribute with these bytes.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).expect("invariant: our attributes are short");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.padded()
    }

    /// Attributes that are in wire form already.
    pub(crate) fn raw(mut self, attributes: &[u8]) -> Message {
        self.bytes.extend_from_slice(attributes);
        self.padded()
    }

    /// A number in the machine's order (rtnetlink).
    pub(crate) fn number(self, kind: u16, value: u32) -> Message {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// A number in network order (nftables).
    pub(crate) fn number_be(self, kind: u16, value: u32) -> Message {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// A string with its terminating zero.
    pub(crate) fn text(self, kind: u16, value: &str) -> Message {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// An attribute made of attributes.
    pub(crate) fn nest(self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Message {
        self.nest_after(kind, &[], fill)
    }

    /// A nest that begins with a fixed part, as `VETH_INFO_PEER` does.
    pub(crate) fn nest_after(mut self, kind: u16, fixed: &[u8], fill: impl FnOnce(Message) -> Message) -> Message {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ATTRIBUTE_HEADER]);
        self.bytes.extend_from_slice(fixed);
        self.pad();
        let mut filled = fill(self);
        let length = u16::try_from(filled.bytes.len() - start).expect("invariant: our nests are short");
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        filled
    }

    /// Bytes used so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The message as sent: length, sequence number and further flags filled in.
    pub(crate) fn finish(&self, sequence: u32, flags: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let length = u32::try_from(bytes.len()).expect("invariant: a message is shorter than 4 GiB");
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        let all = u16::from_ne_bytes([bytes[6], bytes[7]]) | flags;
        bytes[6..8].copy_from_slice(&all.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }
}

/// Iterates over the attributes in a byte slice; stops at the first malformed one.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Attributes that follow a fixed part of `fixed` bytes.
    pub(crate) fn after(payload: &'a [u8], fixed: usize) -> Attributes<'a> {
        Attributes {
            rest: payload.get(fixed..).unwrap_or_default(),
        }
    }

    /// The first attribute of this type.
    pub(crate) fn value(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// A string attribute without its terminating zero.
    pub(crate) fn text(&self, kind: u16) -> Option<&'a str> {
        let bytes = self.value(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    /// A number in the machine's order.
    pub(crate) fn number(&self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.value(kind)?.try_into().ok()?))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.rest.get(..ATTRIBUTE_HEADER)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = self.rest.get(ATTRIBUTE_HEADER..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nests_and_strings_read_back_as_written() {
        let message = Message::new(16, F_ACK, &[0; 16])
            .text(3, "eth0")
            .nest(18, |nest| nest.text(1, "veth").number(2, 7));
        let bytes = message.finish(9, 0);
        assert_eq!(bytes.len() as u32, u32::from_ne_bytes(bytes[0..4].try_into().unwrap()));
        let attributes = Attributes::after(&bytes, HEADER + 16);
        assert_eq!(attributes.text(3), Some("eth0"));
        let nest = Attributes::after(attributes.value(18).unwrap(), 0);
        assert_eq!((nest.text(1), nest.number(2)), (Some("veth"), Some(7)));
    }

    #[test]
    fn a_truncated_attribute_ends_the_list() {
        let mut bytes = Message::new(16, 0, &[]).text(3, "eth0").finish(1, 0);
        bytes.truncate(bytes.len() - 4); // the padding and one byte of the string
        assert_eq!(Attributes::after(&bytes, HEADER).count(), 0);
        assert_eq!(Attributes::after(&[2, 0, 1, 0], 0).count(), 0);
    }
}
