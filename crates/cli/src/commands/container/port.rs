//! `wharf container port`.

use wharf_api::types::{PortBinding, PortMap};

use super::inspect_of;
use crate::error::{CliError, Outcome};
use crate::flags::Parsed;
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container port", "port"],
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "List the published ports of a container",
    flags: &[],
    args: Args::Between(1, 2),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let container = inspect_of(&client, parsed.arg(0)).await?;
    let ports = container.network_settings.ports.unwrap_or_default();
    let mut lines = match parsed.args.get(1) {
        Some(port) => lines_of(&ports, port, parsed.arg(0))?,
        None => all_lines(&ports),
    };
    lines.sort_by_key(|line| natural(line));
    lines.iter().for_each(|line| outln!("{line}"));
    Ok(0)
}

fn lines_of(ports: &PortMap, wanted: &str, container: &str) -> Result<Vec<String>, CliError> {
    let key = if wanted.contains('/') {
        wanted.to_owned()
    } else {
        format!("{wanted}/tcp")
    };
    match ports.get(&key) {
        Some(Some(bindings)) if !bindings.is_empty() => Ok(bindings.iter().map(address).collect()),
        _ => Err(CliError::message(format!(
            "Error: No public port '{wanted}' published for {container}"
        ))),
    }
}

fn all_lines(ports: &PortMap) -> Vec<String> {
    ports
        .iter()
        .flat_map(|(port, bindings)| {
            bindings
                .iter()
                .flatten()
                .map(move |binding| format!("{port} -> {}", address(binding)))
        })
        .collect()
}

fn address(binding: &PortBinding) -> String {
    if binding.host_ip.contains(':') {
        format!("[{}]:{}", binding.host_ip, binding.host_port)
    } else {
        format!("{}:{}", binding.host_ip, binding.host_port)
    }
}

/// A key that sorts numbers by value.
fn natural(line: &str) -> Vec<(u64, String)> {
    let mut key = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number = rest[..digits].parse().unwrap_or(0);
        let text: String = rest[digits..].chars().take_while(|c| !c.is_ascii_digit()).collect();
        rest = &rest[digits + text.len()..];
        key.push((number, text));
    }
    key
}
