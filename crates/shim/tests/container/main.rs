//! Containers kept by a real shim: needs root, cgroups and Debian's busybox-static.
#![allow(missing_docs)]

mod attach;
mod cost;
mod exec;
mod foreign;
mod life;
mod stage;
mod survival;
mod target;
