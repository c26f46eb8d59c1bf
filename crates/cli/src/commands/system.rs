//! `wharf system ...`, `wharf builder prune`.

pub mod builder_prune;
pub mod df;
pub mod dial_stdio;
pub mod events;
pub mod info;
pub mod prune;
pub mod reset;
