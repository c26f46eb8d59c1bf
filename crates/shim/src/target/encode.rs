//! What the formats have in common.

use super::fluentd::FluentdEncoder;
use super::gelf::GelfEncoder;
use super::journald::JournaldEncoder;
use super::outgoing::Outgoing;
use super::plan::Format;
use super::queue::Message;
use super::syslog::SyslogEncoder;

/// Turns lines into a target's messages.
pub(super) trait Encode: std::fmt::Debug {
    /// Appends the packets of one line; none if the format has no word for it.
    fn encode(&mut self, message: &Message, out: &mut Outgoing);

    /// What the receiver must answer before more is sent, if the last line asked for that.
    fn awaited(&self) -> Option<&[u8]> {
        None
    }
}

/// The encoder of a format; `None` for one that this build does not know.
pub(super) fn encoder_of(format: &Format, is_datagram: bool) -> Option<Box<dyn Encode>> {
    match format {
        Format::Unknown => None,
        Format::Syslog { .. } => SyslogEncoder::new(format).map(|encoder| Box::new(encoder) as _),
        Format::Gelf { .. } => GelfEncoder::new(format, is_datagram).map(|encoder| Box::new(encoder) as _),
        Format::Fluentd { .. } => FluentdEncoder::new(format).map(|encoder| Box::new(encoder) as _),
        Format::Journald { fields } => Some(Box::new(JournaldEncoder::new(fields))),
    }
}

/// Identifies the pieces of one long line.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// By stream: the id and how many pieces there were.
    open: [Option<(String, u32)>; 2],
}

impl Pieces {
    /// Id and number (from 1) of a piece.
    pub(super) fn next(&mut self, message: &Message) -> Option<(String, u32)> {
        if !message.is_piece {
            return None;
        }
        let slot = &mut self.open[usize::from(message.stream == crate::log::Stream::Stderr)];
        let (id, count) = slot.get_or_insert_with(|| (random_hex::<32>(), 0));
        *count += 1;
        let piece = (id.clone(), *count);
        if message.is_last {
            *slot = None;
        }
        Some(piece)
    }
}

/// Random bytes; all zero should the kernel have none, which only makes ids repeat.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    bytes
}

/// Random bytes as hexadecimal digits.
pub(super) fn random_hex<const N: usize>() -> String {
    random::<N>().iter().map(|byte| format!("{byte:02x}")).collect()
}
