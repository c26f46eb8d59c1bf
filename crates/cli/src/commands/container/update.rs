//! `wharf container update`.

use wharf_api::types::{ContainerUpdateRequest, ContainerUpdateResponse, RestartPolicy};

use super::path;
use crate::create;
use crate::error::{CliError, Failures, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::uint16("blkio-weight", "Share of block IO, 10 to 1000, 0 for none").default("0"),
    Flag::int("cpu-period", "Period of the CPU scheduler, microseconds"),
    Flag::int("cpu-quota", "CPU time in each period, microseconds"),
    Flag::int("cpu-rt-period", "Period of the real-time scheduler, microseconds"),
    Flag::int("cpu-rt-runtime", "Real-time CPU time in each period, microseconds"),
    Flag::int("cpu-shares", "Share of CPU time against other containers").short('c'),
    Flag::decimal("cpus", "Processors, 1.5 for one and a half"),
    Flag::string("cpuset-cpus", "Processors to run on (0-3, 0,1)"),
    Flag::string("cpuset-mems", "Memory nodes to use (0-3, 0,1)"),
    Flag::string(
        "health-on-failure",
        "What to do when it is unhealthy (none|kill|restart|stop|freeze)",
    ),
    Flag::bytes("kernel-memory", "Accepted and ignored").hidden(),
    Flag::bytes("memory", "Memory the container may use").short('m'),
    Flag::bytes("memory-reservation", "Memory it should stay under when memory is short"),
    Flag::signed_bytes("memory-swap", "Memory and swap together, -1 for no limit"),
    Flag::int("pids-limit", "Most processes, -1 for no limit"),
    Flag::string("restart", "When to start the container again"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container update", "update"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Change the limits and the restart policy of containers",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    if !FLAGS.iter().any(|flag| parsed.is_given(flag.long)) {
        return Err(CliError::message(
            "you must provide one or more flags when using this command",
        ));
    }
    let body = request(parsed)?;
    let client = session.client().await?;
    let mut failures = Failures::default();
    let mut warnings = Vec::new();
    for id in &parsed.args {
        let update = client.post(path(id, "/update")).json(&body);
        match update.fetch::<ContainerUpdateResponse>().await {
            Ok(answer) => {
                outln!("{id}");
                warnings.extend(answer.warnings.unwrap_or_default());
            }
            Err(error) => failures.add(&CliError::from(error)),
        }
    }
    warnings.iter().for_each(|warning| session.warn(warning));
    failures.outcome()
}

fn request(parsed: &Parsed) -> Result<ContainerUpdateRequest, CliError> {
    let mut resources = create::limits(parsed);
    resources.pids_limit = parsed.number_given("pids-limit");
    let restart_policy = match parsed.text("restart") {
        "" => RestartPolicy::default(),
        text => create::restart_policy(text)?,
    };
    Ok(ContainerUpdateRequest {
        resources,
        restart_policy,
        annotations: parsed
            .last("health-on-failure")
            .map(|action| (create::HEALTH_ON_FAILURE.to_owned(), action.to_owned()))
            .into_iter()
            .collect(),
    })
}
