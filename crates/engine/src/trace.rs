//! A time line of one operation, printed when `WHARF_TRACE=1`.
use std::sync::OnceLock;
use std::time::Instant;

/// Collects named points in time; does nothing unless switched on.
#[derive(Debug)]
pub(crate) struct Trace {
    lines: Option<Lines>,
}

#[derive(Debug)]
struct Lines {
    title: String,
    begun: Instant,
    last: Instant,
    text: String,
}

impl Trace {
    /// Begins a time line.
    pub(crate) fn begin(operation: &str, target: &str) -> Self {
        static ON: OnceLock<bool> = OnceLock::new();
        let on = *ON.get_or_init(|| std::env::var_os("WHARF_TRACE").is_some_and(|v| v == "1"));
        let lines = on.then(|| {
            let now = Instant::now();
            Lines {
                title: format!("{operation} {target}"),
                begun: now,
                last: now,
                text: String::new(),
            }
        });
        Self { lines }
    }

    /// Marks the end of a step.
    pub(crate) fn step(&mut self, name: &str) {
        if let Some(lines) = &mut self.lines {
            let now = Instant::now();
            let (step, total) = (now - lines.last, now - lines.begun);
            lines.text.push_str(&format!(
                "\n  {:>9.3} ms  +{:>8.3} ms  {name}",
                total.as_secs_f64() * 1e3,
                step.as_secs_f64() * 1e3
            ));
            lines.last = now;
        }
    }

    /// Prints it.
    pub(crate) fn end(&mut self) {
        if let Some(lines) = self.lines.take() {
            eprintln!("trace: {}{}", lines.title, lines.text);
        }
    }
}
