//! Checks of this repository that only a program can make.
//!
//! `cargo xtask deps` fails on a dependency between our crates that the architecture does not draw.
//! `cargo xtask tidy` fails on what STYLE asks for and a program can see: title comments, ceilings of files
//! and functions, banned names, `unsafe` outside `sys` or without its reason, leftovers.

mod deps;
mod source;
mod tidy;

use anyhow::{Result, bail};
use std::process::ExitCode;

fn main() -> ExitCode {
    match problems() {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            eprintln!("{}\n{} problems", problems.join("\n"), problems.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn problems() -> Result<Vec<String>> {
    match std::env::args().nth(1).as_deref() {
        Some("deps") => deps::check(),
        Some("tidy") => tidy::check(),
        other => bail!("usage: cargo xtask deps|tidy (got {other:?})"),
    }
}
