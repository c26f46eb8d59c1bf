//! Making an image of a container that may run: freeze, write, thaw.
use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::Command;
use super::handle::Handle;
use super::{Containers, content, happened};
use crate::Shared;
use crate::db::JournalId;
use crate::error::{ErrorKind, Result};
use crate::model::requests::CommitContainer;
use crate::model::{ContainerRecord, EventKind, Status};
use crate::operations::{self, OperationKind};

/// A container that stands still for a commit.
struct Frozen {
    /// The row that makes the next engine thaw it.
    row: JournalId,
    /// It was this commit that froze it.
    by_us: bool,
}

/// Makes an image; answers its id.
pub(super) async fn commit(service: &Containers, handle: &Arc<Handle>, request: CommitContainer) -> Result<String> {
    let image_ref = match request.repo.as_str() {
        "" => String::new(),
        repo => crate::images::parse_target(repo, &request.tag)?.familiar(),
    };
    let frozen = match request.pause && handle.record().state.status == Status::Running {
        true => Some(freeze(service, handle).await?),
        false => None,
    };
    let comment = request.comment.clone();
    let work = move |shared: &Shared, record: &ContainerRecord| content::commit(shared, record, &request);
    let done = service
        .with_files("committing the container", handle.id.as_str(), work)
        .await;
    operations::step("written");
    if let Ok((record, image)) = &done {
        publish(&service.shared, record, image, &image_ref, comment);
    }
    if let Some(frozen) = frozen {
        thaw(service, handle, frozen).await?;
    }
    Ok(done?.1)
}

async fn freeze(service: &Containers, handle: &Arc<Handle>) -> Result<Frozen> {
    let args = serde_json::Value::Null;
    let row = operations::journal(&service.shared, OperationKind::Commit, handle.id.as_str(), args).await?;
    operations::step("journalled");
    let by_us = match service.ask(handle, OperationKind::Pause, Command::Pause).await {
        Ok(()) => true,
        // It ended, or somebody else paused it, in between: it stands still either way.
        Err(error) if error.kind() == ErrorKind::Conflict => false,
        Err(error) => {
            service.shared.db.call(move |db| db.journal_end(row)).await?;
            return Err(error);
        }
    };
    operations::step("paused");
    Ok(Frozen { row, by_us })
}

async fn thaw(service: &Containers, handle: &Arc<Handle>, frozen: Frozen) -> Result<()> {
    if frozen.by_us {
        match service.ask(handle, OperationKind::Unpause, Command::Unpause).await {
            // It ended, or was continued, in the meantime.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => other?,
        }
        operations::step("thawed");
    }
    service.shared.db.call(move |db| db.journal_end(frozen.row)).await
}

fn publish(shared: &Shared, record: &ContainerRecord, image: &str, image_ref: &str, comment: String) {
    if !image_ref.is_empty() {
        let name = BTreeMap::from([("name".to_owned(), image_ref.to_owned())]);
        shared.events.publish(EventKind::Image, "tag", image, name);
    }
    let more = [
        ("comment", comment),
        ("imageID", image.to_owned()),
        ("imageRef", image_ref.to_owned()),
    ];
    happened::publish(&shared.events, record, "commit", &more);
}
