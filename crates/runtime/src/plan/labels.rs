//! SELinux contexts of mounts (`linux.mountLabel`).

use super::mounts::{Kind, MountPlan};
use crate::RuntimeError;

/// There where the kernel enforces or could enforce SELinux.
pub(crate) const SELINUX_MARKER: &str = "/sys/fs/selinux/enforce";

/// File systems whose contexts the policy alone decides.
const UNLABELLED: [&str; 3] = ["proc", "sysfs", "mqueue"];

/// Gives every file system that is made for the container the label.
pub(crate) fn label_mounts(mounts: &mut [MountPlan], label: Option<&str>) -> Result<(), RuntimeError> {
    let Some(label) = label.filter(|label| !label.is_empty()) else {
        return Ok(());
    };
    let field = "linux.mountLabel";
    if label.contains(['\0', '"', '\n']) {
        return Err(RuntimeError::invalid(
            field,
            format!("{field}: {label:?} is not a label"),
        ));
    }
    if !std::path::Path::new(SELINUX_MARKER).exists() {
        return Err(RuntimeError::invalid(
            field,
            format!("{field}: this kernel has SELinux not enabled"),
        ));
    }
    add_contexts(mounts, label);
    Ok(())
}

/// What a mount's own options say comes first.
fn add_contexts(mounts: &mut [MountPlan], label: &str) {
    for mount in mounts {
        let takes = matches!(&mount.kind, Kind::Filesystem(name) if !UNLABELLED.contains(&name.as_str()));
        if takes && !mount.data.iter().any(|item| item.starts_with("context=")) {
            mount.data.push(format!("context={label}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::mounts::plan_mounts;
    use crate::spec::Mount;
    use std::path::Path;

    #[test]
    fn made_file_systems_are_labelled_and_binds_and_proc_are_not() {
        let mount = |kind: &str, options: &[&str]| Mount {
            destination: "/d".into(),
            kind: Some(kind.to_owned()),
            source: Some("s".into()),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
            ..Mount::default()
        };
        let list = [
            mount("tmpfs", &["mode=755"]),
            mount("tmpfs", &["context=own"]),
            mount("proc", &[]),
            mount("bind", &["bind"]),
        ];
        let mut mounts = plan_mounts(Path::new("/"), &list).expect("valid");
        add_contexts(&mut mounts, "system_u:object_r:x:s0:c1,c2");
        let data: Vec<_> = mounts.iter().map(|mount| mount.data.join(" ")).collect();
        assert_eq!(
            data,
            ["mode=755 context=system_u:object_r:x:s0:c1,c2", "context=own", "", ""]
        );
    }
}
