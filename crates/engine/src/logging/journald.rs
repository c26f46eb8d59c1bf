//! The `journald` driver.

use std::collections::BTreeMap;
use std::path::Path;

use wharf_shim::target::{Address, Format, TargetPlan};

use super::options::Options;
use super::{attributes, tag};
use crate::error::{Error, Result};
use crate::model::{ContainerId, ContainerRecord};

pub(super) fn check(options: &Options<'_>) -> Result<()> {
    options.check_keys(&[], |key| format!("unknown log opt '{key}' for journald log driver"))
}

pub(super) fn plan(options: &Options<'_>, record: &ContainerRecord, socket: &Path) -> Result<TargetPlan> {
    if !socket.exists() {
        return Err(Error::invalid("journald is not enabled on this host"));
    }
    let (id, tag) = (record.id.to_string(), tag::of(options, record)?);
    let fields = [
        ("CONTAINER_ID", id.chars().take(12).collect()),
        ("CONTAINER_ID_FULL", id),
        ("CONTAINER_NAME", record.name.clone()),
        ("CONTAINER_TAG", tag.clone()),
        ("IMAGE_NAME", record.config.image.clone()),
        ("SYSLOG_IDENTIFIER", tag),
        // Distinguishes the runs of a container, whose lines are counted from one again.
        ("CONTAINER_LOG_EPOCH", ContainerId::random().to_string()),
    ];
    let mut fields: BTreeMap<String, String> = fields.map(|(key, value)| (key.to_owned(), value)).into();
    let named = attributes::of(options, record, field_name)?;
    fields.extend(named.into_iter().filter(|(key, _)| !key.is_empty()));
    Ok(TargetPlan {
        address: Address::Unix {
            paths: vec![socket.to_path_buf()],
            datagram: true,
        },
        format: Format::Journald { fields },
        ..TargetPlan::default()
    })
}

/// Letters are raised, what is no letter or digit becomes an underscore, none at the beginning.
fn field_name(key: &str) -> String {
    let letter = |letter: char| {
        let raised = letter.to_ascii_uppercase();
        if raised.is_ascii_uppercase() || raised.is_ascii_digit() {
            raised
        } else {
            '_'
        }
    };
    let name: String = key.chars().map(letter).collect();
    name.trim_start_matches('_').to_owned()
}
