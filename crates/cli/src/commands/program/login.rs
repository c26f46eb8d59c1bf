//! `wharf login`.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use wharf_api::auth::AuthConfig;
use wharf_api::types::AuthResponse;

use crate::config::{index_server, registry_host};
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::string("password", "Password or access token").short('p'),
    Flag::switch("password-stdin", "Read the password from stdin"),
    Flag::string("username", "User name").short('u'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["login"],
    usage: "[OPTIONS] [SERVER]",
    about: "Log in to a registry, Docker Hub unless another is named",
    flags: &[FLAGS],
    args: Args::AtMost(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let server = match parsed.arg(0) {
        "" => index_server().to_owned(),
        address => registry_host(address).to_owned(),
    };
    let auth = AuthConfig {
        username: username(session, parsed, &server)?,
        password: password(session, parsed)?,
        server_address: server.clone(),
        ..AuthConfig::default()
    };
    let client = session.client().await?;
    let response = client.post("/auth").json(&auth).send().await?;
    let answer: AuthResponse = if response.status().as_u16() == 204 {
        AuthResponse::default()
    } else {
        response.json().await?
    };
    let kept = AuthConfig {
        identity_token: answer.identity_token,
        ..auth
    };
    let mut config = session.config().clone();
    let plain = config
        .keep_credentials(&server, &kept)
        .map_err(|error| CliError::message(format!("error saving credentials: {}", chain(&error))))?;
    if plain {
        session.warn(&format!(
            "Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.",
            config.path().display()
        ));
    }
    outln!("Login Succeeded");
    Ok(0)
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn username(session: &Session, parsed: &Parsed, server: &str) -> Result<String, CliError> {
    if parsed.is_given("password") && parsed.is_on("password-stdin") {
        return Err(CliError::message(
            "--password and --password-stdin are mutually exclusive",
        ));
    }
    if parsed.is_given("username") {
        return Ok(parsed.text("username").to_owned());
    }
    if parsed.is_on("password-stdin") {
        return Err(CliError::message(
            "the --password-stdin option requires --username to be set",
        ));
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::message(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    let known = session.config().credentials(server).username;
    let shown = if known.is_empty() {
        "Username: ".to_owned()
    } else {
        format!("Username ({known}): ")
    };
    let typed = ask(&shown)?;
    let name = if typed.is_empty() { known } else { typed };
    if name.is_empty() {
        Err(CliError::message("Error: Non-null Username Required"))
    } else {
        Ok(name)
    }
}

fn password(session: &Session, parsed: &Parsed) -> Result<String, CliError> {
    if parsed.is_given("password") {
        session.warn("Using --password via the CLI is insecure. Use --password-stdin.");
        return Ok(parsed.text("password").to_owned());
    }
    if parsed.is_on("password-stdin") {
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .map_err(CliError::io("reading the password"))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    let text = without_echo(|| ask("Password: "))?;
    outln!();
    if text.is_empty() {
        Err(CliError::message("Error: Password Required"))
    } else {
        Ok(text)
    }
}

fn ask(question: &str) -> Result<String, CliError> {
    out!("{question}");
    io::stdout().flush().map_err(CliError::io("asking"))?;
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(CliError::io("reading the answer"))?;
    Ok(line.trim().to_owned())
}

/// What is typed meanwhile is not shown.
fn without_echo<T>(read: impl FnOnce() -> Result<T, CliError>) -> Result<T, CliError> {
    let before = tcgetattr(io::stdin())
        .map_err(|_| CliError::message("Error: Cannot perform an interactive login from a non TTY device"))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let set = |mode| tcsetattr(io::stdin(), OptionalActions::Now, mode);
    set(&silent).map_err(|errno| CliError::io("silencing the terminal")(errno.into()))?;
    let result = read();
    set(&before).map_err(|errno| CliError::io("restoring the terminal")(errno.into()))?;
    result
}
