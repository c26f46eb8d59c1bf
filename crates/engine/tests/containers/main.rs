//! Real containers through the engine's own interface. They need root and the static shim.
#![allow(missing_docs, clippy::unwrap_used)]

mod life;
mod stage;
mod survival;
