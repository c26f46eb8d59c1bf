//! Listeners: unix sockets with their owner and mode, TCP, and sockets passed by systemd.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::options::{Host, Settings};

/// Who may use the socket: root and the socket's group.
const SOCKET_MODE: u32 = 0o660;

/// A place where clients connect.
#[derive(Debug)]
pub(crate) enum Listener {
    /// A unix socket, and its file, unless that is somebody else's.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Removed with the listener.
        _file: Option<BoundPath>,
    },
    /// A TCP port.
    Tcp(TcpListener),
}

/// A socket file that this process made. Removed on drop, unless another engine has put its
/// own there meanwhile.
#[derive(Debug)]
pub(crate) struct BoundPath {
    path: PathBuf,
    inode: u64,
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another engine serves this socket.
    #[error("another engine answers on {path}")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `fd://` was asked for and systemd passed nothing.
    #[error("fd:// was given but no sockets were passed by systemd")]
    NothingPassed,
}

/// Opens every listener of the settings.
pub(crate) async fn open(settings: &Settings) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    for host in &settings.hosts {
        match host {
            Host::Unix(path) => listeners.push(bind_unix(path, &settings.socket_group).await?),
            Host::Tcp(address) => listeners.push(bind_tcp(address).await?),
            Host::Activated => listeners.extend(activated()?),
        }
    }
    Ok(listeners)
}

async fn bind_tcp(address: &str) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Bind {
        address: format!("tcp://{address}"),
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    tracing::warn!(
        address,
        "serving without TLS: whoever reaches this port is root on this machine"
    );
    Ok(Listener::Tcp(listener))
}

/// Binds beside the final path and renames: a stale socket is replaced in one step, and the
/// socket is never visible with a wrong owner or mode.
async fn bind_unix(path: &Path, group: &str) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Bind {
        address: format!("unix://{}", path.display()),
        source,
    };
    if answers(path).await {
        return Err(ListenError::InUse { path: path.to_owned() });
    }
    let (folder, name) = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => (folder, name.to_owned()),
        _ => return Err(failed(io::Error::from(io::ErrorKind::InvalidInput))),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let folder = std::fs::File::open(folder).map_err(failed)?;
    // KERNEL: a socket address holds 108 bytes; the folder's descriptor keeps deep paths short.
    let inside = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let fresh = inside.join(format!(".new-{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    if let Some(gid) = group_id(group) {
        std::os::unix::fs::chown(&fresh, None, Some(gid)).map_err(failed)?;
    }
    let inode = std::fs::symlink_metadata(&fresh).map_err(failed)?.ino();
    std::fs::rename(&fresh, inside.join(name)).map_err(failed)?;
    Ok(Listener::Unix {
        listener,
        _file: Some(BoundPath {
            path: path.to_owned(),
            inode,
        }),
    })
}

/// True when something accepts connections at `path`.
async fn answers(path: &Path) -> bool {
    UnixStream::connect(path).await.is_ok()
}

/// The number of a local group, if there is such a group.
fn group_id(name: &str) -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        fields.nth(1).filter(|_| found)?.parse().ok()
    })
}

fn activated() -> Result<Vec<Listener>, ListenError> {
    let passed = wharf_engine::activation::passed_sockets();
    if passed.is_empty() {
        return Err(ListenError::NothingPassed);
    }
    passed.into_iter().map(adopt).collect()
}

fn adopt(socket: OwnedFd) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Bind {
        address: "fd://".to_owned(),
        source,
    };
    let domain = rustix::net::sockopt::socket_domain(&socket).map_err(|errno| failed(errno.into()))?;
    if domain == rustix::net::AddressFamily::UNIX {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true).map_err(failed)?;
        return UnixListener::from_std(listener)
            .map(|listener| Listener::Unix { listener, _file: None })
            .map_err(failed);
    }
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map(Listener::Tcp).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_taken_over_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder
            .path()
            .join("deep".repeat(20))
            .join("x".repeat(60))
            .join("wharf.sock");
        let first = bind_unix(&path, "no-such-group").await.expect("bound");
        let mode = std::fs::metadata(&path).expect("exists").mode() & 0o777;
        assert_eq!(mode, SOCKET_MODE);
        let short = folder.path().join("s");
        let live = bind_unix(&short, "no-such-group").await.expect("bound");
        assert!(matches!(bind_unix(&short, "x").await, Err(ListenError::InUse { .. })));
        // A killed engine leaves its file behind.
        let Listener::Unix { listener, _file: bound } = live else {
            panic!("unix")
        };
        std::mem::drop(listener);
        let stale = std::fs::symlink_metadata(&short).expect("stale").ino();
        let again = bind_unix(&short, "no-such-group").await.expect("taken over");
        assert_ne!(std::fs::symlink_metadata(&short).expect("new").ino(), stale);
        drop(bound);
        assert!(short.exists(), "the old engine must not remove the new one's socket");
        drop((again, first));
        assert!(!short.exists());
    }
}
