//! The daemon's life: settings, log, engine, listeners, until a signal ends it.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wharf_engine::logging::LogDefaults;
use wharf_engine::{Config, Engine, Tunables};

use crate::app::App;
use crate::http::body::Socket;
use crate::http::connection;
use crate::listen::{self, ListenError, Listener};
use crate::options::{Options, OptionsError, Settings};
use crate::own_log::{self, OwnLog};
use crate::reload::Reloader;

/// How long requests may take to end after a signal. Containers are not concerned.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// After a failed accept (out of descriptors, for instance), before the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The options make no sense.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A listener cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The engine's own failure, with its causes.
    #[error("{0}")]
    Engine(String),
    /// The async runtime or a signal handler cannot be set up.
    #[error("cannot set up the {what}")]
    Setup {
        /// What it was.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs a daemon in the foreground until SIGTERM or SIGINT. Containers go on after it.
pub fn main(options: Options) -> Result<(), DaemonError> {
    let settings = options.clone().settle()?;
    let log = OwnLog::start(&settings.log_level);
    outlast_containers();
    wharf_engine::settle_process();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("wharf")
        .max_blocking_threads(128)
        .thread_keep_alive(wharf_engine::IDLE_THREAD)
        .build()
        .map_err(|source| DaemonError::Setup {
            what: "async runtime",
            source,
        })?;
    let result = runtime.block_on(run(options, settings, log));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// When memory runs out, containers go before the engine. Without the privilege it is as likely as any process.
///
/// COMPAT: dockerd's own score. Containers never inherit it: their init has the score that was asked for, or 0.
fn outlast_containers() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-500") {
        tracing::info!("the engine is not protected when memory runs out: {error}");
    }
}

async fn run(options: Options, settings: Settings, log: OwnLog) -> Result<(), DaemonError> {
    let stopping = CancellationToken::new();
    // ORDER: before anything else, so that no signal ends an engine that is just starting.
    let hangups = watch_signals(stopping.clone())?;
    let engine = Engine::start(engine_config(&settings))
        .await
        .map_err(|error| DaemonError::Engine(error.chain()))?;
    let app = Arc::new(App::new(engine.clone()));
    // ORDER: the socket appears when requests can be answered, never before.
    let listeners = listen::open(&settings).await?;
    tracing::info!(root = %settings.root.display(), instance = settings.instance, "ready");
    notify(b"READY=1");
    let reloader = Reloader::new(options, settings, engine.clone(), log);
    let reloading = tokio::spawn(reloader.run(hangups));
    let clients = TaskTracker::new();
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(accept(listener, Arc::clone(&app), clients.clone(), stopping.clone())))
        .collect();
    stopping.cancelled().await;
    tracing::info!("ending; containers go on");
    for task in accepting {
        let _ = task.await;
    }
    clients.close();
    if tokio::time::timeout(DRAIN_LIMIT, clients.wait()).await.is_err() {
        tracing::info!(clients = clients.len(), "some clients are cut off");
    }
    reloading.abort();
    engine.shutdown().await;
    Ok(())
}

/// Tells whoever started this process how it stands, as `sd_notify(3)` describes.
pub(crate) fn notify(state: &[u8]) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent =
        notification_address(&address).and_then(|address| UnixDatagram::unbound()?.send_to_addr(state, &address));
    if let Err(error) = sent {
        tracing::warn!(%error, socket = ?address, "the starter could not be told how the engine stands");
    }
}

/// A path, or a name in the kernel's own name space after an `@`.
fn notification_address(text: &OsStr) -> std::io::Result<SocketAddr> {
    match text.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(text),
    }
}

/// Removes everything that an instance owns, with or without its engine running.
pub fn reset(options: Options) -> Result<(), DaemonError> {
    let (root, run, instance) = options.places()?;
    wharf_engine::reset(&root, &run, &instance).map_err(|error| DaemonError::Engine(error.chain()))
}

fn engine_config(settings: &Settings) -> Config {
    let mut config = Config::new(&settings.root, &settings.run, settings.instance.clone(), &settings.shim);
    if let Some(events) = settings.limits.event_history {
        config.event_history = wharf_engine::HistoryLimits::of(events);
    }
    config.live.replace(tunables(settings));
    config
}

/// The settings that may change while the engine runs.
pub(crate) fn tunables(settings: &Settings) -> Tunables {
    let (usual, limits) = (Tunables::default(), settings.limits);
    let mut tunables = Tunables {
        registries: settings.registries.clone(),
        runtimes: settings.runtimes.clone(),
        labels: settings.labels.clone(),
        debug: own_log::tells_details(&settings.log_level),
        operation_limits: settings.operation_limits.clone(),
        plugins: settings.plugins.clone(),
        default_pids_limit: limits.pids.unwrap_or(usual.default_pids_limit),
        default_host_view: limits.host_view.unwrap_or(usual.default_host_view),
        reserve: settings.reserve,
        logging: usual.logging,
    };
    configure_logging(&mut tunables.logging, settings);
    tunables
}

fn configure_logging(logging: &mut LogDefaults, settings: &Settings) {
    let (limits, wanted) = (settings.limits, settings.logging.clone());
    logging.file_bytes = limits.log_bytes.unwrap_or(logging.file_bytes);
    logging.files = limits.log_files.unwrap_or(logging.files);
    if let Some(driver) = wanted.driver {
        logging.driver = driver;
    }
    logging.options = wanted.options;
    if let Some(socket) = wanted.journal_socket {
        logging.journal = socket;
    }
    // Shims call this very program for what is too large for them.
    logging.helper = std::env::current_exe().ok();
}

/// Has SIGTERM and SIGINT end the daemon; answers the stream of SIGHUP.
fn watch_signals(stopping: CancellationToken) -> Result<Signal, DaemonError> {
    let failed = |source| DaemonError::Setup {
        what: "signal handlers",
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    // A terminal that goes away must not end an engine started from it either.
    let hangups = signal(SignalKind::hangup()).map_err(failed)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    Ok(hangups)
}

async fn accept(listener: Listener, app: Arc<App>, clients: TaskTracker, stopping: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = accept_one(&listener, &app, &clients, &stopping) => accepted,
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a client could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn accept_one(
    listener: &Listener,
    app: &Arc<App>,
    clients: &TaskTracker,
    stopping: &CancellationToken,
) -> std::io::Result<()> {
    match listener {
        Listener::Unix { listener, .. } => {
            let (stream, _) = listener.accept().await?;
            clients.spawn(serve(Arc::clone(app), stream, stopping.clone()));
        }
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            clients.spawn(serve(Arc::clone(app), stream, stopping.clone()));
        }
    }
    Ok(())
}

async fn serve<S>(app: Arc<App>, stream: S, stopping: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Into<Socket> + Unpin + Send + 'static,
{
    connection::serve(Arc::clone(&app), stream, stopping).await;
    app.engine.worked();
}
