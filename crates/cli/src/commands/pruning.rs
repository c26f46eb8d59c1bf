//! What every prune asks and prints.

use std::io::{self, BufRead as _, Write as _};

use crate::error::CliError;
use crate::flags::Flag;
use crate::format::units;

/// The flag that answers the question.
pub(crate) const FORCE: Flag = Flag::switch("force", "Do not ask").short('f');

/// Asks on standard output; anything but `y` means no.
pub(crate) fn confirmed(warning: &str) -> Result<bool, CliError> {
    out!("{warning}\nAre you sure you want to continue? [y/N] ");
    io::stdout().flush().map_err(CliError::io("asking for confirmation"))?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(CliError::io("reading the answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The list of what was removed, when there is any.
pub(crate) fn print_list(title: &str, removed: &[String]) {
    if removed.is_empty() {
        return;
    }
    outln!("{title}");
    for name in removed {
        outln!("{name}");
    }
    outln!();
}

/// The bytes won.
pub(crate) fn print_reclaimed(bytes: u64) {
    #[expect(clippy::cast_precision_loss, reason = "four digits are printed")]
    let bytes = bytes as f64;
    outln!("Total reclaimed space: {}", units::human_size(bytes, 4));
}
