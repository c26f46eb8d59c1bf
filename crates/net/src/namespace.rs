//! Network namespaces: made by a short-lived thread, pinned by a bind mount.
//!
//! ```text
//! <run>/netns/<container id>   a mount of the namespace's nsfs inode
//! ```
//! A file there that is no such mount is left over from a crash between the
//! two steps of pinning, and is used again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::UnmountFlags;
use wharf_sys::namespace::{self, CLONE_NEWNET};

use crate::error::NetError;
use crate::firewall;
use crate::netlink::{Family, Socket, route};

/// `NSFS_MAGIC`
const NSFS_MAGIC: u64 = 0x6e73_6673;
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

fn file_error(action: &'static str, path: &Path, source: impl Into<io::Error>) -> NetError {
    NetError::File {
        action,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// Whether a namespace is pinned here.
pub(crate) fn is_pinned(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|kind| kind == NSFS_MAGIC))
}

/// Makes a namespace, brings `lo` up in it and pins it at `path`; one that is
/// pinned there already stays. Answers a socket in it for its first endpoint.
pub(crate) fn ensure(path: &Path) -> Result<Option<Socket>, NetError> {
    if is_pinned(path) {
        return Ok(None);
    }
    std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .map_err(|source| file_error("creating", path, source))?;
    on_own_thread(|| {
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
        // ORDER: pinned last, so that a pinned namespace is a complete one.
        rustix::mount::mount_bind("/proc/thread-self/ns/net", path)
            .map_err(|errno| file_error("pinning a network namespace at", path, errno))?;
        Ok(Some(socket))
    })?
}

/// Unpins a namespace; gone already is fine. It ends with its last user.
pub(crate) fn remove(path: &Path) -> Result<(), NetError> {
    if is_pinned(path) {
        rustix::mount::unmount(path, UnmountFlags::DETACH)
            .map_err(|errno| file_error("unpinning the network namespace at", path, errno))?;
    }
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file_error("removing", path, source)),
        _ => Ok(()),
    }
}

/// Runs `work` inside a pinned namespace, on a thread of its own.
pub(crate) fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
    let target = namespace::open(path).map_err(|errno| file_error("opening network namespace", path, errno))?;
    on_own_thread(|| {
        namespace::enter(&target, CLONE_NEWNET)
            .map_err(|errno| file_error("entering network namespace", path, errno))?;
        Ok(work())
    })?
}

/// A thread that changes its namespace must end with its work.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
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

/// Binds the name service's sockets inside a pinned namespace and leads port 53 to them.
pub(crate) fn resolver_sockets(path: &Path) -> Result<ResolverSockets, NetError> {
    let namespace = namespace::open(path).map_err(|errno| file_error("opening network namespace", path, errno))?;
    let (udp, tcp) = inside(path, bind_resolver)??;
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
