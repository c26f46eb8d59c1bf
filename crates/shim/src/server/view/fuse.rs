//! A file system that is one file: its root is the file, so that the kernel never asks for a name.
//!
//! Each read of the file asks this process for its text (linux/fuse.h, protocol 7.x; fuse(4)). Should this process end,
//! reads fail with ENOTCONN and nobody waits.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use wharf_sys::mount::{
    MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, Parameter, new_filesystem,
};

/// The least that the kernel wants a request to be read with (FUSE_MIN_READ_BUFFER), unless more may be written.
const REQUEST: usize = 8192;
/// The least that it takes for how much may be written at once, although nothing may be.
const WRITE_MAX: u32 = 4096;
const HEADER: usize = 40;
const MAJOR: u32 = 7;
/// KERNEL(4.20): newest minor version whose answers are the ones made here; an older kernel says its own.
const MINOR: u32 = 28;
/// How long a text waits for its reader: who opens the file is told its size, which is what splice(2), sendfile(2) and
/// programs that look for the end go by, and then reads the same text.
const FRESH: Duration = Duration::from_millis(50);
/// FOPEN_DIRECT_IO: no page cache for read(2). What splice(2) caches is dropped with each open(2).
const DIRECT: u32 = 1;

const GETATTR: u32 = 3;
const FORGET: u32 = 2;
const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

/// Texts kept for who has read a part; who comes later begins anew.
const KEPT_TEXTS: usize = 16;

/// One such file system, mounted or to be.
#[derive(Debug)]
pub(super) struct OneFile {
    device: OwnedFd,
    next_handle: u64,
    /// By handle, oldest first: texts of which a part was read, so that the next comes from the same one.
    texts: Vec<(u64, Vec<u8>)>,
    /// The text whose size was told last, for its reader.
    told: Option<(Instant, Vec<u8>)>,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// An answer of these bytes.
    Answer(Vec<u8>),
    Attributes,
    /// A handle for who opens it.
    Handle,
    /// A handle is given back.
    Release {
        handle: u64,
    },
    /// The text from an offset on, at most so many bytes.
    Text {
        handle: u64,
        offset: u64,
        size: u32,
    },
    Refusal(Errno),
    Nothing,
}

impl OneFile {
    /// Makes it, and a mount of it that is attached nowhere. KERNEL(5.2).
    ///
    /// # Errors
    /// ENOENT or ENODEV where the kernel has no FUSE; as fsopen(2).
    pub(super) fn create() -> Result<(Self, OwnedFd), Errno> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = rustix::fs::open(c"/dev/fuse", flags, Mode::empty())?;
        let number = CString::new(device.as_raw_fd().to_string()).expect("invariant: digits");
        let parameters = [
            Parameter::Text("fd", &number),
            Parameter::Text("rootmode", c"100444"),
            Parameter::Text("user_id", c"0"),
            Parameter::Text("group_id", c"0"),
            // The container's users, in whatever user namespace.
            Parameter::Flag("allow_other"),
            // Attributes, and with them the size, are asked for at each open(2).
            Parameter::Flag("default_permissions"),
        ];
        let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
        let mount = new_filesystem("fuse", &parameters, attributes)?;
        Ok((Self::new(device), mount))
    }

    fn new(device: OwnedFd) -> Self {
        Self {
            device,
            next_handle: 1,
            texts: Vec::new(),
            told: None,
        }
    }

    pub(super) fn device(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// Answers what is asked at the moment; `text` makes the file's text anew. `false` once nothing more will be
    /// asked, as the last mount of it is gone.
    pub(super) fn serve(&mut self, mut text: impl FnMut() -> String) -> bool {
        let mut request = [0u8; REQUEST];
        loop {
            let length = match rustix::io::read(&self.device, &mut request) {
                Ok(length) => length,
                // A request that was taken back between two calls.
                Err(Errno::INTR | Errno::NOENT) => continue,
                Err(errno) => return errno == Errno::AGAIN,
            };
            let Some(unique) = number(&request[..length], 8) else {
                return true;
            };
            let reply = match asked(&request[..length]) {
                Asked::Nothing => continue,
                Asked::Refusal(errno) => reply(unique, -errno.raw_os_error(), &[]),
                Asked::Answer(bytes) => reply(unique, 0, &bytes),
                Asked::Attributes => reply(unique, 0, &attributes(self.tell_size(&mut text))),
                Asked::Handle => reply(unique, 0, &self.open()),
                Asked::Release { handle } => {
                    self.texts.retain(|(of, _)| *of != handle);
                    reply(unique, 0, &[])
                }
                Asked::Text { handle, offset, size } => reply(unique, 0, &self.part(handle, (offset, size), &mut text)),
            };
            // Who asked may have been killed meanwhile.
            let _ = rustix::io::write(&self.device, &reply);
        }
    }

    /// The size of a new text, which is kept for the read that follows.
    fn tell_size(&mut self, text: &mut impl FnMut() -> String) -> u64 {
        let told = text().into_bytes();
        let size = told.len() as u64;
        self.told = Some((Instant::now(), told));
        size
    }

    fn fresh(&mut self, text: &mut impl FnMut() -> String) -> Vec<u8> {
        let told = self.told.take().filter(|(made, _)| made.elapsed() < FRESH);
        told.map_or_else(|| text().into_bytes(), |(_, told)| told)
    }

    /// fuse_open_out: fh, open_flags, padding. Writing is refused by the mount already.
    fn open(&mut self) -> Vec<u8> {
        let handle = self.next_handle;
        self.next_handle += 1;
        [&handle.to_ne_bytes()[..], &DIRECT.to_ne_bytes(), &[0; 4]].concat()
    }

    /// A read from the beginning gets a new text, further reads go on in the same one.
    fn part(&mut self, handle: u64, (offset, size): (u64, u32), text: &mut impl FnMut() -> String) -> Vec<u8> {
        let kept = self.texts.iter().position(|(of, _)| *of == handle);
        let kept = kept.map(|place| self.texts.remove(place).1);
        let whole = kept.filter(|_| offset > 0).unwrap_or_else(|| self.fresh(text));
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
        let to = from.saturating_add(size as usize).min(whole.len());
        let part = whole[from..to].to_vec();
        // An empty part says that this was the end.
        if !part.is_empty() {
            if self.texts.len() == KEPT_TEXTS {
                self.texts.remove(0);
            }
            self.texts.push((handle, whole));
        }
        part
    }
}

fn number(request: &[u8], at: usize) -> Option<u64> {
    let bytes = request.get(at..at + 8)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

fn half(request: &[u8], at: usize) -> Option<u32> {
    let bytes = request.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// Reads one request: `fuse_in_header`, then the operation's own structure.
fn asked(request: &[u8]) -> Asked {
    let body = request.get(HEADER..).unwrap_or_default();
    match half(request, 4) {
        Some(INIT) => init(body),
        Some(GETATTR) => Asked::Attributes,
        Some(OPEN) => Asked::Handle,
        // fuse_read_in: fh, offset, size, ...
        Some(READ) => match (number(body, 0), number(body, 8), half(body, 16)) {
            (Some(handle), Some(offset), Some(size)) => Asked::Text { handle, offset, size },
            _ => Asked::Refusal(Errno::INVAL),
        },
        Some(STATFS) => Asked::Answer(vec![0; 80]),
        // fuse_release_in: fh, ...
        Some(RELEASE) => number(body, 0).map_or(Asked::Refusal(Errno::INVAL), |handle| Asked::Release { handle }),
        Some(FORGET | BATCH_FORGET | INTERRUPT | DESTROY) => Asked::Nothing,
        // The kernel does by itself what it is told once that nobody does here.
        _ => Asked::Refusal(Errno::NOSYS),
    }
}

/// `fuse_init_out` for `fuse_init_in`: major, minor, max_readahead, flags.
fn init(body: &[u8]) -> Asked {
    let (Some(major), Some(minor)) = (half(body, 0), half(body, 4)) else {
        return Asked::Refusal(Errno::INVAL);
    };
    if major < MAJOR {
        return Asked::Refusal(Errno::PROTO);
    }
    let mut out = Vec::with_capacity(64);
    for word in [MAJOR, minor.min(MINOR), 0, 0] {
        out.extend(word.to_ne_bytes());
    }
    out.extend(1u16.to_ne_bytes()); // max_background
    out.extend(1u16.to_ne_bytes()); // congestion_threshold
    out.extend(WRITE_MAX.to_ne_bytes()); // max_write
    out.extend(1u32.to_ne_bytes()); // time_gran, ns
    out.resize(64, 0);
    Asked::Answer(out)
}

/// `fuse_attr_out`: a file that all may read, of root.
fn attributes(length: u64) -> Vec<u8> {
    const MODE: u32 = 0o100_444;
    let mut out = Vec::with_capacity(104);
    out.extend([0; 16]); // attr_valid, attr_valid_nsec, dummy: for this time only
    out.extend(1u64.to_ne_bytes()); // ino
    out.extend(length.to_ne_bytes());
    out.extend([0; 8]); // blocks
    out.extend([0; 24]); // times
    out.extend([0; 12]); // their nanoseconds
    out.extend(MODE.to_ne_bytes());
    out.extend(1u32.to_ne_bytes()); // nlink
    out.extend([0; 12]); // uid, gid, rdev
    out.extend(4096u32.to_ne_bytes()); // blksize
    out.resize(104, 0);
    out
}

/// `fuse_out_header` and what follows it.
fn reply(unique: u64, error: i32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).expect("invariant: at most what was asked for");
    [
        &length.to_ne_bytes()[..],
        &error.to_ne_bytes(),
        &unique.to_ne_bytes(),
        body,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; HEADER];
        bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn answers_have_the_kernel_s_shapes() {
        let length = |asked: Asked| match asked {
            Asked::Answer(bytes) => bytes.len(),
            other => panic!("{other:?}"),
        };
        let init = [7u32, 40, 0, 0].map(u32::to_ne_bytes).concat();
        assert_eq!(length(asked(&request(INIT, &init))), 64);
        assert_eq!(asked(&request(GETATTR, &[0; 16])), Asked::Attributes);
        assert_eq!((attributes(1).len(), number(&attributes(4097), 24)), (104, Some(4097)));
        assert_eq!(asked(&request(OPEN, &[0; 8])), Asked::Handle);
        assert_eq!(length(asked(&request(STATFS, &[]))), 80);
        let read = [7u64.to_ne_bytes(), 5u64.to_ne_bytes(), 4096u64.to_ne_bytes()].concat();
        let expected = Asked::Text {
            handle: 7,
            offset: 5,
            size: 4096,
        };
        assert_eq!(asked(&request(READ, &read)), expected);
        assert_eq!(asked(&request(READ, &[0; 8])), Asked::Refusal(Errno::INVAL));
        assert_eq!(asked(&request(1, &[])), Asked::Refusal(Errno::NOSYS));
        assert_eq!(asked(&request(FORGET, &[])), Asked::Nothing);
        assert_eq!(asked(&[0; 3]), Asked::Refusal(Errno::NOSYS));
        let header = reply(9, -38, &[1]);
        assert_eq!(header[..4], 17u32.to_ne_bytes());
        assert_eq!(number(&header, 8), Some(9));
    }

    #[test]
    fn a_text_is_read_in_parts_and_made_anew_from_its_beginning() {
        let device = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()).expect("a device");
        let mut file = OneFile::new(device);
        assert_eq!(file.open().len(), 16);
        let mut made = 0;
        let mut text = || {
            made += 1;
            format!("text {made}")
        };
        assert_eq!(file.part(1, (0, 4), &mut text), b"text");
        // Another reader meanwhile, who was told the size first.
        assert_eq!(file.tell_size(&mut text), 6);
        assert_eq!(file.part(2, (0, 99), &mut text), b"text 2");
        assert_eq!(file.part(1, (4, 99), &mut text), b" 1");
        assert_eq!(file.part(1, (6, 99), &mut text), b"");
        assert_eq!(file.part(1, (0, 99), &mut text), b"text 3");
        assert_eq!(file.part(3, (u64::MAX, 99), &mut text), b"");
        for handle in 10..100 {
            file.part(handle, (0, 1), &mut text);
        }
        assert_eq!(file.texts.len(), KEPT_TEXTS);
    }
}
