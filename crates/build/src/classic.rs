//! Docker's classic build output: events to the messages that clients of `POST /build` read.
//!
//! COMPAT: pinned by the oracle cases `api/build_stream` and `api/build_parameters`.

use crate::{BuildError, Event, OutputStream};

/// One message of the stream; the daemon writes each as a JSON line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// `{"stream": text}`
    Stream(String),
    /// `{"aux": {"ID": id}}`
    Aux(String),
    /// `{"status":..,"id":..,"progressDetail":{"current":..,"total":..}}`
    Status {
        /// Layer or tag.
        id: Option<String>,
        /// What happens to it.
        status: String,
        /// Bytes so far and in all.
        progress: Option<(u64, Option<u64>)>,
    },
    /// `{"errorDetail":{"code":..,"message":..},"error":..}`
    Error {
        /// Exit code of a failed `RUN`.
        code: Option<i64>,
        /// The whole text.
        message: String,
    },
}

/// Turns events into messages. In quiet mode everything is withheld; a success then ends with the
/// image id alone, a failure with all that was withheld, as Docker does for `-q`.
#[derive(Debug, Default)]
pub struct Classic {
    quiet: bool,
    withheld: Vec<Message>,
}

impl Classic {
    /// A renderer for one build.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            withheld: Vec::new(),
        }
    }

    /// The messages to send now for `event`.
    pub fn event(&mut self, event: Event) -> Vec<Message> {
        let messages = render(event);
        if self.quiet {
            self.withhold(messages);
            return Vec::new();
        }
        messages
    }

    /// The messages that end the stream.
    pub fn finish(self, result: &Result<String, BuildError>) -> Vec<Message> {
        match result {
            Ok(image) if self.quiet => vec![Message::Stream(format!("{image}\n"))],
            Ok(_) => Vec::new(),
            Err(error) => {
                let mut messages = self.withheld;
                messages.push(Message::Error {
                    code: error.exit_code(),
                    message: error.to_string(),
                });
                messages
            }
        }
    }

    /// Keeps the tail of what was withheld: a step may write without end.
    fn withhold(&mut self, messages: Vec<Message>) {
        const KEPT: usize = 4096;
        self.withheld.extend(messages);
        if self.withheld.len() > 2 * KEPT {
            self.withheld.drain(..KEPT);
        }
    }
}

/// The messages of one event, in Docker's words.
fn render(event: Event) -> Vec<Message> {
    let stream = |text: String| vec![Message::Stream(text)];
    match event {
        Event::StepStarted { index, total, text } => {
            let mut out = stream(format!("Step {index}/{total} : {text}"));
            out.push(Message::Stream("\n".into()));
            out
        }
        Event::Triggers { count } => {
            let noun = if count == 1 { "trigger" } else { "triggers" };
            stream(format!("# Executing {count} build {noun}\n"))
        }
        Event::CacheHit => stream(" ---> Using cache\n".into()),
        Event::ContainerStarted { id } => stream(format!(" ---> Running in {}\n", short(&id))),
        Event::Output { stream, data } => vec![Message::Stream(colored(stream, &data))],
        Event::ContainerRemoved { id } => stream(format!(" ---> Removed intermediate container {}\n", short(&id))),
        Event::StepDone { image } => stream(format!(" ---> {}\n", short(image.as_deref().unwrap_or("")))),
        Event::StageDone { image } => vec![Message::Aux(image)],
        Event::Warning { text } => stream(format!("{text}\n")),
        Event::PullStatus { id, status, progress } => vec![Message::Status { id, status, progress }],
        Event::Built { image } => stream(format!("Successfully built {}\n", short(&image))),
        Event::Tagged { name } => stream(format!("Successfully tagged {name}\n")),
    }
}

/// Docker shows a step's standard error in red.
fn colored(stream: OutputStream, data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    match stream {
        OutputStream::Stdout => text.into_owned(),
        OutputStream::Stderr => format!("\u{1b}[91m{text}\u{1b}[0m"),
    }
}

/// The first 12 hex digits of an id.
fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    &hex[..hex.len().min(12)]
}
