//! Answers that tell progress as lines of JSON: pull, push, load, import, build.
//!
//! Until the first line is sent a failure is an ordinary HTTP error; afterwards it is a line.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc;
use wharf_api::types::{ErrorDetail, ProgressDetail, ProgressMessage};
use wharf_engine::registry::LayerState;
use wharf_engine::store::Digest;

use crate::http::body::{Body, BodyWriter, ClientGone};
use crate::http::reply::JSON;
use crate::http::{Failure, Outcome, Reply};

/// Docker ends each line so.
const LINE_END: &str = "\r\n";

/// Lines on their way to the client.
pub(super) type Lines = mpsc::UnboundedSender<ProgressMessage>;

/// Runs `work`, which sends lines, and answers with them. A client that goes away cancels it.
pub(super) async fn stream<W, F>(work: W) -> Outcome
where
    W: FnOnce(Lines) -> F,
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let (sender, mut lines) = mpsc::unbounded_channel();
    let mut work = Work {
        future: Box::pin(work(sender)),
        result: None,
    };
    let first = tokio::select! {
        biased;
        line = lines.recv() => line,
        () = work.run() => lines.try_recv().ok(),
    };
    let Some(first) = first else {
        work.finish().await?;
        return Ok(Reply::stream(Some(JSON), Body::empty()));
    };
    let (writer, body) = Body::channel();
    tokio::spawn(async move {
        let _ = copy(first, lines, work, &writer).await; // an error means that the client has gone
    });
    Ok(Reply::stream(Some(JSON), body))
}

/// Work that may have ended already.
struct Work<F> {
    future: Pin<Box<F>>,
    result: Option<Result<(), Failure>>,
}

impl<F: Future<Output = Result<(), Failure>>> Work<F> {
    /// Runs it to its end; never returns when it has ended before.
    async fn run(&mut self) {
        if self.result.is_some() {
            return std::future::pending().await;
        }
        self.result = Some(self.future.as_mut().await);
    }

    async fn finish(self) -> Result<(), Failure> {
        match self.result {
            Some(result) => result,
            None => self.future.await,
        }
    }
}

async fn copy<F>(
    first: ProgressMessage,
    mut lines: mpsc::UnboundedReceiver<ProgressMessage>,
    mut work: Work<F>,
    writer: &BodyWriter,
) -> Result<(), ClientGone>
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut next = Some(first);
    while let Some(line) = next {
        writer.write_json(&line, LINE_END).await?;
        next = tokio::select! {
            biased;
            line = lines.recv() => line,
            () = work.run() => {
                lines.close();
                lines.recv().await
            }
            () = writer.closed() => return Err(ClientGone),
        };
    }
    match work.finish().await {
        Err(failure) => writer.write_json(&error_line(&failure.message, None), LINE_END).await,
        Ok(()) => Ok(()),
    }
}

/// A line that says that the work has failed.
pub(super) fn error_line(message: &str, code: Option<i64>) -> ProgressMessage {
    ProgressMessage {
        error_detail: Some(ErrorDetail {
            code: code.unwrap_or(0),
            message: message.to_owned(),
        }),
        error: message.to_owned(),
        ..ProgressMessage::default()
    }
}

/// A line of status.
pub(super) fn status_line(status: impl Into<String>) -> ProgressMessage {
    ProgressMessage {
        status: status.into(),
        ..ProgressMessage::default()
    }
}

/// A line of status about one thing.
pub(super) fn status_of(id: &str, status: impl Into<String>) -> ProgressMessage {
    ProgressMessage {
        id: id.to_owned(),
        progress_detail: Some(ProgressDetail::default()),
        ..status_line(status)
    }
}

/// A line of status with bytes done and in all.
pub(super) fn progress_of(id: &str, status: &str, current: u64, total: u64) -> ProgressMessage {
    let number = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    let detail = ProgressDetail {
        current: number(current),
        total: number(total),
        ..ProgressDetail::default()
    };
    ProgressMessage {
        progress_detail: Some(detail),
        ..status_of(id, status)
    }
}

/// A line of plain text.
pub(super) fn text_line(text: impl Into<String>) -> ProgressMessage {
    ProgressMessage {
        stream: text.into(),
        ..ProgressMessage::default()
    }
}

/// What happens to a layer, in Docker's words.
pub(super) fn layer_line(blob: &Digest, state: &LayerState) -> ProgressMessage {
    let id = short(blob.as_str());
    match state {
        LayerState::PullingFsLayer => status_of(id, "Pulling fs layer"),
        LayerState::Waiting => status_of(id, "Waiting"),
        LayerState::Downloading { current, total } => progress_of(id, "Downloading", *current, *total),
        LayerState::Retrying { seconds } => status_of(id, format!("Retrying in {seconds} seconds")),
        LayerState::DownloadComplete => status_of(id, "Download complete"),
        LayerState::Extracting { current, total } => progress_of(id, "Extracting", *current, *total),
        LayerState::PullComplete => status_of(id, "Pull complete"),
        LayerState::AlreadyExists => status_of(id, "Already exists"),
        LayerState::Preparing => status_of(id, "Preparing"),
        LayerState::Pushing { current, total } => progress_of(id, "Pushing", *current, *total),
        LayerState::Pushed => status_of(id, "Pushed"),
        LayerState::LayerAlreadyExists => status_of(id, "Layer already exists"),
        LayerState::MountedFrom(repository) => status_of(id, format!("Mounted from {repository}")),
    }
}

/// The first twelve digits of an id.
pub(super) fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(outcome: Outcome) -> Result<String, u16> {
        use http_body_util::BodyExt;
        let reply = outcome.map_err(|failure| failure.status.as_u16())?;
        let crate::http::reply::Content::Body(body) = reply.content else {
            panic!("a body")
        };
        let bytes = body.collect().await.expect("sound").to_bytes();
        Ok(String::from_utf8(bytes.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn a_failure_before_the_first_line_is_a_status() {
        let outcome = stream(|_lines| async { Err(Failure::not_found("gone")) }).await;
        assert_eq!(text(outcome).await, Err(404));
    }

    #[tokio::test]
    async fn a_failure_after_the_first_line_is_a_line() {
        let outcome = stream(|lines| async move {
            let _ = lines.send(status_line("begun"));
            tokio::task::yield_now().await;
            Err(Failure::internal("broken"))
        })
        .await;
        assert_eq!(
            text(outcome).await.as_deref(),
            Ok("{\"status\":\"begun\"}\r\n{\"error\":\"broken\",\"errorDetail\":{\"message\":\"broken\"}}\r\n")
        );
    }

    #[tokio::test]
    async fn every_line_arrives_in_order() {
        let outcome = stream(|lines| async move {
            for number in 0..100 {
                let _ = lines.send(text_line(number.to_string()));
            }
            Ok(())
        })
        .await;
        assert_eq!(text(outcome).await.expect("lines").lines().count(), 100);
    }
}
