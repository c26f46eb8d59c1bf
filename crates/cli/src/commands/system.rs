//! `wharf system ...`, `wharf builder prune`.

pub(crate) mod builder_prune;
pub(crate) mod df;
pub(crate) mod dial_stdio;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod ops;
pub(crate) mod prune;
pub(crate) mod reset;
pub(crate) mod stop_all;
