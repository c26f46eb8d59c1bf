//! What can go wrong with a plugin.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A request to a plugin that failed, or a plugin that cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Nothing in the plugin directories describes it. COMPAT: the text is Docker's.
    #[error("plugin {0:?} not found")]
    NotFound(String),
    /// It is a plugin, but not for volumes. COMPAT: the text is Docker's.
    #[error(
        "legacy plugin: Plugin does not implement the requested driver: plugin={0:?}, requested implementation=\"VolumeDriver\""
    )]
    NotForVolumes(String),
    /// Its spec file is of no use.
    #[error("the description {} of plugin {plugin:?} cannot be used: {reason}", path.display())]
    Description {
        /// The plugin.
        plugin: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody listens where it should. Nothing was sent.
    #[error("plugin {plugin:?} does not listen at {address}: {request} was not sent")]
    Away {
        /// The plugin.
        plugin: String,
        /// Where it should listen.
        address: String,
        /// What was to be asked.
        request: &'static str,
        /// Why there is no connection.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It has the request and does not answer: whether it is done is not known.
    #[error("plugin {plugin:?} did not answer {request} within {} s", after.as_secs_f32())]
    Silent {
        /// The plugin.
        plugin: String,
        /// What was asked.
        request: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// The connection ended before the answer: whether it is done is not known.
    #[error("plugin {plugin:?} broke off the connection instead of answering {request}")]
    BrokenOff {
        /// The plugin.
        plugin: String,
        /// What was asked.
        request: &'static str,
        /// What the connection says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that is none: whether it is done is not known.
    #[error("plugin {plugin:?} gave no valid answer to {request}: {reason}")]
    Malformed {
        /// The plugin.
        plugin: String,
        /// What was asked.
        request: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It said no, in its own words.
    #[error("{0}")]
    Refused(String),
}

impl PluginError {
    /// Whether the plugin itself said no: then nothing was done, and asking again is of no use.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Whether the plugin may have done what it was asked for.
    pub fn is_in_doubt(&self) -> bool {
        matches!(
            self,
            Self::Silent { .. } | Self::BrokenOff { .. } | Self::Malformed { .. }
        )
    }

    /// Whether there is nobody to ask: no description, or nobody listens.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::Away { .. })
    }

    pub(crate) fn description(plugin: &str, path: &std::path::Path, reason: impl ToString) -> Self {
        Self::Description {
            plugin: plugin.to_owned(),
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn unreadable(plugin: &str, path: &std::path::Path, source: &io::Error) -> Self {
        Self::description(plugin, path, format!("it cannot be read: {source}"))
    }
}
