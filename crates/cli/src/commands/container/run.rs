//! `wharf container run`: create, attach, wait, start, copy streams, pass signals, exit as the
//! container did.

use wharf_api::client::{Client, ClientError, Hijacked};
use wharf_api::types::{ContainerCreateRequest, HostConfig, WaitResponse};

use super::create::{self, coded, failed};
use super::path;
use crate::create::flags;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::signals::{Forwarder, Resized, follow_size};
use crate::streams::{self, Ended};
use crate::terminal::{self, DetachKeys};
use crate::verb::{Args, Verb};

const FLAGS: [&[Flag]; 7] = [
    flags::PROCESS,
    flags::LIMITS,
    flags::ISOLATION,
    flags::NETWORK,
    flags::STORAGE,
    flags::PULL,
    flags::RUN,
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container run", "run"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Make a container from an image and start it",
    flags: &FLAGS,
    args: Args::AtLeast(1),
    options_first: true,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await.map_err(|error| failed(session, &error))?;
    let mut body = create::body(session, &client, parsed)?;
    if parsed.is_on("detach") {
        return run_detached(session, &client, parsed, body).await;
    }
    streams::check_terminal(body.config.attach_stdin, body.config.tty)?;
    set_console_size(&mut body);
    run_attached(session, &client, parsed, body).await
}

/// The process gets the size of the terminal from its first moment.
fn set_console_size(body: &mut ContainerCreateRequest) {
    if let Some((height, width)) = terminal::size() {
        body.host_config.get_or_insert_with(HostConfig::default).console_size = [height, width];
    }
}

async fn run_detached(
    session: &Session,
    client: &Client,
    parsed: &Parsed,
    mut body: ContainerCreateRequest,
) -> Outcome {
    if parsed.is_given("attach") {
        return Err(CliError::message(
            "conflicting options: cannot specify both --attach and --detach",
        ));
    }
    let config = &mut body.config;
    (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
    config.stdin_once = false;
    let id = create::create(session, client, parsed, body)
        .await
        .map_err(|error| failed(session, &error))?;
    start(client, &id).await.map_err(|error| start_failed(session, error))?;
    outln!("{id}");
    Ok(0)
}

async fn run_attached(session: &Session, client: &Client, parsed: &Parsed, body: ContainerCreateRequest) -> Outcome {
    let plan = streams::Plan {
        stdin: body.config.attach_stdin,
        tty: body.config.tty,
        detach_keys: detach_keys(session, parsed)?,
    };
    let (stdout, stderr) = (body.config.attach_stdout, body.config.attach_stderr);
    let auto_remove = parsed.is_on("rm");
    let id = create::create(session, client, parsed, body)
        .await
        .map_err(|error| failed(session, &error))?;
    let mut signals = parsed.is_not_off("sig-proxy").then(Forwarder::new).transpose()?;
    // ORDER: attached before it starts, so that no byte is lost; waited for before it starts, so
    // that its exit code is seen even when it is removed at once.
    let tty = plan.tty;
    let attached = attach(client, &id, &plan, parsed.text("detach-keys"), (stdout, stderr)).await;
    let hijacked = attached.map_err(|error| failed(session, &error.into()))?;
    let condition = if auto_remove { "removed" } else { "next-exit" };
    let exited = client
        .post(path(&id, "/wait"))
        .query("condition", condition)
        .send()
        .await
        .map_err(|error| failed(session, &error.into()))?;
    start(client, &id).await.map_err(|error| start_failed(session, error))?;
    let copied = async {
        let ended = streams::copy(hijacked, plan).await?;
        if ended == Ended::Detached {
            return Ok(0);
        }
        exit_code(exited.json::<WaitResponse>().await)
    };
    let forwarded = async {
        match &mut signals {
            Some(signals) => signals.forward(client, &id).await,
            None => std::future::pending().await,
        }
    };
    let resized = async {
        if tty {
            follow_size(client, Resized::Container(&id)).await
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

/// The keys of the flag, or those of the configuration file.
pub(super) fn detach_keys(session: &Session, parsed: &Parsed) -> Result<DetachKeys, CliError> {
    let text = match parsed.text("detach-keys") {
        "" => session.config().detach_keys(),
        text => text,
    };
    DetachKeys::parse(text).map_err(CliError::message)
}

/// Attaches to a container that need not run yet.
pub(super) async fn attach(
    client: &Client,
    id: &str,
    plan: &streams::Plan,
    detach_keys: &str,
    (stdout, stderr): (bool, bool),
) -> Result<Hijacked, ClientError> {
    client
        .post(path(id, "/attach"))
        .query_if("detachKeys", detach_keys)
        .query_flag("stdin", plan.stdin)
        .query_flag("stdout", stdout)
        .query_flag("stderr", stderr)
        .query("stream", "1")
        .upgrade()
        .await
}

/// Starts a container.
pub(super) async fn start(client: &Client, id: &str) -> Result<(), ClientError> {
    client.post(path(id, "/start")).finish().await
}

/// The exit code of a container, from the answer of `wait`.
pub(super) fn exit_code(answer: Result<WaitResponse, ClientError>) -> Outcome {
    let answer = answer?;
    match answer.error {
        Some(error) => Err(CliError::Coded {
            message: error.message,
            code: 125,
        }),
        None => Ok(i32::try_from(answer.status_code).unwrap_or(125)),
    }
}

/// The shell's exit codes for a command that is not there (127) or may not be run (126).
fn start_failed(session: &Session, error: ClientError) -> CliError {
    let text = error.to_string();
    let contains = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let code = if contains(&["executable file not found", "no such file or directory"]) {
        127
    } else if contains(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    };
    coded(session, &error.into(), code)
}
