//! `wharf container create`, and the creation that `run` shares with it.

use std::path::Path;

use wharf_api::client::{Client, ClientError};
use wharf_api::types::{ContainerCreateRequest, ContainerCreateResponse};

use crate::create::{self, flags};
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::pull;
use crate::reference;
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The exit code of everything that fails before a container runs.
const FAILED_TO_CREATE: i32 = 125;

/// The flags that `create` and `run` share.
pub(crate) const FLAGS: [&[Flag]; 6] = [
    flags::PROCESS,
    flags::LIMITS,
    flags::ISOLATION,
    flags::NETWORK,
    flags::STORAGE,
    flags::PULL,
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container create", "create"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Make a container without starting it",
    flags: &FLAGS,
    args: Args::AtLeast(1),
    options_first: true,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let body = body(session, &client, parsed)?;
    let id = create(session, &client, parsed, body).await?;
    outln!("{id}");
    Ok(0)
}

/// The body for the flags.
pub(super) fn body(session: &Session, client: &Client, parsed: &Parsed) -> Result<ContainerCreateRequest, CliError> {
    check_pull_policy(parsed.last("pull").unwrap_or("missing")).map_err(|error| failed(session, &error))?;
    let proxies = session.config().proxy_variables(&client.endpoint().to_string());
    create::request(parsed, &proxies).map_err(|error| failed(session, &error))
}

/// Makes the container, pulling its image when that is wanted; its id.
pub(super) async fn create(
    session: &Session,
    client: &Client,
    parsed: &Parsed,
    body: ContainerCreateRequest,
) -> Result<String, CliError> {
    let cidfile = CidFile::reserve(parsed.text("cidfile"))?;
    let policy = parsed.last("pull").unwrap_or("missing");
    let image = body.config.image.clone();
    if policy == "always" {
        pull_image(session, client, parsed, &image).await?;
    }
    let answer = match post(client, parsed, &body).await {
        Err(error) if policy == "missing" && is_missing_image(&error) => {
            if !parsed.is_on("quiet") {
                eprintln!("Unable to find image '{}' locally", shown_image(&image));
            }
            pull_image(session, client, parsed, &image).await?;
            post(client, parsed, &body).await
        }
        other => other,
    };
    let answer = answer?;
    answer.warnings.iter().for_each(|warning| session.warn(warning));
    warn_of_local_name_servers(session, &parsed.all("dns"));
    cidfile.write(&answer.id)?;
    Ok(answer.id)
}

async fn post(
    client: &Client,
    parsed: &Parsed,
    body: &ContainerCreateRequest,
) -> Result<ContainerCreateResponse, ClientError> {
    client
        .post("/containers/create")
        .query_if("name", parsed.text("name"))
        .query_if("platform", parsed.text("platform"))
        .json(body)
        .fetch()
        .await
}

fn is_missing_image(error: &ClientError) -> bool {
    error.is_not_found()
        && error
            .engine_message()
            .is_some_and(|text| text.to_lowercase().contains("no such image"))
}

/// A name with its tag, as users see it.
fn shown_image(name: &str) -> String {
    reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.with_default_tag().familiar())
}

async fn pull_image(session: &Session, client: &Client, parsed: &Parsed, image: &str) -> Result<(), CliError> {
    let target = reference::parse(image)?.with_default_tag();
    let output = if parsed.is_on("quiet") {
        pull::Output::Nothing
    } else {
        pull::Output::Stderr
    };
    pull::pull(session, client, &target, parsed.text("platform"), output).await
}

fn check_pull_policy(policy: &str) -> Result<(), CliError> {
    match policy {
        "always" | "missing" | "never" | "" => Ok(()),
        other => Err(CliError::message(format!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        ))),
    }
}

fn warn_of_local_name_servers(session: &Session, servers: &[String]) {
    if let Some(server) = servers
        .iter()
        .find(|server| server.starts_with("127.") || *server == "::1")
    {
        session.warn(&format!(
            "Localhost DNS setting (--dns={server}) may fail in containers."
        ));
    }
}

/// The error of `create` and `run`: exit code 125 and where to find help.
pub(super) fn failed(session: &Session, error: &CliError) -> CliError {
    coded(session, error, FAILED_TO_CREATE)
}

/// As [`failed`], with another exit code.
pub(super) fn coded(session: &Session, error: &CliError, code: i32) -> CliError {
    let (program, verb) = (&session.program, &session.verb);
    CliError::Coded {
        message: format!(
            "{program}: {}\n\nRun '{program} {verb} --help' for more information",
            error.describe()
        ),
        code,
    }
}

/// The file that the container's id is written to; removed again when there is no container.
struct CidFile {
    path: Option<String>,
    written: std::cell::Cell<bool>,
}

impl CidFile {
    fn reserve(path: &str) -> Result<Self, CliError> {
        if path.is_empty() {
            return Ok(Self {
                path: None,
                written: std::cell::Cell::new(false),
            });
        }
        if Path::new(path).exists() {
            return Err(CliError::message(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        std::fs::File::create_new(path)
            .map_err(CliError::io(format!("failed to create the container ID file {path}")))?;
        Ok(Self {
            path: Some(path.to_owned()),
            written: std::cell::Cell::new(false),
        })
    }

    fn write(&self, id: &str) -> Result<(), CliError> {
        let Some(path) = &self.path else { return Ok(()) };
        std::fs::write(path, id).map_err(CliError::io(format!("failed to write the container ID to {path}")))?;
        self.written.set(true);
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && !self.written.get()
        {
            // An empty file that cannot be removed is not worth a second error.
            let _ = std::fs::remove_file(path);
        }
    }
}
