//! Archives that come from the engine: to a file, complete or not at all, or to standard output.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use wharf_api::client::{RequestBuilder, Response};

use crate::error::CliError;

/// Sends the request and writes the answer to `path`, or to standard output when it is empty.
pub(crate) async fn write_archive(request: RequestBuilder, path: &str, failure: &str) -> Result<(), CliError> {
    if path.is_empty() {
        if io::stdout().is_terminal() {
            return Err(CliError::message(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect",
            ));
        }
        return copy(request.send().await?, &mut io::stdout().lock()).await;
    }
    check_target(Path::new(path), failure)?;
    let response = request.send().await?;
    let temporary = format!("{path}.{}.part", std::process::id());
    let action = format!("writing {path}");
    let mut file = File::create(&temporary).map_err(CliError::io(action.clone()))?;
    let written = match copy(response, &mut file).await {
        Ok(()) => std::fs::rename(&temporary, path).map_err(CliError::io(action)),
        Err(error) => Err(error),
    };
    if written.is_err() {
        // The part is of no use to anyone; the error that made it is reported.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

async fn copy(mut response: Response, to: &mut dyn Write) -> Result<(), CliError> {
    while let Some(bytes) = response.chunk().await? {
        to.write_all(&bytes).map_err(CliError::io("writing the archive"))?;
    }
    to.flush().map_err(CliError::io("writing the archive"))
}

/// The directory must exist, and the file must be one that may be replaced.
fn check_target(path: &Path, failure: &str) -> Result<(), CliError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if !dir.is_dir() {
        return Err(CliError::message(format!(
            "{failure}: invalid output path: directory {:?} does not exist",
            dir.display().to_string()
        )));
    }
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(CliError::message(format!(
            "{failure}: invalid output path: {:?} is not a regular file",
            path.display().to_string()
        ))),
        _ => Ok(()),
    }
}
