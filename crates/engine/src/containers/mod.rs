//! Containers: the service that callers use.
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::Shared;
use crate::error::Result;
use crate::model::requests::*;
use crate::model::*;

/// The containers of an engine. Names in arguments are names, ids or unique id prefixes.
#[derive(Clone, Debug)]
pub struct Containers {
    shared: Arc<Shared>,
}

/// A promise of a container's end.
#[derive(Debug)]
pub struct Waiting {
    receiver: tokio::sync::oneshot::Receiver<WaitResult>,
}

impl Waiting {
    /// Waits for it.
    pub async fn result(self) -> WaitResult {
        self.receiver.await.unwrap_or_else(|_| WaitResult {
            status_code: 0,
            error: Some("the engine stopped".into()),
        })
    }
}

/// An attach that was accepted; becomes effective with [`AttachTicket::attach`] after the
/// client was told so. A `start` waits for tickets given out before it, so that no byte is
/// lost; dropping the ticket gives it up.
#[derive(Debug)]
pub struct AttachTicket {
    /// The container (or exec) has a terminal: the stream is not framed.
    pub tty: bool,
}

impl AttachTicket {
    /// Hands over the client's connection.
    pub async fn attach(self, stream: ClientStream) -> Result<()> {
        let _ = stream;
        todo!()
    }
}

/// Bytes of a tar stream or a file, produced on another thread, with a bounded queue.
pub type ByteStream = mpsc::Receiver<Result<bytes::Bytes>>;

/// A source of bytes read on a blocking thread.
pub type ByteSource = Box<dyn std::io::Read + Send>;

impl Containers {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Creates a container; nothing is left behind on failure.
    pub async fn create(&self, request: CreateContainer) -> Result<ContainerCreated> {
        let _ = (&self.shared, request);
        todo!()
    }

    /// Starts it; `NotModified` when it runs.
    pub async fn start(&self, name: &str) -> Result<()> {
        let _ = name;
        todo!()
    }

    /// Stops it; `NotModified` when it does not run.
    pub async fn stop(&self, name: &str, options: StopOptions) -> Result<()> {
        let _ = (name, options);
        todo!()
    }

    /// Stops it when it runs, and starts it.
    pub async fn restart(&self, name: &str, options: StopOptions) -> Result<()> {
        let _ = (name, options);
        todo!()
    }

    /// Sends a signal (`None` is SIGKILL, which waits for the end).
    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let _ = (name, signal);
        todo!()
    }

    /// Freezes its processes.
    pub async fn pause(&self, name: &str) -> Result<()> {
        let _ = name;
        todo!()
    }

    /// Thaws its processes.
    pub async fn unpause(&self, name: &str) -> Result<()> {
        let _ = name;
        todo!()
    }

    /// Registers a wait; returns as soon as no end can be missed.
    pub async fn wait(&self, name: &str, condition: WaitCondition) -> Result<Waiting> {
        let _ = (name, condition);
        todo!()
    }

    /// Gives it another name.
    pub async fn rename(&self, name: &str, new_name: &str) -> Result<()> {
        let _ = (name, new_name);
        todo!()
    }

    /// Changes limits and policy, live when it runs; answers warnings.
    pub async fn update(&self, name: &str, request: UpdateContainer) -> Result<Vec<String>> {
        let _ = (name, request);
        todo!()
    }

    /// Removes it.
    pub async fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let _ = (name, options);
        todo!()
    }

    /// Removes those that do not run (filters `until`, `label`, `label!`).
    pub async fn prune(&self, filters: crate::Filters) -> Result<PruneReport> {
        let _ = filters;
        todo!()
    }

    /// Containers that match, newest first.
    pub async fn list(&self, query: ListContainers) -> Result<Vec<ContainerListed>> {
        let _ = query;
        todo!()
    }

    /// Published records of all containers; never waits.
    pub fn snapshots(&self) -> Vec<Arc<ContainerRecord>> {
        todo!()
    }

    /// Published record of one container; never waits.
    pub fn snapshot(&self, name: &str) -> Result<Arc<ContainerRecord>> {
        let _ = name;
        todo!()
    }

    /// One container in full.
    pub async fn inspect(&self, name: &str, with_size: bool) -> Result<ContainerInspect> {
        let _ = (name, with_size);
        todo!()
    }

    /// Its processes as `ps` shows them.
    pub async fn top(&self, name: &str, ps_args: &str) -> Result<TopTable> {
        let _ = (name, ps_args);
        todo!()
    }

    /// One measurement; an empty one when it does not run.
    pub async fn stats(&self, name: &str) -> Result<StatsSample> {
        let _ = name;
        todo!()
    }

    /// Its log lines; the receiver ends with the log (or never, following a running one).
    pub async fn logs(&self, name: &str, query: LogsQuery) -> Result<mpsc::Receiver<Result<LogLine>>> {
        let _ = (name, query);
        todo!()
    }

    /// Prepares to attach.
    pub async fn attach(&self, name: &str, query: AttachQuery) -> Result<AttachTicket> {
        let _ = (name, query);
        todo!()
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, name: &str, height: u32, width: u32) -> Result<()> {
        let _ = (name, height, width);
        todo!()
    }

    /// Connects it to a network, live when it runs (the networks service checks the network).
    pub async fn connect(&self, name: &str, network: &NetworkRecord, settings: EndpointSettings) -> Result<()> {
        let _ = (name, network, settings);
        todo!()
    }

    /// Disconnects it from a network.
    pub async fn disconnect(&self, name: &str, network: &NetworkRecord, force: bool) -> Result<()> {
        let _ = (name, network, force);
        todo!()
    }

    /// Prepares an exec session in a running container.
    pub async fn exec_create(&self, name: &str, request: CreateExec) -> Result<ExecId> {
        let _ = (name, request);
        todo!()
    }

    /// Starts it without a client; fails when the program cannot be run.
    pub async fn exec_start_detached(&self, id: &str, request: StartExec) -> Result<()> {
        let _ = (id, request);
        todo!()
    }

    /// Prepares to start it with a client; its process starts when the connection is handed
    /// over, and a failure to start is told in the stream.
    pub async fn exec_start(&self, id: &str, request: StartExec) -> Result<AttachTicket> {
        let _ = (id, request);
        todo!()
    }

    /// An exec session.
    pub fn exec_inspect(&self, id: &str) -> Result<ExecInfo> {
        let _ = id;
        todo!()
    }

    /// Sets the size of an exec session's terminal.
    pub async fn exec_resize(&self, id: &str, height: u32, width: u32) -> Result<()> {
        let _ = (id, height, width);
        todo!()
    }

    /// Paths that differ from the image.
    pub async fn changes(&self, name: &str) -> Result<Vec<PathChange>> {
        let _ = name;
        todo!()
    }

    /// Its file system as a tar stream.
    pub async fn export(&self, name: &str) -> Result<ByteStream> {
        let _ = name;
        todo!()
    }

    /// Makes an image of it; answers the image id.
    pub async fn commit(&self, name: &str, request: CommitContainer) -> Result<String> {
        let _ = (name, request);
        todo!()
    }

    /// What is at `path`.
    pub async fn archive_stat(&self, name: &str, path: &Path) -> Result<PathStat> {
        let _ = (name, path);
        todo!()
    }

    /// What is at `path`, and a tar stream of it.
    pub async fn archive_get(&self, name: &str, path: &Path) -> Result<(PathStat, ByteStream)> {
        let _ = (name, path);
        todo!()
    }

    /// Unpacks a tar stream (plain or compressed) into the directory `path`.
    pub async fn archive_put(&self, name: &str, path: &Path, options: PutArchive, tar: ByteSource) -> Result<()> {
        let _ = (name, path, options, tar);
        todo!()
    }
}
