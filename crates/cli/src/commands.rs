//! The commands, one file each: a [`Verb`](crate::verb::Verb) and the function it runs.

mod each;
mod filters;
mod inspecting;
mod pruning;

pub mod container;
pub mod image;
pub mod network;
pub mod program;
pub mod system;
pub mod volume;
