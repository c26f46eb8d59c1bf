//! `POST /containers/{id}/attach` and what it shares with exec: the connection becomes the
//! container's streams.

use wharf_engine::containers::AttachTicket;
use wharf_engine::model::requests::{AttachQuery, ClientStream};

use crate::http::body::RawConnection;
use crate::http::hijack;
use crate::http::reply::{MULTIPLEXED, RAW_STREAM};
use crate::http::{Failure, Outcome, Reply, Request};

/// `POST /containers/{id}/attach`. COMPAT: failures are plain text of the stream's type.
pub(crate) async fn container(request: Request) -> Outcome {
    let query = &request.query;
    let (stdin, stdout, stderr) = (query.flag("stdin"), query.flag("stdout"), query.flag("stderr"));
    let wanted = AttachQuery {
        stdin,
        stdout,
        stderr,
        // COMPAT: without any stream there is nothing to wait for (oracle api/attach_without_upgrade).
        stream: query.flag("stream") && (stdin || stdout || stderr),
        logs: query.flag("logs"),
        detach_keys: query.text("detachKeys").to_owned(),
    };
    match request.app.engine.containers().attach(request.path("id"), wanted).await {
        Ok(ticket) => {
            let framed = !ticket.tty;
            Ok(hand_over(&request, ticket, framed))
        }
        Err(error) => {
            let failure = Failure::from(error);
            Ok(Reply::whole(
                failure.status,
                RAW_STREAM,
                format!("{}\r\n", failure.message),
            ))
        }
    }
}

/// Answers that the connection leaves HTTP, and gives it to the engine.
pub(super) fn hand_over(request: &Request, ticket: AttachTicket, framed: bool) -> Reply {
    let upgrade = request.wants_upgrade();
    let multiplexed = upgrade && framed && request.version.at_least(42);
    let head = hijack::head(upgrade, if multiplexed { MULTIPLEXED } else { RAW_STREAM });
    let id = request.id;
    Reply::takeover(Box::new(move |raw| Box::pin(attach(raw, head, ticket, framed, id))))
}

async fn attach(raw: RawConnection, head: Vec<u8>, ticket: AttachTicket, framed: bool, id: u64) {
    let (socket, early_input) = match hijack::hand_over(raw, &head).await {
        Ok(given) => given,
        Err(error) => {
            tracing::debug!(request = id, %error, "a client left before it was attached");
            return;
        }
    };
    let spare = socket.try_clone();
    if let Err(error) = ticket
        .attach(ClientStream {
            socket,
            framed,
            early_input,
        })
        .await
    {
        tracing::info!(request = id, "not attached: {}", error.chain());
        if let Ok(spare) = spare {
            hijack::report(spare, error.message(), framed);
        }
    }
}
