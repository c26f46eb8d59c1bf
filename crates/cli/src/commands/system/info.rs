//! `wharf system info`.

use std::fmt::Write as _;

use wharf_api::types::SystemInfo;

use crate::commands::inspecting;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::format::units;
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[inspecting::FORMAT];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["system info", "info"],
    usage: "[OPTIONS]",
    about: "Show what the engine is and has",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let document: serde_json::Value = client.get("/info").fetch().await?;
    match parsed.text("format") {
        "" => {}
        "json" => {
            outln!("{document}");
            return Ok(0);
        }
        source => {
            outln!("{}", inspecting::render(source, &document)?);
            return Ok(0);
        }
    }
    let info: SystemInfo = serde_json::from_value(document)
        .map_err(|error| CliError::message(format!("error reading the answer of the engine: {error}")))?;
    out!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: false\n\n",
        env!("CARGO_PKG_VERSION")
    );
    out!("{}", server(&info));
    for warning in info.warnings.iter().flatten() {
        eprintln!("{warning}");
    }
    Ok(0)
}

fn server(info: &SystemInfo) -> String {
    let mut text = String::from("Server:\n");
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, " {name}: {value}");
    };
    line("Containers", &info.containers.to_string());
    line(" Running", &info.containers_running.to_string());
    line(" Paused", &info.containers_paused.to_string());
    line(" Stopped", &info.containers_stopped.to_string());
    line("Images", &info.images.to_string());
    line("Server Version", &info.server_version);
    line("Storage Driver", &info.driver);
    for [name, value] in info.driver_status.iter().flatten() {
        line(&format!(" {name}"), value);
    }
    line("Logging Driver", &info.logging_driver);
    line("Cgroup Driver", &info.cgroup_driver);
    line("Cgroup Version", &info.cgroup_version);
    line("Plugins", "");
    line(" Volume", &info.plugins.volume.join(" "));
    line(" Network", &info.plugins.network.join(" "));
    line(" Log", &info.plugins.log.join(" "));
    line("Swarm", &info.swarm.local_node_state);
    line(
        "Runtimes",
        &info.runtimes.keys().map(String::as_str).collect::<Vec<_>>().join(" "),
    );
    line("Default Runtime", &info.default_runtime);
    line("Init Binary", &info.init_binary);
    line("Security Options", "");
    for option in &info.security_options {
        security_option(&mut line, option);
    }
    line("Kernel Version", &info.kernel_version);
    line("Operating System", &info.operating_system);
    line("OSType", &info.os_type);
    line("Architecture", &info.architecture);
    line("CPUs", &info.ncpu.to_string());
    line("Total Memory", &memory(info.mem_total));
    line("Name", &info.name);
    line("ID", &info.id);
    line("Docker Root Dir", &info.docker_root_dir);
    line("Debug Mode", &info.debug.to_string());
    line("Experimental", &info.experimental_build.to_string());
    if !info.labels.is_empty() {
        line("Labels", "");
        info.labels.iter().for_each(|label| line(&format!(" {label}"), ""));
    }
    if let Some(registries) = &info.registry_config {
        line("Insecure Registries", "");
        let named = registries
            .index_configs
            .values()
            .filter(|index| !index.secure)
            .map(|index| &index.name);
        for registry in named.chain(&registries.insecure_registry_cidrs) {
            line(&format!("  {registry}"), "");
        }
    }
    line("Live Restore Enabled", &info.live_restore_enabled.to_string());
    text.replace(": \n", ":\n")
}

/// `name=seccomp,profile=builtin` over two lines.
fn security_option(line: &mut impl FnMut(&str, &str), option: &str) {
    for part in option.split(',') {
        match part.split_once('=') {
            Some(("name", name)) => line(&format!(" {name}"), ""),
            Some((key, value)) => line(&format!("  {key}"), value),
            None => line(&format!(" {part}"), ""),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn memory(bytes: i64) -> String {
    units::binary_size(bytes as f64)
}
