//! What `stop` and `restart` share: how a container is asked to end.

use super::path;
use crate::commands::each::call_each;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;

/// The signal and how long to wait for its effect.
pub(super) const FLAGS: &[Flag] = &[
    Flag::string("signal", "Signal that asks the container to end").short('s'),
    Flag::int("time", "Seconds to wait before killing the container").hidden(),
    Flag::int("timeout", "Seconds to wait before killing the container, -1 for ever").short('t'),
];

/// Makes the call, `/stop` or `/restart`, for each container named.
pub(super) async fn call(session: &Session, parsed: &Parsed, call: &str) -> Outcome {
    if parsed.is_given("time") && parsed.is_given("timeout") {
        return Err(CliError::message(
            "conflicting options: cannot specify both --timeout and --time",
        ));
    }
    let timeout = parsed.last("timeout").or(parsed.last("time")).unwrap_or_default();
    let client = session.client().await?;
    call_each(&parsed.args, |id| {
        client
            .post(path(&id, call))
            .query_if("signal", parsed.text("signal"))
            .query_if("t", timeout)
            .finish()
    })
    .await
}
