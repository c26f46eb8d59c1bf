//! Network namespaces: made by a short-lived thread, pinned by a bind mount.
//!
//! ```text
//! /ns/<id> in the mount namespace of the pins   a mount of the namespace's nsfs inode
//! <run>/netns/<id>    leads to the namespace: a link to where /proc has it, or, for a runtime of
//!                     somebody else and from earlier versions, the mount itself
//! ```
//! A file there that is no such mount is left over from a crash between the
//! two steps of pinning, and is used again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use wharf_sys::namespace::{self, CLONE_NEWNET};

use crate::error::NetError;
use crate::firewall;
use crate::netlink::{Family, Socket, route};

/// What the name service answers at, as Docker's.
pub(crate) const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The sockets of the name service of one namespace.
#[derive(Debug)]
pub(crate) struct ResolverSockets {
    pub udp: OwnedFd,
    pub tcp: OwnedFd,
    /// The namespace itself, from which queries are forwarded.
    pub namespace: OwnedFd,
}

pub(crate) fn file_error(action: &'static str, path: &Path, source: impl Into<io::Error>) -> NetError {
    NetError::File {
        action,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// A namespace that exists at least as long as this does.
#[derive(Debug, Clone)]
pub struct NamespaceHold {
    pub(crate) fd: Arc<OwnedFd>,
    visible_at: Option<PathBuf>,
}

impl NamespaceHold {
    pub(crate) fn new(fd: OwnedFd, visible_at: Option<PathBuf>) -> NamespaceHold {
        NamespaceHold {
            fd: Arc::new(fd),
            visible_at,
        }
    }

    /// Where other processes can open it, as long as this process holds it; where it is visible, longer.
    pub fn path(&self) -> PathBuf {
        let in_proc = || PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()));
        self.visible_at.clone().unwrap_or_else(in_proc)
    }

    /// Makes the sysfs of the namespace, which stands as long as the answer is held: whoever mounts it meanwhile finds it
    /// at once. Otherwise the kernel looks at the sysfs of every namespace first.
    pub fn make_sysfs(&self) -> Result<OwnedFd, NetError> {
        let sysfs = || wharf_sys::mount::new_filesystem("sysfs", &[], 0);
        inside(&self.fd, sysfs)?.map_err(|errno| NetError::Namespace {
            action: "making the sysfs of a network namespace",
            source: errno.into(),
        })
    }
}

/// Whether a namespace is pinned here. A link to one is no pin.
pub(crate) fn is_pinned(path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).is_ok_and(wharf_sys::path::is_namespace)
}

/// A namespace that stands, and a socket in it if it was made just now.
#[derive(Debug)]
pub(crate) struct Standing {
    pub fd: OwnedFd,
    pub socket: Option<Socket>,
}

/// Makes a namespace, brings `lo` up in it and pins it at `path`; one that is
/// pinned there already stays. To be called on a thread that ends then.
pub(crate) fn ensure(path: &Path) -> Result<Standing, NetError> {
    let open =
        |path: &Path| namespace::open(path).map_err(|errno| file_error("opening network namespace", path, errno));
    if is_pinned(path) {
        return open(path).map(|fd| Standing { fd, socket: None });
    }
    // A link that an ended container left.
    let _ = std::fs::remove_file(path);
    std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .map_err(|source| file_error("creating", path, source))?;
    namespace::unshare(CLONE_NEWNET).map_err(|errno| NetError::Namespace {
        action: "creating a network namespace",
        source: errno.into(),
    })?;
    let mut socket = open_route_socket()?;
    socket
        .batch(&[route::raise_link("lo", None, true)])
        .map_err(|error| NetError::Netlink {
            action: "bringing lo up".to_owned(),
            source: error.source,
        })?;
    let fd = open(Path::new("/proc/thread-self/ns/net"))?;
    // ORDER: pinned last, so that a pinned namespace is a complete one.
    rustix::mount::mount_bind("/proc/thread-self/ns/net", path)
        .map_err(|errno| file_error("pinning a network namespace at", path, errno))?;
    Ok(Standing {
        fd,
        socket: Some(socket),
    })
}

/// Unpins a namespace and removes a link to one; gone already is fine. It ends with its last user.
pub(crate) fn remove(path: &Path) -> Result<(), NetError> {
    if is_pinned(path) {
        rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(|errno| file_error("unpinning the network namespace at", path, errno))?;
    }
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file_error("removing", path, source)),
        _ => Ok(()),
    }
}

/// Lets `path` lead to `target`, unless it is a pin itself.
pub(crate) fn link(path: &Path, target: &Path) -> Result<(), NetError> {
    if std::fs::read_link(path).is_ok_and(|now| now == target) || is_pinned(path) {
        return Ok(());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // What a crash left of an earlier attempt.
    let _ = std::fs::remove_file(&new);
    std::os::unix::fs::symlink(target, &new)
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|source| file_error("leading to a network namespace from", path, source))
}

/// Removes a link to a namespace that nobody runs in any more; a pin stays.
pub(crate) fn unlink(path: &Path) {
    if !is_pinned(path) {
        // It says nothing that is still true; removed with the namespace at the latest.
        let _ = std::fs::remove_file(path);
    }
}

/// Runs `work` inside a namespace, on a thread of its own.
pub(crate) fn inside<T: Send>(target: &OwnedFd, work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
    on_own_thread(|| {
        namespace::enter(target, CLONE_NEWNET).map_err(|errno| NetError::Namespace {
            action: "entering a network namespace",
            source: errno.into(),
        })?;
        Ok(work())
    })?
}

/// A thread that changes its namespace must end with its work.
pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .stack_size(256 << 10);
        let handle = thread.spawn_scoped(scope, work).map_err(|source| NetError::Namespace {
            action: "starting a thread for a network namespace",
            source,
        })?;
        handle.join().map_err(|_| NetError::Namespace {
            action: "working inside a network namespace",
            source: io::Error::other("the thread panicked"),
        })
    })
}

/// A rtnetlink socket of the calling thread's namespace.
pub(crate) fn open_route_socket() -> Result<Socket, NetError> {
    Socket::open(Family::Route).map_err(|source| NetError::Netlink {
        action: "opening a netlink socket".to_owned(),
        source,
    })
}

/// Binds the name service's sockets inside a namespace and leads port 53 to them.
pub(crate) fn resolver_sockets(namespace: &OwnedFd) -> Result<ResolverSockets, NetError> {
    let (udp, tcp) = inside(namespace, bind_resolver)??;
    let namespace = namespace.try_clone().map_err(|source| NetError::Namespace {
        action: "holding a network namespace",
        source,
    })?;
    Ok(ResolverSockets { udp, tcp, namespace })
}

fn bind_resolver() -> Result<(OwnedFd, OwnedFd), NetError> {
    let failed = |source| NetError::Namespace {
        action: "binding the name service's sockets",
        source,
    };
    let address = SocketAddr::new(IpAddr::V4(RESOLVER_ADDRESS), 0);
    let udp = crate::ports::bind_udp(address).map_err(failed)?;
    let tcp = crate::ports::bind_tcp(address).map_err(failed)?;
    let ports = (local_port(&udp).map_err(failed)?, local_port(&tcp).map_err(failed)?);
    firewall::alias_resolver(RESOLVER_ADDRESS, ports.0, ports.1).map_err(|error| NetError::Netlink {
        action: "leading port 53 to the name service".to_owned(),
        source: error.source,
    })?;
    Ok((udp, tcp))
}

fn local_port(socket: &OwnedFd) -> io::Result<u16> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(socket)?)?.port())
}
