//! `wharf container exec`.

use wharf_api::client::{Client, escape};
use wharf_api::types::{ExecCreateRequest, ExecInspect, ExecStartRequest, IdResponse};

use super::path;
use super::run::detach_keys;
use crate::create::read_env;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::signals::{Resized, follow_size};
use crate::streams::{self, Ended};
use crate::terminal;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("detach", "Run in the background").short('d'),
    Flag::string("detach-keys", "Keys that detach from the command"),
    Flag::list("env", "Environment variable, NAME=VALUE or NAME to pass it on").short('e'),
    Flag::list("env-file", "File of environment variables"),
    Flag::switch("interactive", "Keep stdin open").short('i'),
    Flag::switch("privileged", "Give the command nearly all rights of the host"),
    Flag::switch("tty", "Give the command a terminal").short('t'),
    Flag::string("user", "User and group, name or number (USER[:GROUP])").short('u'),
    Flag::string("workdir", "Working directory in the container").short('w'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container exec", "exec"],
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Run a command in a running container",
    flags: &[FLAGS],
    args: Args::AtLeast(2),
    options_first: true,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let detach = parsed.is_on("detach");
    let request = request(session, parsed)?;
    if !detach {
        streams::check_terminal(request.attach_stdin, request.tty)?;
    }
    let created: IdResponse = client.post(path(parsed.arg(0), "/exec")).json(&request).fetch().await?;
    let start = ExecStartRequest {
        detach,
        tty: request.tty,
        console_size: request.console_size,
    };
    let call = client.post(format!("/exec/{}/start", escape(&created.id))).json(&start);
    if detach {
        call.finish().await?;
        return Ok(0);
    }
    let plan = streams::Plan {
        stdin: request.attach_stdin,
        tty: request.tty,
        detach_keys: detach_keys(session, parsed)?,
    };
    let hijacked = call.upgrade().await?;
    let copied = streams::copy(hijacked, plan);
    let resized = async {
        if request.tty {
            follow_size(&client, Resized::Exec(&created.id)).await
        } else {
            std::future::pending().await
        }
    };
    let ended = tokio::select! {
        ended = copied => ended?,
        () = resized => Ended::Finished,
    };
    match ended {
        Ended::Detached => Ok(0),
        Ended::Finished => exit_code(&client, &created.id).await,
    }
}

fn request(session: &Session, parsed: &Parsed) -> Result<ExecCreateRequest, CliError> {
    let mut variables = Vec::new();
    for text in parsed.all("env") {
        variables.push(match text.contains('=') {
            true => text,
            false => std::env::var(&text)
                .map(|value| format!("{text}={value}"))
                .unwrap_or(text),
        });
    }
    let env = read_env(&parsed.all("env-file"), &variables, &[])?;
    let detach = parsed.is_on("detach");
    let tty = parsed.is_on("tty");
    let keys = match parsed.text("detach-keys") {
        "" => session.config().detach_keys(),
        keys => keys,
    };
    Ok(ExecCreateRequest {
        user: parsed.text("user").to_owned(),
        privileged: parsed.is_on("privileged"),
        tty,
        console_size: if tty {
            terminal::size().map(|(height, width)| [height, width])
        } else {
            None
        },
        attach_stdin: !detach && parsed.is_on("interactive"),
        attach_stderr: !detach,
        attach_stdout: !detach,
        detach_keys: keys.to_owned(),
        env: (!env.is_empty()).then_some(env),
        working_dir: parsed.text("workdir").to_owned(),
        cmd: Some(parsed.args[1..].to_vec()),
    })
}

async fn exit_code(client: &Client, id: &str) -> Outcome {
    let exec: ExecInspect = client.get(format!("/exec/{}/json", escape(id))).fetch().await?;
    Ok(i32::try_from(exec.exit_code.unwrap_or(0)).unwrap_or(125))
}
