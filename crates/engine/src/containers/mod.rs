//! Containers: the service that callers use.
//!
//! ```text
//!  Containers --find--> Handle (published record, waiters, shim, execs)
//!      | commands           ^ publishes
//!      v                    |
//!    Task (one per container) --steps--> Machine (pure) --effects--> start/, remove, shim
//! ```
//! Reads take the published record and never wait for an operation.
pub(crate) mod archive;
mod attach;
pub(crate) mod blocking;
mod borrow;
mod changes;
mod command;
mod content;
pub(crate) mod create;
mod exec;
mod handle;
mod happened;
mod health;
pub(crate) mod links;
mod list;
mod logs;
mod machine;
mod oom;
pub(crate) mod paths;
mod patience;
pub(crate) mod recovery;
mod registry;
mod remove;
mod rootfs;
mod runner;
mod signals;
mod snapshot;
pub(crate) mod start;
mod stats;
mod task;
mod telling;
mod top;
mod unfinished;
pub mod why;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use wharf_cgroup::Cgroup;
use wharf_shim::plan::ConsoleSize;

pub use attach::AttachTicket;
pub use list::status_text;
pub(crate) use registry::Registry;
pub(crate) use remove::delete_tree;
pub(crate) use runner::StepRunner;

use self::blocking::blocking;
use self::command::{Command, Reply};
use self::handle::Handle;
use self::paths::{Places, cgroup_path, lower_dirs};
use crate::Shared;
use crate::error::{Context, Error, Result};
use crate::images::Images;
use crate::model::requests::*;
use crate::model::*;
use crate::operations::{self, Operation, OperationKind};
use crate::volumes::Hold;

/// The containers of an engine. Names in arguments are names, ids or unique id prefixes.
#[derive(Clone, Debug)]
pub struct Containers {
    shared: Arc<Shared>,
}

/// A promise of a container's end.
#[derive(Debug)]
pub struct Waiting {
    receiver: oneshot::Receiver<WaitResult>,
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

/// Bytes of a tar stream or a file, produced on another thread, with a bounded queue.
pub type ByteStream = mpsc::Receiver<Result<bytes::Bytes>>;

/// A source of bytes read on a blocking thread.
pub type ByteSource = Box<dyn std::io::Read + Send>;

impl Containers {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn find(&self, name: &str) -> Result<Arc<Handle>> {
        self.shared.containers.find(name)
    }

    /// Sends a command to a container's task and waits for its answer, at most until the deadline
    /// of its kind of operation.
    async fn ask<T>(
        &self,
        handle: &Handle,
        kind: OperationKind,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T> {
        let operation = self.shared.operations.begin(kind, handle.id.as_str());
        self.ask_within(handle, operation, command).await
    }

    async fn ask_within<T>(
        &self,
        handle: &Handle,
        operation: Arc<Operation>,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T> {
        let gone = || Error::not_found(format!("No such container: {}", handle.id));
        let (reply, answer) = Reply::new(Arc::clone(&operation));
        let ended = async {
            handle.mailbox.send(command(reply)).await.map_err(|_| gone())?;
            command::heard(&handle.mailbox, answer).await.ok_or_else(gone)?
        };
        self.shared.operations.watch(&operation, ended).await
    }

    /// The operation of a stop or restart: it may take the time that the container is given on top.
    fn begin_stop(&self, kind: OperationKind, handle: &Handle, options: &StopOptions) -> Arc<Operation> {
        let configured = handle.record().config.stop_timeout;
        let grace = command::stop_timeout(options.timeout_s, configured);
        self.shared.operations.begin_until(kind, handle.id.as_str(), grace)
    }

    /// Creates a container; nothing is left behind on failure.
    pub async fn create(&self, request: CreateContainer) -> Result<ContainerCreated> {
        // A task of its own: a caller that goes away does not leave half a container.
        let shared = Arc::clone(&self.shared);
        let id = ContainerId::random();
        let target = id.to_string();
        let work = async move { create::create(&shared, id, request).await };
        self.shared.operations.run(OperationKind::Create, target, work).await
    }

    /// Starts it; `NotModified` when it runs.
    pub async fn start(&self, name: &str) -> Result<()> {
        self.ask(&*self.find(name)?, OperationKind::Start, Command::Start).await
    }

    /// Stops it; `NotModified` when it does not run.
    pub async fn stop(&self, name: &str, options: StopOptions) -> Result<()> {
        let handle = self.find(name)?;
        let operation = self.begin_stop(OperationKind::Stop, &handle, &options);
        self.ask_within(&handle, operation, |reply| Command::Stop(options, reply))
            .await
    }

    /// Stops it when it runs, and starts it.
    pub async fn restart(&self, name: &str, options: StopOptions) -> Result<()> {
        let handle = self.find(name)?;
        let operation = self.begin_stop(OperationKind::Restart, &handle, &options);
        self.ask_within(&handle, operation, |reply| Command::Restart(options, reply))
            .await
    }

    /// Sends a signal (`None` is SIGKILL, which waits for the end).
    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let handle = self.find(name)?;
        let signal = match signal {
            None | Some("") => machine::SIGKILL,
            Some(text) => signals::parse_signal(text)?,
        };
        let done = self
            .ask(&handle, OperationKind::Kill, |reply| Command::Kill(signal, reply))
            .await;
        // COMPAT: this text has the name that the client used.
        done.map_err(|e| {
            if e.kind() == crate::ErrorKind::Conflict && e.message().starts_with("cannot kill container") {
                Error::conflict(format!(
                    "cannot kill container: {name}: container {} is not running",
                    handle.id
                ))
            } else {
                e
            }
        })
    }

    /// Freezes its processes.
    pub async fn pause(&self, name: &str) -> Result<()> {
        self.ask(&*self.find(name)?, OperationKind::Pause, Command::Pause).await
    }

    /// Thaws its processes.
    pub async fn unpause(&self, name: &str) -> Result<()> {
        self.ask(&*self.find(name)?, OperationKind::Unpause, Command::Unpause)
            .await
    }

    /// Registers a wait; returns as soon as no end can be missed.
    pub async fn wait(&self, name: &str, condition: WaitCondition) -> Result<Waiting> {
        Ok(Waiting {
            receiver: self.find(name)?.wait(condition),
        })
    }

    /// Gives it another name.
    pub async fn rename(&self, name: &str, new_name: &str) -> Result<()> {
        self.ask(&*self.find(name)?, OperationKind::Rename, |reply| {
            Command::Rename(new_name.to_owned(), reply)
        })
        .await
    }

    /// Changes limits and policy, live when it runs; answers warnings.
    pub async fn update(&self, name: &str, request: UpdateContainer) -> Result<Vec<String>> {
        self.ask(&*self.find(name)?, OperationKind::Update, |reply| {
            Command::Update(Box::new(request), reply)
        })
        .await
    }

    /// Removes it.
    pub async fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            return Err(Error::unimplemented(
                "removing a link without its container is not supported",
            ));
        }
        self.ask(&*self.find(name)?, OperationKind::Remove, |reply| {
            Command::Remove(options, reply)
        })
        .await
    }

    /// Removes those that do not run (filters `until`, `label`, `label!`).
    pub async fn prune(&self, filters: crate::Filters) -> Result<PruneReport> {
        filters.check_keys(&["until", "label", "label!"])?;
        let until = filters.until(Timestamp::now())?;
        let mut report = PruneReport::default();
        for handle in self.shared.containers.all() {
            let record = handle.record();
            let at_rest = matches!(record.state.status, Status::Created | Status::Exited | Status::Dead);
            let wanted = filters.match_labels(&record.config.labels)
                && filters.match_unlabelled(&record.config.labels)
                && until.is_none_or(|until| record.created < until);
            if !at_rest || !wanted {
                continue;
            }
            let upper = Places::of(&self.shared.config, &record.id).upper();
            let bytes = blocking("measuring a container", move || Ok(archive::tree_bytes(&upper))).await?;
            match self
                .ask(&handle, OperationKind::Remove, |reply| {
                    Command::Remove(RemoveOptions::default(), reply)
                })
                .await
            {
                Ok(()) => {
                    report.deleted.push(record.id.to_string());
                    report.space_reclaimed += bytes;
                }
                Err(error) => tracing::info!(container = record.id.short(), "not pruned: {}", error.chain()),
            }
        }
        let reclaimed = [("reclaimed".to_owned(), report.space_reclaimed.to_string())];
        self.shared
            .events
            .publish(EventKind::Container, "prune", "", reclaimed.into());
        Ok(report)
    }

    /// Containers that match, newest first.
    pub async fn list(&self, query: ListContainers) -> Result<Vec<ContainerListed>> {
        let mut records = list::select(&self.shared, self.shared.containers.all(), &query)?;
        if query.filters.contains("ancestor") {
            self.keep_descendants(&mut records, &query.filters).await;
        }
        if query.limit > 0 {
            records.truncate(query.limit);
        }
        let names = self.image_names(&records).await;
        let now = Timestamp::now();
        let mut listed = Vec::with_capacity(records.len());
        for record in records {
            let sizes = if query.size {
                Some(self.sizes(&record).await?)
            } else {
                None
            };
            listed.push(ContainerListed {
                image: names
                    .get(&record.id)
                    .cloned()
                    .unwrap_or_else(|| record.config.image.clone()),
                size_rw: sizes.map(|s| s.0),
                size_root_fs: sizes.map(|s| s.1),
                status_text: list::status_text(&record, now),
                record,
            });
        }
        Ok(listed)
    }

    /// Keeps containers of these images and of images built on them.
    async fn keep_descendants(&self, records: &mut Vec<Arc<ContainerRecord>>, filters: &crate::Filters) {
        let mut ancestors: Vec<(String, Vec<String>)> = Vec::new();
        for name in filters.values("ancestor") {
            if let Ok(image) = Images::new(Arc::clone(&self.shared)).find(name).await {
                let layers = image.platform(None).map(|p| p.layers.clone()).unwrap_or_default();
                ancestors.push((
                    image.id.to_string(),
                    layers.iter().map(|l| l.diff_id.to_string()).collect(),
                ));
            }
        }
        records.retain(|r| {
            ancestors
                .iter()
                .any(|(id, layers)| r.image_id == *id || (!layers.is_empty() && r.layers.starts_with(layers)))
        });
    }

    /// COMPAT: a container whose image's name moved on shows the image's id.
    async fn image_names(&self, records: &[Arc<ContainerRecord>]) -> HashMap<ContainerId, String> {
        let mut ids: HashMap<String, Option<String>> = HashMap::new();
        let images = Images::new(Arc::clone(&self.shared));
        for record in records {
            if !ids.contains_key(&record.config.image) {
                let found = images.find(&record.config.image).await.ok().map(|i| i.id.to_string());
                ids.insert(record.config.image.clone(), found);
            }
        }
        let moved = |r: &&Arc<ContainerRecord>| ids.get(&r.config.image) != Some(&Some(r.image_id.clone()));
        records
            .iter()
            .filter(moved)
            .map(|r| (r.id.clone(), r.image_id.clone()))
            .collect()
    }

    async fn sizes(&self, record: &ContainerRecord) -> Result<(i64, i64)> {
        let upper = Places::of(&self.shared.config, &record.id).upper();
        let (store, layers) = (self.shared.store.clone(), record.layers.clone());
        blocking("measuring a container", move || {
            let own = archive::tree_bytes(&upper);
            let mut whole = own;
            for layer in &layers {
                if let Ok(digest) = wharf_store::Digest::parse(layer) {
                    whole += store.layer_size(&digest).unwrap_or(0);
                }
            }
            let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            Ok((signed(own), signed(whole)))
        })
        .await
    }

    /// Published records of all containers; never waits.
    pub fn snapshots(&self) -> Vec<Arc<ContainerRecord>> {
        self.shared.containers.all().iter().map(|h| h.record()).collect()
    }

    /// Published record of one container; never waits.
    pub fn snapshot(&self, name: &str) -> Result<Arc<ContainerRecord>> {
        Ok(self.find(name)?.record())
    }

    /// Why it is as it is: its story, and what to do next. One that is gone is told from events, by name or id.
    pub async fn why(&self, name: &str) -> Result<why::Why> {
        let missing = match self.find(name) {
            Ok(handle) => {
                let runs = self.shared.db.call(|db| db.runs()).await?;
                return Ok(why::tell(&handle.record(), &runs));
            }
            Err(error) => error,
        };
        let events = self.shared.events.kept().await?;
        why::tell_gone(name.trim_start_matches('/'), &events).ok_or(missing)
    }

    /// One container in full.
    pub async fn inspect(&self, name: &str, with_size: bool) -> Result<ContainerInspect> {
        let handle = self.find(name)?;
        let record = handle.record();
        let sizes = if with_size {
            Some(self.sizes(&record).await?)
        } else {
            None
        };
        let places = Places::of(&self.shared.config, &record.id);
        let files = match record.host.network() {
            NetworkMode::Container(other) => self
                .find(&other)
                .map_or_else(|_| places.dir.clone(), |h| Places::of(&self.shared.config, &h.id).dir),
            _ => places.dir.clone(),
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let file = |name: &str| {
            let path = files.join(name);
            if record.state.started_at.is_some() {
                text(&path)
            } else {
                String::new()
            }
        };
        let pinned = start::has_own_namespace(&record) && record.state.is_running();
        let log = matches!(record.host.log_config.driver.as_str(), "" | "json-file");
        Ok(ContainerInspect {
            exec_ids: exec::ids(&handle),
            size_rw: sizes.map(|s| s.0),
            size_root_fs: sizes.map(|s| s.1),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            log_path: if log {
                text(&places.log(&record.id))
            } else {
                String::new()
            },
            sandbox_key: if pinned {
                text(&self.shared.net.namespace_path(record.id.as_str()))
            } else {
                String::new()
            },
            overlay: OverlayDirs {
                lower: lower_dirs(&self.shared.config.root, &record)
                    .iter()
                    .map(|p| text(p))
                    .collect(),
                upper: text(&places.upper()),
                work: text(&places.work()),
            },
            record: (*record).clone(),
        })
    }

    /// Its processes as `ps` shows them.
    pub async fn top(&self, name: &str, ps_args: &str) -> Result<TopTable> {
        let handle = self.find(name)?;
        let record = handle.record();
        match record.state.status {
            Status::Running | Status::Paused => {}
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "container {} is restarting, wait until the container is running",
                    record.id
                )));
            }
            _ => return Err(Error::conflict(format!("container {} is not running", record.id))),
        }
        let (shared, path) = (Arc::clone(&self.shared), cgroup_path(&self.shared.config, &record));
        let pids = blocking("listing the container's processes", move || {
            let cgroup = Cgroup::open(&shared.hierarchy, &path).internal(|| format!("open the cgroup {path}"))?;
            cgroup.pids().internal(|| format!("list the processes of {path}"))
        })
        .await;
        let pids = match pids {
            Err(_) if !handle.settled().await.state.is_running() => {
                return Err(Error::conflict(format!("container {} is not running", record.id)));
            }
            pids => pids?,
        };
        let table = top::top(&pids.into_iter().collect(), ps_args).await?;
        happened::publish(&self.shared.events, &record, "top", &[]);
        Ok(table)
    }

    /// One measurement; an empty one when it does not run.
    pub async fn stats(&self, name: &str) -> Result<StatsSample> {
        let record = self.find(name)?.record();
        if !record.state.is_running() {
            return Ok(StatsSample::default());
        }
        let (shared, path) = (Arc::clone(&self.shared), cgroup_path(&self.shared.config, &record));
        blocking("measuring the container", move || {
            stats::measure(&shared.hierarchy, &path, record.state.pid)
        })
        .await
    }

    /// Its log lines; the receiver ends with the log (or never, following a running one).
    pub async fn logs(&self, name: &str, query: LogsQuery) -> Result<mpsc::Receiver<Result<LogLine>>> {
        logs::read(&self.shared, &self.find(name)?, query).await
    }

    /// Prepares to attach.
    pub async fn attach(&self, name: &str, query: AttachQuery) -> Result<AttachTicket> {
        AttachTicket::for_container(Arc::clone(&self.shared), self.find(name)?, query)
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, name: &str, height: u32, width: u32) -> Result<()> {
        let handle = self.find(name)?;
        let shim = handle.running_shim()?;
        let clamp = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        if handle.record().config.tty {
            shim.resize(ConsoleSize {
                rows: clamp(height),
                cols: clamp(width),
            })
            .await?;
        }
        let size = [("height", height.to_string()), ("width", width.to_string())];
        happened::publish(&self.shared.events, &handle.record(), "resize", &size);
        Ok(())
    }

    /// Connects it to a network, live when it runs (the networks service checks the network).
    pub async fn connect(&self, name: &str, network: &NetworkRecord, settings: EndpointSettings) -> Result<()> {
        let network = Arc::new(network.clone());
        self.ask(&*self.find(name)?, OperationKind::NetworkConnect, |reply| {
            Command::Connect(network, Box::new(settings), reply)
        })
        .await
    }

    /// Disconnects it from a network.
    pub async fn disconnect(&self, name: &str, network: &NetworkRecord, force: bool) -> Result<()> {
        let network = Arc::new(network.clone());
        let handle = match self.find(name) {
            Ok(handle) => handle,
            // COMPAT: by force, an endpoint goes whose container is not known any more; there are none here.
            Err(_) if force => return Err(Error::not_found(format!("endpoint {name} not found"))),
            Err(error) => return Err(error),
        };
        self.ask(&handle, OperationKind::NetworkDisconnect, |reply| {
            Command::Disconnect(network, reply)
        })
        .await
    }

    /// Prepares an exec session in a running container.
    pub async fn exec_create(&self, name: &str, request: CreateExec) -> Result<ExecId> {
        exec::create(&self.shared, &self.find(name)?, request)
    }

    /// Starts it without a client; fails when the program cannot be run.
    pub async fn exec_start_detached(&self, id: &str, request: StartExec) -> Result<()> {
        exec::start_detached(&self.shared, id, request).await
    }

    /// Prepares to start it with a client; its process starts when the connection is handed
    /// over, and a failure to start is told in the stream.
    pub async fn exec_start(&self, id: &str, request: StartExec) -> Result<AttachTicket> {
        exec::accept(&self.shared, id, request)
    }

    /// An exec session.
    pub fn exec_inspect(&self, id: &str) -> Result<ExecInfo> {
        exec::inspect(&self.shared, id)
    }

    /// Sets the size of an exec session's terminal.
    pub async fn exec_resize(&self, id: &str, height: u32, width: u32) -> Result<()> {
        exec::resize(&self.shared, id, height, width).await
    }

    /// Runs a blocking look at a container's files.
    async fn with_files<T: Send + 'static>(
        &self,
        what: &'static str,
        name: &str,
        work: impl FnOnce(&Shared, &ContainerRecord) -> Result<T> + Send + 'static,
    ) -> Result<(Arc<ContainerRecord>, T)> {
        let record = self.find(name)?.settled().await;
        self.look(what, record, work).await
    }

    /// As [`Self::with_files`], for a look at one path; `work` gets what must be held meanwhile.
    async fn with_path<T: Send + 'static>(
        &self,
        what: &'static str,
        (name, path): (&str, &Path),
        work: impl FnOnce(&Shared, &ContainerRecord, Option<Hold>) -> Result<T> + Send + 'static,
    ) -> Result<(Arc<ContainerRecord>, T)> {
        let record = self.find(name)?.settled().await;
        let (record, hold) = borrow::borrow(&self.shared, record, path).await?;
        let work = move |shared: &Shared, record: &ContainerRecord| work(shared, record, hold);
        self.look(what, record, work).await
    }

    async fn look<T: Send + 'static>(
        &self,
        what: &'static str,
        record: Arc<ContainerRecord>,
        work: impl FnOnce(&Shared, &ContainerRecord) -> Result<T> + Send + 'static,
    ) -> Result<(Arc<ContainerRecord>, T)> {
        let (shared, seen) = (Arc::clone(&self.shared), Arc::clone(&record));
        let done = match tokio::task::spawn_blocking(move || work(&shared, &seen)).await {
            Ok(result) => result?,
            Err(join) => return Err(Error::internal(format!("{what} was interrupted")).with_source(join)),
        };
        Ok((record, done))
    }

    /// Paths that differ from the image.
    pub async fn changes(&self, name: &str) -> Result<Vec<PathChange>> {
        Ok(self
            .with_files("comparing the container with its image", name, content::changes)
            .await?
            .1)
    }

    /// Its file system as a tar stream.
    pub async fn export(&self, name: &str) -> Result<ByteStream> {
        let (record, stream) = self
            .with_files("exporting the container", name, content::export)
            .await?;
        happened::publish(&self.shared.events, &record, "export", &[]);
        Ok(stream)
    }

    /// Makes an image of it; answers the image id.
    pub async fn commit(&self, name: &str, request: CommitContainer) -> Result<String> {
        let handle = self.find(name)?;
        let service = self.clone();
        let target = handle.id.to_string();
        let work = async move { snapshot::commit(&service, &handle, request).await };
        self.shared.operations.run(OperationKind::Commit, target, work).await
    }

    /// What is at `path`.
    pub async fn archive_stat(&self, name: &str, path: &Path) -> Result<PathStat> {
        let wanted = path.to_owned();
        let work = move |shared: &Shared, record: &ContainerRecord, _held: Option<Hold>| {
            archive::stat(shared, record, &wanted)
        };
        Ok(self.with_path("looking at a path", (name, path), work).await?.1)
    }

    /// What is at `path`, and a tar stream of it.
    pub async fn archive_get(&self, name: &str, path: &Path) -> Result<(PathStat, ByteStream)> {
        let wanted = path.to_owned();
        let work = move |shared: &Shared, record: &ContainerRecord, hold: Option<Hold>| {
            archive::pack(shared, record, &wanted, hold)
        };
        let (record, packed) = self.with_path("packing a path", (name, path), work).await?;
        happened::publish(&self.shared.events, &record, "archive-path", &[]);
        Ok(packed)
    }

    /// Unpacks a tar stream (plain or compressed) into the directory `path`.
    pub async fn archive_put(&self, name: &str, path: &Path, options: PutArchive, tar: ByteSource) -> Result<()> {
        let id = self.find(name)?.id.to_string();
        let (service, target, path) = (self.clone(), id.clone(), path.to_owned());
        let work = async move {
            let into = path.clone();
            let unpack = move |shared: &Shared, record: &ContainerRecord, _held: Option<Hold>| {
                archive::unpack(shared, record, &into, options, tar)
            };
            let _waiting = operations::waiting("the archive, or a file system of the container");
            service.with_path("unpacking an archive", (&id, &path), unpack).await
        };
        let (record, ()) = self.shared.operations.run(OperationKind::CopyIn, target, work).await?;
        happened::publish(&self.shared.events, &record, "extract-to-dir", &[]);
        Ok(())
    }
}
