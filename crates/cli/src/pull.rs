//! Pulling an image: the call and its progress, for `pull` and for `run`.

use wharf_api::auth::REGISTRY_AUTH_HEADER;
use wharf_api::client::Client;

use crate::error::CliError;
use crate::progress;
use crate::reference::Reference;
use crate::session::Session;

/// Where the progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// On standard output.
    Stdout,
    /// On standard error.
    Stderr,
    /// Nowhere.
    Nothing,
}

/// Pulls `target`; without tag and digest, every tag of its repository.
pub(crate) async fn pull(
    session: &Session,
    client: &Client,
    target: &Reference,
    platform: &str,
    output: Output,
) -> Result<(), CliError> {
    let tag = target.digest.as_deref().or(target.tag.as_deref()).unwrap_or_default();
    let auth = session.config().credentials(&target.registry);
    let response = client
        .post("/images/create")
        .query("fromImage", target.repository())
        .query_if("tag", tag)
        .query_if("platform", platform)
        .header(REGISTRY_AUTH_HEADER, auth.to_header())
        .send()
        .await?;
    progress::show(response.documents(), output, |_| {}).await
}
