//! Pure decisions: from the configuration to plain values that init applies.

pub(crate) mod id_maps;
pub(crate) mod labels;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod rights;
pub(crate) mod scheduling;
