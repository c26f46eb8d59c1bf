//! A streaming reader of tar members: ustar, GNU (long names, sparse) and PAX.
//!
//! Only the 512-byte headers are decoded by the `tar` crate; which header decides what is settled here, because
//! disagreement between readers is how archives hide members. The rules: PAX beats the header, a repeated PAX
//! `path`, `linkpath` or `size` is an error, metadata is bounded, and two long-name members in a row are an error.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::ExtractError;
use crate::attributes::Xattrs;

const BLOCK: u64 = 512;
const MAX_METADATA_BYTES: u64 = 1 << 20;
const MAX_SPARSE_SEGMENTS: usize = 1 << 20;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    CharDevice,
    BlockDevice,
}

/// One member, with the extensions applied.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Xattrs,
    /// Apparent size of a file.
    pub(crate) size: u64,
    /// Where the stored bytes of a sparse file belong: offset and length.
    pub(crate) segments: Option<Vec<(u64, u64)>>,
}

impl Member {
    /// The name for messages.
    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// Reads members one after the other.
pub(crate) struct Reader<R> {
    source: R,
    /// Bytes of the current member's data that are not read yet.
    remaining: u64,
    /// Padding behind them.
    padding: u64,
}

#[derive(Default)]
struct Extensions {
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Xattrs>,
}

impl Extensions {
    fn pax_value(&self, key: &[u8]) -> Option<&[u8]> {
        self.pax
            .as_ref()?
            .iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_slice())
    }

    fn pax_number(&self, key: &[u8]) -> Result<Option<u64>, ExtractError> {
        self.pax_value(key).map(parse_decimal).transpose()
    }
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(source: R) -> Reader<R> {
        Reader {
            source,
            remaining: 0,
            padding: 0,
        }
    }

    /// The next member, or `None` at the end; data of the previous one that was not read is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, ExtractError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.read_header()? else {
                return if extensions.is_empty() {
                    Ok(None)
                } else {
                    Err(damaged("extended header without a member"))
                };
            };
            let size = header.entry_size().map_err(|e| damaged(&e.to_string()))?;
            self.expect_data(size)?;
            match header.entry_type() {
                EntryType::GNULongName => self.take_long(&mut extensions.long_path)?,
                EntryType::GNULongLink => self.take_long(&mut extensions.long_link)?,
                EntryType::XHeader => {
                    if extensions.pax.is_some() {
                        return Err(damaged("two PAX headers for one member"));
                    }
                    extensions.pax = Some(parse_pax(&self.read_metadata()?)?);
                }
                EntryType::XGlobalHeader => {}
                _ => return self.member(&header, size, extensions).map(Some),
            }
        }
    }

    /// Reads stored data of the current member; 0 at its end.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, ExtractError> {
        let limit = self.remaining.min(buffer.len() as u64) as usize;
        if limit == 0 {
            return Ok(0);
        }
        let n = self.source.read(&mut buffer[..limit]).map_err(ExtractError::Read)?;
        if n == 0 {
            return Err(damaged("it ends in the middle of a member"));
        }
        self.remaining -= n as u64;
        Ok(n)
    }

    /// The source, to drain what follows the end marker.
    pub(crate) fn into_inner(self) -> R {
        self.source
    }

    fn member(&mut self, header: &Header, header_size: u64, ext: Extensions) -> Result<Member, ExtractError> {
        let bad = |e: io::Error| damaged(&e.to_string());
        let mut kind = kind_of(header.entry_type())?;
        let stored = ext.pax_number(b"size")?.unwrap_or(header_size);
        // Directories and links of old tars state a size without having data (POSIX: it is ignored).
        self.expect_data(if kind == Kind::File { stored } else { 0 })?;
        let path = owned(ext.pax_value(b"path"), &ext.long_path, &header.path_bytes());
        if kind == Kind::File && path.ends_with(b"/") {
            kind = Kind::Directory;
        }
        let mut member = Member {
            link: owned(
                ext.pax_value(b"linkpath"),
                &ext.long_link,
                &header.link_name_bytes().unwrap_or_default(),
            ),
            mode: header.mode().map_err(bad)? & 0o7777,
            uid: id_of(ext.pax_number(b"uid")?, header.uid())?,
            gid: id_of(ext.pax_number(b"gid")?, header.gid())?,
            mtime: mtime_of(&ext, header)?,
            device: device_of(kind, header)?,
            xattrs: xattrs_of(&ext),
            size: if kind == Kind::File { stored } else { 0 },
            segments: None,
            path,
            kind,
        };
        if header.entry_type() == EntryType::GNUSparse {
            self.read_gnu_sparse(header, &mut member)?;
        } else if kind == Kind::File {
            self.read_pax_sparse(&ext, &mut member)?;
        }
        Ok(member)
    }

    fn expect_data(&mut self, size: u64) -> Result<(), ExtractError> {
        let padded = size
            .checked_next_multiple_of(BLOCK)
            .ok_or_else(|| damaged("member size overflows"))?;
        self.remaining = size;
        self.padding = padded - size;
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<(), ExtractError> {
        let mut left = self.remaining.saturating_add(self.padding);
        let mut scratch = [0u8; 8192];
        while left > 0 {
            let limit = left.min(scratch.len() as u64) as usize;
            let n = self.source.read(&mut scratch[..limit]).map_err(ExtractError::Read)?;
            if n == 0 {
                // Some writers end the archive with the last member's data, not with its block.
                if left <= self.padding {
                    break;
                }
                return Err(damaged("it ends in the middle of a member"));
            }
            left -= n as u64;
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    fn read_block(&mut self) -> Result<Option<[u8; 512]>, ExtractError> {
        let mut block = [0u8; 512];
        let mut filled = 0;
        while filled < block.len() {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(damaged("it ends in the middle of a header")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ExtractError::Read(e)),
            }
        }
        Ok(Some(block))
    }

    fn read_header(&mut self) -> Result<Option<Header>, ExtractError> {
        let Some(block) = self.read_block()? else {
            return Ok(None);
        };
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let mut header = Header::from_byte_slice(&block).clone();
        let sum: u32 = block[..148]
            .iter()
            .chain(&block[156..])
            .map(|&b| u32::from(b))
            .sum::<u32>()
            + 8 * 32;
        match header.cksum() {
            Ok(stated) if stated == sum => {
                zero_blank_numbers(&mut header);
                Ok(Some(header))
            }
            _ => Err(damaged("header checksum mismatch")),
        }
    }

    fn read_metadata(&mut self) -> Result<Vec<u8>, ExtractError> {
        if self.remaining > MAX_METADATA_BYTES {
            return Err(damaged("extended header is too large"));
        }
        let mut bytes = vec![0; self.remaining as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read_data(&mut bytes[filled..])?;
        }
        Ok(bytes)
    }

    fn take_long(&mut self, slot: &mut Option<Vec<u8>>) -> Result<(), ExtractError> {
        if slot.is_some() {
            return Err(damaged("two long names for one member"));
        }
        let mut name = self.read_metadata()?;
        if let Some(end) = name.iter().position(|&b| b == 0) {
            name.truncate(end);
        }
        *slot = Some(name);
        Ok(())
    }

    fn read_gnu_sparse(&mut self, header: &Header, member: &mut Member) -> Result<(), ExtractError> {
        let gnu = header
            .as_gnu()
            .ok_or_else(|| damaged("sparse member without a GNU header"))?;
        let mut segments = Vec::new();
        push_sparse(&gnu.sparse, &mut segments)?;
        let mut extended = gnu.is_extended();
        while extended {
            let block = self.read_block()?.ok_or_else(|| damaged("sparse map is cut off"))?;
            let mut more = GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(&block);
            push_sparse(more.sparse(), &mut segments)?;
            extended = more.is_extended();
        }
        member.size = gnu.real_size().map_err(|e| damaged(&e.to_string()))?;
        self.set_segments(member, segments)
    }

    fn read_pax_sparse(&mut self, ext: &Extensions, member: &mut Member) -> Result<(), ExtractError> {
        if ext.pax_value(b"GNU.sparse.major").is_some_and(|v| v != b"0") {
            let real = ext
                .pax_number(b"GNU.sparse.realsize")?
                .ok_or_else(|| damaged("sparse member without a size"))?;
            if let Some(name) = ext.pax_value(b"GNU.sparse.name") {
                member.path = name.to_vec();
            }
            let count = self.read_line_number()?;
            if count > MAX_SPARSE_SEGMENTS as u64 {
                return Err(damaged("sparse map is too long"));
            }
            let numbers = (0..count.saturating_mul(2)).map(|_| self.read_line_number());
            let segments = pairs(numbers.collect::<Result<Vec<u64>, _>>()?)?;
            let consumed = member.size - self.remaining;
            let gap = consumed.next_multiple_of(BLOCK) - consumed;
            self.discard(gap)?;
            member.size = real;
            return self.set_segments(member, segments);
        }
        let Some(map) = ext.pax_value(b"GNU.sparse.map") else {
            return Ok(());
        };
        let real = ext
            .pax_number(b"GNU.sparse.size")?
            .ok_or_else(|| damaged("sparse member without a size"))?;
        if let Some(name) = ext.pax_value(b"GNU.sparse.name") {
            member.path = name.to_vec();
        }
        let numbers: Result<Vec<u64>, _> = map.split(|&b| b == b',').map(parse_decimal).collect();
        let segments = pairs(numbers?)?;
        member.size = real;
        self.set_segments(member, segments)
    }

    fn set_segments(&mut self, member: &mut Member, segments: Vec<(u64, u64)>) -> Result<(), ExtractError> {
        let mut end = 0u64;
        let mut stored = 0u64;
        for &(offset, length) in &segments {
            let next = offset
                .checked_add(length)
                .ok_or_else(|| damaged("sparse map overflows"))?;
            if offset < end || next > member.size {
                return Err(damaged("sparse map is out of order"));
            }
            end = next;
            stored += length;
        }
        if stored != self.remaining {
            return Err(damaged("sparse map does not fit the stored data"));
        }
        member.segments = Some(segments);
        Ok(())
    }

    fn discard(&mut self, mut count: u64) -> Result<(), ExtractError> {
        let mut scratch = [0u8; 512];
        while count > 0 {
            let limit = count.min(512) as usize;
            let n = self.read_data(&mut scratch[..limit])?;
            if n == 0 {
                return Err(damaged("sparse map is cut off"));
            }
            count -= n as u64;
        }
        Ok(())
    }

    fn read_line_number(&mut self) -> Result<u64, ExtractError> {
        let mut digits = Vec::new();
        let mut byte = [0u8];
        loop {
            if self.read_data(&mut byte)? == 0 || digits.len() > 20 {
                return Err(damaged("sparse map is cut off"));
            }
            if byte[0] == b'\n' {
                return parse_decimal(&digits);
            }
            digits.push(byte[0]);
        }
    }
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.long_path.is_none() && self.long_link.is_none() && self.pax.is_none()
    }
}

/// Writers leave numbers blank that mean nothing for a member; readers take them for zero.
fn zero_blank_numbers(header: &mut Header) {
    // mode, uid, gid, size, mtime, device numbers (POSIX, "ustar Interchange Format")
    const FIELDS: [(usize, usize); 7] = [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (329, 8), (337, 8)];
    for (start, length) in FIELDS {
        let field = &mut header.as_mut_bytes()[start..start + length];
        if field.iter().all(|b| matches!(b, 0 | b' ')) {
            field[0] = b'0';
        }
    }
}

pub(crate) fn damaged(reason: &str) -> ExtractError {
    ExtractError::Damaged {
        reason: reason.to_owned(),
    }
}

fn kind_of(entry: EntryType) -> Result<Kind, ExtractError> {
    Ok(match entry {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => Kind::CharDevice,
        EntryType::Block => Kind::BlockDevice,
        other => {
            return Err(damaged(&format!(
                "unsupported member type {:?}",
                char::from(other.as_byte())
            )));
        }
    })
}

fn owned(pax: Option<&[u8]>, long: &Option<Vec<u8>>, header: &[u8]) -> Vec<u8> {
    pax.map(<[u8]>::to_vec)
        .or_else(|| long.clone())
        .unwrap_or_else(|| header.to_vec())
}

fn id_of(pax: Option<u64>, header: io::Result<u64>) -> Result<u32, ExtractError> {
    let id = match pax {
        Some(id) => id,
        None => header.map_err(|e| damaged(&e.to_string()))?,
    };
    // The last number means "leave it" to chown(2).
    u32::try_from(id)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| damaged("owner id is out of range"))
}

fn mtime_of(ext: &Extensions, header: &Header) -> Result<(i64, u32), ExtractError> {
    match ext.pax_value(b"mtime") {
        Some(text) => parse_time(text),
        None => Ok((header.mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0), 0)),
    }
}

fn device_of(kind: Kind, header: &Header) -> Result<(u32, u32), ExtractError> {
    if !matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        return Ok((0, 0));
    }
    let bad = |e: io::Error| damaged(&e.to_string());
    Ok((
        header.device_major().map_err(bad)?.unwrap_or(0),
        header.device_minor().map_err(bad)?.unwrap_or(0),
    ))
}

fn xattrs_of(ext: &Extensions) -> Xattrs {
    let records = ext.pax.iter().flatten();
    records
        .filter_map(|(k, v)| Some((k.strip_prefix(b"SCHILY.xattr.")?.to_vec(), v.clone())))
        .collect()
}

fn push_sparse(headers: &[GnuSparseHeader], segments: &mut Vec<(u64, u64)>) -> Result<(), ExtractError> {
    for header in headers.iter().filter(|h| !h.is_empty()) {
        let number = |r: io::Result<u64>| r.map_err(|e| damaged(&e.to_string()));
        let (offset, length) = (number(header.offset())?, number(header.length())?);
        if length > 0 {
            segments.push((offset, length));
        }
    }
    if segments.len() > MAX_SPARSE_SEGMENTS {
        return Err(damaged("sparse map is too long"));
    }
    Ok(())
}

fn pairs(numbers: Vec<u64>) -> Result<Vec<(u64, u64)>, ExtractError> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > MAX_SPARSE_SEGMENTS {
        return Err(damaged("sparse map is malformed"));
    }
    Ok(numbers
        .chunks_exact(2)
        .map(|p| (p[0], p[1]))
        .filter(|p| p.1 > 0)
        .collect())
}

fn parse_decimal(text: &[u8]) -> Result<u64, ExtractError> {
    let digits = std::str::from_utf8(text)
        .ok()
        .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| damaged("malformed number in an extended header"))
}

/// Seconds and nanoseconds of a PAX time, `-1.5` included.
fn parse_time(text: &[u8]) -> Result<(i64, u32), ExtractError> {
    let bad = || damaged("malformed time in an extended header");
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: u32 = digits.parse().map_err(|_| bad())?;
    if whole.starts_with('-') && nanos > 0 {
        return Ok((seconds.checked_sub(1).ok_or_else(bad)?, 1_000_000_000 - nanos));
    }
    Ok((seconds, nanos))
}

fn parse_pax(mut bytes: &[u8]) -> Result<Xattrs, ExtractError> {
    let bad = || damaged("malformed PAX header");
    let mut records: Xattrs = Vec::new();
    while !bytes.is_empty() && bytes[0] != 0 {
        let space = bytes.iter().position(|&b| b == b' ').ok_or_else(bad)?;
        let length = usize::try_from(parse_decimal(&bytes[..space])?).map_err(|_| bad())?;
        if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
            return Err(bad());
        }
        let record = &bytes[space + 1..length - 1];
        let equals = record.iter().position(|&b| b == b'=').ok_or_else(bad)?;
        let (key, value) = (record[..equals].to_vec(), record[equals + 1..].to_vec());
        let decisive = matches!(key.as_slice(), b"path" | b"linkpath" | b"size");
        if decisive && records.iter().any(|(k, _)| *k == key) {
            return Err(damaged("repeated key in a PAX header"));
        }
        records.push((key, value));
        bytes = &bytes[length..];
    }
    Ok(records)
}
