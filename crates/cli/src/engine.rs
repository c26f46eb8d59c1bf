//! Which engine to talk to, and starting the default one when none listens.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use wharf_api::client::Endpoint;

use crate::error::CliError;
use crate::flags::Parsed;

/// How long an engine that closes connections without an answer is taken for one that is ending.
const DYING_PATIENCE: Duration = Duration::from_secs(10);

/// The engine of this call.
#[derive(Debug)]
pub(crate) struct Choice {
    address: Endpoint,
}

impl Choice {
    /// True for the address of the default engine, whether it was named or not.
    pub(crate) fn is_default(&self) -> bool {
        self.address == default_address()
    }

    /// Its address.
    pub(crate) fn address(&self) -> &Endpoint {
        &self.address
    }

    /// Its address.
    pub(crate) fn into_address(self) -> Endpoint {
        self.address
    }
}

/// Refuses the TLS flags, which this client does not speak yet.
pub(crate) fn refuse_tls(globals: &Parsed) -> Result<(), CliError> {
    let asked = ["tls", "tlsverify"].into_iter().find(|name| globals.is_on(name));
    match asked {
        Some(name) => Err(CliError::message(format!(
            "--{name} is not supported: use a unix socket, or tcp:// through a tunnel"
        ))),
        None => Ok(()),
    }
}

/// `-H`, then `WHARF_HOST`, then `DOCKER_HOST`, then the default socket.
pub(crate) fn choose(globals: &Parsed) -> Result<Choice, CliError> {
    let flags = globals.all("host");
    if flags.len() > 1 {
        return Err(CliError::message("specify only one -H"));
    }
    let named = flags
        .into_iter()
        .next()
        .or_else(|| variable("WHARF_HOST"))
        .or_else(|| variable("DOCKER_HOST"));
    match named {
        Some(text) => Ok(Choice { address: text.parse()? }),
        None => Ok(Choice {
            address: default_address(),
        }),
    }
}

fn default_address() -> Endpoint {
    Endpoint::Unix(default_run_dir().join("wharf.sock"))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The run directory of the default engine: the system's for root, the user's own otherwise.
pub(crate) fn default_run_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/wharf");
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir).join("wharf"),
        _ => PathBuf::from(format!("/run/user/{}/wharf", rustix::process::geteuid().as_raw())),
    }
}

/// Starts the default engine unless one listens already.
pub(crate) async fn ensure_running(address: &Endpoint) -> Result<(), CliError> {
    let Some(()) = absent(address).await? else {
        return Ok(());
    };
    let run = default_run_dir();
    std::fs::create_dir_all(&run).map_err(CliError::io(format!("creating {}", run.display())))?;
    // ORDER: one call starts the engine, the others wait here and find it running.
    let lock = StartLock::take(&run)?;
    if absent(address).await?.is_some() {
        start(&run).await?;
    }
    drop(lock);
    Ok(())
}

/// `Some` when nothing listens at the address, `None` when an engine does and answers.
///
/// The socket of an engine that was just killed listens until its last thread is gone: that end is waited for.
async fn absent(address: &Endpoint) -> Result<Option<()>, CliError> {
    let end = Instant::now() + DYING_PATIENCE;
    loop {
        let error = match ping(address).await {
            Ok(()) => return Ok(None),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(Some(())),
            io::ErrorKind::PermissionDenied => {
                return Err(CliError::message(format!(
                    "permission denied while connecting to the engine at {address}: ask the owner of \
                     the socket for access, or run as the user of the engine"
                )));
            }
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
                if Instant::now() < end =>
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            _ => return Err(CliError::io(format!("connecting to the engine at {address}"))(error)),
        }
    }
}

/// Asks for a sign of life, any beginning of an answer.
async fn ping(address: &Endpoint) -> io::Result<()> {
    let mut connection = address.connect().await?;
    let request = format!(
        "HEAD /_ping HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        address.host_header()
    );
    connection.write_all(request.as_bytes()).await?;
    match connection.read(&mut [0u8; 16]).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// A lock that is held while the default engine is being started.
struct StartLock {
    _file: File,
}

impl StartLock {
    fn take(run: &Path) -> Result<Self, CliError> {
        let path = run.join("start.lock");
        let action = format!("locking {}", path.display());
        let file = File::create(&path).map_err(CliError::io(action.clone()))?;
        file.lock().map_err(CliError::io(action))?;
        Ok(Self { _file: file })
    }
}

/// Spawns `wharf daemon`, detached, its output in a log beside the socket, and waits until it
/// says that it serves (systemd's notification protocol), or ends.
async fn start(run: &Path) -> Result<(), CliError> {
    let log_path = run.join("daemon.log");
    let notice = run.join(format!("ready.{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&notice);
    let socket = UnixDatagram::bind(&notice).map_err(CliError::io(format!("binding {}", notice.display())))?;
    let mut child = spawn_daemon(&log_path, &notice)?;
    let result = tokio::select! {
        ready = wait_ready(&socket) => ready,
        _ = child.wait() => Err(CliError::message(format!(
            "the engine did not start:\n{}\n(the whole log is in {})",
            last_lines(&log_path, 5),
            log_path.display()
        ))),
    };
    let _ = std::fs::remove_file(&notice);
    result
}

async fn wait_ready(socket: &UnixDatagram) -> Result<(), CliError> {
    let mut message = [0u8; 256];
    loop {
        let length = socket
            .recv(&mut message)
            .await
            .map_err(CliError::io("waiting for the engine"))?;
        if message[..length]
            .split(|byte| *byte == b'\n')
            .any(|line| line == b"READY=1")
        {
            return Ok(());
        }
    }
}

fn spawn_daemon(log_path: &Path, notice: &Path) -> Result<Child, CliError> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_path)
        .map_err(CliError::io(format!("opening {}", log_path.display())))?;
    let errors = log.try_clone().map_err(CliError::io("duplicating the log"))?;
    let program = std::env::current_exe().map_err(CliError::io("finding this program"))?;
    detached(&program)
        .arg("daemon")
        .env("NOTIFY_SOCKET", notice)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .current_dir("/")
        .spawn()
        .map_err(CliError::io("starting the engine"))
}

/// A command in its own session, so that no key pressed here reaches it. `setsid` executes the
/// program in its place.
fn detached(program: &Path) -> Command {
    let setsid = ["/usr/bin/setsid", "/bin/setsid"]
        .iter()
        .find(|path| Path::new(path).exists());
    let Some(setsid) = setsid else {
        let mut command = Command::new(program);
        command.process_group(0);
        return command;
    };
    let mut command = Command::new(setsid);
    command.arg(program);
    command
}

fn last_lines(path: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_that_is_ending_counts_as_absent_once_it_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&path).expect("listen");
        let address = Endpoint::Unix(path);
        let ending = tokio::spawn(async move {
            for _ in 0..3 {
                drop(listener.accept().await.expect("a connection"));
            }
        });
        assert!(absent(&address).await.expect("refused in the end").is_some());
        ending.await.expect("three connections were closed");
    }

    #[tokio::test]
    async fn an_engine_that_answers_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&path).expect("listen");
        let address = Endpoint::Unix(path);
        let serving = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.expect("a connection");
            let mut request = [0u8; 256];
            let length = connection.read(&mut request).await.expect("a request");
            connection.write_all(b"HTTP/1.1 200 OK\r\n").await.expect("answer");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        assert!(absent(&address).await.expect("an answer").is_none());
        let request = serving.await.expect("served");
        assert!(request.starts_with("HEAD /_ping HTTP/1.1\r\n"), "{request}");
    }
}
