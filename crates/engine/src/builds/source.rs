//! Base images of builds: from the store, or pulled.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;
use wharf_build::{
    BaseImageError, BaseImages, Cancel, Downloaded, ErrorKind as BuildKind, Event, Events, ImageRequest,
};
use wharf_registry::{Credentials, LayerState, Progress};
use wharf_store::{Platform, Reference};

use crate::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::images::{Images, PullImage, PullOutcome};

/// Looks into the store first, unless a refresh is wanted.
pub(super) struct StoreOrRegistry {
    pub(super) shared: Arc<Shared>,
    pub(super) credentials: BTreeMap<String, Credentials>,
    pub(super) runtime: Handle,
}

impl BaseImages for StoreOrRegistry {
    fn provide(&self, request: &ImageRequest<'_>, events: &dyn Events) -> Result<String, BaseImageError> {
        self.find_or_pull(request, events).map_err(|error| BaseImageError {
            kind: build_kind(error.kind()),
            message: error.message().to_owned(),
            source: Some(Box::new(error)),
        })
    }

    fn download(&self, address: &str, to: &mut File, cancel: &Cancel) -> Result<Downloaded, BaseImageError> {
        let mut keep = |chunk: &[u8]| match cancel.is_cancelled() {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => to.write_all(chunk),
        };
        let fetched = self
            .runtime
            .block_on(self.shared.registry.now().fetch(address, &mut keep));
        let fetched = fetched.map_err(|error| {
            let error = Error::from(error);
            BaseImageError {
                kind: match cancel.is_cancelled() {
                    true => BuildKind::Cancelled,
                    false => build_kind(error.kind()),
                },
                message: format!("ADD failed: {}", error.message()),
                source: Some(Box::new(error)),
            }
        })?;
        Ok(Downloaded {
            last_modified: fetched.last_modified.as_deref().and_then(parse_http_date),
            file_name: fetched.file_name,
        })
    }
}

/// `Wed, 21 Oct 2015 07:28:00 GMT`; a date that is none is as good as no date.
fn parse_http_date(text: &str) -> Option<SystemTime> {
    let time = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(SystemTime::from(time.timestamp()))
}

impl StoreOrRegistry {
    fn find_or_pull(&self, request: &ImageRequest<'_>, events: &dyn Events) -> Result<String> {
        let images = Images::new(Arc::clone(&self.shared));
        let platform = request.platform.map(Platform::parse).transpose()?;
        let local = self.runtime.block_on(images.resolve(request.reference));
        match local {
            Ok(image) if !request.refresh => {
                let fits = platform
                    .as_ref()
                    .is_none_or(|wanted| image.platform(Some(wanted)).is_ok());
                if fits {
                    request.lease.protect(&image.id)?;
                    return Ok(image.id.to_string());
                }
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.pull(&images, request.reference, platform, events)
    }

    /// Pulls on the runtime and tells its news from this thread.
    fn pull(&self, images: &Images, name: &str, platform: Option<Platform>, events: &dyn Events) -> Result<String> {
        let reference = Reference::parse(name)?.tagged();
        let credentials = self.credentials_for(reference.domain());
        let (sender, news) = std::sync::mpsc::channel();
        let sink = Arc::new(move |progress| drop(sender.send(progress))); // the receiver outlives the pull
        let images = images.clone();
        let pull = PullImage {
            reference,
            platform,
            credentials,
            sink,
        };
        let task = self.runtime.spawn(async move { images.pull(pull).await });
        for progress in news {
            if let Progress::Layer { blob, state } = progress {
                events.emit(status_event(blob.as_str(), &state));
            }
        }
        let outcome = self.runtime.block_on(task);
        match outcome.map_err(|join| Error::internal("a pull was interrupted").with_source(join))?? {
            PullOutcome::Embedded(image) => Ok(image.id.to_string()),
            PullOutcome::Fetched(pulled) => Ok(pulled.image.id.to_string()),
        }
    }

    /// COMPAT: Docker Hub's credentials are kept under the address of its old index.
    fn credentials_for(&self, domain: &str) -> Credentials {
        let hub = ["docker.io", "index.docker.io", "https://index.docker.io/v1/"];
        let names: &[&str] = if domain == hub[0] { &hub } else { &[domain] };
        names
            .iter()
            .find_map(|name| self.credentials.get(*name))
            .cloned()
            .unwrap_or_default()
    }
}

fn status_event(blob: &str, state: &LayerState) -> Event {
    let hex = blob.strip_prefix("sha256:").unwrap_or(blob);
    let (status, progress) = match state {
        LayerState::Downloading { current, total } => ("Downloading", Some((*current, Some(*total)))),
        LayerState::Extracting { current, total } => ("Extracting", Some((*current, Some(*total)))),
        LayerState::PullingFsLayer => ("Pulling fs layer", None),
        LayerState::DownloadComplete => ("Download complete", None),
        LayerState::PullComplete => ("Pull complete", None),
        LayerState::AlreadyExists => ("Already exists", None),
        _ => ("Waiting", None),
    };
    Event::PullStatus {
        id: Some(hex.get(..12).unwrap_or(hex).to_owned()),
        status: status.to_owned(),
        progress,
    }
}

fn build_kind(kind: ErrorKind) -> BuildKind {
    match kind {
        ErrorKind::NotFound => BuildKind::NotFound,
        ErrorKind::InvalidArgument | ErrorKind::Conflict | ErrorKind::NotModified => BuildKind::InvalidArgument,
        ErrorKind::Unauthorized | ErrorKind::Forbidden => BuildKind::Unauthorized,
        ErrorKind::Unavailable => BuildKind::Unavailable,
        ErrorKind::Unimplemented => BuildKind::Unimplemented,
        ErrorKind::Internal => BuildKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_servers_are_read_or_left_out() {
        let seconds = |text| parse_http_date(text).map(|t| t.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(seconds("yesterday"), None);
    }
}
