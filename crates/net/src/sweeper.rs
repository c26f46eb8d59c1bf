//! Removes the links of ended containers, off the path of their removal.
//!
//! A veth pair ends with its namespace, and the kernel takes many namespaces
//! down at once, while removing one link by name waits for a grace period of
//! every processor (tens of milliseconds). So an unpinned namespace is left to
//! the kernel first; what is still there afterwards, because somebody else
//! holds the namespace, is removed by name.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use crate::bridge;
use crate::error::NetError;
use crate::namespace;
use crate::netlink::Socket;

/// How long the kernel may take by itself.
const PATIENCE: Duration = Duration::from_millis(300);

/// A thread that ends with its owner.
#[derive(Debug)]
pub(crate) struct Sweeper {
    links: Sender<String>,
}

impl Sweeper {
    /// Starts it in the calling thread's namespace.
    pub(crate) fn start() -> Result<Sweeper, NetError> {
        let (links, queue) = channel::<String>();
        let mut socket = namespace::open_route_socket()?;
        let work = move || {
            while let Ok(first) = queue.recv() {
                std::thread::sleep(PATIENCE);
                let all = std::iter::once(first).chain(queue.try_iter().collect::<Vec<_>>());
                all.for_each(|link| remove(&mut socket, &link));
            }
        };
        let thread = std::thread::Builder::new()
            .name("net-sweeper".to_owned())
            .stack_size(128 << 10);
        thread.spawn(work).map_err(|source| NetError::Namespace {
            action: "starting a thread for ended links",
            source,
        })?;
        Ok(Sweeper { links })
    }

    /// Sees to it that these links end soon.
    pub(crate) fn sweep(&self, links: impl IntoIterator<Item = String>) {
        for link in links {
            // The receiver ends after the sender; were it gone, the next start
            // of the engine removes what is left.
            let _ = self.links.send(link);
        }
    }
}

fn remove(socket: &mut Socket, link: &str) {
    if let Err(error) = bridge::remove_link(socket, link) {
        tracing::warn!(%error, link, "the link of an ended container could not be removed");
    }
}
