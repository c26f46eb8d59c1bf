//! End-to-end tests: a private engine each, driven by the unmodified `docker` CLI, our own CLI and raw HTTP.
//!
//! Reading order: lifecycle, run, streams, logs, limits, images, build, network, storage, plugins, cli, clients, bad_input, runtimes,
//! containerd, survival, crashes, failpoints, recovery, truth, operations, reload, soak, upgrade, contention, reset.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod build;
mod cli;
mod clients;
mod containerd;
mod contention;
mod crashes;
mod disk;
mod events;
mod failpoints;
mod fuse;
mod health;
mod images;
mod keepers;
mod lifecycle;
mod limits;
mod logs;
mod network;
mod old_kernel;
mod operations;
mod plugin_server;
mod plugins;
mod recovery;
mod reload;
mod reset;
mod run;
mod runtimes;
mod shutdown;
mod soak;
mod storage;
mod streams;
mod stuck;
mod survival;
mod truth;
mod upgrade;
