//! `wharf container start`.

use wharf_api::client::Client;
use wharf_api::types::WaitResponse;

use super::run::{attach, detach_keys, exit_code, start};
use super::{inspect_of, path};
use crate::commands::each::call_each;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::signals::{Forwarder, Resized, follow_size};
use crate::streams::{self, Ended};
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("attach", "Attach to the output and pass signals on").short('a'),
    Flag::string("checkpoint", "Checkpoint to restore"),
    Flag::string("checkpoint-dir", "Directory of the checkpoint"),
    Flag::string("detach-keys", "Keys that detach from the container"),
    Flag::switch("interactive", "Attach to stdin too").short('i'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container start", "start"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start stopped containers",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    if parsed.is_given("checkpoint") || parsed.is_given("checkpoint-dir") {
        return Err(CliError::message(
            "checkpoints are not supported: start the container without --checkpoint",
        ));
    }
    let attached = parsed.is_on("attach") || parsed.is_on("interactive");
    let client = session.client().await?;
    if !attached {
        return call_each(&parsed.args, |id| client.post(path(&id, "/start")).finish()).await;
    }
    if parsed.args.len() > 1 {
        return Err(CliError::message(
            "you cannot start and attach multiple containers at once",
        ));
    }
    start_attached(session, &client, parsed).await
}

async fn start_attached(session: &Session, client: &Client, parsed: &Parsed) -> Outcome {
    let container = inspect_of(client, parsed.arg(0)).await?;
    let id = &container.id;
    let tty = container.config.tty;
    let plan = streams::Plan {
        stdin: parsed.is_on("interactive") && container.config.open_stdin,
        tty,
        detach_keys: detach_keys(session, parsed)?,
    };
    let mut signals = (!tty).then(Forwarder::new).transpose()?;
    let hijacked = attach(client, id, &plan, parsed.text("detach-keys"), (true, true)).await?;
    let condition = if container.host_config.auto_remove {
        "removed"
    } else {
        "next-exit"
    };
    let exited = client
        .post(path(id, "/wait"))
        .query("condition", condition)
        .send()
        .await?;
    start(client, id).await?;
    let copied = async {
        if streams::copy(hijacked, plan).await? == Ended::Detached {
            return Ok(0);
        }
        exit_code(exited.json::<WaitResponse>().await)
    };
    let forwarded = async {
        match &mut signals {
            Some(signals) => signals.forward(client, id).await,
            None => std::future::pending().await,
        }
    };
    let resized = async {
        if tty {
            follow_size(client, Resized::Container(id)).await
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        code = copied => code,
        () = forwarded => Ok(0),
        () = resized => Ok(0),
    }
}
