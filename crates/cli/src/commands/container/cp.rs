//! `wharf container cp`.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use wharf_api::client::{Client, Response};
use wharf_api::types::{PathStat, go_mode};

use super::path;
use crate::archive;
use crate::copy_plan::{self, End, asserts_directory, clean, plan, split};
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::format::units;
use crate::session::Session;
use crate::unpack;
use crate::upload;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("archive", "Keep the owners of the files").short('a'),
    Flag::switch("follow-link", "Copy what a link as source points to").short('L'),
    Flag::switch("quiet", "Do not say what was copied").short('q'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container cp", "cp"],
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       SRC_PATH|- CONTAINER:DEST_PATH",
    about: "Copy files between a container and this machine",
    flags: &[FLAGS],
    args: Args::Exactly(2),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let (from, to) = (side(parsed.arg(0)), side(parsed.arg(1)));
    if from.path.is_empty() {
        return Err(CliError::message("source can not be empty"));
    }
    if to.path.is_empty() {
        return Err(CliError::message("destination can not be empty"));
    }
    match (from.container, to.container) {
        (Some(_), Some(_)) => Err(CliError::message("copying between containers is not supported")),
        (None, None) => Err(CliError::message("must specify at least one container source")),
        (Some(container), None) => {
            let client = session.client().await?;
            copy_out(&client, parsed, (container, from.path), to.path).await
        }
        (None, Some(container)) => {
            let client = session.client().await?;
            copy_in(&client, parsed, from.path, (container, to.path)).await
        }
    }
}

/// One argument: a path here, or a container and a path in it.
struct Side<'a> {
    container: Option<&'a str>,
    path: &'a str,
}

fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        Some((container, path)) if !text.starts_with(['/', '.']) => Side {
            container: Some(container),
            path,
        },
        _ => Side {
            container: None,
            path: text,
        },
    }
}

async fn copy_out(client: &Client, parsed: &Parsed, (id, source): (&str, &str), to: &str) -> Outcome {
    let source = if parsed.is_on("follow-link") {
        follow(client, id, source).await?
    } else {
        source.to_owned()
    };
    let mut response = client
        .get(path(id, "/archive"))
        .query("path", source.as_str())
        .send()
        .await?;
    if to == "-" {
        let mut stdout = io::stdout().lock();
        while let Some(bytes) = response.chunk().await? {
            stdout.write_all(&bytes).map_err(CliError::io("writing the archive"))?;
        }
        stdout.flush().map_err(CliError::io("writing the archive"))?;
        return Ok(0);
    }
    let stat = stat_of(&response)?;
    let source_end = End {
        path: source,
        exists: true,
        is_dir: go_mode::is_dir(stat.mode),
    };
    let plan = plan(&source_end, &local_end(to)?).map_err(|error| CliError::message(error.to_string()))?;
    let copied = unpack::extract(response, plan).await?;
    report(parsed, copied, to);
    Ok(0)
}

async fn copy_in(client: &Client, parsed: &Parsed, source: &str, (id, to): (&str, &str)) -> Outcome {
    let to_end = container_end(client, id, to).await?;
    let (dir, body) = if source == "-" {
        if !to_end.is_dir {
            return Err(CliError::message(format!(
                "destination \"{id}:{to}\" must be a directory"
            )));
        }
        (to_end.path, upload::from_reader(io::stdin()))
    } else {
        let source = if parsed.is_on("follow-link") {
            resolve(source)?
        } else {
            source.to_owned()
        };
        let metadata = std::fs::symlink_metadata(source.trim_end_matches('/'))
            .map_err(|_| CliError::message(format!("lstat {source}: no such file or directory")))?;
        let is_dir = metadata.is_dir() || (asserts_directory(&source) && Path::new(&source).is_dir());
        if asserts_directory(&source) && !is_dir {
            return Err(CliError::message(format!("{source}: not a directory")));
        }
        let plan = plan(
            &End {
                path: source.clone(),
                exists: true,
                is_dir,
            },
            &to_end,
        )
        .map_err(|error| CliError::message(error.to_string()))?;
        let (_, name) = split(&source);
        let name = copy_plan::renamed(&name, plan.rename.as_ref());
        let body = upload::from_writer(move |writer| {
            let mut builder = tar::Builder::new(writer);
            archive::append_tree(&mut builder, Path::new(&source), &name)?;
            builder.finish()
        });
        (plan.dir, body)
    };
    client
        .request(Method::PUT, path(id, "/archive"))
        .query("path", dir)
        .query("noOverwriteDirNonDir", "true")
        .query_if("copyUIDGID", if parsed.is_on("archive") { "true" } else { "" })
        .body("application/x-tar", body)
        .finish()
        .await?;
    report(parsed, 0, &format!("{id}:{to}"));
    Ok(0)
}

/// Says what was done, on a terminal.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn report(parsed: &Parsed, bytes: u64, to: &str) {
    if parsed.is_on("quiet") || !io::stderr().is_terminal() {
        return;
    }
    if bytes > 0 {
        eprintln!("Successfully copied {} to {to}", units::human_size(bytes as f64, 3));
    } else {
        eprintln!("Successfully copied to {to}");
    }
}

/// What a path in a container is; a link as destination means what it points to.
async fn container_end(client: &Client, id: &str, to: &str) -> Result<End, CliError> {
    let Some(found) = stat(client, id, to).await? else {
        return Ok(End {
            path: to.to_owned(),
            exists: false,
            is_dir: false,
        });
    };
    if !go_mode::is_symlink(found.mode) {
        return Ok(End {
            path: to.to_owned(),
            exists: true,
            is_dir: go_mode::is_dir(found.mode),
        });
    }
    let target = link_target(to, &found.link_target);
    let found = stat(client, id, &target).await?;
    Ok(End {
        path: target,
        exists: found.is_some(),
        is_dir: found.is_some_and(|stat| go_mode::is_dir(stat.mode)),
    })
}

/// The path that a link as source points to.
async fn follow(client: &Client, id: &str, source: &str) -> Result<String, CliError> {
    match stat(client, id, source).await? {
        Some(stat) if go_mode::is_symlink(stat.mode) => Ok(link_target(source, &stat.link_target)),
        _ => Ok(source.to_owned()),
    }
}

fn link_target(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let (dir, _) = split(link);
    clean(&format!("{dir}/{target}"))
}

/// `None` when there is nothing, also when there is no such container: the copy says so itself.
async fn stat(client: &Client, id: &str, in_container: &str) -> Result<Option<PathStat>, CliError> {
    let request = client
        .request(Method::HEAD, path(id, "/archive"))
        .query("path", in_container);
    match request.send().await {
        Ok(response) => stat_of(&response).map(Some),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn stat_of(response: &Response) -> Result<PathStat, CliError> {
    let invalid = |reason: String| CliError::message(format!("unable to decode container path stat header: {reason}"));
    let header = response
        .header("x-docker-container-path-stat")
        .ok_or_else(|| invalid("missing".to_owned()))?;
    let json = STANDARD.decode(header).map_err(|error| invalid(error.to_string()))?;
    serde_json::from_slice(&json).map_err(|error| invalid(error.to_string()))
}

/// What a path here is; its directory must exist.
fn local_end(to: &str) -> Result<End, CliError> {
    let trimmed = if to.len() > 1 { to.trim_end_matches('/') } else { to };
    if let Ok(metadata) = std::fs::metadata(trimmed) {
        return Ok(End {
            path: to.to_owned(),
            exists: true,
            is_dir: metadata.is_dir(),
        });
    }
    let (dir, _) = split(to);
    if !Path::new(&dir).is_dir() {
        return Err(CliError::message(format!(
            "invalid output path: directory {dir:?} does not exist"
        )));
    }
    Ok(End {
        path: to.to_owned(),
        exists: false,
        is_dir: false,
    })
}

/// What a link here points to, a slash or `/.` at the end kept.
fn resolve(source: &str) -> Result<String, CliError> {
    let bare = source.trim_end_matches("/.").trim_end_matches('/');
    let found = std::fs::canonicalize(if bare.is_empty() { "/" } else { bare })
        .map_err(|_| CliError::message(format!("lstat {source}: no such file or directory")))?;
    let ending = if source.ends_with("/.") {
        "/."
    } else if source.ends_with('/') {
        "/"
    } else {
        ""
    };
    Ok(format!("{}{ending}", found.display()))
}
