//! Named and anonymous volumes of the `local` driver, and what they are filled with on first use.
//!
//! ```text
//! <root>/volumes/<name>/volume.json   the record, written once, before the volume becomes visible
//! <root>/volumes/<name>/data          the files, or the place where `type`/`device` volumes are mounted
//! <root>/volumes/<name>/filling       while the volume is being filled from an image
//! <root>/volumes/.new-*, .gone-*      being made or removed; removed when the volumes are opened
//! ```
//!
//! A volume is made complete under another name and appears by rename, so a crash leaves either all of it or
//! something that the next start recognises. Who uses a volume is the engine's knowledge, not this crate's.

mod error;
mod fill;
mod mounting;
mod options;
mod volumes;

pub use error::VolumeError;
pub use volumes::{ANONYMOUS_LABEL, NewVolume, Volume, Volumes};
