//! The names of a log's files.

use std::path::{Path, PathBuf};

/// The file that was newest `age` rotations ago; the newest itself for 0.
pub(super) fn rotated(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_path_buf();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}
