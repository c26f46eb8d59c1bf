//! `GET /containers/{id}/logs`.

use bytes::Bytes;
use wharf_api::stdcopy::{self, StreamKind};
use wharf_engine::filters::unix_nanos;
use wharf_engine::model::Timestamp;
use wharf_engine::model::requests::{LogLine, LogsQuery};

use crate::http::body::Body;
use crate::http::reply::{MULTIPLEXED, RAW_STREAM};
use crate::http::{Failure, Outcome, Query, Reply, Request};

/// How lines are written.
#[derive(Debug, Clone, Copy)]
struct Form {
    framed: bool,
    timestamps: bool,
    details: bool,
}

/// `GET /containers/{id}/logs`: headers first, then one frame per line.
pub(crate) async fn stream(request: Request) -> Outcome {
    let query = &request.query;
    let wanted = LogsQuery {
        follow: query.flag("follow"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        since: moment(query, "since")?,
        until: moment(query, "until")?,
        tail: tail(query.text("tail")),
    };
    if !wanted.stdout && !wanted.stderr {
        return Err(Failure::invalid("Bad parameters: you must choose at least one stream"));
    }
    let containers = request.app.engine.containers();
    let tty = containers.snapshot(request.path("id"))?.config.tty;
    let mut lines = containers.logs(request.path("id"), wanted).await?;
    let form = Form {
        framed: !tty,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
    };
    let (writer, body) = Body::channel();
    tokio::spawn(async move {
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = writer.closed() => return,
            };
            let piece = match line {
                None => return,
                Some(Ok(line)) => form.render(line),
                Some(Err(error)) => stdcopy::frame(StreamKind::SystemError, error.message().as_bytes()),
            };
            if writer.write(piece).await.is_err() {
                return;
            }
        }
    });
    let multiplexed = form.framed && request.version.at_least(42);
    Ok(Reply::stream(
        Some(if multiplexed { MULTIPLEXED } else { RAW_STREAM }),
        body,
    ))
}

impl Form {
    fn render(self, line: LogLine) -> Bytes {
        let mut text = Vec::with_capacity(line.bytes.len() + 40);
        if self.timestamps {
            text.extend_from_slice(fixed_nanos(line.time).as_bytes());
            text.push(b' ');
        }
        if self.details {
            text.extend_from_slice(details(&line.attributes).as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(&line.bytes);
        if !self.framed {
            return text.into();
        }
        stdcopy::frame(
            if line.stderr {
                StreamKind::Stderr
            } else {
                StreamKind::Stdout
            },
            &text,
        )
    }
}

/// COMPAT: `a=1,b=2`, escaped as in a URL's query.
fn details(attributes: &[(String, String)]) -> String {
    let escaped = |text: &str| {
        let piece = |b: u8| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            b' ' => "+".to_owned(),
            other => format!("%{other:02X}"),
        };
        text.bytes().map(piece).collect::<String>()
    };
    let pairs = attributes.iter().map(|(k, v)| format!("{}={}", escaped(k), escaped(v)));
    pairs.collect::<Vec<_>>().join(",")
}

/// RFC 3339 with exactly nine digits, so that columns line up.
fn fixed_nanos(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(time.as_nanos())).unwrap_or_default();
    format!("{time:.9}")
}

/// COMPAT: only seconds since 1970 with a fraction; zero means no bound.
fn moment(query: &Query, key: &str) -> Result<Option<Timestamp>, Failure> {
    let text = query.text(key);
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let nanos = unix_nanos(text);
    let refused = || {
        Failure::invalid(format!(
            "invalid value for {key:?}: failed to parse value as time: {text}"
        ))
    };
    nanos
        .map(|nanos| Some(Timestamp::from_nanos(nanos)))
        .ok_or_else(refused)
}

/// COMPAT: whatever is no number of lines means all (oracle api/logs_queries).
fn tail(text: &str) -> Option<u64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> LogLine {
        LogLine {
            stderr: true,
            time: Timestamp::from_nanos(1_500_000_000),
            attributes: vec![],
            bytes: b"x\n".to_vec(),
        }
    }

    #[test]
    fn details_are_escaped_pairs() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(details(&[pair("a", "1 2"), pair("b/c", "=")]), "a=1+2,b%2Fc=%3D");
    }

    #[test]
    fn lines_are_framed_with_their_prefixes_inside() {
        let check = |framed, timestamps, details, expected: &[u8]| {
            assert_eq!(
                &Form {
                    framed,
                    timestamps,
                    details
                }
                .render(line())[..],
                expected
            );
        };
        check(false, false, false, b"x\n");
        check(true, false, false, b"\x02\0\0\0\0\0\0\x02x\n");
        check(false, true, false, b"1970-01-01T00:00:01.500000000Z x\n");
        check(true, false, true, b"\x02\0\0\0\0\0\0\x03 x\n");
    }

    #[test]
    fn tails_that_are_no_numbers_mean_everything() {
        assert_eq!(tail("5"), Some(5));
        for all in ["all", "", "-1", "nonsense"] {
            assert_eq!(tail(all), None, "{all}");
        }
    }
}
