//! Signal names and numbers.
use crate::error::{Error, Result};

const NAMES: [(&str, i32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// First and last real-time signal that programs may use.
const REALTIME: (i32, i32) = (34, 64);

/// Reads `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`.
pub(crate) fn parse_signal(text: &str) -> Result<i32> {
    let wrong = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=REALTIME.1).contains(&number) {
            Ok(number)
        } else {
            Err(wrong())
        };
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Ok(*number);
    }
    let realtime = if let Some(offset) = name.strip_prefix("RTMIN") {
        offset_of(offset, '+').map(|n| REALTIME.0 + n)
    } else {
        name.strip_prefix("RTMAX")
            .and_then(|o| offset_of(o, '-'))
            .map(|n| REALTIME.1 - n)
    };
    realtime
        .filter(|n| (REALTIME.0..=REALTIME.1).contains(n))
        .ok_or_else(wrong)
}

/// `SIGKILL` for 9, `signal 40` for one without a name.
pub(crate) fn signal_name(signal: i32) -> String {
    match NAMES.iter().find(|(_, number)| *number == signal) {
        Some((name, _)) => format!("SIG{name}"),
        None => format!("signal {signal}"),
    }
}

fn offset_of(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    text.strip_prefix(sign)?.parse().ok().filter(|n| (0..=30).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_read_in_all_their_forms() {
        for (text, expected) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sigint", 2),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(parse_signal(text).expect(text), expected);
        }
        for wrong in ["", "0", "-1", "65", "NOSUCH", "RTMIN-1", "RTMAX+1", "RTMIN+31"] {
            assert!(parse_signal(wrong).is_err(), "{wrong:?}");
        }
    }
}
