//! Mount options: from the words of `config.json` (config.md#linux-mount-options)
//! to attributes, propagation and file system parameters.

use crate::RuntimeError;
use crate::spec::{IdMapping, Mount};
use std::path::{Path, PathBuf};
use wharf_sys::mount::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME,
};

/// `MS_...` of propagation (mount(2)).
pub(crate) const MS_UNBINDABLE: u32 = 1 << 17;
pub(crate) const MS_PRIVATE: u32 = 1 << 18;
pub(crate) const MS_SLAVE: u32 = 1 << 19;
pub(crate) const MS_SHARED: u32 = 1 << 20;

/// What kind of mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A tree of the host.
    Bind {
        /// With the mounts below it.
        recursive: bool,
    },
    /// The container's part of the cgroup tree.
    Cgroup,
    /// A file system by its kernel name.
    Filesystem(String),
}

/// The attributes that the kernel keeps a user namespace from taking away from the mounts it was
/// given (`MNT_LOCK_...`).
pub(crate) const LOCKABLE: u32 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/// Attributes to set and clear on a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) set: u32,
    pub(crate) clear: u32,
}

impl Attributes {
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What these make of a bind: nothing of one without attributes, which stays as its source is.
    /// Otherwise they are all it has, the lockable ones of its source apart where they are locked.
    ///
    /// COMPAT: as runc, and mount(2) with `MS_REMOUNT | MS_BIND`: the times of access stay as they
    /// are unless one is named, and `nodiratime` alone brings `relatime`.
    pub(crate) fn of_bind(mut self, is_locked: bool) -> Self {
        if self.clear & MOUNT_ATTR__ATIME == 0 {
            self.clear &= !MOUNT_ATTR_NODIRATIME;
        }
        if self.is_empty() {
            return self;
        }
        let unnamed = (LOCKABLE | MOUNT_ATTR_NOSYMFOLLOW) & !self.set;
        self.clear |= if is_locked { unnamed & !LOCKABLE } else { unnamed };
        if self.clear & MOUNT_ATTR__ATIME != 0 {
            self.clear |= MOUNT_ATTR_NODIRATIME & !self.set;
        } else if self.set & MOUNT_ATTR_NODIRATIME != 0 {
            self.clear |= MOUNT_ATTR__ATIME;
        }
        self
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Set(flag) => {
                self.set |= flag;
                self.clear &= !flag;
            }
            Change::Clear(flag) => {
                self.clear |= flag;
                self.set &= !flag;
            }
            Change::Time(flag) => {
                self.clear |= MOUNT_ATTR__ATIME;
                self.set = (self.set & !MOUNT_ATTR__ATIME) | flag;
            }
            Change::Usual => {
                self.clear &= !MOUNT_ATTR__ATIME;
                self.set &= !MOUNT_ATTR__ATIME;
            }
        }
    }
}

/// Propagation of one mount, or of it and all below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Propagation {
    pub(crate) flag: u32,
    pub(crate) recursive: bool,
}

/// One mount, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPlan {
    pub(crate) destination: PathBuf,
    pub(crate) source: Option<PathBuf>,
    pub(crate) kind: Kind,
    pub(crate) top: Attributes,
    pub(crate) tree: Attributes,
    pub(crate) propagation: Vec<Propagation>,
    /// It comes into a user namespace, which may not take lockable attributes of its source away.
    pub(crate) is_locked: bool,
    /// Parameters of the file system: `key` or `key=value`.
    pub(crate) data: Vec<String>,
    pub(crate) copy_up: bool,
    /// Ids are mapped; the flag says whether below as well.
    pub(crate) id_map: Option<IdMap>,
}

/// An idmapped mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdMap {
    pub(crate) recursive: bool,
    /// Empty until the container's own are filled in.
    pub(crate) uids: Vec<IdMapping>,
    pub(crate) gids: Vec<IdMapping>,
    /// As this user namespace, which the container joins, instead.
    pub(crate) namespace: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum Change {
    Set(u32),
    Clear(u32),
    Time(u32),
    /// The time of access that a mount has when nothing is said; a bind keeps that of its source.
    Usual,
}

enum Word {
    Bind {
        recursive: bool,
    },
    Top(Change),
    Tree(Change),
    Propagate(Propagation),
    /// A flag of the file system as a whole, under this name.
    Superblock(&'static str),
    CopyUp,
    IdMap {
        recursive: bool,
    },
    Nothing,
    Data,
}

fn attribute_word(word: &str) -> Option<Change> {
    use Change::{Clear, Set, Time, Usual};
    Some(match word {
        "ro" => Set(MOUNT_ATTR_RDONLY),
        "rw" => Clear(MOUNT_ATTR_RDONLY),
        "nosuid" => Set(MOUNT_ATTR_NOSUID),
        "suid" => Clear(MOUNT_ATTR_NOSUID),
        "nodev" => Set(MOUNT_ATTR_NODEV),
        "dev" => Clear(MOUNT_ATTR_NODEV),
        "noexec" => Set(MOUNT_ATTR_NOEXEC),
        "exec" => Clear(MOUNT_ATTR_NOEXEC),
        "nodiratime" => Set(MOUNT_ATTR_NODIRATIME),
        "diratime" => Clear(MOUNT_ATTR_NODIRATIME),
        "nosymfollow" => Set(MOUNT_ATTR_NOSYMFOLLOW),
        "symfollow" => Clear(MOUNT_ATTR_NOSYMFOLLOW),
        "noatime" => Time(MOUNT_ATTR_NOATIME),
        "strictatime" => Time(MOUNT_ATTR_STRICTATIME),
        "relatime" => Time(0),
        "atime" | "norelatime" | "nostrictatime" => Usual,
        _ => return None,
    })
}

fn propagation_word(word: &str) -> Option<Propagation> {
    let (name, recursive) = match word.strip_prefix('r') {
        Some(rest) if rest != "w" && rest != "o" => (rest, true),
        _ => (word, false),
    };
    let flag = match name {
        "shared" => MS_SHARED,
        "slave" => MS_SLAVE,
        "private" => MS_PRIVATE,
        "unbindable" => MS_UNBINDABLE,
        _ => return None,
    };
    Some(Propagation { flag, recursive })
}

fn classify(word: &str) -> Word {
    if let Some(change) = attribute_word(word) {
        return Word::Top(change);
    }
    if let Some(propagation) = propagation_word(word) {
        return Word::Propagate(propagation);
    }
    if let Some(change) = word.strip_prefix('r').and_then(attribute_word) {
        return Word::Tree(match change {
            Change::Usual => Change::Time(0),
            other => other,
        });
    }
    match word {
        "bind" => Word::Bind { recursive: false },
        "rbind" => Word::Bind { recursive: true },
        "defaults" | "async" | "loud" | "noiversion" | "nolazytime" | "remount" | "nomand" => Word::Nothing,
        "sync" => Word::Superblock("sync"),
        "dirsync" => Word::Superblock("dirsync"),
        "lazytime" => Word::Superblock("lazytime"),
        "iversion" => Word::Superblock("iversion"),
        "mand" => Word::Superblock("mand"),
        "silent" => Word::Superblock("silent"),
        "tmpcopyup" => Word::CopyUp,
        "idmap" => Word::IdMap { recursive: false },
        "ridmap" => Word::IdMap { recursive: true },
        _ => Word::Data,
    }
}

/// The propagation a word such as `rslave` stands for, of a mount or of
/// `linux.rootfsPropagation`.
pub(crate) fn parse_propagation(word: &str) -> Option<Propagation> {
    propagation_word(word)
}

/// Decides all mounts, in order.
pub(crate) fn plan_mounts(bundle: &Path, mounts: &[Mount]) -> Result<Vec<MountPlan>, RuntimeError> {
    mounts
        .iter()
        .enumerate()
        .map(|(index, mount)| plan_mount(bundle, index, mount))
        .collect()
}

fn plan_mount(bundle: &Path, index: usize, mount: &Mount) -> Result<MountPlan, RuntimeError> {
    let invalid = |field: &str, why: &str| {
        RuntimeError::invalid(
            format!("mounts[{index}].{field}"),
            format!("mounts[{index}].{field}: {why}"),
        )
    };
    if mount.destination.as_os_str().is_empty() {
        return Err(invalid("destination", "is empty"));
    }
    let mut plan = MountPlan {
        destination: Path::new("/").join(&mount.destination),
        source: mount.source.clone(),
        kind: Kind::Filesystem(mount.kind.clone().unwrap_or_default()),
        top: Attributes::default(),
        tree: Attributes::default(),
        propagation: Vec::new(),
        is_locked: false,
        data: Vec::new(),
        copy_up: false,
        id_map: None,
    };
    if mount.kind.as_deref() == Some("bind") {
        plan.kind = Kind::Bind {
            recursive: mount.options.iter().any(|word| word == "rbind"),
        };
    }
    for word in &mount.options {
        apply_word(&mut plan, word, mount);
    }
    match &plan.kind {
        Kind::Filesystem(name) if name == "cgroup" || name == "cgroup2" => plan.kind = Kind::Cgroup,
        Kind::Filesystem(name) if name.is_empty() || name == "none" => {
            return Err(invalid("type", "is missing, and no option says bind"));
        }
        Kind::Bind { .. } => {
            let source = plan
                .source
                .take()
                .ok_or_else(|| invalid("source", "a bind mount needs one"))?;
            plan.source = Some(bundle.join(source));
            plan.data.clear();
        }
        _ => {}
    }
    let maps = (mount.uid_mappings.is_empty(), mount.gid_mappings.is_empty());
    if maps == (true, false) || maps == (false, true) {
        return Err(invalid("uidMappings", "needs gidMappings beside it, and the reverse"));
    }
    if maps == (false, false) && plan.id_map.is_none() {
        plan.id_map = Some(IdMap {
            recursive: false,
            uids: mount.uid_mappings.clone(),
            gids: mount.gid_mappings.clone(),
            namespace: None,
        });
    }
    Ok(plan)
}

fn apply_word(plan: &mut MountPlan, word: &str, mount: &Mount) {
    match classify(word) {
        Word::Bind { recursive } => plan.kind = Kind::Bind { recursive },
        Word::Top(change) => plan.top.apply(change),
        Word::Tree(change) => plan.tree.apply(change),
        Word::Propagate(propagation) => plan.propagation.push(propagation),
        Word::Superblock(name) => plan.data.push(name.to_owned()),
        Word::CopyUp => plan.copy_up = true,
        Word::IdMap { recursive } => {
            plan.id_map = Some(IdMap {
                recursive,
                uids: mount.uid_mappings.clone(),
                gids: mount.gid_mappings.clone(),
                namespace: None,
            });
        }
        Word::Nothing => {}
        Word::Data => plan
            .data
            .extend(word.split(',').filter(|part| !part.is_empty()).map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(kind: &str, source: Option<&str>, options: &[&str]) -> Result<MountPlan, RuntimeError> {
        let mount = Mount {
            destination: "/data".into(),
            kind: (!kind.is_empty()).then(|| kind.to_owned()),
            source: source.map(PathBuf::from),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
            ..Mount::default()
        };
        plan_mount(Path::new("/bundle"), 0, &mount)
    }

    #[test]
    fn every_word_of_the_specification_is_understood() {
        let check = |words: &[&str], top: (u32, u32), tree: (u32, u32)| {
            let plan = plan("tmpfs", None, words).expect("valid");
            assert_eq!((plan.top.set, plan.top.clear), top, "{words:?}");
            assert_eq!((plan.tree.set, plan.tree.clear), tree, "{words:?}");
            assert!(plan.data.is_empty(), "{words:?} left {:?}", plan.data);
        };
        check(&["ro", "nosuid", "nodev", "noexec"], (1 | 2 | 4 | 8, 0), (0, 0));
        check(&["ro", "rw"], (0, 1), (0, 0));
        check(&["noatime"], (16, 112), (0, 0));
        check(&["noatime", "relatime"], (0, 112), (0, 0));
        check(&["rro", "rnosuid"], (0, 0), (1 | 2, 0));
        check(&["rrw", "rexec"], (0, 0), (0, 1 | 8));
        check(&["rnosymfollow"], (0, 0), (MOUNT_ATTR_NOSYMFOLLOW, 0));
        check(
            &["defaults", "async", "loud", "nolazytime", "suid", "dev", "exec"],
            (0, 2 | 4 | 8),
            (0, 0),
        );
    }

    #[test]
    fn a_bind_has_the_attributes_it_names_and_no_others() {
        const ALL: u32 = LOCKABLE | MOUNT_ATTR_NOSYMFOLLOW;
        let check = |words: &[&str], is_locked: bool, (set, clear): (u32, u32)| {
            let plan = plan("bind", Some("x"), words).expect("valid");
            assert_eq!(plan.top.of_bind(is_locked), Attributes { set, clear }, "{words:?}");
        };
        check(&["bind"], false, (0, 0));
        check(&["bind", "rslave"], true, (0, 0));
        check(&["bind", "dev"], false, (0, ALL));
        check(&["bind", "dev"], true, (0, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSYMFOLLOW));
        check(&["bind", "ro"], false, (1, ALL & !1));
        check(&["bind", "ro", "symfollow"], true, (1, MOUNT_ATTR_NOSYMFOLLOW));
        let (dirs, times) = (MOUNT_ATTR_NODIRATIME, MOUNT_ATTR__ATIME);
        check(&["bind", "atime"], false, (0, 0));
        check(&["bind", "diratime"], true, (0, 0));
        check(&["bind", "relatime"], false, (0, ALL | times | dirs));
        check(&["bind", "nodiratime"], false, (dirs, ALL | times));
        let strict = dirs | MOUNT_ATTR_STRICTATIME;
        check(&["bind", "nodiratime", "strictatime"], false, (strict, ALL | times));
    }

    #[test]
    fn propagation_words_keep_their_order_and_depth() {
        let plan = plan("bind", Some("x"), &["rbind", "rslave", "shared"]).expect("valid");
        assert_eq!(plan.kind, Kind::Bind { recursive: true });
        assert_eq!(
            plan.propagation,
            [
                Propagation {
                    flag: MS_SLAVE,
                    recursive: true
                },
                Propagation {
                    flag: MS_SHARED,
                    recursive: false
                }
            ]
        );
        assert_eq!(plan.source.as_deref(), Some(Path::new("/bundle/x")));
    }

    #[test]
    fn unknown_words_become_parameters_of_the_file_system() {
        let plan = plan("tmpfs", Some("tmpfs"), &["mode=755", "size=64k,nr_inodes=5", "sync"]).expect("valid");
        assert_eq!(plan.data, ["mode=755", "size=64k", "nr_inodes=5", "sync"]);
    }

    #[test]
    fn errors_name_the_field() {
        let check = |kind: &str, source: Option<&str>, options: &[&str], expected: &str| {
            assert_eq!(
                plan(kind, source, options).map_err(|e| e.message()),
                Err(expected.to_owned())
            );
        };
        check("bind", None, &[], "mounts[0].source: a bind mount needs one");
        check("", None, &[], "mounts[0].type: is missing, and no option says bind");
    }
}
