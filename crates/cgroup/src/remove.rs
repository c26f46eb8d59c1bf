//! Removing groups, deepest first, while their last processes are still dying.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::dir::child_names;
use crate::error::CgroupError;

/// Removes a directory and its children. Tries again until `end` while the kernel says busy.
pub(crate) fn remove_tree(path: &Path, end: Instant) -> Result<(), CgroupError> {
    let mut pause = Duration::from_micros(100);
    loop {
        match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => {
                return Err(CgroupError::Remove {
                    path: path.to_path_buf(),
                    source: errno.into(),
                });
            }
        }
        for child in child_names(path)? {
            remove_tree(&path.join(child), end)?;
        }
        match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) if Instant::now() >= end => {
                return Err(CgroupError::Remove {
                    path: path.to_path_buf(),
                    source: errno.into(),
                });
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
