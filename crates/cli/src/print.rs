//! Printing to standard output. A reader that has gone away ends the program as SIGPIPE ends
//! others: without words.

use std::fmt::Arguments;
use std::io::{self, Write as _};

/// The exit code of a program that SIGPIPE has killed, as shells show it.
const KILLED_BY_SIGPIPE: i32 = 141;

/// Prints a text.
macro_rules! out {
    ($($text:tt)*) => { $crate::print::write(format_args!($($text)*)) };
}

/// Prints a text and ends the line.
macro_rules! outln {
    () => { $crate::print::write(format_args!("\n")) };
    ($($text:tt)*) => { $crate::print::write(format_args!("{}\n", format_args!($($text)*))) };
}

/// What the macros call. Other failures of standard output (a full disk) are told of, once, and
/// end the program too: what follows would be lost as well.
pub(crate) fn write(text: Arguments<'_>) {
    let Err(error) = io::stdout().lock().write_fmt(text) else {
        return;
    };
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(KILLED_BY_SIGPIPE);
    }
    eprintln!("writing to standard output: {error}");
    std::process::exit(1);
}
