//! `GET /containers/{id}/stats`.

use std::time::Duration;

use wharf_engine::model::requests::StatsSample;

use crate::convert::stats;
use crate::http::body::Body;
use crate::http::{Failure, Outcome, Reply, Request};

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// One object, or one a second. A container that does not run is told without numbers.
pub(crate) async fn stream(request: Request) -> Outcome {
    let streaming = request.query.flag_or("stream", true);
    let one_shot = request.query.flag("one-shot") && request.version.at_least(41);
    if streaming && one_shot {
        return Err(Failure::invalid("cannot have stream=true and one-shot=true"));
    }
    let containers = request.app.engine.containers();
    let record = containers.snapshot(request.path("id"))?;
    let id = record.id.to_string();
    let first = containers.stats(&id).await?;
    if !streaming {
        if one_shot || first.read.is_none() {
            return Reply::json(&stats::to_wire(&record, &first, None));
        }
        tokio::time::sleep(INTERVAL).await;
        let second = containers.stats(&id).await?;
        return Reply::json(&stats::to_wire(&record, &second, Some(&first)));
    }
    let (writer, body) = Body::channel();
    tokio::spawn(async move {
        let mut before: Option<StatsSample> = None;
        let mut now = first;
        let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
        loop {
            let sample = stats::to_wire(&record, &now, before.as_ref());
            if writer.write_json(&sample, "\n").await.is_err() {
                return;
            }
            before = Some(now).filter(|sample| sample.read.is_some());
            tokio::select! {
                _ = clock.tick() => {}
                () = writer.closed() => return,
            }
            // The stream ends with the container's removal.
            now = match containers.stats(&id).await {
                Ok(sample) => sample,
                Err(_) => return,
            };
        }
    });
    // COMPAT: a stream of samples has no type (oracle api/stats_stream).
    Ok(Reply::stream(None, body))
}
