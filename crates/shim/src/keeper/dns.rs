//! DNS messages (RFC 1035): just enough to read a question and to answer it.
//! Every byte here may come from a hostile container or server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Record types this service answers itself.
pub const TYPE_A: u16 = 1;
/// IPv6 address.
pub const TYPE_AAAA: u16 = 28;
/// Name of an address.
pub const TYPE_PTR: u16 = 12;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;

/// Size of an answer over UDP to a client that does not say more (RFC 1035).
const UDP_DEFAULT: usize = 512;
/// What we are willing to send over UDP at most.
const UDP_MAX: usize = 4096;
/// Size of an answer over TCP.
pub const TCP_MAX: usize = 65535;

const HEADER: usize = 12;
const NAME_MAX: usize = 255;

/// Containers move; nobody should remember them for long.
const TTL_SECONDS: u32 = 10;

/// Result codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// There is such a name (answers may be none).
    NoError = 0,
    /// The question cannot be read.
    FormatError = 1,
    /// Nobody could be asked.
    ServerFailure = 2,
    /// Not a plain query.
    NotImplemented = 4,
}

/// A question as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Number the client chose.
    pub id: u16,
    /// The client's wish for recursion, to be repeated in the answer.
    recursion_desired: bool,
    /// Lower case, without the final dot; empty for the root and for names
    /// that are not plain text.
    pub name: String,
    /// Record type asked for.
    pub kind: u16,
    /// Whether the class is the Internet's.
    pub is_internet: bool,
    /// Where the question section ends.
    end: usize,
    /// Answer size the client takes over UDP.
    udp_size: usize,
}

/// Why a message is no question that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Not even a header, or an answer: to be ignored.
    NotAQuery,
    /// To be answered with this code.
    Refused(Code),
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Reads a query with one question.
pub fn parse_query(bytes: &[u8]) -> Result<Query, Unreadable> {
    let header = |at| word(bytes, at).ok_or(Unreadable::NotAQuery);
    let (id, flags, questions) = (header(0)?, header(2)?, header(4)?);
    if bytes.len() < HEADER || flags & 0x8000 != 0 {
        return Err(Unreadable::NotAQuery);
    }
    if flags & 0x7800 != 0 {
        return Err(Unreadable::Refused(Code::NotImplemented));
    }
    let malformed = Unreadable::Refused(Code::FormatError);
    if questions != 1 {
        return Err(malformed);
    }
    let (name, end) = parse_name(bytes, HEADER).ok_or(malformed)?;
    let (kind, class) = (
        word(bytes, end).ok_or(malformed)?,
        word(bytes, end + 2).ok_or(malformed)?,
    );
    let end = end + 4;
    Ok(Query {
        id,
        recursion_desired: flags & 0x0100 != 0,
        name,
        kind,
        is_internet: class == CLASS_IN,
        end,
        udp_size: udp_size(bytes, end),
    })
}

/// A name of plain labels (a question has nothing to point back to).
fn parse_name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut is_text = true;
    let mut at = start;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        if length > 63 || at + length - start > NAME_MAX {
            return None;
        }
        let label = bytes.get(at..at + length)?;
        at += length;
        is_text &= label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.');
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    }
    Some((if is_text { name } else { String::new() }, at))
}

/// The size in an EDNS record (RFC 6891) right behind the question.
fn udp_size(bytes: &[u8], at: usize) -> usize {
    let is_only_additional = word(bytes, 6) == Some(0) && word(bytes, 8) == Some(0);
    let is_opt = bytes.get(at) == Some(&0) && word(bytes, at + 1) == Some(TYPE_OPT);
    match word(bytes, at + 3) {
        Some(size) if is_only_additional && is_opt => usize::from(size).clamp(UDP_DEFAULT, UDP_MAX),
        _ => UDP_DEFAULT,
    }
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A or AAAA.
    Address(IpAddr),
    /// PTR.
    Name(String),
}

impl Record {
    fn kind(&self) -> u16 {
        match self {
            Record::Address(IpAddr::V4(_)) => TYPE_A,
            Record::Address(IpAddr::V6(_)) => TYPE_AAAA,
            Record::Name(_) => TYPE_PTR,
        }
    }

    fn data(&self) -> Vec<u8> {
        match self {
            Record::Address(IpAddr::V4(address)) => address.octets().to_vec(),
            Record::Address(IpAddr::V6(address)) => address.octets().to_vec(),
            Record::Name(name) => name_bytes(name),
        }
    }
}

/// A name in wire form; labels that are too long are cut, empty ones left out.
fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        if bytes.len() + label.len() + 2 > NAME_MAX {
            break;
        }
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes
}

/// Size of an answer that a client takes over UDP.
pub fn udp_limit(query: &Query) -> usize {
    query.udp_size
}

/// Answers a query; records that do not fit into `limit` are left out and the
/// answer is marked as truncated, so that the client asks again over TCP.
pub fn answer(query: &Query, request: &[u8], code: Code, records: &[Record], limit: usize) -> Vec<u8> {
    let mut bytes = header(query.id, query.recursion_desired, code);
    bytes[4..6].copy_from_slice(&1u16.to_be_bytes());
    bytes.extend_from_slice(&request[HEADER..query.end]);
    let mut count = 0u16;
    for record in records {
        let data = record.data();
        if bytes.len() + HEADER + data.len() > limit {
            bytes[2] |= 0x02;
            break;
        }
        // The name of the question, by reference.
        bytes.extend_from_slice(&[0xc0, HEADER as u8]);
        bytes.extend_from_slice(&record.kind().to_be_bytes());
        bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
        bytes.extend_from_slice(&TTL_SECONDS.to_be_bytes());
        bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&data);
        count += 1;
    }
    bytes[6..8].copy_from_slice(&count.to_be_bytes());
    bytes
}

/// Answers what could not be read.
pub fn refuse(request: &[u8], code: Code) -> Vec<u8> {
    header(
        word(request, 0).unwrap_or(0),
        request.get(2).is_some_and(|byte| byte & 1 != 0),
        code,
    )
}

fn header(id: u16, recursion_desired: bool, code: Code) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[0..2].copy_from_slice(&id.to_be_bytes());
    bytes[2] = 0x80 | u8::from(recursion_desired);
    bytes[3] = 0x80 | code as u8;
    bytes
}

/// The query as it is sent on: under a number of our own.
pub fn renumber(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(0..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// Whether `message` answers the query that was sent on under `id`: the same
/// number and, when it repeats the question, the same question.
pub fn is_answer_to(message: &[u8], query: &Query, request: &[u8], id: u16) -> bool {
    let is_answer = word(message, 0) == Some(id) && message.get(2).is_some_and(|byte| byte & 0x80 != 0);
    let repeats = word(message, 4) == Some(1);
    let same = || {
        let question = message.get(HEADER..query.end);
        question.is_some_and(|question| question.eq_ignore_ascii_case(&request[HEADER..query.end]))
    };
    is_answer
        && if repeats {
            same()
        } else {
            message.len() >= HEADER && is_failure(message)
        }
}

/// Whether another server may know better (SERVFAIL, NOTIMP, REFUSED).
pub fn is_failure(message: &[u8]) -> bool {
    message.get(3).is_some_and(|byte| matches!(byte & 0x0f, 2 | 4 | 5))
}

/// The address a reverse name stands for.
pub fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0u8; 4];
        let mut labels = rest.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let rest = name.strip_suffix(".ip6.arpa")?;
    let mut labels = rest.split('.');
    let mut number = 0u128;
    for shift in 0..32 {
        let digit = labels.next().filter(|label| label.len() == 1)?;
        number |= u128::from(u8::from_str_radix(digit, 16).ok()?) << (shift * 4);
    }
    labels.next().is_none().then(|| Ipv6Addr::from(number).into())
}

/// A query of our own, for tests and probes.
pub fn query_bytes(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[0..2].copy_from_slice(&id.to_be_bytes());
    bytes[2] = 1;
    bytes[5] = 1;
    bytes.extend(name_bytes(name));
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_its_answer_repeats_the_question() {
        let request = query_bytes(0x1234, "Web.App", TYPE_A);
        let query = parse_query(&request).unwrap();
        assert_eq!(
            (query.id, query.name.as_str(), query.kind, query.is_internet),
            (0x1234, "web.app", TYPE_A, true)
        );
        let records = [Record::Address("10.0.0.1".parse().unwrap())];
        let bytes = answer(&query, &request, Code::NoError, &records, udp_limit(&query));
        assert_eq!(&bytes[..8], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(bytes[12..query.end], request[12..]);
        assert_eq!(
            &bytes[query.end..],
            [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 10, 0, 4, 10, 0, 0, 1]
        );
    }

    #[test]
    fn answers_that_do_not_fit_are_truncated_and_say_so() {
        let request = query_bytes(1, "many", TYPE_A);
        let query = parse_query(&request).unwrap();
        let records: Vec<Record> = (0..100u32).map(|n| Record::Address(Ipv4Addr::from(n).into())).collect();
        let short = answer(&query, &request, Code::NoError, &records, udp_limit(&query));
        assert!(short.len() <= UDP_DEFAULT && short[2] & 2 != 0);
        let whole = answer(&query, &request, Code::NoError, &records, TCP_MAX);
        assert_eq!((word(&whole, 6), whole[2] & 2), (Some(100), 0));
    }

    #[test]
    fn the_size_in_an_edns_record_is_honoured_within_bounds() {
        let check = |size: u16, expected: usize| {
            let mut request = query_bytes(1, "a", TYPE_A);
            request[11] = 1;
            request.extend([0, 0, 41]);
            request.extend(size.to_be_bytes());
            request.extend([0; 6]);
            assert_eq!(udp_limit(&parse_query(&request).unwrap()), expected);
        };
        check(100, 512);
        check(1232, 1232);
        check(65000, 4096);
    }

    #[test]
    fn hostile_messages_are_refused_or_ignored() {
        assert_eq!(parse_query(&[]), Err(Unreadable::NotAQuery));
        assert_eq!(parse_query(&[0; 11]), Err(Unreadable::NotAQuery));
        let refused = |change: &dyn Fn(&mut Vec<u8>), code| {
            let mut request = query_bytes(1, "a.b", TYPE_A);
            change(&mut request);
            assert_eq!(parse_query(&request), Err(Unreadable::Refused(code)));
        };
        refused(&|bytes| bytes[5] = 0, Code::FormatError);
        refused(&|bytes| bytes[5] = 2, Code::FormatError);
        refused(&|bytes| bytes[2] = 0x28, Code::NotImplemented);
        refused(&|bytes| bytes[12] = 0xc0, Code::FormatError);
        refused(&|bytes| bytes[12] = 63, Code::FormatError);
        refused(&|bytes| bytes.truncate(17), Code::FormatError);
        refused(&|bytes| bytes.truncate(bytes.len() - 1), Code::FormatError);
        let mut answer = query_bytes(1, "a", TYPE_A);
        answer[2] |= 0x80;
        assert_eq!(parse_query(&answer), Err(Unreadable::NotAQuery));
        let long = query_bytes(1, &["x".repeat(63).as_str(); 3].join("."), TYPE_A);
        assert!(parse_query(&long).is_ok());
    }

    #[test]
    fn every_prefix_and_every_changed_byte_of_a_query_is_survived() {
        let request = query_bytes(7, "some.name.test", TYPE_AAAA);
        for length in 0..request.len() {
            let _ = parse_query(&request[..length]);
            let _ = refuse(&request[..length], Code::FormatError);
        }
        for at in 0..request.len() {
            for value in [0u8, 1, 0x3f, 0x40, 0xc0, 0xff] {
                let mut changed = request.clone();
                changed[at] = value;
                if let Ok(query) = parse_query(&changed) {
                    let bytes = answer(&query, &changed, Code::NoError, &[], 512);
                    assert!(bytes.len() <= changed.len());
                }
            }
        }
    }

    #[test]
    fn names_that_are_no_text_are_nobodys() {
        let mut request = query_bytes(1, "ab", TYPE_A);
        request[13] = 0;
        assert_eq!(parse_query(&request).unwrap().name, "");
        request[13] = b'.';
        assert_eq!(parse_query(&request).unwrap().name, "");
    }

    #[test]
    fn reverse_names_are_read_in_both_families() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(
                reverse_address(name),
                expected.map(|text| text.parse().unwrap()),
                "{name}"
            );
        };
        check("2.0.17.172.in-addr.arpa", Some("172.17.0.2"));
        check("0.17.172.in-addr.arpa", None);
        check("9.2.0.17.172.in-addr.arpa", None);
        check("256.0.17.172.in-addr.arpa", None);
        let loopback = format!("1.{}ip6.arpa", "0.".repeat(31));
        check(&loopback, Some("::1"));
        check("1.0.ip6.arpa", None);
    }

    #[test]
    fn only_the_answer_to_the_very_question_is_taken() {
        let request = query_bytes(5, "a.test", TYPE_A);
        let query = parse_query(&request).unwrap();
        let mut genuine = answer(&query, &request, Code::NoError, &[], 512);
        renumber(&mut genuine, 99);
        assert!(is_answer_to(&genuine, &query, &request, 99));
        assert!(!is_answer_to(&genuine, &query, &request, 98));
        assert!(!is_answer_to(&request, &query, &request, 5), "a question is no answer");
        let other = query_bytes(99, "b.test", TYPE_A);
        let forged = answer(&parse_query(&other).unwrap(), &other, Code::NoError, &[], 512);
        assert!(!is_answer_to(&forged, &query, &request, 99));
        assert!(is_answer_to(
            &refuse(&[0, 99, 1], Code::ServerFailure),
            &query,
            &request,
            99
        ));
    }
}
