//! The commands, one file each: a [`Verb`](crate::verb::Verb) and the function it runs.

mod each;
mod filters;
mod inspecting;
mod pruning;

pub(crate) mod container;
pub(crate) mod image;
pub(crate) mod network;
pub(crate) mod program;
pub(crate) mod system;
pub(crate) mod volume;
