//! `start`: the address of a shim for the container, a new one or that of its pod.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use wharf_runtime::spec::Spec;

use super::invocation::Invocation;
use super::serve::{Identity, serve};

/// Annotations by which containers of one pod name it: they share a shim.
const SANDBOX_ANNOTATIONS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// Longest path of a socket (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// Finds or makes the shim, and prints its address.
pub(super) fn start(invocation: &Invocation) -> Result<(), String> {
    let bundle = match &invocation.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().map_err(|error| format!("find the working directory: {error}"))?,
    };
    let spec = crate::server::read_spec(&bundle).map_err(|fault| fault.to_string())?;
    let path = socket_path(invocation, &group_of(&spec, &invocation.id))?;
    let address = format!("unix://{}", path.display());
    // ORDER: two containers of one pod may be started at once; the second finds the shim of the first.
    let _lock = lock(&path)?;
    if UnixStream::connect(&path).is_err() {
        spawn(invocation, &bundle, path)?;
    }
    // containerd before 1.7 finds a shim again by this file.
    let file = bundle.join("address");
    std::fs::write(&file, &address).map_err(|error| format!("write {}: {error}", file.display()))?;
    let mut stdout = std::io::stdout();
    let printed = stdout.write_all(address.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(|error| format!("print the address: {error}"))
}

/// Removes the socket of a shim that was killed; the shim of a pod that goes on keeps its own.
pub(super) fn remove_stale_socket(invocation: &Invocation, bundle: &Path) {
    let spec = crate::server::read_spec(bundle).unwrap_or_default();
    if let Ok(path) = socket_path(invocation, &group_of(&spec, &invocation.id))
        && let Ok(_lock) = lock(&path)
        && UnixStream::connect(&path).is_err()
    {
        let _ = std::fs::remove_file(path);
    }
}

/// The pod of a container; a container without one is its own.
fn group_of(spec: &Spec, id: &str) -> String {
    let named = SANDBOX_ANNOTATIONS.iter().find_map(|key| spec.annotations.get(*key));
    named
        .filter(|name| !name.is_empty())
        .map_or(id, String::as_str)
        .to_owned()
}

/// Beside containerd's own socket, where shims' sockets are expected, under a short name made of everything that
/// tells shims apart.
fn socket_path(invocation: &Invocation, group: &str) -> Result<PathBuf, String> {
    let own = invocation.address.trim_start_matches("unix://");
    let dir = Path::new(own)
        .parent()
        .filter(|dir| dir.is_absolute())
        .unwrap_or(Path::new("/run/containerd"))
        .join("s");
    let name = |salt: u8| fnv(&[own, "\0", &invocation.namespace, "\0", group].concat(), salt);
    let path = dir.join(format!("wharf-{:016x}{:016x}", name(0), name(1)));
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(format!("the path of a socket would be too long: {}", path.display()));
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&dir);
    made.map_err(|error| format!("make {}: {error}", dir.display()))?;
    Ok(path)
}

/// FNV-1a: a name that stays the same over versions of this program, not a protection.
fn fnv(text: &str, salt: u8) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes()
        .chain([salt])
        .fold(0xcbf2_9ce4_8422_2325 ^ u64::from(salt), step)
}

/// Held until this process ends; the shim that it leaves behind closes its copy.
fn lock(socket: &Path) -> Result<OwnedFd, String> {
    let dir = socket.parent().unwrap_or(Path::new("/"));
    let failed = |errno: rustix::io::Errno| format!("lock {}: {errno}", dir.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let file = rustix::fs::open(dir, flags, Mode::empty()).map_err(failed)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(failed)?;
    Ok(file)
}

/// Listens, and leaves the rest to a process of its own that nobody waits for.
fn spawn(invocation: &Invocation, bundle: &Path, path: PathBuf) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("listen at {}: {error}", path.display());
    // A socket that nobody answers at is one of a shim that was killed.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let identity = Identity {
        namespace: invocation.namespace.clone(),
        events: events_address(&invocation.address),
        socket: path.clone(),
    };
    let bundle = bundle.to_path_buf();
    let child = wharf_sys::clone::fork(move || serve(identity, listener.into(), &bundle))
        .map_err(|errno| format!("fork: {errno}"))?;
    drop(child);
    Ok(())
}

/// Where containerd takes events: it says so in the environment; by custom it is beside its own socket.
fn events_address(own: &str) -> PathBuf {
    let said = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    let said = said.trim_start_matches("unix://");
    if said.is_empty() {
        PathBuf::from(format!("{}.ttrpc", own.trim_start_matches("unix://")))
    } else {
        PathBuf::from(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_one_pod_have_one_shim() {
        let mut spec = Spec::default();
        assert_eq!(group_of(&spec, "a"), "a");
        spec.annotations
            .insert("io.kubernetes.cri.sandbox-id".into(), "pod".into());
        assert_eq!(group_of(&spec, "a"), "pod");
    }

    #[test]
    fn names_of_sockets_depend_on_everything() {
        let names = ["a", "b"].map(|text| [fnv(text, 0), fnv(text, 1)]);
        let all: std::collections::BTreeSet<u64> = names.into_iter().flatten().collect();
        assert_eq!(all.len(), 4);
    }
}
