//! `wharf volume create`.

use wharf_api::types::{Volume, VolumeCreateRequest};

use crate::create::to_map;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::string("driver", "Driver of the volume")
        .short('d')
        .default("\"local\""),
    Flag::list("label", "Label of the volume"),
    Flag::string("name", "Name of the volume").hidden(),
    Flag::list("opt", "Option of the driver")
        .short('o')
        .shown_as("map")
        .default("map[]"),
];

/// Flags of volumes that span a swarm.
const CLUSTER_FLAGS: &[Flag] = &[
    Flag::string("availability", "Availability in a swarm").hidden(),
    Flag::string("group", "Group in a swarm").hidden(),
    Flag::bytes("limit-bytes", "Largest size in a swarm").hidden(),
    Flag::bytes("required-bytes", "Smallest size in a swarm").hidden(),
    Flag::string("scope", "Scope in a swarm").hidden(),
    Flag::list("secret", "Secret in a swarm").hidden(),
    Flag::string("sharing", "Sharing in a swarm").hidden(),
    Flag::list("topology-preferred", "Preferred place in a swarm").hidden(),
    Flag::list("topology-required", "Required place in a swarm").hidden(),
    Flag::string("type", "Access in a swarm").hidden(),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["volume create"],
    usage: "[OPTIONS] [VOLUME]",
    about: "Make a volume",
    flags: &[FLAGS, CLUSTER_FLAGS],
    args: Args::AtMost(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    if let Some(flag) = CLUSTER_FLAGS.iter().find(|flag| parsed.is_given(flag.long)) {
        return Err(CliError::message(format!(
            "--{} is only for volumes that span a swarm, which are not supported",
            flag.long
        )));
    }
    if parsed.is_given("name") && !parsed.args.is_empty() {
        return Err(CliError::message(
            "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
        ));
    }
    let name = if parsed.is_given("name") {
        parsed.text("name")
    } else {
        parsed.arg(0)
    };
    let body = VolumeCreateRequest {
        name: name.to_owned(),
        driver: parsed.last("driver").unwrap_or("local").to_owned(),
        driver_opts: to_map(&parsed.all("opt")),
        labels: to_map(&parsed.all("label")),
    };
    let client = session.client().await?;
    let volume: Volume = client.post("/volumes/create").json(&body).fetch().await?;
    outln!("{}", volume.name);
    Ok(0)
}
