//! `/_ping`, `/version`, `/info`, `/system/df`, `/auth`.

use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use wharf_api::types as wire;
use wharf_engine::system::{HostFacts, UsageScope};

use crate::convert;
use crate::http::serve::with_ping_headers;
use crate::http::{Failure, Outcome, Reply, Request};

/// Plain text, as Go's `_ping` answers.
const TEXT: &str = "text/plain; charset=utf-8";

/// `GET /_ping`
pub(crate) async fn ping(_request: Request) -> Outcome {
    Ok(with_ping_headers(Reply::whole(StatusCode::OK, TEXT, "OK")))
}

/// `HEAD /_ping`: the same headers, and a body that is said to be empty.
pub(crate) async fn head_ping(_request: Request) -> Outcome {
    let reply = Reply::whole(StatusCode::OK, TEXT, "").with_header(CONTENT_LENGTH, HeaderValue::from_static("0"));
    Ok(with_ping_headers(reply))
}

/// `GET /version`
pub(crate) async fn version(_request: Request) -> Outcome {
    let host = tokio::task::spawn_blocking(HostFacts::probe).await;
    let host = host.map_err(|error| Failure::internal(format!("look at the machine: {error}")))?;
    Reply::json(&convert::system::version_to_wire(&host))
}

/// `GET /info`
pub(crate) async fn info(request: Request) -> Outcome {
    let info = request.app.engine.system().info().await?;
    Reply::json(&convert::system::info_to_wire(info, request.version))
}

/// `GET /system/df`; `type` (API 1.42) names the kinds to report.
pub(crate) async fn disk_usage(request: Request) -> Outcome {
    let kinds = if request.version.at_least(42) {
        request.query.all("type")
    } else {
        Vec::new()
    };
    let mut scope = UsageScope {
        containers: false,
        images: false,
        volumes: false,
        build_cache: false,
    };
    for kind in &kinds {
        match kind.as_str() {
            "container" => scope.containers = true,
            "image" => scope.images = true,
            "volume" => scope.volumes = true,
            "build-cache" => scope.build_cache = true,
            other => return Err(Failure::invalid(format!("unknown object type: {other}"))),
        }
    }
    if kinds.is_empty() {
        scope = UsageScope {
            containers: true,
            images: true,
            volumes: true,
            build_cache: true,
        };
    }
    let usage = request.app.engine.system().disk_usage(scope).await?;
    Reply::json(&convert::system::usage_to_wire(usage, request.version))
}

/// `POST /auth`: asks the registry whether credentials are good.
pub(crate) async fn authenticate(mut request: Request) -> Outcome {
    let auth: wharf_api::auth::AuthConfig = request.required_json().await?;
    let credentials = super::transfer::credentials_of(&auth);
    let login = request
        .app
        .engine
        .images()
        .login(&auth.server_address, credentials)
        .await?;
    let answer = wire::AuthResponse {
        status: "Login Succeeded".to_owned(),
        identity_token: login,
    };
    Reply::json(&answer)
}
