//! Running a program with a deadline and looking at what it said.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a finished program ended and what it printed.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

impl Output {
    /// Standard output without its surrounding white space.
    ///
    /// # Panics
    /// When the program failed: the message holds all it printed.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self}");
        self.stdout.trim()
    }

    /// Checks the exit code and that standard error contains `text`.
    ///
    /// # Panics
    /// When either is not so.
    #[track_caller]
    pub fn fails(&self, code: i32, text: &str) {
        assert!(
            self.code == code && self.stderr.contains(text),
            "expected exit {code} and {text:?}\n{self}"
        );
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "$ {}\nexit {}\n--- stdout\n{}\n--- stderr\n{}",
            self.line, self.code, self.stdout, self.stderr
        )
    }
}

/// Runs `command` to its end, feeding it `stdin`; kills it after `deadline`.
///
/// # Errors
/// When it cannot be started or does not end in time.
pub fn run(command: &mut Command, stdin: &[u8], deadline: Duration) -> Result<Output> {
    let line = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {line}"))?;
    let mut input = child.stdin.take().context("stdin")?;
    let data = stdin.to_vec();
    let feeder = std::thread::spawn(move || {
        // A program that ends without reading all of its input is no failure of the test.
        let _ = input.write_all(&data);
    });
    let stdout = drain(child.stdout.take().context("stdout")?);
    let stderr = drain(child.stderr.take().context("stderr")?);
    let end = Instant::now() + deadline;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!(
                "no end after {deadline:?}: {line}\n{}",
                stderr.join().unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let _ = feeder.join();
    let code = status
        .code()
        .unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0));
    let text = |t: std::thread::JoinHandle<String>| t.join().unwrap_or_default();
    Ok(Output {
        line,
        code,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
