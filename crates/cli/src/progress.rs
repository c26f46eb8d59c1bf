//! The progress of pull, push, load and build: lines that are redrawn on a terminal, plain lines
//! elsewhere.

use std::io::{self, IsTerminal, Write};

use wharf_api::client::Documents;
use wharf_api::types::{ProgressDetail, ProgressMessage};

use crate::error::CliError;
use crate::format::units::human_size;
use crate::pull::Output;

/// Shows every message until the end or the first error. Each also goes to `observe`.
pub(crate) async fn show(
    mut messages: Documents<ProgressMessage>,
    output: Output,
    mut observe: impl FnMut(&ProgressMessage),
) -> Result<(), CliError> {
    let mut screen = Screen::new(output);
    while let Some(message) = messages.next().await? {
        observe(&message);
        if message.aux.is_some() {
            continue;
        }
        if let Some(error) = failure(&message) {
            return Err(error);
        }
        screen.show(&message).map_err(CliError::io("showing the progress"))?;
    }
    Ok(())
}

/// The error that a message carries; the exit code is that of a failed build step.
fn failure(message: &ProgressMessage) -> Option<CliError> {
    let text = match &message.error_detail {
        Some(detail) if !detail.message.is_empty() => &detail.message,
        _ if !message.error.is_empty() => &message.error,
        _ => return None,
    };
    let code = message.error_detail.as_ref().map_or(0, |detail| detail.code);
    Some(match i32::try_from(code) {
        Ok(code @ 1..=255) => CliError::Coded {
            message: text.clone(),
            code,
        },
        _ => CliError::message(text.clone()),
    })
}

/// Where messages are drawn.
struct Screen {
    to: Option<Box<dyn Write>>,
    terminal: bool,
    /// The ids with a line of their own, top first.
    lines: Vec<String>,
}

impl Screen {
    fn new(output: Output) -> Self {
        let (to, terminal): (Option<Box<dyn Write>>, bool) = match output {
            Output::Stdout => (Some(Box::new(io::stdout())), io::stdout().is_terminal()),
            Output::Stderr => (Some(Box::new(io::stderr())), io::stderr().is_terminal()),
            Output::Nothing => (None, false),
        };
        Self {
            to,
            terminal,
            lines: Vec::new(),
        }
    }

    fn show(&mut self, message: &ProgressMessage) -> io::Result<()> {
        let moving = message
            .progress_detail
            .as_ref()
            .is_some_and(|detail| detail.current > 0 || detail.total > 0);
        if !self.terminal && moving {
            return Ok(());
        }
        let line = self.lines_up(&message.id);
        let Some(to) = self.to.as_mut() else { return Ok(()) };
        if let Some(up) = line {
            write!(to, "\x1b[{up}A\x1b[2K\r")?;
            writeln!(to, "{}", text(message))?;
            if up > 1 {
                write!(to, "\x1b[{}B", up - 1)?;
            }
        } else if message.stream.is_empty() {
            writeln!(to, "{}", text(message))?;
        } else {
            write!(to, "{}", message.stream)?;
        }
        to.flush()
    }

    /// How many lines up the line of `id` is, on a terminal that has drawn it before. Ids seen
    /// first get the next line; other messages end the block.
    fn lines_up(&mut self, id: &str) -> Option<usize> {
        if !self.terminal || id.is_empty() {
            self.lines.clear();
            return None;
        }
        match self.lines.iter().position(|line| line == id) {
            Some(index) => Some(self.lines.len() - index),
            None => {
                self.lines.push(id.to_owned());
                None
            }
        }
    }
}

/// One message as a line.
fn text(message: &ProgressMessage) -> String {
    let mut line = String::new();
    if !message.id.is_empty() {
        line.push_str(&format!("{}: ", message.id));
    }
    line.push_str(&message.status);
    if let Some(detail) = &message.progress_detail {
        let bar = bar(detail);
        if !bar.is_empty() {
            line.push(' ');
            line.push_str(&bar);
        }
    } else if !message.progress.is_empty() {
        line.push(' ');
        line.push_str(&message.progress);
    }
    line
}

/// Docker's bar, `[====>    ]  1.2MB/3.4MB`.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn bar(detail: &ProgressDetail) -> String {
    const WIDTH: usize = 50;
    if detail.current <= 0 && detail.total <= 0 {
        return String::new();
    }
    let current = human_size(detail.current as f64, 4);
    if detail.total <= 0 {
        return format!("{current:>8}");
    }
    let done = usize::try_from(detail.current.max(0).saturating_mul(50) / detail.total)
        .unwrap_or(0)
        .min(WIDTH);
    let head = if done < WIDTH { ">" } else { "" };
    let rest = WIDTH - done - head.len();
    let total = human_size(detail.total as f64, 4);
    if detail.current > detail.total {
        return format!("{current:>8}");
    }
    format!("[{}{head}{}]  {current:>8}/{total}", "=".repeat(done), " ".repeat(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill_up() {
        let check = |current, total, expected: &str| {
            let detail = ProgressDetail {
                current,
                total,
                ..ProgressDetail::default()
            };
            assert_eq!(bar(&detail), expected);
        };
        check(0, 0, "");
        check(1500, 0, "   1.5kB");
        check(
            50,
            100,
            &format!("[{}>{}]       50B/100B", "=".repeat(25), " ".repeat(24)),
        );
        check(100, 100, &format!("[{}]      100B/100B", "=".repeat(50)));
    }

    #[test]
    fn errors_of_build_steps_keep_their_code() {
        let message: ProgressMessage =
            serde_json::from_str(r#"{"errorDetail":{"code":3,"message":"boom"},"error":"boom"}"#).unwrap();
        let error = failure(&message).unwrap();
        assert_eq!((error.exit_code(), error.to_string()), (3, "boom".to_owned()));
    }
}
