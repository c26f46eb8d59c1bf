//! `/exec` and `/containers/{id}/exec`.

use hyper::StatusCode;
use wharf_api::types as wire;
use wharf_engine::model::requests::{CreateExec, ExecInfo, StartExec};

use super::{attach, containers};
use crate::http::{Failure, Outcome, Reply, Request};

/// `POST /containers/{id}/exec`
pub(crate) async fn create(mut request: Request) -> Outcome {
    let wanted: wire::ExecCreateRequest = request.json().await?.unwrap_or_default();
    let cmd = wanted.cmd.unwrap_or_default();
    if cmd.is_empty() {
        return Err(Failure::invalid("no exec command specified"));
    }
    let create = CreateExec {
        user: wanted.user,
        privileged: wanted.privileged,
        tty: wanted.tty,
        console_size: wanted.console_size.filter(|_| request.version.at_least(42)),
        attach_stdin: wanted.attach_stdin,
        attach_stdout: wanted.attach_stdout,
        attach_stderr: wanted.attach_stderr,
        detach_keys: wanted.detach_keys,
        env: wanted.env.unwrap_or_default(),
        working_dir: wanted.working_dir,
        cmd,
    };
    let id = request
        .app
        .engine
        .containers()
        .exec_create(request.path("id"), create)
        .await?;
    Reply::json_with(StatusCode::CREATED, &wire::IdResponse { id: id.to_string() })
}

/// `POST /exec/{id}/start`: detached it is an ordinary request, attached the connection
/// becomes the stream.
pub(crate) async fn start(mut request: Request) -> Outcome {
    let wanted: wire::ExecStartRequest = request.json().await?.unwrap_or_default();
    let console_size = wanted.console_size.filter(|_| request.version.at_least(42));
    if console_size.is_some() && !wanted.tty {
        return Err(Failure::invalid("console size is only supported when TTY is enabled"));
    }
    let start = StartExec {
        detach: wanted.detach,
        tty: wanted.tty,
        console_size,
    };
    let containers = request.app.engine.containers();
    if wanted.detach {
        containers.exec_start_detached(request.path("id"), start).await?;
        return Ok(Reply::empty(StatusCode::OK));
    }
    let ticket = containers.exec_start(request.path("id"), start).await?;
    Ok(attach::hand_over(&request, ticket, !wanted.tty))
}

/// `POST /exec/{id}/resize`
pub(crate) async fn resize(request: Request) -> Outcome {
    let (height, width) = containers::terminal_size(&request)?;
    request
        .app
        .engine
        .containers()
        .exec_resize(request.path("id"), height, width)
        .await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// `GET /exec/{id}/json`
pub(crate) async fn inspect(request: Request) -> Outcome {
    let exec = request.app.engine.containers().exec_inspect(request.path("id"))?;
    Reply::json(&to_wire(&exec))
}

fn to_wire(exec: &ExecInfo) -> wire::ExecInspect {
    let asked = &exec.request;
    wire::ExecInspect {
        id: exec.id.to_string(),
        running: exec.running,
        exit_code: exec.exit_code.map(i64::from),
        process_config: wire::ExecProcessConfig {
            tty: asked.tty,
            entrypoint: asked.cmd.first().cloned().unwrap_or_default(),
            arguments: asked.cmd.iter().skip(1).cloned().collect(),
            privileged: Some(asked.privileged),
            user: asked.user.clone(),
        },
        open_stdin: asked.attach_stdin,
        open_stderr: asked.attach_stderr,
        open_stdout: asked.attach_stdout,
        can_remove: exec.can_remove,
        container_id: exec.container.to_string(),
        detach_keys: asked.detach_keys.clone(),
        pid: i64::from(exec.pid),
    }
}
