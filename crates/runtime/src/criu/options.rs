//! What callers ask of a checkpoint or restore, and the options of CRIU that
//! follow from it (`criu_opts` of CRIU's rpc.proto, by field number).

use super::wire::Message;
use crate::RuntimeError;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

/// Which properties of cgroups CRIU saves and restores (`criu_cg_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum CgroupsMode {
    Ignore = 0,
    Soft = 3,
    Full = 4,
    Strict = 5,
    #[default]
    Default = 6,
}

impl CgroupsMode {
    /// The words of `--manage-cgroups-mode`.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "" => Self::Default,
            "ignore" => Self::Ignore,
            "soft" => Self::Soft,
            "full" => Self::Full,
            "strict" => Self::Strict,
            _ => return None,
        })
    }
}

/// Flags of `checkpoint` and `restore`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) image_path: PathBuf,
    pub(crate) work_path: Option<PathBuf>,
    /// Earlier images, relative to `image_path`.
    pub(crate) parent_path: Option<PathBuf>,
    pub(crate) leave_running: bool,
    pub(crate) pre_dump: bool,
    pub(crate) tcp_established: bool,
    pub(crate) tcp_skip_in_flight: bool,
    pub(crate) link_remap: bool,
    pub(crate) external_unix_sockets: bool,
    pub(crate) shell_job: bool,
    pub(crate) file_locks: bool,
    pub(crate) auto_dedup: bool,
    pub(crate) lazy_pages: bool,
    /// Told when the page server is ready.
    pub(crate) status_fd: Option<i32>,
    /// Address and port.
    pub(crate) page_server: Option<(String, u16)>,
    pub(crate) cgroups_mode: CgroupsMode,
    /// `CLONE_NEW...` of namespaces whose content is not saved.
    pub(crate) empty_namespaces: u32,
    pub(crate) lsm_profile: Option<String>,
    pub(crate) lsm_mount_context: Option<String>,
}

/// Reads `ADDRESS:PORT`.
pub(crate) fn parse_page_server(text: &str) -> Option<(String, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!address.is_empty()).then(|| (address.to_owned(), port))
}

/// The options that dump and restore share. CRIU opens the directories
/// through our own `/proc/<pid>/fd`.
pub(super) fn common(options: &Options, images: BorrowedFd<'_>, work: Option<BorrowedFd<'_>>) -> Message {
    let mut message = Message::default();
    message
        .integer(1, images.as_raw_fd())
        .flag(4, options.external_unix_sockets)
        .flag(5, options.tcp_established)
        .flag(7, options.shell_job)
        .flag(8, options.file_locks)
        .number(9, 4)
        .flag(12, true)
        .flag(16, options.auto_dedup)
        .flag(24, true)
        .number(34, options.cgroups_mode as u64)
        .number(38, u64::from(options.empty_namespaces))
        .flag(48, options.lazy_pages)
        .flag(50, true);
    if let Some(work) = work {
        message.integer(17, work.as_raw_fd());
    }
    message
}

/// Adds a mount that CRIU leaves to us: `inside` on dump and on restore.
pub(super) fn add_external_mount(message: &mut Message, key: &str, value: &str) {
    let mut pair = Message::default();
    pair.text(1, key).text(2, value);
    message.message(23, &pair);
}

/// Checks what needs no CRIU.
pub(super) fn check(options: &Options) -> Result<(), RuntimeError> {
    let invalid = |flag: &str, why: &str| Err(RuntimeError::invalid(flag, format!("{flag}: {why}")));
    if options.image_path.as_os_str().is_empty() {
        return invalid("--image-path", "is empty");
    }
    if let Some(parent) = &options.parent_path {
        if parent.is_absolute() {
            return invalid("--parent-path", "must be relative to --image-path");
        }
        if !options.image_path.join(parent).is_dir() {
            return invalid("--parent-path", "is no directory below --image-path");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_servers_have_an_address_and_a_port() {
        assert_eq!(parse_page_server("192.0.2.1:27"), Some(("192.0.2.1".to_owned(), 27)));
        assert_eq!(parse_page_server("[::1]:27"), Some(("[::1]".to_owned(), 27)));
        for wrong in ["", "x", ":1", "x:0", "x:99999"] {
            assert_eq!(parse_page_server(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn modes_have_the_words_of_runc() {
        for (word, mode) in [
            ("", CgroupsMode::Default),
            ("ignore", CgroupsMode::Ignore),
            ("soft", CgroupsMode::Soft),
            ("full", CgroupsMode::Full),
            ("strict", CgroupsMode::Strict),
        ] {
            assert_eq!(CgroupsMode::parse(word), Some(mode));
        }
        assert_eq!(CgroupsMode::parse("lax"), None);
    }
}
