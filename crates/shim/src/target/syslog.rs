//! Syslog messages: RFC 3164, RFC 5424, and the short form of local daemons.
//!
//! COMPAT: the forms are those of Docker's driver: the tag is application name and message id, the
//! severity is informational for standard output and error for standard error.

use super::encode::Encode;
use super::outgoing::Outgoing;
use super::plan::{Format, SyslogForm};
use super::queue::Message;
use crate::log::{Stream, format_time};

const ERROR: u8 = 3;
const INFORMATIONAL: u8 = 6;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[derive(Debug)]
pub(super) struct SyslogEncoder {
    form: SyslogForm,
    facility: u8,
    hostname: String,
    tag: String,
    utc_offset_s: i32,
    counted: bool,
    pid: u32,
}

impl SyslogEncoder {
    pub(super) fn new(format: &Format) -> Option<Self> {
        let Format::Syslog {
            form,
            facility,
            hostname,
            tag,
            utc_offset_s,
            counted,
        } = format
        else {
            return None;
        };
        Some(Self {
            form: *form,
            facility: *facility,
            hostname: hostname.clone(),
            tag: tag.clone(),
            utc_offset_s: *utc_offset_s,
            counted: *counted,
            pid: std::process::id(),
        })
    }

    /// Everything before the text.
    fn head(&self, message: &Message) -> String {
        let severity = if message.stream == Stream::Stderr {
            ERROR
        } else {
            INFORMATIONAL
        };
        let priority = u32::from(self.facility) << 3 | u32::from(severity);
        let (host, tag, pid) = (&self.hostname, &self.tag, self.pid);
        let local_ns = message.time_ns + i64::from(self.utc_offset_s) * 1_000_000_000;
        let time = format_time(local_ns);
        match self.form {
            SyslogForm::Local => format!("<{priority}>{} {tag}[{pid}]: ", stamp(&time)),
            SyslogForm::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", stamp(&time)),
            SyslogForm::Rfc5424 => {
                format!(
                    "<{priority}>1 {}{} {host} {tag} {pid} {tag} - ",
                    &time[..19],
                    self.zone()
                )
            }
            SyslogForm::Rfc5424Micro => {
                format!(
                    "<{priority}>1 {}{} {host} {tag} {pid} {tag} - ",
                    &time[..26],
                    self.zone()
                )
            }
        }
    }

    /// `Z`, or `+hh:mm`.
    fn zone(&self) -> String {
        if self.utc_offset_s == 0 {
            return "Z".to_owned();
        }
        let sign = if self.utc_offset_s < 0 { '-' } else { '+' };
        let minutes = self.utc_offset_s.unsigned_abs() / 60;
        format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// `Jan _2 15:04:05` from RFC 3339.
fn stamp(time: &str) -> String {
    let number = |from: usize, to: usize| {
        time.get(from..to)
            .and_then(|text| text.parse::<usize>().ok())
            .unwrap_or(1)
    };
    let month = MONTHS[(number(5, 7).max(1) - 1).min(11)];
    format!("{month} {:>2} {}", number(8, 10), &time[11..19])
}

impl Encode for SyslogEncoder {
    /// COMPAT: empty lines are not sent.
    fn encode(&mut self, message: &Message, out: &mut Outgoing) {
        if message.line.is_empty() {
            return;
        }
        let head = self.head(message);
        let bytes = out.buffer();
        if self.counted {
            let length = head.len() + message.line.len() + 1;
            bytes.extend_from_slice(format!("{length} ").as_bytes());
        }
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&message.line);
        bytes.push(b'\n');
        out.end_packet();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: i64 = 1_700_000_000_123_456_789; // 2023-11-14T22:13:20.123456789Z

    fn encoded(form: SyslogForm, utc_offset_s: i32, counted: bool) -> String {
        let format = Format::Syslog {
            form,
            facility: 3,
            hostname: "host".into(),
            tag: "0123".into(),
            utc_offset_s,
            counted,
        };
        let mut encoder = SyslogEncoder::new(&format).expect("syslog");
        encoder.pid = 7;
        let mut out = Outgoing::default();
        let message = Message {
            stream: Stream::Stderr,
            time_ns: TIME,
            line: b"text".to_vec(),
            is_piece: false,
            is_last: true,
        };
        encoder.encode(&message, &mut out);
        String::from_utf8(out.buffer().clone()).expect("text")
    }

    #[test]
    fn the_forms_are_dockers() {
        let check = |form, offset, expected: &str| assert_eq!(encoded(form, offset, false), expected, "{form:?}");
        check(SyslogForm::Local, 0, "<27>Nov 14 22:13:20 0123[7]: text\n");
        check(SyslogForm::Rfc3164, 0, "<27>Nov 14 22:13:20 host 0123[7]: text\n");
        check(
            SyslogForm::Rfc5424,
            0,
            "<27>1 2023-11-14T22:13:20Z host 0123 7 0123 - text\n",
        );
        check(
            SyslogForm::Rfc5424Micro,
            -12_600,
            "<27>1 2023-11-14T18:43:20.123456-03:30 host 0123 7 0123 - text\n",
        );
    }

    #[test]
    fn a_counted_message_says_its_length() {
        let text = encoded(SyslogForm::Rfc5424, 0, true);
        let (length, rest) = text.split_once(' ').expect("a length");
        assert_eq!(length.parse::<usize>().expect("a number"), rest.len());
    }

    #[test]
    fn a_day_of_one_digit_is_padded_with_a_space() {
        assert_eq!(stamp("2024-02-03T04:05:06.000000000Z"), "Feb  3 04:05:06");
    }
}
