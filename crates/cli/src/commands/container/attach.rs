//! `wharf container attach`.

use wharf_api::types::{ContainerState, WaitResponse};

use super::run::{attach, detach_keys, exit_code};
use super::{inspect_of, path};
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::signals::{Forwarder, Resized, follow_size};
use crate::streams::{self, Ended};
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::string("detach-keys", "Keys that detach from the container"),
    Flag::switch("no-stdin", "Do not attach to stdin"),
    Flag::switch("sig-proxy", "Pass signals on to the process").default("true"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container attach", "attach"],
    usage: "[OPTIONS] CONTAINER",
    about: "Attach to the streams of a running container",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let id = parsed.arg(0);
    // ORDER: waited for before it is looked at, so that an end in between is seen.
    let exited = client.post(path(id, "/wait")).send().await?;
    let container = inspect_of(&client, id).await?;
    check_state(&container.state)?;
    let tty = container.config.tty;
    let plan = streams::Plan {
        stdin: !parsed.is_on("no-stdin") && container.config.open_stdin,
        tty,
        detach_keys: detach_keys(session, parsed)?,
    };
    streams::check_terminal(plan.stdin, tty)?;
    let proxied = parsed.is_not_off("sig-proxy") && !tty;
    let mut signals = proxied.then(Forwarder::new).transpose()?;
    let hijacked = attach(&client, id, &plan, parsed.text("detach-keys"), (true, true)).await?;
    let copied = async {
        if streams::copy(hijacked, plan).await? == Ended::Detached {
            return Err(CliError::message("read escape sequence"));
        }
        exit_code(exited.json::<WaitResponse>().await)
    };
    let forwarded = async {
        match &mut signals {
            Some(signals) => signals.forward(&client, id).await,
            None => std::future::pending().await,
        }
    };
    let resized = async {
        if tty {
            follow_size(&client, Resized::Container(id)).await
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

fn check_state(state: &ContainerState) -> Result<(), CliError> {
    let refusal = if !state.running {
        "cannot attach to a stopped container, start it first"
    } else if state.paused {
        "cannot attach to a paused container, unpause it first"
    } else if state.restarting {
        "cannot attach to a restarting container, wait until it is running"
    } else {
        return Ok(());
    };
    Err(CliError::message(refusal))
}
