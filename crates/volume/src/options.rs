//! The options of the `local` driver: `type`, `device` and `o`, as in mount(8).

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;

use rustix::mount::MountFlags;

use crate::VolumeError;

/// What to mount as the volume's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountPlan {
    pub(crate) kind: String,
    pub(crate) device: String,
    pub(crate) flags: MountFlags,
    /// Options for the file system itself, joined by commas.
    pub(crate) data: String,
}

const KNOWN: [&str; 4] = ["type", "o", "device", "size"];
const NEEDS: [(&str, &[&str]); 3] = [("device", &["type"]), ("type", &["device"]), ("o", &["device", "type"])];

/// Checks the options of a new volume. COMPAT: the rules and texts are those of Docker's local driver.
pub(crate) fn check(options: &BTreeMap<String, String>) -> Result<(), VolumeError> {
    if let Some(unknown) = options.keys().find(|k| !KNOWN.contains(&k.as_str())) {
        return Err(VolumeError::Invalid(format!("invalid option: {unknown:?}")));
    }
    if options.contains_key("size") {
        return Err(VolumeError::Invalid(
            "quota size requested but no quota support".to_owned(),
        ));
    }
    for (option, needed) in NEEDS {
        let missing = needed.iter().find(|n| !options.contains_key(**n));
        if let (true, Some(missing)) = (options.contains_key(option), missing) {
            return Err(VolumeError::Invalid(format!("missing required option: {missing:?}")));
        }
    }
    Ok(())
}

/// The mount that the options ask for; `None` for a plain directory.
pub(crate) fn plan_mount(options: &BTreeMap<String, String>) -> Option<MountPlan> {
    let kind = options.get("type")?.clone();
    let device = options.get("device")?.clone();
    let mut plan = MountPlan {
        kind,
        device,
        flags: MountFlags::empty(),
        data: String::new(),
    };
    let mut data = Vec::new();
    for option in options
        .get("o")
        .into_iter()
        .flat_map(|o| o.split(','))
        .filter(|o| !o.is_empty())
    {
        match flag_of(option) {
            Some((flag, Change::Set)) => plan.flags |= flag,
            Some((flag, Change::Clear)) => plan.flags -= flag,
            None => data.push(option.to_owned()),
        }
    }
    plan.data = data.join(",");
    Some(plan)
}

/// Network file systems want an address where people write a host name: resolved at mount time, as Docker does.
pub(crate) fn resolve_address(plan: &mut MountPlan) -> std::io::Result<()> {
    if !(plan.kind.starts_with("nfs") || plan.kind == "cifs") {
        return Ok(());
    }
    let mut parts: Vec<String> = plan.data.split(',').map(str::to_owned).collect();
    for part in &mut parts {
        let Some(host) = part.strip_prefix("addr=") else {
            continue;
        };
        let mut found = (host, 0).to_socket_addrs()?;
        if let Some(address) = found.next() {
            *part = format!("addr={}", address.ip());
        }
    }
    plan.data = parts.join(",");
    Ok(())
}

enum Change {
    Set,
    Clear,
}

fn flag_of(option: &str) -> Option<(MountFlags, Change)> {
    use Change::{Clear, Set};
    Some(match option {
        "defaults" => (MountFlags::empty(), Set),
        "ro" => (MountFlags::RDONLY, Set),
        "rw" => (MountFlags::RDONLY, Clear),
        "nosuid" => (MountFlags::NOSUID, Set),
        "suid" => (MountFlags::NOSUID, Clear),
        "nodev" => (MountFlags::NODEV, Set),
        "dev" => (MountFlags::NODEV, Clear),
        "noexec" => (MountFlags::NOEXEC, Set),
        "exec" => (MountFlags::NOEXEC, Clear),
        "sync" => (MountFlags::SYNCHRONOUS, Set),
        "async" => (MountFlags::SYNCHRONOUS, Clear),
        "dirsync" => (MountFlags::DIRSYNC, Set),
        "noatime" => (MountFlags::NOATIME, Set),
        "atime" => (MountFlags::NOATIME, Clear),
        "nodiratime" => (MountFlags::NODIRATIME, Set),
        "relatime" => (MountFlags::RELATIME, Set),
        "norelatime" => (MountFlags::RELATIME, Clear),
        "strictatime" => (MountFlags::STRICTATIME, Set),
        "bind" => (MountFlags::BIND, Set),
        "rbind" => (MountFlags::BIND.union(MountFlags::REC), Set),
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn options_are_checked_as_docker_does() {
        let check_one = |pairs: &[(&str, &str)]| check(&options(pairs)).map_err(|e| e.to_string());
        assert_eq!(check_one(&[]), Ok(()));
        assert_eq!(
            check_one(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]),
            Ok(())
        );
        assert_eq!(
            check_one(&[("bogus", "x")]),
            Err("invalid option: \"bogus\"".to_owned())
        );
        assert_eq!(
            check_one(&[("type", "tmpfs")]),
            Err("missing required option: \"device\"".to_owned())
        );
        assert_eq!(
            check_one(&[("o", "ro")]),
            Err("missing required option: \"device\"".to_owned())
        );
        assert_eq!(
            check_one(&[("size", "1g")]),
            Err("quota size requested but no quota support".to_owned())
        );
    }

    #[test]
    fn flags_and_data_are_told_apart() {
        let text = "size=1m,ro,nosuid,uid=33,rw,,noexec";
        let plan = plan_mount(&options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", text)])).unwrap();
        assert_eq!(plan.flags, MountFlags::NOSUID | MountFlags::NOEXEC);
        assert_eq!(plan.data, "size=1m,uid=33");
        let plan = plan_mount(&options(&[("type", "none"), ("device", "/srv"), ("o", "bind")])).unwrap();
        assert_eq!((plan.flags, plan.data.as_str()), (MountFlags::BIND, ""));
        assert_eq!(plan_mount(&options(&[])), None);
    }
}
