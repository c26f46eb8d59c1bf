//! `wharf version`.

use serde_json::{Value, json};
use wharf_api::ApiVersion;
use wharf_api::types::SystemVersion;

use crate::commands::inspecting;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[inspecting::FORMAT];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["version"],
    usage: "[OPTIONS]",
    about: "Show the versions of this program and of the engine",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let server = match session.client().await {
        Ok(client) => {
            let answer = client.get("/version").fetch::<Value>().await.map_err(CliError::from);
            answer.map(|server| (server, client.version()))
        }
        Err(error) => Err(error),
    };
    let version = server.as_ref().map_or(ApiVersion::MAX, |(_, version)| *version);
    let client = client_part(version);
    let format = parsed.text("format");
    if !format.is_empty() {
        let (server_part, failure) = match server {
            Ok((server, _)) => (server, None),
            Err(error) => (Value::Null, Some(error)),
        };
        let document = json!({"Client": client, "Server": server_part});
        match format {
            "json" => outln!("{document}"),
            source => outln!("{}", inspecting::render(source, &document)?),
        }
        return failure.map_or(Ok(0), Err);
    }
    print_client(&client);
    let (server, _) = server?;
    let server = serde_json::from_value(server)
        .map_err(|error| CliError::message(format!("error reading the answer of the engine: {error}")))?;
    print_server(&server);
    Ok(0)
}

fn client_part(version: ApiVersion) -> Value {
    json!({
        "Platform": {"Name": "Wharf"},
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": version.to_string(),
        "DefaultAPIVersion": ApiVersion::MAX.to_string(),
        "GitCommit": "",
        "GoVersion": "",
        "Os": std::env::consts::OS,
        "Arch": go_arch(),
        "BuildTime": "",
        "Context": "default",
    })
}

/// The architecture in Go's words, which is how engines name it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn print_client(client: &Value) {
    let text = |name: &str| client.get(name).and_then(Value::as_str).unwrap_or_default();
    outln!("Client: Wharf");
    outln!(" Version:           {}", text("Version"));
    outln!(" API version:       {}", text("ApiVersion"));
    outln!(" OS/Arch:           {}/{}", text("Os"), text("Arch"));
    outln!(" Context:           {}", text("Context"));
}

fn print_server(server: &SystemVersion) {
    outln!("\nServer: {}", server.platform.name);
    outln!(" Engine:");
    outln!("  Version:          {}", server.version);
    outln!(
        "  API version:      {} (minimum version {})",
        server.api_version,
        server.min_api_version
    );
    outln!("  Git commit:       {}", server.git_commit);
    outln!("  OS/Arch:          {}/{}", server.os, server.arch);
    outln!("  Kernel version:   {}", server.kernel_version);
    outln!("  Experimental:     {}", server.experimental);
    for component in server.components.iter().filter(|component| component.name != "Engine") {
        outln!(" {}:", component.name);
        outln!("  Version:          {}", component.version);
        for (name, value) in component.details.iter().flatten() {
            outln!("  {:17} {value}", format!("{name}:"));
        }
    }
}
