//! Named points at which a test kills the process, to see what the next one makes of what was half done.
//!
//! Nothing happens unless `WHARF_FAILPOINT` is set when the process starts; then it is one of
//!
//! ```text
//! trace:FILE       append the name of every point that is reached, one a line, to FILE
//! kill:NAME        die (SIGKILL) when NAME is reached
//! kill:NAME:N      the Nth time
//! stop:NAME        stand still (SIGSTOP) when NAME is reached
//! ```
//! Unarmed, a point costs one load and a branch.
use std::ffi::CString;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// The variable that arms the points of a process.
pub const VARIABLE: &str = "WHARF_FAILPOINT";

#[derive(Debug)]
enum Plan {
    Trace(std::path::PathBuf),
    Strike {
        signal: Signal,
        name: String,
        left: AtomicU32,
    },
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    PLAN.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?)).as_ref()
}

fn parse(text: &str) -> Option<Plan> {
    let (action, rest) = text.split_once(':')?;
    let signal = match action {
        "trace" => return Some(Plan::Trace(rest.into())),
        "kill" => Signal::KILL,
        "stop" => Signal::STOP,
        _ => return None,
    };
    let (name, count) = match rest.rsplit_once(':') {
        Some((name, count)) => match count.parse() {
            Ok(count) => (name, count),
            Err(_) => (rest, 1),
        },
        None => (rest, 1),
    };
    Some(Plan::Strike {
        signal,
        name: name.to_owned(),
        left: AtomicU32::new(count),
    })
}

/// Whether any point of this process is armed.
pub fn is_armed() -> bool {
    plan().is_some()
}

/// What a child must be given for points whose names begin with `prefix`: `VARIABLE=plan`. Nothing
/// unless this process is armed with such a point, or traces.
pub fn for_child(prefix: &str) -> Option<CString> {
    let text = match plan()? {
        Plan::Trace(path) => format!("{VARIABLE}=trace:{}", path.display()),
        Plan::Strike { name, .. } if name.starts_with(prefix) => {
            format!("{VARIABLE}={}", std::env::var(VARIABLE).ok()?)
        }
        Plan::Strike { .. } => return None,
    };
    CString::new(text).ok()
}

/// A point that is named by its place: `net/connect/veth`.
#[inline]
pub fn reach(name: &str) {
    if let Some(plan) = plan() {
        carry_out(plan, name);
    }
}

#[cold]
fn carry_out(plan: &Plan, name: &str) {
    match plan {
        Plan::Trace(path) => {
            let file = std::fs::File::options().create(true).append(true).open(path);
            // A line in one write: several processes may append.
            let written = file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()));
            if let Err(error) = written {
                eprintln!("failpoint {name}: {}: {error}", path.display());
            }
        }
        Plan::Strike {
            signal,
            name: wanted,
            left,
        } => {
            if wanted == name && left.fetch_sub(1, Ordering::Relaxed) == 1 {
                let _ = kill_process(getpid(), *signal); // a process may signal itself
                if *signal == Signal::KILL {
                    // ORDER: not one instruction of this thread follows the point.
                    std::process::abort();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strike(text: &str) -> Option<(Signal, String, u32)> {
        match parse(text)? {
            Plan::Strike { signal, name, left } => Some((signal, name, left.into_inner())),
            Plan::Trace(_) => None,
        }
    }

    #[test]
    fn plans_name_a_point_and_a_count() {
        assert_eq!(strike("kill:start/shim"), Some((Signal::KILL, "start/shim".into(), 1)));
        assert_eq!(
            strike("kill:start/shim:3"),
            Some((Signal::KILL, "start/shim".into(), 3))
        );
        assert_eq!(strike("stop:a:b"), Some((Signal::STOP, "a:b".into(), 1)));
        assert!(matches!(parse("trace:/x/y"), Some(Plan::Trace(path)) if path.ends_with("x/y")));
        assert!(parse("kill").is_none() && parse("explode:x").is_none());
    }

    #[test]
    fn an_unarmed_point_does_nothing() {
        assert!(!is_armed());
        reach("anything");
    }
}
