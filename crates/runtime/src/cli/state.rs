//! `state`, and the same document for `list`.

use super::Call;
use super::store::{Entry, Record, Status};
use crate::RuntimeError;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The state of a container (runtime.md#state), with what runc adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StateDocument<'a> {
    oci_version: &'static str,
    pub(super) id: &'a str,
    pub(super) pid: i32,
    pub(super) status: &'static str,
    pub(super) bundle: &'a Path,
    rootfs: &'a Path,
    pub(super) created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    pub(super) owner: &'static str,
}

/// The document of one container.
pub(super) fn document<'a>(entry: &Entry, record: &'a Record) -> StateDocument<'a> {
    let status = entry.status(record);
    StateDocument {
        oci_version: crate::spec::VERSION,
        id: &record.id,
        pid: if status == Status::Stopped { 0 } else { record.pid },
        status: status.name(),
        bundle: &record.bundle,
        rootfs: &record.rootfs,
        created: &record.created,
        annotations: &record.annotations,
        owner: "root",
    }
}

/// `state ID`.
pub(super) fn state(call: Call) -> Result<i32, RuntimeError> {
    let (global, id) = call.only_id()?;
    let entry = Entry::open(&global, &id)?;
    let record = entry.load()?;
    let text = serde_json::to_string_pretty(&document(&entry, &record));
    println!(
        "{}",
        text.map_err(|error| super::usage(format!("print the state: {error}")))?
    );
    Ok(0)
}
