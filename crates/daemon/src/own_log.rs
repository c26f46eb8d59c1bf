//! The daemon's own log, on standard error; what it tells can be changed while the daemon runs.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt};

/// The running log.
pub(crate) struct OwnLog(Handle<EnvFilter, Registry>);

impl OwnLog {
    /// Begins to write. A second daemon in one process (tests) keeps the first one's log.
    pub(crate) fn start(level: &str) -> Self {
        let filter = parse(level).unwrap_or_else(|_| EnvFilter::new("info"));
        let (filter, handle) = reload::Layer::new(filter);
        let lines = fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Self(handle)
    }

    /// Tells more or less from now on.
    pub(crate) fn set(&self, filter: EnvFilter) {
        if let Err(error) = self.0.reload(filter) {
            tracing::warn!(%error, "the log level is as before");
        }
    }
}

/// Reads a level or a filter.
///
/// # Errors
/// A sentence that names what is wrong.
pub(crate) fn parse(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|error| format!("invalid log-level {level:?}: {error}"))
}

/// Whether `info` calls that debugging.
pub(crate) fn tells_details(level: &str) -> bool {
    parse(level).is_ok_and(|filter| filter.max_level_hint() >= Some(LevelFilter::DEBUG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_debug_and_more_in_any_part() {
        let check = |level: &str, expected: bool| assert_eq!(tells_details(level), expected, "{level}");
        check("debug", true);
        check("trace", true);
        check("info,wharf_engine=debug", true);
        check("info", false);
        check("error", false);
        check("=nonsense=", false);
    }
}
