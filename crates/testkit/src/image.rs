//! Root file systems and build contexts made from what Debian installs.

use anyhow::{Context, Result, bail};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
                      www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nwheel:x:10:root\nwww-data:x:33:\nusers:x:100:www-data\nnobody:x:65534:\n";

/// Makes a busybox root file system in `dir`: the static binary, a link per applet, passwd and group.
///
/// # Errors
/// When busybox-static is not installed or `dir` cannot be filled.
pub fn busybox_rootfs(dir: &Path) -> Result<()> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|p| Path::new(p).exists());
    let busybox = busybox.context("busybox-static is not installed")?;
    for sub in [
        "bin", "etc", "root", "tmp", "var/www", "home", "usr/sbin", "dev", "proc", "sys",
    ] {
        std::fs::create_dir_all(dir.join(sub))?;
    }
    std::fs::copy(busybox, dir.join("bin/busybox")).context("copy busybox")?;
    let applets = Command::new(busybox).arg("--list").output()?.stdout;
    for applet in String::from_utf8(applets)?.lines().filter(|a| *a != "busybox") {
        symlink("busybox", dir.join("bin").join(applet))?;
    }
    std::fs::write(dir.join("etc/passwd"), PASSWD)?;
    std::fs::write(dir.join("etc/group"), GROUP)?;
    std::fs::set_permissions(dir.join("tmp"), std::fs::Permissions::from_mode(0o1777))?;
    Ok(())
}

/// Writes the root file system of [`busybox_rootfs`] as a reproducible tar at `tar`.
///
/// # Errors
/// As [`busybox_rootfs`], or when tar fails.
pub fn busybox_rootfs_tar(tar: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    busybox_rootfs(dir.path())?;
    pack(dir.path(), tar)
}

/// Packs `dir` into a tar with sorted names, fixed times and owner root.
///
/// # Errors
/// When tar fails.
pub fn pack(dir: &Path, tar: &Path) -> Result<()> {
    let status = Command::new("tar")
        .args([
            "--sort=name",
            "--mtime=@0",
            "--numeric-owner",
            "--owner=0",
            "--group=0",
            "-C",
        ])
        .arg(dir)
        .arg("-cf")
        .arg(tar)
        .arg(".")
        .status()
        .context("start tar")?;
    if !status.success() {
        bail!("tar of {} ended with {status}", dir.display());
    }
    Ok(())
}
