//! Settings of a container that Docker's API has no field for: annotations whose names begin with `wharf.`.
//!
//! Any client can give them (`docker run --annotation wharf.host-view=limits`); our command line has flags of its own.
use std::collections::BTreeMap;

use wharf_shim::plan::HostView;

use super::{ContainerRecord, OnUnhealthy};
use crate::error::{Error, Result};

/// What the names of our own settings begin with.
const PREFIX: &str = "wharf.";

/// Whether the container sees the size of its host or what its limits leave of it.
pub const HOST_VIEW: &str = "wharf.host-view";

/// What is done with a container whose health check fails.
pub const HEALTH_ON_FAILURE: &str = "wharf.health-on-failure";

/// Every setting with the values it may have.
const SETTINGS: &[(&str, &[&str])] = &[
    (HOST_VIEW, &["host", "limits"]),
    (HEALTH_ON_FAILURE, &["none", "kill", "restart", "stop", "freeze"]),
];

/// Refuses names and values of ours that are unknown; other names are the user's own.
pub(crate) fn check_annotations(annotations: Option<&BTreeMap<String, String>>) -> Result<()> {
    let ours = annotations
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with(PREFIX));
    for (name, value) in ours {
        let Some((_, values)) = SETTINGS.iter().find(|(known, _)| known == name) else {
            let names: Vec<&str> = SETTINGS.iter().map(|(known, _)| *known).collect();
            return Err(Error::invalid(format!(
                "unknown annotation {name}: there is {}",
                names.join(", ")
            )));
        };
        if !values.contains(&value.as_str()) {
            let values = values.join(", ");
            return Err(Error::invalid(format!(
                "invalid value {value:?} of annotation {name}: one of {values}"
            )));
        }
    }
    Ok(())
}

/// The view of the host that a container asks for, if it does.
pub(crate) fn host_view(annotations: Option<&BTreeMap<String, String>>) -> Option<HostView> {
    match annotations?.get(HOST_VIEW)?.as_str() {
        "limits" => Some(HostView::Limits),
        _ => Some(HostView::Host),
    }
}

impl ContainerRecord {
    /// What is done when the health check fails; create has checked the value.
    pub fn on_unhealthy(&self) -> OnUnhealthy {
        let asked = self
            .host
            .annotations
            .as_ref()
            .and_then(|all| all.get(HEALTH_ON_FAILURE));
        asked.and_then(|text| OnUnhealthy::parse(text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_checked() {
        let check = |name: &str, value: &str| {
            let annotations = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            check_annotations(Some(&annotations)).map_err(|error| error.message().to_owned())
        };
        assert_eq!(check("org.example.x", "1"), Ok(()));
        assert_eq!(check(HOST_VIEW, "limits"), Ok(()));
        for value in SETTINGS[1].1 {
            assert_eq!(check(HEALTH_ON_FAILURE, value), Ok(()));
            assert!(OnUnhealthy::parse(value).is_ok(), "{value}");
        }
        assert!(check(HOST_VIEW, "x").is_err_and(|said| said.contains("one of host, limits")));
        assert!(
            check("wharf.hostview", "limits").is_err_and(|said| said.contains("unknown annotation wharf.hostview"))
        );
    }
}
