//! Signals passed on to a container, and changes of the terminal's size.

use tokio::signal::unix::{Signal, SignalKind, signal};
use wharf_api::client::{Client, escape};

use crate::error::CliError;
use crate::terminal;

/// Signals that are passed on, with their names.
const FORWARDED: [(i32, &str); 7] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
];

/// Catches signals from now on.
pub(crate) struct Forwarder {
    caught: Vec<(Signal, &'static str)>,
}

impl Forwarder {
    /// Takes the signals over from the system's defaults.
    pub(crate) fn new() -> Result<Self, CliError> {
        let caught = FORWARDED
            .iter()
            .map(|(number, name)| Ok((signal(SignalKind::from_raw(*number))?, *name)))
            .collect::<Result<_, _>>()
            .map_err(CliError::io("catching signals"))?;
        Ok(Self { caught })
    }

    /// Passes every signal on to the container; never ends.
    pub(crate) async fn forward(&mut self, client: &Client, id: &str) {
        loop {
            let name = self.next().await;
            let path = format!("/containers/{}/kill", escape(id));
            // A container that has just ended needs no signal.
            let _ = client.post(path).query("signal", name).finish().await;
        }
    }

    async fn next(&mut self) -> &'static str {
        let waits = self.caught.iter_mut().map(|(signal, name)| {
            Box::pin(async move {
                signal.recv().await;
                *name
            })
        });
        futures_util::future::select_all(waits).await.0
    }
}

/// What is resized with the terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resized<'a> {
    /// A container.
    Container(&'a str),
    /// A command in a container.
    Exec(&'a str),
}

impl Resized<'_> {
    fn path(self) -> String {
        match self {
            Self::Container(id) => format!("/containers/{}/resize", escape(id)),
            Self::Exec(id) => format!("/exec/{}/resize", escape(id)),
        }
    }
}

/// Keeps the size equal to that of the terminal; never ends. The first try may come before the
/// process runs, so it is repeated.
pub(crate) async fn follow_size(client: &Client, target: Resized<'_>) {
    let mut changed = signal(SignalKind::window_change()).ok();
    for attempt in 0..10u64 {
        if resize(client, target).await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10 * (attempt + 1))).await;
    }
    loop {
        match &mut changed {
            Some(changed) => changed.recv().await,
            None => std::future::pending().await,
        };
        resize(client, target).await;
    }
}

async fn resize(client: &Client, target: Resized<'_>) -> bool {
    let Some((height, width)) = terminal::size() else {
        return true;
    };
    let request = client
        .post(target.path())
        .query("h", height.to_string())
        .query("w", width.to_string());
    request.finish().await.is_ok()
}
