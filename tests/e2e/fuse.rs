//! A FUSE server that answers until it is asked to read a file, and then never again: what a dead network or user-space
//! file system looks like to the kernel. Only the four calls that a lookup needs are answered.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const BATCH_FORGET: u32 = 42;

/// The number of the one file, `hang`.
const FILE: u64 = 2;

/// A mount whose server hangs; dropping it lets everybody go.
pub(crate) struct HungMount {
    at: PathBuf,
    dead: Arc<AtomicBool>,
}

impl HungMount {
    /// Mounts it over an existing directory. `None` where the machine has no FUSE.
    pub(crate) fn new(at: &Path) -> Option<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
        let dead = Arc::new(AtomicBool::new(false));
        let for_mount = device.try_clone().expect("a second descriptor");
        let is_dead = Arc::clone(&dead);
        // ORDER: served before it is mounted, as mounting looks at it.
        std::thread::spawn(move || serve(&device, &is_dead));
        let mount = Command::new("mount")
            .args(["-i", "-t", "fuse", "hungserver"])
            .arg(at)
            .args(["-o", "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other"])
            .stdin(Stdio::from(for_mount))
            .status()
            .expect("mount runs");
        assert!(mount.success(), "mounting FUSE");
        Some(Self {
            at: at.to_owned(),
            dead,
        })
    }

    /// From now on not even lookups are answered, as by a dead server.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    /// Ends the connection: everybody who waits gets an error.
    pub(crate) fn let_go(&self) {
        // The first ends the connection and may say that the mount is in use; the second takes it away.
        for how in ["-f", "-l"] {
            let mut umount = Command::new("umount");
            umount.args(["-i", "-c", how]).arg(&self.at).stderr(Stdio::null());
            let _ = umount.status();
        }
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        self.let_go();
    }
}

fn serve(device: &File, dead: &AtomicBool) {
    let mut request = vec![0u8; 1 << 17];
    let mut device_in = device;
    loop {
        let length = match device_in.read(&mut request) {
            Ok(length) => length,
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                std::thread::sleep(std::time::Duration::from_millis(1)); // not mounted yet
                continue;
            }
            Err(_) => return, // the connection has ended
        };
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().expect("eight bytes"));
        let (opcode, unique, node) = (word(4), long(8), long(16));
        let body = &request[40..length];
        if dead.load(Ordering::SeqCst) && opcode != FORGET && opcode != BATCH_FORGET {
            continue; // taken, and never answered: nobody who waits for it can be killed
        }
        let answer = match opcode {
            INIT => init(),
            GETATTR => [&[0; 16][..], &attributes(node)].concat(),
            LOOKUP if body.starts_with(b"hang\0") => entry(),
            OPEN | OPENDIR => vec![0; 16],
            FORGET | BATCH_FORGET => continue,
            LOOKUP => {
                reply(device, unique, -2, &[]);
                continue;
            }
            READ => continue, // taken, and never answered
            _ => {
                reply(device, unique, -38, &[]); // not implemented
                continue;
            }
        };
        reply(device, unique, 0, &answer);
    }
}

fn reply(mut device: &File, unique: u64, error: i32, body: &[u8]) {
    let length = u32::try_from(16 + body.len()).expect("short");
    let head = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes()].concat();
    let _ = device.write(&[&head[..], body].concat()); // an aborted connection takes none
}

/// Protocol 7.31 without any option, 4 KiB writes.
fn init() -> Vec<u8> {
    let mut out = Vec::new();
    for word in [7u32, 31, 4096, 0] {
        out.extend(word.to_ne_bytes());
    }
    out.extend([0; 4]); // background requests
    out.extend(4096u32.to_ne_bytes());
    out.resize(64, 0);
    out
}

/// A directory, or the file with a few bytes to read.
fn attributes(node: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for long in [node, 4096, 8, 0, 0, 0] {
        out.extend(long.to_ne_bytes());
    }
    let mode: u32 = if node == FILE { 0o100_644 } else { 0o40_755 };
    for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        out.extend(word.to_ne_bytes());
    }
    out
}

fn entry() -> Vec<u8> {
    let mut out = Vec::new();
    for long in [FILE, 0, 0, 0] {
        out.extend(long.to_ne_bytes());
    }
    out.extend([0; 8]);
    out.extend(attributes(FILE));
    out
}
