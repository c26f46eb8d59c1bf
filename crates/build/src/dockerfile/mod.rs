//! The Dockerfile language: text to a typed tree, in four layers.
//!
//! ```text
//! text -> lines (statements: continuations, comments, here-documents)
//!      -> words, flags (arguments)
//!      -> instruction::* (one file each: parse, expand)
//!      -> Dockerfile (global ARGs and stages)
//! ```
//! Nothing here touches files, the environment or the store.

mod directives;
mod flags;
mod heredoc;
mod lines;
mod words;

pub mod expand;
pub mod glob;
pub mod instruction;
pub mod tree;

pub use directives::Directives;
pub use heredoc::Heredoc;
pub use lines::{Statement, Statements, parse_statements};
pub use tree::{Dockerfile, Stage, Step, parse};
