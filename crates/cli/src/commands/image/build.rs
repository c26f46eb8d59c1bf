//! `wharf image build`.

use std::io::Write as _;

use wharf_api::auth::{REGISTRY_CONFIG_HEADER, encode_header};
use wharf_api::client::{Client, RequestBuilder};
use wharf_api::types::{BuildResult, ProgressMessage};

use crate::build_context::{self, Wanted};
use crate::create::to_map;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::progress;
use crate::pull::Output;
use crate::reference;
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::list("add-host", "Line to add to /etc/hosts (HOST:IP)"),
    Flag::list("build-arg", "Argument of the build (NAME=VALUE)"),
    Flag::strings("cache-from", "Image to take cached steps from"),
    Flag::string("cgroup-parent", "Parent cgroup of RUN steps"),
    Flag::switch("compress", "Compress the context with gzip"),
    Flag::int("cpu-period", "Period of the CPU scheduler, microseconds"),
    Flag::int("cpu-quota", "CPU time in each period, microseconds"),
    Flag::int("cpu-shares", "Share of CPU time against other containers").short('c'),
    Flag::string("cpuset-cpus", "Processors to run on (0-3, 0,1)"),
    Flag::string("cpuset-mems", "Memory nodes to use (0-3, 0,1)"),
    Flag::switch("disable-content-trust", "Accepted and ignored").default("true"),
    Flag::string("file", "Path of the Dockerfile (PATH/Dockerfile unless said)").short('f'),
    Flag::switch("force-rm", "Remove the containers of failed steps too"),
    Flag::string("iidfile", "File to write the image's ID to"),
    Flag::string("isolation", "Isolation technology"),
    Flag::list("label", "Label of the image"),
    Flag::bytes("memory", "Memory that a step may use").short('m'),
    Flag::signed_bytes("memory-swap", "Memory and swap together, -1 for no limit"),
    Flag::string("network", "Network of RUN steps").default("\"default\""),
    Flag::switch("no-cache", "Make every step anew"),
    Flag::string("platform", "Platform to build for"),
    Flag::string("progress", "How to show the progress").hidden(),
    Flag::switch("pull", "Look for newer base images"),
    Flag::switch("quiet", "Print only the image's ID").short('q'),
    Flag::switch("rm", "Remove the containers of successful steps").default("true"),
    Flag::strings("security-opt", "Security option"),
    Flag::bytes("shm-size", "Size of /dev/shm"),
    Flag::switch("squash", "Make one layer of the new ones"),
    Flag::list("tag", "Name of the image, NAME[:TAG]").short('t'),
    Flag::string("target", "Stage to build"),
    Flag::list("ulimit", "Resource limit (NAME=SOFT[:HARD])")
        .shown_as("ulimit")
        .default("[]"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image build", "build", "builder build"],
    usage: "[OPTIONS] PATH | URL | -",
    about: "Make an image from a Dockerfile",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    for tag in parsed.all("tag") {
        reference::parse(&tag)
            .map_err(|error| CliError::message(format!("invalid argument {tag:?} for \"-t, --tag\" flag: {error}")))?;
    }
    let context = build_context::prepare(Wanted {
        source: parsed.arg(0),
        dockerfile: parsed.text("file"),
        compress: parsed.is_on("compress"),
    })?;
    let client = session.client().await?;
    let mut request = request(session, &client, parsed)?
        .query("dockerfile", context.dockerfile)
        .query_if("remote", &context.remote);
    if let Some(body) = context.body {
        request = request.body("application/x-tar", body);
    }
    let quiet = parsed.is_on("quiet");
    let output = if quiet { Output::Nothing } else { Output::Stdout };
    let mut image = String::new();
    let response = request.send().await?;
    progress::show(response.documents(), output, |message| {
        if let Some(id) = image_id(message) {
            image = id;
        }
    })
    .await?;
    finish(parsed, &image)
}

/// The id that a message tells: beside the text, or as the only text of a quiet build.
fn image_id(message: &ProgressMessage) -> Option<String> {
    if let Some(aux) = &message.aux {
        let BuildResult { id } = serde_json::from_value(aux.clone()).ok()?;
        return (!id.is_empty()).then_some(id);
    }
    let text = message.stream.trim();
    (text.starts_with("sha256:") && !text.contains(char::is_whitespace)).then(|| text.to_owned())
}

/// Prints and writes the image's id.
fn finish(parsed: &Parsed, image: &str) -> Outcome {
    if parsed.is_on("quiet") {
        outln!("{image}");
    }
    let path = parsed.text("iidfile");
    if !path.is_empty() {
        if image.is_empty() {
            return Err(CliError::message(format!(
                "server did not provide an image ID. Cannot write {path}"
            )));
        }
        std::fs::File::create(path)
            .and_then(|mut file| file.write_all(image.as_bytes()))
            .map_err(CliError::io(format!("writing {path}")))?;
    }
    Ok(0)
}

fn request(session: &Session, client: &Client, parsed: &Parsed) -> Result<RequestBuilder, CliError> {
    let mut request = client.post("/build").query("version", "1").header(
        REGISTRY_CONFIG_HEADER,
        encode_header(&session.config().all_credentials()),
    );
    for tag in parsed.all("tag") {
        request = request.query("t", tag);
    }
    for host in parsed.all("add-host") {
        request = request.query("extrahosts", host);
    }
    for option in parsed.all("security-opt") {
        request = request.query("securityopt", option);
    }
    for (parameter, flag) in [
        ("q", "quiet"),
        ("nocache", "no-cache"),
        ("pull", "pull"),
        ("forcerm", "force-rm"),
        ("squash", "squash"),
    ] {
        request = request.query_flag(parameter, parsed.is_on(flag));
    }
    request = request.query("rm", if parsed.is_not_off("rm") { "1" } else { "0" });
    for (parameter, flag) in [
        ("cpusetcpus", "cpuset-cpus"),
        ("cpusetmems", "cpuset-mems"),
        ("cpushares", "cpu-shares"),
        ("cpuquota", "cpu-quota"),
        ("cpuperiod", "cpu-period"),
        ("memory", "memory"),
        ("memswap", "memory-swap"),
        ("cgroupparent", "cgroup-parent"),
        ("shmsize", "shm-size"),
        ("networkmode", "network"),
        ("target", "target"),
        ("platform", "platform"),
        ("isolation", "isolation"),
    ] {
        request = request.query_if(parameter, parsed.text(flag));
    }
    let arguments = build_arguments(session, client, &parsed.all("build-arg"));
    for (parameter, value) in [
        ("buildargs", to_json(&arguments)),
        ("labels", to_json(&to_map(&parsed.all("label")))),
        ("cachefrom", to_json(&parsed.all("cache-from"))),
        ("ulimits", to_json(&crate::create::ulimits(&parsed.all("ulimit"))?)),
    ] {
        if !matches!(value.as_str(), "{}" | "[]") {
            request = request.query(parameter, value);
        }
    }
    Ok(request)
}

fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("invariant: lists and maps of strings are JSON")
}

/// Arguments with their values; one without takes the value it has here, and none when it has
/// none. Proxies are passed on unless they are given.
fn build_arguments(
    session: &Session,
    client: &Client,
    given: &[String],
) -> std::collections::BTreeMap<String, Option<String>> {
    let proxies = session.config().proxy_variables(&client.endpoint().to_string());
    let mut arguments: std::collections::BTreeMap<String, Option<String>> =
        proxies.into_iter().map(|(name, value)| (name, Some(value))).collect();
    for argument in given {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), std::env::var(argument).ok()),
        };
        arguments.insert(name.to_owned(), value);
    }
    arguments
}
