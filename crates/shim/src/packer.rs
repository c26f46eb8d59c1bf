//! The role that compresses a rotated file of a log: standard input to standard output.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd as _;

use crate::log::{Origin, pack};

/// `ORIGIN` of the file on standard input. Exit code 0 only if everything is written.
pub fn run(args: &[OsString]) -> i32 {
    let Some(origin) = args.first().and_then(|text| Origin::parse(text.to_str()?)) else {
        return 64;
    };
    // Not worth more than the container: the shim's own rank is inherited otherwise.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let _ = rustix::process::nice(10);
    let duplicate = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from);
    let streams =
        duplicate(std::io::stdin().as_fd()).and_then(|source| Ok((source, duplicate(std::io::stdout().as_fd())?)));
    let packed = streams.and_then(|(mut source, mut packed)| pack(&mut source, &mut packed, &origin));
    i32::from(packed.is_err())
}
