//! Named and anonymous volumes of the `local` driver, and what they are filled with on first use; records of the
//! volumes of plugins, and the plugins themselves ([`plugin`]).
//!
//! ```text
//! <root>/volumes/<name>/volume.json   the record, written once, before the volume becomes visible
//! <root>/volumes/<name>/data          the files, or the place where `type`/`device` volumes are mounted
//! <root>/volumes/<name>/filling       while the volume is being filled from an image
//! <root>/volumes/@<name>              the same for a name that is not one of a file (volumes of plugins), encoded
//! <root>/volumes/.new-*, .gone-*      being made or removed; removed when the volumes are opened
//! ```
//!
//! A volume is made complete under another name and appears by rename, so a crash leaves either all of it or
//! something that the next start recognises. Who uses a volume is the engine's knowledge, not this crate's.

mod error;
mod fill;
mod mounting;
mod naming;
mod options;
pub mod plugin;
mod volumes;

pub use error::VolumeError;
pub use volumes::{ANONYMOUS_LABEL, LOCAL_DRIVER, NewVolume, Volume, Volumes, random_name};
