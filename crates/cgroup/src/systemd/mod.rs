//! Groups that systemd makes: transient scopes, asked for over D-Bus.
//!
//! ```text
//! UnitPlan::parse("slice:prefix:name")       which unit, in which slice
//! properties::plan_properties(limits)        the limits in systemd's words
//! Systemd::connect(instance)                 the system's or the user's
//!   .start_unit(unit, properties)            StartTransientUnit, until its job is done
//!   .set_properties(..) .stop_unit(..)       of a unit that was started
//! ```
//!
//! Owns: the little of D-Bus that this takes (one connection, blocking, with a deadline). Does not
//! own: the group's files, which stay with [`crate::Cgroup`].

mod address;
mod bus;
mod client;
mod error;
mod properties;
mod text;
mod unit;
mod wire;

pub use address::Instance;
pub use client::Systemd;
pub use error::SystemdError;
pub use properties::{Property, delegation, parse_annotation, plan_properties};
pub use unit::UnitPlan;
pub use wire::Value;
