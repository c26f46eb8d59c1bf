//! Reading a container's log: what is there, then what comes, with bounded queues.
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use wharf_shim::log::{LogReader, ReadOptions, Stream};

use super::blocking::blocking;
use super::handle::Handle;
use super::paths::Places;
use crate::Shared;
use crate::error::{Context, Error, Result};
use crate::logging;
use crate::model::Timestamp;
use crate::model::requests::{LogLine, LogsQuery};

/// Lines read at a time, and lines that may wait for a slow reader.
const BATCH: usize = 256;

/// Starts reading; the receiver ends with the log.
pub(super) async fn read(
    shared: &Arc<Shared>,
    handle: &Arc<Handle>,
    query: LogsQuery,
) -> Result<mpsc::Receiver<Result<LogLine>>> {
    let record = handle.record();
    if !(query.stdout || query.stderr) {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    if !logging::is_readable(&record.host.log_config) {
        return Err(Error::unimplemented(
            "configured logging driver does not support reading",
        ));
    }
    let options = ReadOptions {
        tail: query.tail,
        since_ns: query.since.map(Timestamp::as_nanos),
        until_ns: query.until.map(Timestamp::as_nanos),
        stdout: query.stdout,
        stderr: query.stderr,
    };
    let path = Places::of(&shared.config, &record.id).log(&record.id);
    let reader = blocking("opening the log", move || {
        LogReader::open(&path, options).internal(|| "open the log".into())
    })
    .await?;
    let (sender, receiver) = mpsc::channel(BATCH);
    // COMPAT: following a container that does not run ends with what is there.
    let follow = query.follow && record.state.is_running();
    let handle = Arc::clone(handle);
    tokio::spawn(async move {
        if let Err(error) = pump(reader, &handle, follow, query.until, &sender).await {
            let _ = sender.send(Err(error)).await; // the reader went away
        }
    });
    Ok(receiver)
}

async fn pump(
    mut reader: LogReader,
    handle: &Handle,
    follow: bool,
    until: Option<Timestamp>,
    sender: &mpsc::Sender<Result<LogLine>>,
) -> Result<()> {
    let mut changes = handle.changes();
    let notices = match follow {
        true => Some(notices_of(changes_of(&mut reader)?)?),
        false => None,
    };
    loop {
        // ORDER: asked before reading, so that the last lines of a run are not missed.
        let runs = handle.record().state.is_running();
        changes.mark_unchanged();
        let (back, lines) = batch(reader).await?;
        reader = back;
        if lines.is_empty() {
            let Some(notices) = notices.as_ref().filter(|_| runs && !reader.is_past_until()) else {
                return Ok(());
            };
            wait(notices, &mut changes, until, sender).await?;
            if until.is_some_and(|u| Timestamp::now() > u) && !sender.is_closed() {
                // Nothing that comes now is wanted; what came before is read once more.
                let (_, rest) = batch(reader).await?;
                return send(rest, sender).await;
            }
            reader.drain_changes();
            if sender.is_closed() {
                return Ok(());
            }
            continue;
        }
        send(lines, sender).await?;
        if sender.is_closed() {
            return Ok(());
        }
    }
}

/// Waits for the log to change, the container to end, the reader to leave or `until`.
async fn wait(
    notices: &AsyncFd<OwnedFd>,
    changes: &mut tokio::sync::watch::Receiver<u64>,
    until: Option<Timestamp>,
    sender: &mpsc::Sender<Result<LogLine>>,
) -> Result<()> {
    let time_is_up = async {
        match until {
            Some(until) => tokio::time::sleep(until.since(Timestamp::now())).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ready = notices.readable() => ready.internal(|| "watch the log".into())?.clear_ready(),
        _ = changes.changed() => {}
        () = sender.closed() => {}
        () = time_is_up => {}
    }
    Ok(())
}

fn changes_of(reader: &mut LogReader) -> Result<OwnedFd> {
    let watched = reader.changes().internal(|| "watch the log".into())?;
    watched.try_clone_to_owned().internal(|| "watch the log".into())
}

/// The safe constructor is deprecated because some descriptors can change their number; an
/// `OwnedFd` cannot.
#[allow(deprecated)]
fn notices_of(fd: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd).internal(|| "watch the log".into())
}

async fn batch(mut reader: LogReader) -> Result<(LogReader, Vec<LogLine>)> {
    blocking("reading the log", move || {
        let mut lines = Vec::new();
        while lines.len() < BATCH {
            match reader.next_record().internal(|| "read the log".into())? {
                Some(record) => lines.push(LogLine {
                    stderr: record.stream == Stream::Stderr,
                    time: Timestamp::from_nanos(record.time_ns),
                    attributes: record.attrs,
                    bytes: record.line,
                }),
                None => break,
            }
        }
        Ok((reader, lines))
    })
    .await
}

async fn send(lines: Vec<LogLine>, sender: &mpsc::Sender<Result<LogLine>>) -> Result<()> {
    for line in lines {
        if sender.send(Ok(line)).await.is_err() {
            return Ok(()); // nobody reads any more
        }
    }
    Ok(())
}
