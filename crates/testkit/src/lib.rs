//! What the tests stand on: a private engine per test, images made from Debian's packages, a loopback
//! registry, raw HTTP, and a search for everything an engine may leave behind.
//!
//! Dev only: nothing here ships. A [`Sandbox`] has its own root, run directory and instance name, so any
//! number of them run side by side and beside another engine; its `Drop` removes the instance and fails the
//! test when a mount, cgroup, link, nft table or process is left.
//!
//! Reading order: [`command`], [`process`], [`sandbox`], [`leftovers`], [`image`], [`registry`], [`http`].

pub mod command;
pub mod http;
pub mod image;
pub mod leftovers;
pub mod process;
pub mod registry;
pub mod sandbox;

pub use command::{Output, run};
pub use leftovers::Leftovers;
pub use registry::Registry;
pub use sandbox::Sandbox;
